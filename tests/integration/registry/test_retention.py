"""What the database lets go, over SQLite and PostgreSQL: only what is over, in small batches, and never the audit."""

import gzip
import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.registry.blobs.folder import FolderBlobs
from penstock.registry.db import schema
from penstock.registry.db.database import Database
from penstock.registry.stores import audit_archive, retention
from penstock.registry.stores.archived_audit import ArchivedAudit
from penstock.registry.stores.audit_archive import PATIENCE_S, AuditArchive, AuditArchives
from penstock.registry.stores.monitor import MonitorStore, ReferenceRecord
from penstock.registry.stores.outbox import Outbox
from penstock.registry.stores.retention import RetentionStore
from penstock.registry.stores.traffic import ROLLOUT, TrafficStore, TrialChange, TrialEvent
from penstock.registry.stores.versions import VersionStore
from tests.integration.registry.test_store import BY, Clock, clock, database, store, version
from tests.leases import leading

__all__ = ["clock", "database", "store"]

DAY_S = 86_400.0


@pytest.fixture
def old(database: Database, clock: Clock) -> RetentionStore:
    return RetentionStore(leading(database), clock)


@pytest.fixture
def traffic(database: Database, clock: Clock) -> TrafficStore:
    return TrafficStore(database, clock)


def event(key: str) -> TrialEvent:
    return TrialEvent("drift.detected.v1", "models/m/versions/1", key, {})


def count(database: Database, table: sa.Table) -> int:
    with database.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def test_events_go_in_time_but_those_that_wait_to_be_sent(
    database: Database, clock: Clock, old: RetentionStore, traffic: TrafficStore
) -> None:
    outbox = Outbox(database, traffic, clock)
    traffic.emit("m", event("old"))
    outbox.commit("m", 0, {}, event("sent"), ["hook"])
    outbox.mark_sent(outbox.due()[0])
    outbox.commit("m", 1, {}, event("waits"), ["hook"])
    clock.now += DAY_S
    traffic.emit("m", event("new"))
    assert old.events(clock.now - DAY_S) == 0  # the edge is kept
    clock.now += 1.0
    assert old.events(clock.now - DAY_S) == 2
    assert old.events(clock.now - DAY_S) == 0
    assert len(traffic.events()) == 2
    assert outbox.due()[0].event["id"]  # what waits can still be sent


def test_deliveries_go_when_they_are_over_each_in_its_time(
    database: Database, clock: Clock, old: RetentionStore, traffic: TrafficStore
) -> None:
    outbox = Outbox(database, traffic, clock)
    outbox.commit("m", 0, {}, event("a"), ["dead", "sent", "waits"])
    due = {delivery.sink: delivery for delivery in outbox.due()}
    outbox.mark_sent(due["sent"])
    outbox.mark_dead(due["dead"], "gone", event("given up"))
    clock.now += DAY_S
    assert old.deliveries(clock.now) == 1
    assert [delivery["sink"] for delivery in outbox.deliveries("m")] == ["waits", "dead"]
    assert old.dead_deliveries(clock.now) == 1
    assert [delivery["sink"] for delivery in outbox.deliveries("m")] == ["waits"]


def test_closed_trials_go_but_the_newest_and_open_ones(
    database: Database, clock: Clock, old: RetentionStore, traffic: TrafficStore
) -> None:
    made = []
    for _ in range(5):
        trial = traffic.begin("m", ROLLOUT, lambda _model, _id: TrialChange({}, keep_route=True), BY)
        traffic.change(trial, lambda _model: TrialChange({}, open=False, keep_route=True), "abort", BY)
        made.append(trial.id)
        clock.now += DAY_S
    last = traffic.begin("m", ROLLOUT, lambda _model, _id: TrialChange({}, keep_route=True), BY)
    assert old.trials(0.0, 4) == 2  # only four are kept, of which one is the open one
    assert [trial.id for trial in traffic.trials("m", ROLLOUT)] == [last.id, *reversed(made[2:])]
    clock.now += 100 * DAY_S
    assert old.trials(clock.now, 100) == 3
    assert [trial.id for trial in traffic.trials("m", ROLLOUT)] == [last.id]
    traffic.change(last, lambda _model: TrialChange({}, open=False, keep_route=True), "abort", BY)
    assert old.trials(clock.now, 100) == 0  # the newest one shows the state of the model


