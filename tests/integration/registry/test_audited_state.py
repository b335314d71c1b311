"""Every column of every table that the audit covers, changed behind it, is found; and every table is covered or is
stated here with the reason why not."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.core.access.table import KeyRecord, Quota
from penstock.core.audit.state_comparison import StateFinding
from penstock.core.routing import RouteSpec
from penstock.registry.blobs.folder import FolderBlobs
from penstock.registry.db import schema
from penstock.registry.db.database import Database, open_database
from penstock.registry.records import (
    AdmissionReport,
    Author,
    Content,
    Document,
    FileRecord,
    ModelSettings,
    VersionRecord,
)
from penstock.registry.stores.audit_questions import AuditQuestions
from penstock.registry.stores.keys import KeyStore
from penstock.registry.stores.monitor import MonitorStore, ReferenceRecord
from penstock.registry.stores.retention import RetentionStore
from penstock.registry.stores.traffic import TrafficStore, TrialChange
from penstock.registry.stores.versions import VersionStore
from tests.leases import leading
from tests.postgres import Postgres

ANN, BOB = Author("ann", "first"), Author("bob", "looks good", "key")
NUMBERS = iter(range(10_000))

COVERED: dict[str, dict[str, str]] = {
    "versions": {"retired_at": "when it is forgotten; what it may do is its standing"},
    "models": {"revision": "a counter"},
    "aliases": {},
    "routes": {},
    "policies": {},
    "references": {"used_at": "the time of use, which is not a change"},
    "signatures": {},
    "approvals": {},
    "keys": {},
    "trials": {"revision": "a counter"},
}
"""The tables with a statement, and the columns that have none."""

UNCOVERED = {
    "audit": "its own hash chain",
    "audit_archives": "their hashes are in the chain and in the tree",
    "audit_checkpoints": "they are signed",
    "registry": "its id begins the chain, and its revision is a counter",
    "alembic_version": "which release wrote last",
    "leases": "contents in use",
    "condemned": "contents that are being deleted, which verify counts as missing",
    "leadership": "who leads now",
    "gateways": "heartbeats",
    "observations": "counts",
    "counts": "counts",
    "verdicts": "evidence, computed from counts",
    "request_history": "counts",
    "labelled": "labelled rows",
    "gathered": "gathered rows",
    "feedback": "labels on their way",
    "feedback_readers": "how far they were read",
    "row_requests": "requests between gateways",
    "row_answers": "answers between gateways",
    "erasures": "requests to homes; what was erased has an entry",
    "erasure_reports": "answers of homes",
    "events": "what has happened, which decides nothing",
    "outbox": "deliveries",
    "standings": "the state of rules, which changes with every evaluation",
}


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("server")
        url = server.create_registry(f"state{next(NUMBERS)}")
    database = leading(open_database(url, 5.0))
    yield database
    database.close()


def fill(database: Database) -> VersionStore:
    """One row in each table, or more, by the changes that the gateway makes."""
    store, traffic, monitor, keys = (
        VersionStore(database),
        TrafficStore(database),
        MonitorStore(database),
        KeyStore(database),
    )
    for version in ("1", "2"):
        content = Content(f"sha256:{version * 64}", 3, "onnx", (FileRecord("model.onnx", "aa", 3),))
        record = VersionRecord("m", version, content, "2026", "ann", metadata={"a": [1.5]}, report=AdmissionReport())
        store.add_version(record, ANN)
    store.configure("m", ModelSettings(keep_warm_s=7.0), ANN)
    store.signatures.add("m", "1", "{}", ["ci"], ANN)
    store.signatures.approve("m", "1", BOB)
    store.aliases.move("m", "champion", "1", ANN)
    store.aliases.move("m", "champion", "2", ANN)
    ranges = ((9500, "1"), (10_000, "2"))
    traffic.set_route("m", lambda _: RouteSpec({"1": 9500, "2": 500}, stable="1", ranges=ranges), ANN)
    monitor.set_policy("m", {"slo": {"error_ratio": 0.001}}, ANN)
    monitor.set_reference(ReferenceRecord("m", "1", "sha256:r", "training"), {"bins": [0.1, 2]}, ANN)
    keys.create(KeyRecord("", "bot", "", ("caller",), quota=Quota(10.0, concurrent=2)), ANN)
    document = {"rollout": {"spec": {"to": "2", "steps": [100]}, "seen": 1}, "told": {"state": "running"}}
    traffic.begin("m", "rollout", lambda *_: TrialChange(document, keep_route=True), ANN)
    return store


def findings(database: Database, tmp_path: Path) -> list[StateFinding]:
    return AuditQuestions(database, lambda: FolderBlobs(tmp_path / "blobs")).compare_state()


def other_value(column: sa.Column[Any], value: Any) -> Any:
    """Return another value of a column's type."""
    if isinstance(value, bool):
        return not value
    if isinstance(column.type, sa.JSON):
        return {"other": value}
    if isinstance(column.type, sa.Float | sa.Integer):
        return (value or 0) + 1
    return "other" if value in ("", None) else f"{value[:-1]}~"


