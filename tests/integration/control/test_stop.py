"""The end: ready off, serve on, drain, exit; and at once when asked twice."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests import harness, zoo
from tests.harness import PATIENCE_S, Server, is_alive, wait_until
from tests.integration.control.watch import SLOW, infer, metric


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[Server]:
    zoo.save(zoo.slow(), folder / "slow.onnx")
    started = harness.launch(folder, tmp_path, "--workers", "2", "--drain-delay", "1")
    try:
        yield started
    finally:
        started.kill()


@pytest.fixture
def lingering(folder: Path, tmp_path: Path) -> Iterator[Server]:
    """It goes on serving for longer than any test waits after it was asked to stop."""
    started = harness.launch(folder, tmp_path, "--workers", "2", "--drain-delay", str(10 * PATIENCE_S))
    try:
        yield started
    finally:
        started.kill()


def test_readiness_goes_off_while_requests_are_still_taken_and_a_second_signal_ends_all(lingering: Server) -> None:
    pids = lingering.worker_pids()
    lingering.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not lingering.is_ready(), PATIENCE_S, "readiness off")
    infer(lingering)
    assert lingering.rest("GET", "/v2/health/ready").status == 503
    assert lingering.admin("GET", "/livez").status == 200
    assert lingering.process.poll() is None
    lingering.process.send_signal(signal.SIGTERM)
    lingering.process.wait(PATIENCE_S)
    assert not any(map(is_alive, pids))


def test_a_stop_ends_every_worker_and_leaves_the_registry_in_one_file(server: Server) -> None:
    pids = server.worker_pids()
    assert server.stop() == 0
    assert not any(map(is_alive, pids))
    assert [*server.home.glob("*.db")] and not [*server.home.glob("*.db-wal")]


def begun(server: Server, model: str) -> float:
    """Calls that run or have ended: it only grows."""
    running = metric(server, "penstock_inflight_requests", model=model)
    return running + metric(server, "penstock_requests_total", model=model)


def test_requests_under_way_are_answered(server: Server) -> None:
    statuses: list[int] = []

    def one() -> None:
        connection = HTTPConnection(server.http, timeout=PATIENCE_S)
        connection.request("POST", "/v2/models/slow/infer", SLOW)
        statuses.append(connection.getresponse().status)
        connection.close()

    threads = [threading.Thread(target=one) for _ in range(12)]
    for thread in threads:
        thread.start()
    wait_until(lambda: begun(server, "slow") >= 12, PATIENCE_S, "the calls")
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(PATIENCE_S)
    assert statuses == [200] * 12
    assert server.process.wait(PATIENCE_S) == 0


def test_an_interrupt_drains_as_well(server: Server) -> None:
    server.process.send_signal(signal.SIGINT)
    wait_until(lambda: not server.is_ready(), PATIENCE_S, "readiness off")
    assert server.process.wait(PATIENCE_S) == 0


def test_a_stop_before_ready_is_a_stop(folder: Path, tmp_path: Path) -> None:
    ports = ["--http-port", "0", "--grpc-port", "0", "--ops-port", "0"]
    process = subprocess.Popen(
        [*harness.COMMAND, "serve", str(folder), *ports], stderr=subprocess.PIPE, env=harness.environment(tmp_path)
    )
    time.sleep(0.45)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode in {0, -signal.SIGTERM}  # a signal before there is anything to stop simply ends it
    assert b"Traceback" not in errors
