"""The registry and its audit under kill -9: whatever was acknowledged is there afterwards, nothing is torn, the
registry is what its audit states and the audit what was signed, and it opens at once."""

import json
import os
import random
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from penstock.core.access.table import KeyRecord
from penstock.core.audit.chain import origin_of
from penstock.core.errors import Conflict, Fault
from penstock.registry.auditing import RegistryAudit
from penstock.registry.blobs.folder import FolderBlobs, IncomingFile, hash_file
from penstock.registry.contents.layout import ContentLayout
from penstock.registry.db import schema
from penstock.registry.db.database import open_database
from penstock.registry.db.lease import LeaseHolder
from penstock.registry.garbage_collection import collect
from penstock.registry.location import location_of
from penstock.registry.records import Author, Content, FileRecord, VersionRecord, VersionState
from penstock.registry.registry import Registry
from penstock.registry.signing.note_keys import read_or_create_key
from penstock.registry.stores.audit_checkpoints import AuditCheckpoints
from penstock.registry.stores.audit_log import AuditLog
from penstock.registry.stores.audit_questions import AuditQuestions
from penstock.registry.stores.keys import KeyStore
from penstock.registry.stores.versions import VersionStore
from tests.harness import PATIENCE_S, processor_seconds, wait_until

BY = Author("killed")
OPEN_SECONDS = 1.0


def opened(home: Path) -> Registry:
    place = location_of(str(home), home, "")
    return Registry(place, VersionStore(open_database(place.database, 5.0)), FolderBlobs(Path(place.blobs)), 1 << 20)


def work(home: Path, seed: int, reported: int) -> None:
    """Push, move aliases and clear away without end; tell each change once it is acknowledged."""
    rng = random.Random(seed)
    registry = opened(home)
    for beside in (record_events, change_keys, sign):
        threading.Thread(target=beside, args=(registry, seed, reported), daemon=True).start()
    while True:
        version, model = str(rng.randrange(1_000_000)), f"m{rng.randrange(3)}"
        with registry.receive() as incoming:
            incoming.write(f"{model} {version}".encode() * rng.randrange(1, 200))
            incoming.close()
            digest = incoming.digest
            keep(registry, incoming, model, version)
        os.write(reported, json.dumps(["version", model, version, digest]).encode() + b"\n")
        if rng.random() < 0.5:
            registry.store.aliases.move(model, "champion", version, BY)
            os.write(reported, json.dumps(["alias", model, version]).encode() + b"\n")
        if rng.random() < 0.3:
            try:
                registry.store.retire(model, version, BY)
                os.write(reported, json.dumps(["retired", model, version]).encode() + b"\n")
            except Conflict:
                pass
        if rng.random() < 0.4:
            collect(registry.store, registry.blobs, registry.layout, 0.0)


def record_events(registry: Registry, seed: int, reported: int) -> None:
    """Record events beside the changes, without end; tell each once it is acknowledged."""
    number = 0
    while True:
        number += 1
        registry.store.record_event("model.load", f"repository/{seed}-{number}", BY, "m0")
        os.write(reported, json.dumps(["event", "m0", f"{seed}-{number}"]).encode() + b"\n")


def change_keys(registry: Registry, seed: int, reported: int) -> None:
    """Make, replace and revoke API keys, without end; tell each revocation once it is acknowledged."""
    keys, number = KeyStore(registry.store.connections), 0
    while True:
        number += 1
        name = f"k{seed}-{number}"
        keys.create(KeyRecord("", name, "", ("caller",)), BY)
        keys.rotate(name, 60.0, None, BY)
        revoked = keys.revoke(name, BY)
        os.write(reported, json.dumps(["key", revoked[0].record.id, name]).encode() + b"\n")


def sign(registry: Registry, _: int, reported: int) -> None:
    """Sign checkpoints as a gateway does, without end; tell each size once it is acknowledged."""
    database, home = registry.store.connections, registry.location.home
    database.lease = LeaseHolder(steady=lambda: 0.0)
    audit = audit_of(registry, home)
    signer = AuditCheckpoints(database, audit.log, sinks=["vault"])
    key, kept = read_or_create_key(home / "audit.key"), audit.file.last(origin_of(audit.log.identity()))
    with database.writing() as connection:
        connection.execute(schema.leadership.update().values(until=0.0))  # that of the one that was killed
    assert database.acquire_leadership()
    while True:
        signed = signer.sign(key, kept)
        if signed is not None:
            audit.file.append(signed)
            kept = signed.checkpoint
            os.write(reported, json.dumps(["signed", "", str(kept.size)]).encode() + b"\n")


def audit_of(registry: Registry, home: Path) -> RegistryAudit:
    files = home / "audit.key", home / "checkpoints.txt"
    return RegistryAudit(registry.store.connections, lambda: registry.blobs, *files)


def keep(registry: Registry, incoming: IncomingFile, model: str, version: str) -> None:
    """What ``Registry.commit`` does, without an admission."""
    digest = incoming.digest
    lease = registry.store.contents.lease(digest, 600.0)
    registry.blobs.keep(incoming.path, digest)
    files = (FileRecord("model.onnx", digest.removeprefix("sha256:"), incoming.size),)
    registry.store.add_version(
        VersionRecord(model, version, Content(digest, incoming.size, "onnx", files), "2026", "killed"), BY
    )
    registry.store.contents.release(lease)


