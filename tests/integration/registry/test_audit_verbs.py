"""The audit's verbs through a gateway and without one, and what a changed registry looks like to them."""

import json
import re
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from penstock.control.audit.checkpoints import CHECKPOINT_ENTRIES
from tests import harness, zoo
from tests.harness import PATIENCE_S, Server, wait_until

ACTOR = {"penstock-actor": "ann", "penstock-reason": "because"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """A gateway with two versions, and so many changes that a checkpoint was signed."""
    with harness.running(None, folder) as server:
        for version in (1, 2):
            pushed = server.push("m", str(version), zoo.versioned(version).SerializeToString(), ACTOR)
            assert pushed.status == 201, pushed
        assert server.admin("PUT", "/admin/v1/models/m/aliases/champion", {"version": "1"}, ACTOR).status == 200
        for number in range(CHECKPOINT_ENTRIES):
            changed = server.admin("PUT", "/admin/v1/models/m/settings", {"keep_warm_seconds": number + 1}, ACTOR)
            assert changed.status == 200, changed
        wait_until(lambda: covered_entries(folder) >= CHECKPOINT_ENTRIES, PATIENCE_S, "a checkpoint of these changes")
        yield server


def file_of(folder: Path) -> Path:
    return folder / "home" / "audit-checkpoints.txt"


def covered_entries(folder: Path) -> int:
    """How many entries the newest checkpoint in the file covers; one may be signed before all changes are made."""
    notes = file_of(folder).read_text() if file_of(folder).exists() else ""
    return max((int(size) for size in re.findall(r"^(\d+)$", notes, re.MULTILINE)), default=0)


def run(folder: Path, *arguments: str) -> CompletedProcess[str]:
    return harness.run_command(*arguments, folder=folder)


def ran(folder: Path, *arguments: str) -> str:
    ended = run(folder, *arguments)
    assert ended.returncode == 0, ended
    return ended.stdout


def test_the_audit_of_a_gateway_is_verified(server: Server, folder: Path) -> None:
    result = json.loads(ran(folder, "audit", "verify", "--json"))
    assert result["ok"]
    assert result["covered"] >= CHECKPOINT_ENTRIES
    assert result["keys"] == [ran(folder, "audit", "key").strip()]
    people = run(folder, "audit", "verify")
    assert f"{result['entries']} entries" in people.stdout
    assert "kept elsewhere (--checkpoint FILE)" in people.stderr
    checkpoint = server.admin("GET", "/admin/v1/audit/checkpoint").body.decode()
    wait_until(lambda: checkpoint in file_of(folder).read_text(), PATIENCE_S, "the checkpoint in the file")
    for file in (file_of(folder), folder / "home" / "audit.key"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    events = server.admin("GET", "/admin/v1/events?limit=1000").json()["events"]
    [event, *_] = [event for event in events if event["type"] == "io.penstock.audit.checkpoint.v1"]
    wait_until(lambda: event["data"]["note"] in file_of(folder).read_text(), PATIENCE_S, "the note in the file")


def test_a_proof_is_verified_on_another_machine(server: Server, folder: Path, tmp_path: Path) -> None:
    proof, key = tmp_path / "5.tlog-proof", ran(folder, "audit", "key").strip()
    ran(folder, "audit", "prove", "5", "-o", str(proof))
    verified = run(tmp_path, "audit", "verify", "--proof", str(proof), "--key", key)
    assert (verified.returncode, json.loads(verified.stdout)["actor"]) == (0, "ann")
    (tmp_path / "key.txt").write_text(f"{key}\n")
    assert run(tmp_path, "audit", "verify", "--proof", str(proof), "--key", str(tmp_path / "key.txt")).returncode == 0
    assert run(tmp_path, "audit", "verify", "--proof", str(proof)).returncode == 2
    assert run(tmp_path, "audit", "verify", "--proof", str(tmp_path / "absent"), "--key", key).returncode == 2
    proof.write_text(proof.read_text().replace("index 4", "index 5"))
    assert run(tmp_path, "audit", "verify", "--proof", str(proof), "--key", key).returncode == 8
    assert run(folder, "audit", "prove", "99999").returncode == 3


def test_what_serves_is_explained(server: Server, folder: Path) -> None:
    explained = json.loads(ran(folder, "audit", "explain", "m", "--at", "2999-01-01", "--json"))
    assert (explained["rule"], explained["serving"][0]["version"]) == ("alias champion", "1")
    assert explained["decided_by"]["actor"] == "ann"
    assert "alias champion" in ran(folder, "audit", "explain", "m", "--at", "2999-01-01T00:00:00Z")
    assert run(folder, "audit", "explain", "m", "--at", "2000-01-01").returncode == 3
    assert run(folder, "audit", "explain", "m", "--at", "yesterday").returncode == 2


def test_exports_loads_and_unloads_are_in_the_audit(server: Server, folder: Path, tmp_path: Path) -> None:
    assert server.rest("POST", "/v2/repository/models/m/unload").status == 200
    assert server.rest("POST", "/v2/repository/models/m/load").status == 200
    ran(folder, "models", "export", "m:1", str(tmp_path / "model.onnx"))
    ran(folder, "audit", "export", "-o", str(tmp_path / "audit.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    actions = [line["entry"]["action"] for line in lines if "entry" in line]
    assert actions[-4:] == ["model.unload", "model.load", "version.export", "audit.export"]
    assert "checkpoint" in lines[-1]


def test_a_rewritten_registry_is_found_by_a_gateway(server: Server, folder: Path) -> None:
    assert run(folder, "models", "verify").returncode == 0
    with closing(sqlite3.connect(folder / "home" / "registry.db", timeout=PATIENCE_S)) as raw:
        [good] = raw.execute("SELECT digest FROM versions WHERE version = '1'").fetchone()
        raw.execute(
            "UPDATE versions SET digest = (SELECT digest FROM versions WHERE version = '2') WHERE version = '1'"
        )
        raw.commit()
        changed = run(folder, "models", "verify")
        assert changed.returncode == 8
        assert "m:1 " in changed.stdout
        raw.execute("UPDATE versions SET digest = ? WHERE version = '1'", (good,))
        raw.commit()
    assert run(folder, "models", "verify").returncode == 0


def test_a_rewritten_audit_is_found_without_a_gateway(server: Server, folder: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.txt"
    saved.write_text(server.admin("GET", "/admin/v1/audit/checkpoint").body.decode())
    (tmp_path / "home").mkdir(0o700)
    for name in ("audit.key", "audit-checkpoints.txt"):
        shutil.copy2(folder / "home" / name, tmp_path / "home")
    with (
        closing(sqlite3.connect(folder / "home" / "registry.db")) as source,
        closing(sqlite3.connect(tmp_path / "home" / "registry.db")) as raw,
    ):
        source.backup(raw)
        assert run(tmp_path, "audit", "verify").returncode == 0
        for trigger in ("audit_no_update", "audit_no_delete", "audit_checkpoints_no_delete"):
            raw.execute(f"DROP TRIGGER {trigger}")
        raw.execute("UPDATE audit SET actor = 'mallory' WHERE seq = 3")
        raw.commit()
        assert bad_entry(run(tmp_path, "audit", "verify")) == "3"
        raw.execute("UPDATE audit SET actor = 'ann' WHERE seq = 3")
        raw.execute("DELETE FROM audit WHERE seq > 200")
        raw.execute("DELETE FROM audit_checkpoints")
        raw.commit()
    assert bad_entry(run(tmp_path, "audit", "verify")) == "201"
    file_of(tmp_path).unlink()
    ended = run(tmp_path, "audit", "verify")
    assert (ended.returncode, "--checkpoint FILE" in ended.stderr) == (0, True)
    assert bad_entry(run(tmp_path, "audit", "verify", "--checkpoint", str(saved))) == "201"
    assert run(tmp_path, "audit", "verify", "--checkpoint", str(tmp_path / "absent.txt")).returncode == 2


def bad_entry(ended: CompletedProcess[str]) -> str:
    assert ended.returncode == 8, ended
    return ended.stdout.split(":")[0]