def test_every_table_is_covered_or_has_a_reason() -> None:
    assert COVERED.keys() & UNCOVERED.keys() == set()
    assert COVERED.keys() | UNCOVERED.keys() == {*schema.metadata.tables, "alembic_version"}
    for name, without in COVERED.items():
        assert without.keys() <= set(schema.metadata.tables[name].c.keys())


def test_a_change_of_any_column_behind_the_audit_is_found(database: Database, tmp_path: Path) -> None:
    fill(database)
    assert findings(database, tmp_path) == []
    unfound = []
    for name, without in COVERED.items():
        table = schema.metadata.tables[name]
        for column in table.c:
            with database.writing() as connection:
                before = [dict(row) for row in connection.execute(sa.select(table)).mappings()]
                changed = {**before[0], column.name: other_value(column, before[0][column.name])}
                replace_rows(connection, table, [changed, *before[1:]])
            if bool(findings(database, tmp_path)) == (column.name in without):
                unfound.append(f"{name}.{column.name}")
            with database.writing() as connection:
                replace_rows(connection, table, before)
    assert unfound == []
    assert findings(database, tmp_path) == []


def replace_rows(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    connection.execute(table.delete())
    connection.execute(table.insert(), rows)


def test_a_row_removed_or_added_behind_the_audit_is_found(database: Database, tmp_path: Path) -> None:
    fill(database)
    for name in COVERED:
        table = schema.metadata.tables[name]
        with database.writing() as connection:
            before = [dict(row) for row in connection.execute(sa.select(table)).mappings()]
            replace_rows(connection, table, before[1:] or [{**before[0], **with_another_key(table, before[0])}])
        assert findings(database, tmp_path), f"{name}: one is missing"
        with database.writing() as connection:
            replace_rows(connection, table, [*before, {**before[0], **with_another_key(table, before[0])}])
        assert findings(database, tmp_path), f"{name}: one is added"
        with database.writing() as connection:
            replace_rows(connection, table, before)
    assert findings(database, tmp_path) == []


def with_another_key(table: sa.Table, row: Document) -> Document:
    return {column.name: _with_another_end(row[column.name]) for column in table.primary_key}


def _with_another_end(text: str) -> str:
    return f"{text[:-1]}{'8' if text.endswith('9') else '9'}"


def test_another_specification_of_a_rollout_is_found(database: Database, tmp_path: Path) -> None:
    fill(database)
    with database.writing() as connection:
        document = connection.execute(sa.select(schema.trials.c.document)).scalar_one()
        document["rollout"]["seen"] = 2
        connection.execute(schema.trials.update().values(document=document))
    assert findings(database, tmp_path) == []  # its evidence grows without entries
    with database.writing() as connection:
        document["rollout"]["spec"]["steps"] = [10_000]
        connection.execute(schema.trials.update().values(document=document))
    [finding] = findings(database, tmp_path)
    assert (finding.subject.startswith("models/m/rollouts/"), finding.problem) == (
        True, "it is not what the audit states: record",
    )  # fmt: skip


DAY_S = 86_400.0


def changes(database: Database) -> list[Callable[[], object]]:
    """Changes of every kind that the gateway makes itself, in their order."""
    store, traffic, keys = VersionStore(database), TrafficStore(database), KeyStore(database)
    later = database.clock.now() + 400 * DAY_S
    retention = RetentionStore(database, lambda: later)
    content = Content(f"sha256:{'3' * 64}", 3, "onnx", (FileRecord("model.onnx", "aa", 3),))
    return [
        lambda: keys.rotate("bot", 60.0, 3600.0, ANN),
        lambda: keys.rotate("bot", 60.0, None, ANN),
        lambda: keys.revoke("bot", ANN),
        lambda: store.signatures.add("m", "2", "{}", ["ci"], ANN),
        lambda: store.signatures.add("m", "9", "{}", ["ci"], ANN),
        lambda: retention.signatures(later),
        lambda: store.note("m", "version.export", "versions/1", ANN, {"digest": "sha256:x"}),
        lambda: traffic.change(
            traffic.trials("m", "rollout")[0], lambda _: TrialChange({}, False, keep_route=True), "abort", ANN
        ),
        lambda: traffic.set_route("m", lambda _: None, ANN),
        lambda: store.retire("m", "1", ANN, force=True),
        lambda: retention.retired_versions(later),
        retention.approvals,
        lambda: retention.signatures(later),
        lambda: store.add_version(VersionRecord("m", "1", content, "2026", "ann"), ANN),
        lambda: store.signatures.approve("m", "1", BOB),
        lambda: retention.trials(later, 0),
        lambda: retention.keys(later),
    ]


def test_no_change_of_the_gateway_itself_is_a_finding(database: Database, tmp_path: Path) -> None:
    fill(database)
    for number, change in enumerate(changes(database)):
        change()
        assert findings(database, tmp_path) == [], number


def test_a_key_that_was_given_more_time_or_revived_is_found(database: Database, tmp_path: Path) -> None:
    fill(database)
    keys = KeyStore(database)
    keys.rotate("bot", 60.0, None, ANN)
    old, new = sorted(keys.list_keys(), key=lambda key: key.record.expires_at is None)
    table = schema.keys
    with database.writing() as connection:
        connection.execute(table.update().where(table.c.id == old.record.id).values(expires=None))
    [finding] = findings(database, tmp_path)
    assert (finding.subject, finding.model, finding.problem.rpartition(" ")[2]) == (
        f"keys/{old.record.id}", "", "expires_at",
    )  # fmt: skip
    with database.writing() as connection:
        connection.execute(table.update().where(table.c.id == old.record.id).values(expires=old.record.expires_at))
    keys.revoke(new.record.id, ANN)
    assert findings(database, tmp_path) == []
    with database.writing() as connection:
        connection.execute(table.update().where(table.c.id == new.record.id).values(revoked=None))
    assert [item.problem.rpartition(" ")[2] for item in findings(database, tmp_path)] == ["revoked"]


def test_what_an_earlier_release_wrote_has_no_findings(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its entries have no digests of rows, and the end of a replaced key has none at all."""
    from penstock.registry.stores.journal import Journal

    written = Journal.record_audit

    def older(
        self: Journal, connection: Any, model: str, action: str, subject: str, by: Author, before: Any, after: Any
    ) -> None:
        if action == "key.expire":
            return
        kept = {name: value for name, value in after.items() if name not in ("record", "open")} if after else after
        written(self, connection, model, action, subject, by, before, kept)

    monkeypatch.setattr(Journal, "record_audit", older)
    fill(database)
    keys = KeyStore(database)
    keys.rotate("bot", 60.0, None, ANN)
    assert findings(database, tmp_path) == []
    with database.writing() as connection:
        connection.execute(schema.signatures.delete())  # as retention did
    assert findings(database, tmp_path) == []
    for number, change in enumerate(changes(database)):
        change()
        assert findings(database, tmp_path) == [], number
    with database.writing() as connection:
        connection.execute(schema.approvals.update().values(digest="sha256:other"))
    assert [item.subject for item in findings(database, tmp_path)] == ["models/m/versions/1/approvals/bob"]