def test_observations_after_the_end_of_a_trial_are_deleted(
    database: Database, old: RetentionStore, traffic: TrafficStore
) -> None:
    trial = traffic.begin("m", ROLLOUT, lambda _model, _id: TrialChange({}, keep_route=True), BY)
    traffic.observe(trial.id, "a", {"n": 1})
    assert old.observations() == 0
    traffic.change(trial, lambda _model: TrialChange({}, open=False, keep_route=True), "abort", BY)
    traffic.observe(trial.id, "a", {"n": 1})
    traffic.observe("gone", "b", {"n": 1})
    assert old.observations() == 2
    assert count(database, schema.observations) == 0


def test_references_stay_while_they_are_used_or_the_version_is_offered(
    database: Database, clock: Clock, store: VersionStore, old: RetentionStore
) -> None:
    monitor = MonitorStore(database, clock)
    store.add_version(version("1"), BY)
    for name in ("1", "2", "3"):
        monitor.set_reference(ReferenceRecord("m", name, f"sha256:{name}", "training"), {}, BY)
    clock.now += DAY_S
    old.use_references([("m", "2")])
    assert old.references(clock.now) == 1
    assert sorted(reference.version for reference in monitor.references()) == ["1", "2"]
    assert store.audit(limit=1)[0].action == "reference.forget"
    store.retire("m", "1", BY)
    clock.now += DAY_S
    assert old.references(clock.now - DAY_S) == 1
    assert [reference.version for reference in monitor.references()] == ["2"]


def test_a_reference_of_a_retired_version_is_not_loaded_any_more(
    database: Database, clock: Clock, store: VersionStore
) -> None:
    monitor = MonitorStore(database, clock)
    for name in ("1", "2"):
        store.add_version(version(name), BY)
    for name in ("1", "2", "watched folder's"):
        monitor.set_reference(ReferenceRecord("m", name, f"sha256:{name}", "training"), {}, BY)
    store.retire("m", "1", BY)
    assert sorted(reference.version for reference in monitor.references()) == ["2", "watched folder's"]


def test_a_reference_of_an_older_database_counts_as_used_when_first_seen(
    database: Database, clock: Clock, old: RetentionStore
) -> None:
    MonitorStore(database, clock).set_reference(ReferenceRecord("m", "1", "sha256:1", "training"), {}, BY)
    with database.writing() as connection:
        connection.execute(schema.references.update().values(used_at=None))
    assert old.references(clock.now) == 0
    assert old.use_references([]) == 1
    assert old.references(clock.now) == 0
    assert old.references(clock.now + 1) == 1


def test_records_of_retired_versions_go_and_the_audit_says_so(
    clock: Clock, store: VersionStore, old: RetentionStore
) -> None:
    for name in ("1", "2"):
        store.add_version(version(name), BY)
    store.retire("m", "1", BY)
    revision = store.revision()
    assert old.retired_versions(clock.now) == 0
    clock.now += 1.0
    assert old.retired_versions(clock.now) == 1
    assert list(store.model("m").versions) == ["2"]
    assert store.revision() > revision  # every gateway looks again
    assert store.audit(limit=1)[0].subject == "models/m/versions/1"


def test_leases_go_when_they_have_ended(store: VersionStore, clock: Clock, old: RetentionStore) -> None:
    store.contents.lease("sha256:a", 10.0)
    store.contents.lease("sha256:b", 20.0)
    clock.now += 15.0
    assert (old.leases(), old.leases()) == (1, 0)


