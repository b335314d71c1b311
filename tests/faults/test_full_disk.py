"""A gateway whose home has no room left, can only be read, or that has no descriptors left: it says so, serves on, and
goes on with all it acknowledged once it may write again."""

import json
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import harness
from tests.harness import PATIENCE_S, Reply, Server, call, wait_until
from tests.integration.traffic.drive import FEATURES, scorer
from tests.integration.traffic.test_monitor import csv

ROWS = 10
MODEL = "/admin/v1/models/m"
POLICY: dict[str, Any] = {
    "monitor": {"window_seconds": 20},
    "capture": {"sample": 0.5},
    "triggers": [{"name": "now", "when": {"schedule": "0 0 1 1 *"}, "send": ["log"]}],
    "sinks": {"log": {"file": {"path": "told.jsonl"}}},
}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A room whose home is a file system of 24 MB."""
    home = tmp_path / "home"
    home.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(home)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system needs the right to mount one")
    yield tmp_path
    subprocess.run(["umount", "-l", str(home)], check=True)


@pytest.fixture
def server(small: Path) -> Iterator[Server]:
    running = harness.launch(None, small, "--workers", "1")
    try:
        assert running.push("m", "1", scorer().SerializeToString()).status == 201
        wait_until(lambda: running.rest("GET", "/v2/models/m/ready").status == 200, PATIENCE_S, "the model")
        assert all(reply.status < 300 for reply in changes(running, "before", 2).values())
        yield running
    finally:
        running.kill()


def infer(server: Server, count: int = 20) -> str:
    """Some requests, all of them answered; the id of the last."""
    reply = None
    for _ in range(count):
        data = np.random.default_rng(count).normal(size=ROWS * FEATURES).tolist()
        tensor = {"name": "x", "shape": [ROWS, FEATURES], "datatype": "FP32", "data": data}
        reply = server.rest("POST", "/v2/models/m/infer", {"inputs": [tensor]})
        assert reply.status == 200, reply
    assert reply is not None
    return reply.headers["x-request-id"]


def changes(server: Server, reason: str, version: int) -> dict[str, Reply]:
    """Every kind of change there is."""
    content = scorer(1.0 + version / 10).SerializeToString()
    feedback = {"feedback": [{"id": infer(server), "label": [0] * ROWS}]}
    return {
        "push": server.push("m", str(version), content),
        "reference": call(server.ops, "PUT", f"{MODEL}/versions/1/reference", csv(2000)),
        "policy": server.as_owner("PUT", f"{MODEL}/policy", POLICY),
        "route": server.admin("PUT", f"{MODEL}/route", {"split": {"1": 10_000}, "reason": reason}),
        "retrain": server.admin("POST", f"{MODEL}/retrain", {"reason": reason}),
        "feedback": server.rest("POST", "/v2/models/m/feedback", feedback),
    }


def assert_reads_go_on(server: Server) -> None:
    for path in ("/livez", "/readyz", "/metrics", MODEL, f"{MODEL}/monitor?version=1", "/admin/v1/events"):
        assert server.admin("GET", path).status == 200, path


def assert_recovers(server: Server, workspace: Path) -> None:
    """All that was acknowledged is there, all can be changed again, and what was asked for is delivered."""
    after = changes(server, "after", 5)
    assert all(reply.status < 300 for reply in after.values()), after
    assert after["feedback"].json() == {"accepted": 1, "unmatched": 0}
    assert_reads_go_on(server)
    reported = workspace / "home" / "told.jsonl"
    events = server.admin("GET", "/admin/v1/events").json()["events"]
    wanted = {event["id"] for event in events if "retraining" in event["type"]}
    assert len(wanted) == 2
    wait_until(lambda: reported.exists() and ids_in(reported) >= wanted, PATIENCE_S, "every event in the file")
    assert versions_of(server) == ["1", "2", "5"]


def ids_in(file: Path) -> set[str]:
    return {json.loads(line)["id"] for line in file.read_text().splitlines()}


def versions_of(server: Server) -> list[str]:
    return [version["version"] for version in server.admin("GET", MODEL).json()["versions"]]


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


def test_a_full_disk_is_reported_and_nothing_is_lost(server: Server, small: Path) -> None:
    filler = small / "home" / "filler"
    fill(filler)
    for version in (3, 4):
        tried = changes(server, "full", version)
        for name in ("push", "reference", "policy", "route", "retrain"):
            assert tried[name].status == 503, (name, tried[name])
            assert "; free" in tried[name].error()
        assert tried["feedback"].status in {202, 503}  # an answer that could not be remembered is unmatched
        infer(server, 200)  # segments of answers, captures and states of the monitor want to be written
        assert_reads_go_on(server)
    filler.unlink()
    assert_recovers(server, small)
    audit = server.admin("GET", "/admin/v1/audit").json()
    server.kill()
    with harness.running(None, small, "--workers", "1") as successor:
        wait_until(lambda: successor.rest("GET", "/v2/models/m/ready").status == 200, PATIENCE_S, "the model")
        assert versions_of(successor) == ["1", "2", "5"]
        assert successor.admin("GET", "/admin/v1/audit").json() == audit


def test_a_lack_of_descriptors_is_reported_and_ends(server: Server, small: Path) -> None:
    pid = server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 2, before[1]))
    tried = changes(server, "none left", 3)
    assert all(reply.status in {200, 201, 202, 500, 503} for reply in tried.values()), tried
    infer(server, 50)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    wait_until(lambda: server.admin("GET", "/livez").status == 200, PATIENCE_S, "life")
    assert all(reply.status < 300 for reply in changes(server, "after", 5).values())
    assert_reads_go_on(server)
