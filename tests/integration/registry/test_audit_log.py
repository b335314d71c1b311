"""The audit as a verifiable log over SQLite and PostgreSQL: triggers, verification, proofs, archives, migration."""

import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.core.audit.chain import canonical_form
from penstock.core.audit.merkle import LeafRange, hash_leaf
from penstock.core.errors import DataLoss, NotFound, NotReady
from penstock.core.routing import RouteSpec
from penstock.registry.auditing import RegistryAudit, verify_proof
from penstock.registry.blobs.folder import FolderBlobs
from penstock.registry.db import database as databases
from penstock.registry.db import schema
from penstock.registry.db.database import Database, open_database
from penstock.registry.records import AdmissionReport, Author, Content, Document, FileRecord, VersionRecord
from penstock.registry.signing.note_keys import CheckpointKey, read_or_create_key
from penstock.registry.stores import audit_archive
from penstock.registry.stores.audit_archive import AuditArchives
from penstock.registry.stores.audit_checkpoints import AuditCheckpoints
from penstock.registry.stores.audit_questions import AuditQuestions
from penstock.registry.stores.monitor import MonitorStore
from penstock.registry.stores.traffic import TrafficStore
from penstock.registry.stores.versions import VersionStore
from tests.leases import leading

BY = Author("ann", "größer", "key", "k1", "192.0.2.1", "r-1", "bob")
DAY_S = 86_400.0


@dataclass(slots=True)
class Log:
    """A registry's audit, with a key and a file of checkpoints."""

    database: Database
    store: VersionStore
    audit: RegistryAudit
    home: Path

    @property
    def key(self) -> CheckpointKey:
        return read_or_create_key(self.home / "audit.key")

    @property
    def public_key(self) -> str:
        return self.audit.public_keys()[0].text

    def change(self, count: int) -> None:
        for number in range(count):
            self.store.record_event("model.load", "repository", BY, f"m{number % 3}", {"number": number, "text": "é"})

    def sign(self) -> str:
        """Sign a checkpoint, keep it in the file as a gateway does, and return it."""
        signed = AuditCheckpoints(self.database, self.audit.log).sign(self.key)
        assert signed is not None
        self.audit.file.append(signed)
        return signed.note

    def execute(self, *statements: str) -> None:
        """Change the tables as their owner can: without the triggers."""
        with self.database.writing() as connection:
            drop_triggers(connection)
            for statement in statements:
                connection.execute(sa.text(statement))

    def first_bad(self, checkpoints: str = "") -> int | None:
        findings = self.audit.verify(checkpoints)["findings"]
        return findings[0]["seq"] if findings else None


def drop_triggers(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        found = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'audit%'"
        for (name,) in connection.execute(sa.text(found)).all():
            connection.execute(sa.text(f"DROP TRIGGER {name}"))
    else:
        for table in ("audit", "audit_archives", "audit_checkpoints"):
            connection.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))


@pytest.fixture
def log(url: str, tmp_path: Path) -> Iterator[Log]:
    database = leading(open_database(url, 5.0))
    blobs = FolderBlobs(tmp_path / "blobs")
    audit = RegistryAudit(database, lambda: blobs, tmp_path / "audit.key", tmp_path / "audit-checkpoints.txt")
    yield Log(database, VersionStore(database), audit, tmp_path)
    database.close()


def test_an_entry_has_all_of_its_author_and_the_next_number(log: Log) -> None:
    log.change(2)
    first, second = log.store.audit()
    assert (first.seq, second.seq) == (1, 2)
    assert (first.method, first.key_id, first.address, first.request_id, first.on_behalf_of) == (
        "key", "k1", "192.0.2.1", "r-1", "bob",
    )  # fmt: skip
    assert len({first.hash, second.hash}) == 2
    log.store.record_event("x", "y", Author("ann", request_id="\x1b" + "r" * 300, address="a" * 300), "m", {})
    third = log.store.audit()[2]
    assert (third.request_id, third.address) == ("", "a" * 64)
    assert log.audit.verify()["ok"]


