"""Workers that die, freeze or cannot live: replaced in time, truthfully told, with counters that go on."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import harness
from tests.harness import PATIENCE_S, Server, is_alive, wait_until
from tests.integration.control.watch import counts, infer, metric


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[Server]:
    env = {harness.FREEZE: "2"}
    with harness.running(folder, tmp_path, "--workers", "2", "--drain-delay", "0", env=env) as started:
        yield started


def hurt(server: Server, number: int) -> None:
    """Do this to one worker, and wait until another has taken its place."""
    victim = server.worker_pids()[0]
    os.kill(victim, number)
    wait_until(lambda: victim not in server.worker_pids(), PATIENCE_S, "the end of the worker")
    wait_until(server.is_ready, PATIENCE_S, "two ready workers")
    assert not is_alive(victim)


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGKILL, "died"), (signal.SIGSTOP, "frozen")])
def test_a_worker_is_replaced(server: Server, number: int, reason: str) -> None:
    for _ in range(50):
        infer(server)
    counts(server, 50)
    hurt(server, number)
    counts(server, 50)
    for _ in range(50):
        infer(server)
    counts(server, 100)
    assert metric(server, "penstock_worker_restarts_total", reason=reason) == 1


def test_a_worker_asked_to_end_drains_and_is_replaced(server: Server) -> None:
    victim = server.worker_pids()[1]
    os.kill(victim, signal.SIGTERM)
    wait_until(lambda: not is_alive(victim), PATIENCE_S, "the end of the worker")
    wait_until(server.is_ready, PATIENCE_S, "two ready workers")
    infer(server)


def test_an_interrupt_at_the_terminal_reaches_the_control_process_alone(server: Server) -> None:
    pids = server.worker_pids()
    for pid in pids:
        assert os.getsid(pid) == pid
        os.kill(pid, signal.SIGINT)
    infer(server)
    assert server.worker_pids() == pids


def test_one_broken_model_does_not_stop_the_others(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.onnx").write_bytes(b"no graph at all")
    (folder / "torn").mkdir()
    (folder / "torn" / "config.pbtxt").write_text("max_batch_sise: 4")
    with harness.running(folder, tmp_path, "--drain-delay", "0") as server:
        infer(server)
        assert "broken" in server.log_text()
        assert "torn" in server.log_text()
        reported = {model["name"]: model for model in server.admin("GET", "/admin/v1/models").json()["models"]}
        assert reported["broken"]["versions"][0]["state"] == "UNAVAILABLE"
        assert reported["broken"]["versions"][0]["reason"]
        assert reported["torn"]["reason"]
        assert reported["logistic"]["versions"][0]["state"] == "READY"
        assert reported["logistic"]["versions"][0]["signature"]["inputs"][0]["datatype"] == "FP32"
        alone = server.admin("GET", "/admin/v1/models/broken").json()
        assert [version.pop("features") for version in alone["versions"]] == [[]]  # a list of models has no features
        assert alone == reported["broken"]
        index = server.rest("POST", "/v2/repository/index").json()
        assert {"broken", "torn"} <= {entry["name"] for entry in index if entry.get("state") == "UNAVAILABLE"}
        assert "broken" in server.admin("GET", "/console/models").body.decode()
