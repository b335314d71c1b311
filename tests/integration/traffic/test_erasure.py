"""Erasure at gateways: what is kept of a subject is gone, in a fleet too, while workers go on capturing."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from tests import harness, postgres, zoo
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.control.watch import metric

POLICY = {"capture": {"sample": 1.0, "mask": ["x[2]"]}}
SUBJECT = 7
BURST = 16
"""Connections that surely reach each of two workers."""

SETTLED_S = 5.0


def ask(server: Server, request_id: str, *subjects: int) -> None:
    rows = [value for subject in subjects for value in (subject, 0.5, 42)]
    tensor = {"name": "x", "shape": [len(subjects), 3], "datatype": "FP32", "data": rows}
    reply = server.rest("POST", "/v2/models/m/infer", {"inputs": [tensor]}, {"x-request-id": request_id})
    assert reply.status == 200, reply


def ask_on(server: Server, stop: threading.Event) -> None:
    while not stop.is_set():
        ask(server, "other", 1)


def captured(server: Server) -> float:
    return metric(server, "penstock_captured_requests_total", model="m")


def capture_all(server: Server, prefix: str = "") -> None:
    """Ask for ten subjects one by one, and for three together, and wait until all is written."""
    before = captured(server)
    for subject in range(10):
        ask(server, f"{prefix}{subject}", subject)
    ask(server, f"{prefix}batch", 3, SUBJECT, 4)
    wait_until(lambda: captured(server) == before + 11, PATIENCE_S, "all requests are captured")


def forget(folder: Path, *arguments: str) -> tuple[int, Any]:
    done = harness.run_command("capture", "forget", *arguments, "--json", folder=folder)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def exported(folder: Path) -> list[tuple[str, float]]:
    table = folder / "rows.parquet"
    done = harness.run_command("capture", "m:1", "-o", str(table), folder=folder)
    assert done.returncode == 0, done.stderr
    return [(line["id"], line["x"][0]) for line in parquet.read_table(table).to_pylist()]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    models = tmp_path / "models"
    zoo.place(models, "m", {"1": zoo.affine(2.0, 1.0, ("n", 3))})
    with harness.running(models, tmp_path, "--workers", "2") as started:
        watch(started)
        yield started


def watch(server: Server) -> None:
    assert server.as_owner("PUT", "/admin/v1/models/m/policy", POLICY).status == 200

    def is_captured() -> bool:
        ask(server, "first", 0)
        return captured(server) > 0

    wait_until(is_captured, PATIENCE_S, "the first captured request")
    wait_until(lambda: _all_captured(server), PATIENCE_S, "every worker captures")


def _all_captured(server: Server) -> bool:
    """Whether exactly the requests of a burst, each on a connection of its own, are captured: every worker has the
    policy, and nothing of an earlier burst comes late."""
    before = captured(server)
    for _ in range(BURST):
        ask(server, "first", 0)
    until = time.monotonic() + SETTLED_S
    while captured(server) < before + BURST and time.monotonic() < until:
        time.sleep(0.05)
    return captured(server) == before + BURST


def feed_back(server: Server, request_id: str, label: Any) -> int:
    body = {"feedback": [{"id": request_id, "label": label}]}
    reply = server.rest("POST", "/v2/models/m/feedback", body)
    assert reply.status == 202, reply
    return int(reply.json()["unmatched"])


def test_what_is_kept_of_a_subject_is_gone(server: Server, tmp_path: Path) -> None:
    capture_all(server)
    stop = threading.Event()
    others = threading.Thread(target=ask_on, args=(server, stop))
    others.start()
    code, report = forget(tmp_path, "m", "--key", f"x[0]={SUBJECT}", "--reason", "request 118")
    stop.set()
    others.join()
    assert (code, report["removed"]["requests"], report["removed"]["rows"]) == (0, 2, 2)
    assert report["removed"]["answers"] == 2 and not report["problems"] and not report["missing"]
    rows = [row for row in exported(tmp_path) if row[0] not in {"first", "other"}]
    assert sorted(rows) == sorted(
        [(str(n), float(n)) for n in range(10) if n != SUBJECT] + [("batch", 3.0), ("batch", 4.0)]
    )
    assert feed_back(server, str(SUBJECT), 1) == 1 and feed_back(server, "5", 1) == 0
    audit = server.admin("GET", "/admin/v1/audit").json()["entries"]
    [entry] = [item for item in audit if item["action"] == "rows.erased"]
    assert entry["reason"] == "request 118" and entry["after"]["removed"]["rows"] == 2
    before = captured(server)
    ask(server, "later", 2)
    wait_until(lambda: captured(server) > before, PATIENCE_S, "workers go on capturing")
    assert forget(tmp_path, "m", "--key", f"x[0]={SUBJECT}")[1]["removed"]["rows"] == 0


def test_without_a_gateway(tmp_path: Path) -> None:
    models = tmp_path / "models"
    zoo.place(models, "m", {"1": zoo.affine(2.0, 1.0, ("n", 3))})
    with harness.running(models, tmp_path) as server:
        watch(server)
        capture_all(server)
    code, report = forget(tmp_path, "m", "--key", f"x[0]={SUBJECT}")
    assert (code, report["removed"]["rows"], report["removed"]["answers"]) == (0, 2, 2)
    assert (str(SUBJECT), float(SUBJECT)) not in exported(tmp_path)


@pytest.mark.parametrize("key", ["x", "=1", "x="])
def test_malformed_keys_are_refused(tmp_path: Path, key: str) -> None:
    code, error = forget(tmp_path, "--key", key)
    assert code == 2 and "expected COLUMN=VALUE" in error


def test_every_gateway_of_a_fleet(tmp_path: Path) -> None:
    with ExitStack() as stack:
        database = stack.enter_context(postgres.running())
        env = {"PENSTOCK_BLOBS": str(tmp_path / "blobs")}
        options = ("--registry", database.create("fleet"), "--workers", "1")
        fleet = {}
        for name in "abc":
            fleet[name] = harness.launch(None, tmp_path / name, *options, env=env)
            stack.callback(fleet[name].kill)
        content = zoo.affine(2.0, 1.0, ("n", 3)).SerializeToString()
        assert fleet["a"].push("m", "1", content).status == 201
        assert fleet["a"].as_owner("PUT", "/admin/v1/models/m/policy", POLICY).status == 200
        for name, server in fleet.items():
            wait_until(lambda at=server: serves(at), PATIENCE_S, f"version 1 at {name}")  # type: ignore[misc]
            watch(server)
            capture_all(server, name)
        fleet["c"].stop()
        body = {"model": "m", "column": "x[0]", "value": str(SUBJECT)}
        report = fleet["b"].admin("POST", "/admin/v1/erasures", body).json()
        assert report["removed"]["rows"] == 4 and len(report["homes"]) == 2, report
        back = fleet["c"] = harness.launch(None, tmp_path / "c", *options, env=env)
        stack.callback(back.kill)
        segments = tmp_path / "c" / "home" / "captures"

        def is_erased() -> bool:
            return not any(b'"c7"' in path.read_bytes() for path in segments.iterdir())

        wait_until(is_erased, PATIENCE_S, "the gateway that was away erases")


def serves(server: Server) -> bool:
    return server.rest("GET", "/v2/models/m/ready").status == 200