FORGERIES = [
    "INSERT {replace} INTO audit({columns}) VALUES (3, {values})",
    "INSERT INTO audit({columns}) VALUES (3, {values}) ON CONFLICT (seq) DO UPDATE SET actor = 'mallory'",
    "INSERT INTO audit({columns}) VALUES (3, {values}) ON CONFLICT DO NOTHING",
    "INSERT INTO audit({columns}) VALUES (99, {values})",
    "INSERT INTO audit({columns}) VALUES (-1, {values})",
    "INSERT INTO audit({columns}) VALUES (6, '2026', 'mallory', 'a', 'm', 's', 'r', '')",
    "UPDATE {replace_update} audit SET actor = 'mallory' WHERE seq = 3",
    "UPDATE {replace_update} audit SET seq = 3 WHERE seq = 4",
    "DELETE FROM audit WHERE seq = 3",
    "INSERT {replace} INTO audit_archives VALUES (2, 3, '2026', '2026', 2, 'sha256:x', 1, NULL, '', '[]')",
    "INSERT {replace} INTO audit_archives VALUES (1, 900, '2026', '2026', 2, 'sha256:x', 1, NULL, '', '[]')",
    "UPDATE audit_checkpoints SET note = 'x'",
    "DELETE FROM audit_checkpoints",
    "INSERT {replace} INTO audit_checkpoints VALUES (5, 5, '2026', 'x')",
    "INSERT {replace} INTO audit_checkpoints VALUES (4, 5, '2026', 'x')",
]
TRUNCATIONS = ["TRUNCATE audit", "TRUNCATE audit_checkpoints", "TRUNCATE audit_archives", "TRUNCATE audit CASCADE"]


def test_the_triggers_refuse_every_form_of_rewriting(log: Log) -> None:
    log.change(5)
    log.sign()
    before = log.store.audit()
    is_sqlite = log.database._engine.dialect.name == "sqlite"
    columns = "seq, at, actor, action, model, subject, reason, hash"
    values = f"'2026', 'mallory', 'a', 'm', 's', 'r', '{'0' * 64}'"
    for form in [*FORGERIES, *([] if is_sqlite else TRUNCATIONS)]:
        for verb in ("OR REPLACE", "OR IGNORE", "") if is_sqlite else ("",):
            statement = form.format(replace=verb, replace_update=verb, columns=columns, values=values)
            with pytest.raises(sa.exc.DBAPIError, match="append-only"), log.database.writing() as connection:
                connection.execute(sa.text(statement))
    assert log.store.audit() == before
    assert log.audit.verify()["ok"]
    log.change(1)
    assert log.store.audit()[-1].seq == 6


REWRITES: dict[str, tuple[list[str], int]] = {
    "changed": (["UPDATE audit SET actor = 'mallory' WHERE seq = 7"], 7),
    "of another author": (["UPDATE audit SET on_behalf_of = 'mallory' WHERE seq = 7"], 7),
    "with another document": (["UPDATE audit SET after = '{\"number\": 0}' WHERE seq = 7"], 7),
    "removed": (["DELETE FROM audit WHERE seq = 7"], 7),
    "removed at the beginning": (["DELETE FROM audit WHERE seq <= 3"], 1),
    "swapped": (
        [
            "UPDATE audit SET seq = 1000 WHERE seq = 7",
            "UPDATE audit SET seq = 7 WHERE seq = 8",
            "UPDATE audit SET seq = 8 WHERE seq = 1000",
        ],
        7,
    ),
    "replaced": (
        [
            "DELETE FROM audit WHERE seq = 7",
            (
                "INSERT INTO audit(seq, at, actor, action, model, subject, reason, hash) "
                "SELECT 7, at, 'mallory', action, model, subject, reason, hash FROM audit WHERE seq = 6"
            ),
        ],
        7,
    ),
    "inserted": (
        [
            (
                "INSERT INTO audit(seq, at, actor, action, model, subject, reason, hash) "
                "SELECT 21, at, 'mallory', action, model, subject, reason, hash FROM audit WHERE seq = 6"
            )
        ],
        21,
    ),
    "with another hash": (["UPDATE audit SET hash = repeat('0', 64) WHERE seq = 7"], 7),
}