def test_a_batch_is_bounded(
    clock: Clock, old: RetentionStore, traffic: TrafficStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    for number in range(7):
        traffic.emit("m", event(str(number)))
    clock.now += 1.0
    assert [old.events(clock.now) for _ in range(4)] == [3, 3, 1, 0]


@pytest.fixture
def archives(database: Database, clock: Clock, tmp_path: Path) -> AuditArchives:
    blobs = FolderBlobs(tmp_path / "blobs", clock)
    return AuditArchives(leading(database), lambda: blobs, tmp_path / "blobs" / "incoming", clock)


def listed(database: Database) -> list[AuditArchive]:
    def nobody_reads() -> FolderBlobs:
        raise AssertionError

    return ArchivedAudit(database, nobody_reads).list_archives()


def archived(tmp_path: Path, digest: str) -> list[dict[str, object]]:
    name = digest.removeprefix("sha256:")
    text = gzip.decompress((tmp_path / "blobs" / "sha256" / name[:2] / name).read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()]


def test_old_entries_of_the_audit_move_into_an_archive_whole(
    database: Database, store: VersionStore, clock: Clock, archives: AuditArchives, tmp_path: Path
) -> None:
    store.note("m", "version.refuse", "versions/2", BY, {"reason": "größer"})
    store.add_version(version("1"), BY)
    entries = store.audit()
    clock.now += PATIENCE_S + 2 * DAY_S
    store.note("m", "version.refuse", "versions/3", BY, {})
    assert archives.archive(clock.now - 10 * DAY_S) == 0  # not long enough overdue
    assert archives.archive(clock.now - DAY_S) == 2
    assert [entry.seq for entry in store.audit()] == [3]
    (made,) = listed(database)
    assert (made.first, made.last, made.entries, made.dropped_at) == (1, 2, 2, None)
    lines = archived(tmp_path, made.digest)
    assert [(line["seq"], line["at"], line["after"]) for line in lines] == [(e.seq, e.at, e.after) for e in entries]
    assert made.digest in store.contents.needed()
    assert store.contents.mark_for_deletion([made.digest]) == []
    store.note("m", "version.refuse", "versions/4", BY, {})
    assert store.audit(limit=1)[0].seq == 4  # numbers go on


def test_a_full_archive_is_made_at_once(
    database: Database, store: VersionStore, clock: Clock, archives: AuditArchives, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_archive, "ENTRIES", 2)
    for number in range(5):
        store.note("m", "version.refuse", f"versions/{number}", BY, {})
    clock.now += 1.0
    assert [archives.archive(clock.now) for _ in range(3)] == [2, 2, 0]
    assert [(item.first, item.last) for item in listed(database)] == [(1, 2), (3, 4)]


def test_a_dropped_archive_leaves_its_record(
    database: Database, store: VersionStore, clock: Clock, archives: AuditArchives
) -> None:
    store.note("m", "version.refuse", "versions/1", BY, {})
    clock.now += PATIENCE_S + 1.0
    assert archives.archive(clock.now) == 1
    assert (archives.drop(clock.now), archives.drop(clock.now)) == (1, 0)
    (record,) = listed(database)
    assert record.dropped_at == clock.now
    assert store.contents.mark_for_deletion([record.digest]) == [record.digest]


def test_the_database_refuses_to_delete_entries_that_are_in_no_archive(
    database: Database, store: VersionStore, clock: Clock, archives: AuditArchives
) -> None:
    store.note("m", "version.refuse", "versions/1", BY, {})
    clock.now += PATIENCE_S + 1.0
    archives.archive(clock.now)
    store.note("m", "version.refuse", "versions/2", BY, {})
    for statement in (
        "DELETE FROM audit",
        "UPDATE audit SET actor = 'nobody'",
        "DELETE FROM audit_archives",
        "UPDATE audit_archives SET last = 100",
        "UPDATE audit_archives SET digest = 'sha256:other'",
    ):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), database.writing() as connection:
            connection.execute(sa.text(statement))
    assert len(store.audit()) == 1
