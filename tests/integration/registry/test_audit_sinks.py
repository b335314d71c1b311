"""Signed checkpoints reach a webhook and a file, and what these received shows what was removed from the audit."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from penstock.control.audit.checkpoints import CHECKPOINT_ENTRIES
from penstock.registry.db.database import open_database
from penstock.registry.records import Author
from penstock.registry.stores.versions import VersionStore
from tests import harness
from tests.harness import PATIENCE_S, Server, run_command, wait_until
from tests.integration.traffic.test_retraining import Receiver, receiving


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def write_configuration(folder: Path, hook: Receiver) -> Path:
    sinks = {"vault": {"webhook": {"url": hook.url}}, "shelf": {"file": {"path": str(folder / "elsewhere.jsonl")}}}
    config = folder / "penstock.yaml"
    config.write_text(json.dumps({"sinks": sinks, "audit": {"sinks": ["vault", "shelf"]}}))
    return config


def change(folder: Path, count: int) -> None:
    """Add so many entries to the audit of a gateway that runs."""
    database = open_database(f"sqlite:///{folder / 'home' / 'registry.db'}", 30.0)
    store = VersionStore(database)
    for _ in range(count):
        store.record_event("model.load", "repository", Author("ann"), "m")
    database.close()


def sizes(text: str) -> list[int]:
    return [json.loads(line)["data"]["size"] for line in text.splitlines()]


def cut_the_end(folder: Path, size: int) -> None:
    """Remove all entries after ``size``, every checkpoint over them, and the gateway's own file."""
    with closing(sqlite3.connect(folder / "home" / "registry.db", timeout=30.0)) as raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        raw.execute("DELETE FROM audit WHERE seq > ?", (size,))
        raw.execute("DELETE FROM audit_checkpoints WHERE size > ?", (size,))
        raw.commit()
    (folder / "home" / "audit-checkpoints.txt").unlink()


def received(folder: Path, hook: Receiver, size: int) -> bool:
    file = folder / "elsewhere.jsonl"
    largest = [
        max([0, *got])
        for got in (
            sizes(file.read_text()) if file.exists() else [],
            [event["data"]["size"] for event in hook.events()],
        )
    ]
    return bool(min(largest) >= size)


def test_what_a_sink_received_finds_entries_that_were_removed_with_their_checkpoints(
    tmp_path: Path, hook: Receiver
) -> None:
    hook.answers = [(503, {}), (500, {})]  # a sink that fails at first delays nothing and loses nothing
    config = write_configuration(tmp_path, hook)
    with harness.running(None, tmp_path, "--config", str(config)) as server:
        change(tmp_path, CHECKPOINT_ENTRIES)
        wait_until(lambda: received(tmp_path, hook, CHECKPOINT_ENTRIES), PATIENCE_S, server.log_text)
        check_metrics(server)
    body = tmp_path / "body.json"
    body.write_bytes(hook.got[-1][2])
    kept = (body, tmp_path / "elsewhere.jsonl")
    for file in kept:
        done = run_command("audit", "verify", "--checkpoint", str(file), folder=tmp_path)
        assert done.returncode == 0, done
    cut_the_end(tmp_path, 100)
    assert run_command("audit", "verify", folder=tmp_path).returncode == 0  # nothing here shows it
    for file in kept:
        done = run_command("audit", "verify", "--checkpoint", str(file), folder=tmp_path)
        assert (done.returncode, done.stdout.startswith("101: ")) == (8, True), done
    (tmp_path / "empty").write_text("")
    assert run_command("audit", "verify", "--checkpoint", str(tmp_path / "empty"), folder=tmp_path).returncode == 2


def check_metrics(server: Server) -> None:
    """Sent and failed deliveries are counted; nothing waits."""

    def value(name: str, labels: str) -> float:
        lines = [
            line
            for line in server.admin("GET", "/metrics").body.decode().splitlines()
            if line.startswith(f"penstock_{name}{{{labels}}}")
        ]
        return float(lines[0].rpartition(" ")[2]) if lines else 0.0

    wait_until(
        lambda: value("outbox_deliveries_total", 'model="",outcome="sent"') >= 2, PATIENCE_S, "the counts of deliveries"
    )
    assert value("outbox_deliveries_total", 'model="",outcome="failed"') >= 2
    wait_until(lambda: value("outbox_pending", 'model=""') == 0, PATIENCE_S, "an empty outbox")


def test_a_gateway_whose_audit_names_an_unknown_sink_does_not_start(tmp_path: Path) -> None:
    config = tmp_path / "penstock.yaml"
    config.write_text(json.dumps({"audit": {"sinks": ["vault"]}}))
    for verb in (("serve",), ("config", "check")):
        done = run_command(*verb, "--config", str(config), folder=tmp_path)
        assert (done.returncode, "'audit.sinks' names no sink of the configuration: 'vault'" in done.stderr) == (
            2,
            True,
        )