@pytest.mark.parametrize("rewrite", REWRITES)
def test_the_first_bad_entry_of_a_rewritten_audit_is_stated(log: Log, rewrite: str) -> None:
    statements, bad = REWRITES[rewrite]
    log.change(20)
    assert log.first_bad() is None
    zeros = "'" + "0" * 64 + "'"
    log.execute(*(statement.replace("repeat('0', 64)", zeros) for statement in statements))
    assert log.first_bad() == bad


def test_a_thousand_changes_verify_with_their_count_and_root(log: Log) -> None:
    log.change(1000)
    note = log.sign()
    result = log.audit.verify()
    assert (result["ok"], result["entries"], result["last"], result["covered"]) == (True, 1000, 1000, 1000)
    assert result["checkpoints"] == 2  # in the database and in the file
    assert note.split("\n")[1] == "1000"


def test_a_checkpoint_finds_what_the_chain_cannot(log: Log) -> None:
    log.change(10)
    first = log.sign()
    log.change(10)
    saved = log.sign()
    log.execute("DELETE FROM audit WHERE seq > 10")
    assert log.first_bad() == 11  # the checkpoints in the database and in the file have signed them
    log.execute("DELETE FROM audit_checkpoints WHERE size > 10")
    log.audit.file._path.write_text(f"{first}\n")
    result = log.audit.verify()
    assert (result["ok"], "--checkpoint FILE" in result["limits"]) == (True, True)
    assert log.first_bad(saved) == 11
    log.change(12)
    log.execute("DELETE FROM audit_checkpoints")
    log.audit.file._path.unlink()
    assert log.first_bad() is None
    assert log.first_bad(saved) == 1  # other entries than the checkpoint has signed


def test_a_whole_history_written_anew_without_the_key_is_found(log: Log) -> None:
    log.change(10)
    log.sign()
    log.change(10)
    rewrite_history(log, "mallory")
    assert log.first_bad() == 1
    with pytest.raises(DataLoss, match="penstock audit verify"):
        log.sign()  # and the gateway does not sign it
    forged = CheckpointKey(b"m" * 32)
    log.execute("DELETE FROM audit_checkpoints")
    log.audit.file._path.unlink()
    AuditCheckpoints(log.database, log.audit.log).sign(forged)
    finding = log.audit.verify()["findings"][0]
    assert "which is not trusted" in finding["problem"]
    assert log.audit.verify("", [forged.public_key(f"penstock/{log.audit.log.identity()}").text])["ok"]


def rewrite_history(log: Log, actor: str) -> None:
    """Write the whole audit anew, with hashes that follow each other."""
    from penstock.core.audit.chain import first_link, next_link

    link = first_link(log.audit.log.identity())
    with log.database.writing() as connection:
        drop_triggers(connection)
        for row in connection.execute(sa.select(schema.audit).order_by(schema.audit.c.seq)).mappings().all():
            link = next_link(link, canonical_form({**row, "actor": actor}))
            values = {"actor": actor, "hash": link.hex()}
            connection.execute(schema.audit.update().where(schema.audit.c.seq == row["seq"]).values(**values))


def test_a_changed_checkpoint_is_found(log: Log) -> None:
    log.change(5)
    log.sign()
    log.execute("UPDATE audit_checkpoints SET note = replace(note, '— penstock', '- penstock')")
    assert log.first_bad() == 5
    log.execute("UPDATE audit_checkpoints SET note = replace(note, '- penstock', '— penstock')")
    assert log.first_bad() is None
    note = log.audit.log.checkpoints()[0][1]
    at = len(note) - 20
    with log.database.writing() as connection:
        changed = note[:at] + ("A" if note[at] != "A" else "B") + note[at + 1 :]
        connection.execute(schema.audit_checkpoints.update().values(note=changed))
    assert log.first_bad() == 5
    log.audit.file._path.write_text("nothing\n")
    assert log.first_bad() == 0