def killed_at(home: Path, seed: int, seconds: float) -> list[list[str]]:
    """Let a child work for so much processor time and kill it; what it had been told was done."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            work(home, seed, writing)
        finally:
            os._exit(1)
    os.close(writing)
    wait_until(lambda: processor_seconds(pid) >= seconds, PATIENCE_S, "work")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().splitlines()
    return [json.loads(line) for line in lines]


def check(home: Path, acknowledged: list[list[str]]) -> None:
    began = time.process_time()
    place = location_of(str(home), home, "")
    database = open_database(place.database, 5.0)
    try:
        registry = Registry(place, VersionStore(database), FolderBlobs(Path(place.blobs)), 1 << 20)
        check_what_is_there(registry, home, acknowledged, began)
    finally:
        database.close()  # a child must not inherit connections: SQLite's locks are a process's own


def check_what_is_there(registry: Registry, home: Path, acknowledged: list[list[str]], began: float) -> None:
    models = {model.name: model for model in registry.store.models()}
    assert time.process_time() - began < OPEN_SECONDS
    versions = {(name, v): version for name, model in models.items() for v, version in model.versions.items()}
    check_audit(registry, home, acknowledged)
    for kind, model, version, *rest in acknowledged:
        if kind in ("event", "key", "signed"):
            continue
        record = versions[model, version]
        if kind == "version":
            assert record.content.digest == rest[0]
        elif kind == "retired":
            assert record.state is VersionState.RETIRED
    last = {model: version for kind, model, version, *_ in acknowledged if kind == "alias"}
    for model, version in last.items():
        alias = models[model].aliases["champion"]
        assert version in (alias.version, *alias.before)
    for record in versions.values():  # nothing that a version needs is gone or torn
        assert hash_file(registry.blobs.fetch(record.content.digest)) == record.content.digest
    entries = AuditLog(registry.store.connections, lambda: registry.blobs).entries()
    assert sum(entry["action"] == "version.add" for entry in entries) == len(versions)
    raw = sqlite3.connect(home / "registry.db")
    assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()
    registry.receive().__exit__()  # which sweeps what the dead were receiving
    assert not list(registry.location.incoming.iterdir())


def check_audit(registry: Registry, home: Path, acknowledged: list[list[str]]) -> None:
    """The chain is unbroken and as it was signed, the registry is what it states, and no acknowledged change is without
    its entry, nor a key that was revoked valid again."""
    database, audit = registry.store.connections, audit_of(registry, home)
    verified = audit.verify()
    assert verified["findings"] == []
    assert verified["covered"] >= max([0, *(int(size) for kind, _, size in three(acknowledged) if kind == "signed")])
    assert AuditQuestions(database, lambda: registry.blobs).compare_state() == []
    valid = {key.id for key in KeyStore(database).list_valid()}
    assert not valid & {key for kind, key, _ in three(acknowledged) if kind == "key"}
    subjects = {line["entry"]["subject"] for line in audit.export() if "entry" in line}
    parts = {"version": "versions", "retired": "versions", "event": "repository"}
    stated = {f"models/{model}/{parts[kind]}/{name}" for kind, model, name, *_ in acknowledged if kind in parts}
    assert stated <= subjects


def three(acknowledged: list[list[str]]) -> list[list[str]]:
    return [item[:3] for item in acknowledged]


def kill_over_and_over(workspace: Path, points: int, seed: int) -> int:
    rng = random.Random(seed)
    home, total = workspace / "0", 0
    acknowledged: list[list[str]] = []
    for point in range(points):
        if point % 10 == 0:  # a small registry is checked faster, and a new one is where a first start can be torn
            home = workspace / str(point)
            home.mkdir()
            acknowledged = []
        acknowledged += killed_at(home, rng.randrange(1 << 30), rng.random() ** 2 * 0.15)
        check(home, acknowledged)
        total += len(acknowledged)
    return total


def test_nothing_acknowledged_is_lost_at_twenty_points(tmp_path: Path) -> None:
    assert kill_over_and_over(tmp_path, 20, seed=11) > 30


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_acknowledged_is_lost_at_a_thousand_points(tmp_path: Path) -> None:
    assert kill_over_and_over(tmp_path, 1000, seed=20261121) > 1000


def test_a_collector_that_died_is_succeeded(tmp_path: Path) -> None:
    registry = opened(tmp_path)
    with registry.receive() as incoming:
        incoming.write(b"nobody needs this")
        incoming.close()
        registry.blobs.keep(incoming.path, incoming.digest)
        digest = incoming.digest
    assert registry.store.contents.mark_for_deletion([digest]) == [digest]  # and here it died
    with pytest.raises(Fault):
        registry.store.contents.lease(digest, 1.0)
    assert collect(registry.store, registry.blobs, ContentLayout(registry.blobs, tmp_path / "unpacked"), 3600.0) == [
        digest
    ]
    registry.store.contents.lease(digest, 1.0)