def test_a_proof_is_verified_with_the_public_key_alone(log: Log) -> None:
    log.change(3)
    with pytest.raises(NotFound, match="no checkpoint yet"):
        log.audit.prove(2)
    log.sign()
    log.change(4)
    with pytest.raises(NotFound, match="no checkpoint covers"):
        log.audit.prove(5)
    log.sign()
    for seq in range(1, 8):
        entry = verify_proof(log.audit.prove(seq), [log.public_key])
        assert (entry["seq"], entry["actor"], entry["reason"]) == (seq, "ann", "größer")
    with pytest.raises(NotFound, match="no entry 8"):
        log.audit.prove(8)
    proof = log.audit.prove(5)
    with pytest.raises(DataLoss):
        verify_proof(proof, [CheckpointKey(b"o" * 32).public_key("penstock/x").text])
    log.execute("UPDATE audit SET actor = 'mallory' WHERE seq = 3")
    with pytest.raises(DataLoss, match="is not what"):
        log.audit.prove(3)
    with pytest.raises(DataLoss, match="is not what"):
        log.audit.prove(5)  # the tree is another


@pytest.fixture
def archives(log: Log, monkeypatch: pytest.MonkeyPatch) -> AuditArchives:
    monkeypatch.setattr(audit_archive, "ENTRIES", 4)
    blobs = FolderBlobs(log.home / "blobs")
    later = log.database.clock.now() + DAY_S
    return AuditArchives(log.database, lambda: blobs, log.home / "blobs" / "incoming", lambda: later)


def archive(archives: AuditArchives, times: int) -> None:
    for _ in range(times):
        assert archives.archive(archives._clock()) == 4


def test_archived_entries_stay_verifiable_and_provable(log: Log, archives: AuditArchives) -> None:
    log.change(6)
    log.sign()
    log.change(8)
    log.sign()
    archive(archives, 3)
    assert [entry.seq for entry in log.store.audit()] == [13, 14]
    assert log.audit.verify()["ok"]
    for seq in (1, 6, 8, 12, 13, 14):
        assert verify_proof(log.audit.prove(seq), [log.public_key])["seq"] == seq
    log.change(3)
    log.sign()
    result = log.audit.verify()
    assert (result["ok"], result["entries"], result["unread"]) == (True, 17, 0)
    assert [line["entry"]["seq"] for line in log.audit.export() if "entry" in line] == list(range(1, 18))


def test_the_chain_goes_on_when_every_entry_is_archived(log: Log, archives: AuditArchives) -> None:
    log.change(8)
    archive(archives, 2)
    assert log.store.audit() == []
    log.change(1)
    log.sign()
    assert log.store.audit()[0].seq == 9
    assert log.audit.verify()["ok"]
    archives.drop(archives._clock() + DAY_S)
    log.change(1)
    log.sign()
    result = log.audit.verify()
    assert (result["ok"], result["entries"], result["unread"]) == (True, 11, 8)  # that they were dropped is an entry
    assert verify_proof(log.audit.prove(9), [log.public_key])["seq"] == 9
    with pytest.raises(NotFound, match="dropped"):
        log.audit.prove(3)


def test_a_changed_archive_or_record_is_found(log: Log, archives: AuditArchives) -> None:
    log.change(9)
    log.sign()
    archive(archives, 2)
    log.execute("UPDATE audit_archives SET entries = 3 WHERE first = 1")
    assert log.first_bad() is not None
    log.execute("UPDATE audit_archives SET entries = 4 WHERE first = 1")
    assert log.first_bad() is None
    log.execute("UPDATE audit_archives SET link = (SELECT link FROM audit_archives WHERE first = 5) WHERE first = 1")
    assert log.first_bad() == 1


def test_entries_removed_by_a_forged_archive_are_found(log: Log) -> None:
    log.change(9)
    log.sign()
    log.execute(
        "INSERT INTO audit_archives VALUES (1, 4, '2026', '2026', 4, 'sha256:" + "0" * 64 + "', 1, NULL, "
        "(SELECT hash FROM audit WHERE seq = 4), '[]')",
        "DELETE FROM audit WHERE seq <= 4",
    )
    assert log.first_bad() == 1


def hide(log: Log, last: int) -> None:
    """Move entries into the record of an archive that is right but for its file, by plain statements: no trigger
    refuses this."""
    leaves = LeafRange(0, 0)
    entries = log.store.audit(limit=100)
    for row in rows_until(log, last):
        leaves.append(hash_leaf(canonical_form(row)))
    values = {"first": 1, "last": last, "first_at": entries[0].at, "last_at": entries[last - 1].at, "entries": last}
    values |= {"digest": "sha256:" + "0" * 64, "size": 1, "dropped_at": 1.0, "link": entries[last - 1].hash}
    with log.database.writing() as connection:
        nodes = [node.hex() for node in leaves.hashes]
        connection.execute(schema.audit_archives.insert().values(**values, nodes=nodes))
        connection.execute(sa.text(f"DELETE FROM audit WHERE seq <= {last}"))


def rows_until(log: Log, last: int) -> list[Any]:
    with log.database.reading() as connection:
        query = sa.select(schema.audit).where(schema.audit.c.seq <= last).order_by(schema.audit.c.seq)
        return list(connection.execute(query).mappings())


def test_entries_hidden_in_an_archive_that_nobody_dropped_are_found(log: Log, archives: AuditArchives) -> None:
    log.change(9)
    log.sign()
    hide(log, 4)
    result = log.audit.verify()
    assert [(item["seq"], "no entry says" in item["problem"]) for item in result["findings"]] == [(1, True)]


def test_an_archive_marked_as_dropped_by_hand_is_found(log: Log, archives: AuditArchives) -> None:
    log.change(9)
    archive(archives, 2)
    archives.drop(archives._clock() + DAY_S)
    assert log.audit.verify()["ok"]
    log.change(4)
    assert archives.archive(archives._clock() + DAY_S) == 4
    with log.database.writing() as connection:
        connection.execute(sa.text("UPDATE audit_archives SET dropped_at = 1.0 WHERE first = 9"))
    findings = log.audit.verify()["findings"]  # it has the entry that says that the two before it were dropped
    assert [item["seq"] for item in findings] == [1, 5, 9]


def test_a_copied_checkpoint_that_claims_more_entries_is_found_and_stops_no_signature_silently(log: Log) -> None:
    log.change(5)
    checkpoints = AuditCheckpoints(log.database, log.audit.log)
    assert checkpoints.uncovered() == 5
    assert checkpoints.sign(log.key) is not None
    assert checkpoints.uncovered() == 0
    log.change(2)
    with log.database.writing() as connection:  # no trigger refuses this
        connection.execute(sa.text("INSERT INTO audit_checkpoints SELECT 900, 900, at, note FROM audit_checkpoints"))
    assert log.first_bad() == 5
    assert checkpoints.uncovered() == AuditCheckpoints(log.database, log.audit.log).uncovered() - 5 == 2
    with pytest.raises(DataLoss, match="penstock audit verify"):
        checkpoints.sign(log.key)


def test_another_identity_of_the_registry_is_found(log: Log) -> None:
    log.change(3)
    log.sign()
    key = log.public_key
    log.execute("UPDATE registry SET id = 'other'")
    assert log.audit.verify("", [key])["findings"][0]["seq"] == 1
    with pytest.raises(DataLoss, match="penstock audit verify"):
        AuditCheckpoints(log.database, log.audit.log).sign(log.key)


def test_a_database_set_back_to_an_older_copy_is_found_by_the_file_and_not_signed(log: Log) -> None:
    log.change(10)
    log.sign()
    log.change(5)
    log.sign()
    log.execute("DELETE FROM audit WHERE seq > 10", "DELETE FROM audit_checkpoints WHERE size > 10")
    assert log.first_bad() == 11
    log.change(7)  # other entries than before
    assert log.first_bad() == 11
    kept = log.audit.file.last(f"penstock/{log.audit.log.identity()}")
    with pytest.raises(DataLoss, match="penstock audit verify"):
        AuditCheckpoints(log.database, log.audit.log).sign(log.key, kept)


def always(spec: RouteSpec, _: object) -> RouteSpec:
    return spec


def test_an_explanation_follows_the_order_of_changes_while_the_clock_is_set_back(log: Log) -> None:
    clock = [1_000_000.0]
    traffic = TrafficStore(log.database, lambda: clock[0])
    fill(log)
    for split in ({"1": 10_000}, {"1": 5000, "2": 5000}):
        traffic.set_route("m", partial(always, RouteSpec(split, stable="1")), BY)
        clock[0] -= 3600.0
    questions = AuditQuestions(log.database, lambda: FolderBlobs(log.home / "blobs"))
    assert questions.explain("m", 1_000_100.0)["route"]["split"] == {"1": 5000, "2": 5000}
    assert log.audit.verify()["ok"]


def test_old_checkpoints_are_deleted_except_the_newest(log: Log, archives: AuditArchives) -> None:
    for _ in range(3):
        log.change(1)
        log.sign()
    assert archives.delete_checkpoints(0.0) == 0
    assert archives.delete_checkpoints(archives._clock()) == 2
    assert archives.delete_checkpoints(archives._clock()) == 0
    assert len(log.audit.log.checkpoints()) == 1
    log.change(1)
    log.sign()
    assert log.audit.verify()["ok"]


def test_another_gateways_checkpoint_is_continued_by_a_key_of_its_own(log: Log) -> None:
    log.change(3)
    other = CheckpointKey(b"o" * 32)
    checkpoints = AuditCheckpoints(log.database, log.audit.log)
    assert checkpoints.sign(other) is not None
    log.change(2)
    log.sign()
    assert log.audit.verify()["ok"]  # the larger one covers what the unknown key has signed
    log.change(1)
    assert checkpoints.sign(other) is not None
    assert "not trusted" in log.audit.verify()["findings"][0]["problem"]
    assert checkpoints.sign(other) is None


def test_concurrent_writers_of_a_fleet_never_break_the_chain(url: str, log: Log) -> None:
    def write(number: int) -> None:
        database = open_database(url, 30.0)
        store = VersionStore(database)
        for turn in range(15):
            store.record_event("model.load", "repository", Author(f"g{number}"), "m", {"turn": turn})
        database.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
        log.sign()
    result = log.audit.verify()
    assert (result["ok"], result["entries"]) == (True, 60)


def test_random_rewrites_of_the_table_are_all_found(log: Log) -> None:
    log.change(30)
    log.sign()
    texts = ("at", "actor", "action", "model", "subject", "reason", "method", "key_id", "address", "request_id", "hash")
    rng = random.Random(20261130)
    with log.database.writing() as connection:
        drop_triggers(connection)
    original = {entry.seq: entry for entry in log.store.audit(limit=100)}
    for _ in range(100):
        seq, column = rng.randrange(1, 31), rng.choice(texts)
        value = str(original_value(log, seq, column))
        place = rng.randrange(len(value))
        changed = value[:place] + ("x" if value[place] != "x" else "y") + value[place + 1 :]
        update(log, seq, {column: changed})
        assert log.first_bad() == seq, (seq, column)
        update(log, seq, {column: value})
    assert log.first_bad() is None
    assert {entry.seq: entry for entry in log.store.audit(limit=100)} == original


def original_value(log: Log, seq: int, column: str) -> object:
    with log.database.reading() as connection:
        query = sa.select(schema.audit.c[column]).where(schema.audit.c.seq == seq)
        return connection.execute(query).scalar_one()


def update(log: Log, seq: int, values: dict[str, str]) -> None:
    with log.database.writing() as connection:
        connection.execute(schema.audit.update().where(schema.audit.c.seq == seq).values(**values))


# The registry against the audit.


def fill(log: Log) -> None:
    traffic, monitor = TrafficStore(log.database), MonitorStore(log.database)
    for version in ("1", "2", "3"):
        content = Content(f"sha256:{version * 64}", 3, "onnx", (FileRecord("model.onnx", "aa", 3),))
        log.store.add_version(VersionRecord("m", version, content, "2026", "ann", report=AdmissionReport()), BY)
    log.store.retire("m", "3", BY)
    log.store.aliases.move("m", "champion", "1", BY)
    log.store.aliases.move("m", "old", "1", BY)
    log.store.aliases.drop("m", "old", BY)
    ranges = ((9500, "1"), (10_000, "2"))
    traffic.set_route("m", lambda _: RouteSpec({"1": 9500, "2": 500}, stable="1", ranges=ranges), BY)
    monitor.set_policy("m", {"slo": {"error_ratio": 0.001}}, BY)


DIFFERENCES = {
    "UPDATE versions SET digest = 'sha256:other' WHERE version = '1'": "models/m/versions/1",
    "UPDATE versions SET files = '[]' WHERE version = '2'": "models/m/versions/2",
    "UPDATE versions SET standing = 'admitted' WHERE version = '3'": "models/m/versions/3",
    "DELETE FROM versions WHERE version = '2'": "models/m/versions/2",
    "UPDATE aliases SET version = '2'": "models/m/aliases/champion",
    "INSERT INTO aliases VALUES ('m', 'new', '2', '[]')": "models/m/aliases/new",
    "DELETE FROM routes": "models/m/route",
    "UPDATE routes SET document = '{}'": "models/m/route",
    "DELETE FROM policies": "models/m/policy",
    "UPDATE policies SET document = '{}'": "models/m/policy",
    'UPDATE models SET settings = \'{"transition": "resources"}\'': "models/m/settings",
}


@pytest.mark.parametrize("statement", DIFFERENCES)
def test_a_registry_that_was_changed_without_the_audit_is_found(log: Log, statement: str) -> None:
    fill(log)
    questions = AuditQuestions(log.database, lambda: FolderBlobs(log.home / "blobs"))
    assert questions.compare_state() == []
    with log.database.writing() as connection:
        connection.execute(sa.text(statement.replace(":", "\\:")))
    assert [finding.subject for finding in questions.compare_state()] == [DIFFERENCES[statement]]


def test_a_route_whose_ranges_were_changed_alone_is_found(log: Log) -> None:
    fill(log)
    with log.database.writing() as connection:
        document = dict(connection.execute(sa.select(schema.routes.c.document)).scalar_one())
        connection.execute(schema.routes.update().values(document={**document, "ranges": [[100, "1"], [10_000, "2"]]}))
    questions = AuditQuestions(log.database, lambda: FolderBlobs(log.home / "blobs"))
    assert [finding.subject for finding in questions.compare_state()] == ["models/m/route"]


def test_what_archives_state_counts(log: Log, archives: AuditArchives) -> None:
    fill(log)
    archive(archives, 2)
    questions = AuditQuestions(log.database, lambda: FolderBlobs(log.home / "blobs"))
    assert questions.compare_state() == []
    with log.database.writing() as connection:
        connection.execute(sa.text("UPDATE versions SET digest = 'x' WHERE version = '1'"))
    assert [finding.subject for finding in questions.compare_state()] == ["models/m/versions/1"]
    archives.drop(archives._clock() + DAY_S)
    assert questions.compare_state() == []  # nothing is known of it any more


# What served, and why.


def test_an_explanation_follows_the_changes(log: Log, archives: AuditArchives) -> None:
    clock = [1_000_000.0]
    store = VersionStore(log.database, lambda: clock[0])
    traffic = TrafficStore(log.database, lambda: clock[0])
    content = Content("sha256:1", 3, "onnx", (FileRecord("model.onnx", "aa", 3),))
    changes: list[Callable[[], object]] = [
        lambda: store.add_version(VersionRecord("m", "1", content, "2026", "ann"), BY),
        lambda: store.aliases.move("m", "champion", "1", Author("bob", "it is better")),
        lambda: traffic.set_route("m", lambda _: RouteSpec({"1": 10_000}, stable="1"), Author("cid")),
        lambda: traffic.set_route("m", lambda _: None, Author("dan")),
    ]
    for change in changes:
        change()
        clock[0] += 60.0
    expected = [("newest version", "ann"), ("alias champion", "bob"), ("route", "cid"), ("alias champion", "bob")]

    def explained(minute: float) -> Document:
        questions = AuditQuestions(log.database, lambda: FolderBlobs(log.home / "blobs"))
        return questions.explain("m", 1_000_000.0 + minute * 60)

    for _ in range(2):
        for minute, (rule, actor) in enumerate(expected):
            document = explained(minute + 0.5)
            assert (document["rule"], document["decided_by"]["actor"]) == (rule, actor)
            assert document["serving"][0]["digest"] == "sha256:1"
        with pytest.raises(NotFound):
            explained(-1)
        if not log.audit.log._archived.archives_after(0):
            archive(archives, 1)
    with pytest.raises(NotFound):
        AuditQuestions(log.database, lambda: FolderBlobs(log.home / "blobs")).explain("other", 1e9)


# Databases of earlier releases, and databases that cannot be written.


def older(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a database of an earlier release, with entries and an archive."""

    def upgrade_to_the_release_before(connection: sa.Connection) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config()
        folder = Path(databases.__file__).with_name("migrations")
        config.set_main_option("script_location", str(folder))
        config.attributes["connection"] = connection
        command.upgrade(config, "0013")

    monkeypatch.setattr(databases, "_migrate", upgrade_to_the_release_before)
    monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS[: schema.REVISIONS.index("0013") + 1],))
    database = open_database(url, 5.0)
    insert = (
        "INSERT INTO audit(seq, at, actor, action, model, subject, reason, before, after) "
        "VALUES (:seq, '2026', 'ann', 'alias.move', 'm', 'models/m/aliases/champion', 'why', NULL, :after)"
    )
    with database.writing() as connection:
        for seq in (1, 2, 3, 5, 8):  # PostgreSQL left numbers out
            connection.execute(sa.text(insert), {"seq": seq, "after": json.dumps({"version": str(seq), "é": 1.5})})
        archived = "INSERT INTO audit_archives VALUES (1, 2, '2026', '2026', 2, 'sha256:gone', 1, 5.0)"
        connection.execute(sa.text(archived))
        connection.execute(sa.text("DELETE FROM audit WHERE seq <= 2"))
    database.close()
    monkeypatch.undo()


def test_the_entries_of_an_earlier_release_are_chained(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older(empty_url, monkeypatch)
    database = leading(open_database(empty_url, 5.0))
    blobs = FolderBlobs(tmp_path / "blobs")
    audit = RegistryAudit(database, lambda: blobs, tmp_path / "audit.key", tmp_path / "audit-checkpoints.txt")
    log = Log(database, VersionStore(database), audit, tmp_path)
    log.change(2)
    log.sign()
    result = audit.verify()
    assert (result["ok"], result["entries"], result["last"]) == (True, 5, 10)
    assert [entry.seq for entry in log.store.audit()] == [3, 5, 8, 9, 10]
    assert verify_proof(audit.prove(5), [log.public_key])["after"] == {"version": "5", "é": 1.5}
    log.execute("UPDATE audit SET reason = 'other' WHERE seq = 3")
    assert log.first_bad() == 3
    database.close()


def test_a_change_that_cannot_be_recorded_is_refused_and_not_in_effect(
    url: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(log)
    before: Any = log.store.model("m"), log.store.audit()
    with log.database.writing() as connection:
        if connection.dialect.name == "sqlite":
            read_only = "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END"
            connection.execute(sa.text(read_only))
        else:
            name = url.rpartition("/")[2]
            connection.execute(sa.text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    again = open_database(url, 5.0)
    store = VersionStore(again)
    with pytest.raises((NotReady, sa.exc.DBAPIError)):
        store.aliases.move("m", "champion", "2", BY, force=True)
    with pytest.raises((NotReady, sa.exc.DBAPIError)):
        store.record_event("model.load", "repository", BY, "m")
    assert (store.model("m"), store.audit()) == before
    again.close()
