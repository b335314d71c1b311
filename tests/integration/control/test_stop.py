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
from tests.harness import Server, is_alive, wait_until
from tests.integration.control.watch import SLOW, infer


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[Server]:
    zoo.save(zoo.looping(zoo.SLOW_STEPS), folder / "slow.onnx")
    started = harness.launch(folder, tmp_path, "--workers", "2", "--drain-delay", "1")
    try:
        yield started
    finally:
        started.kill()


def test_readiness_goes_off_while_requests_are_still_taken(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not server.is_ready(), 0.5, "readiness off")
    infer(server)
    assert server.rest("GET", "/v2/health/ready").status == 503
    assert server.admin("GET", "/livez").status == 200
    pids = server.worker_pids()
    assert server.process.wait(10) == 0
    assert not any(map(is_alive, pids))


def test_requests_under_way_are_answered(server: Server) -> None:
    statuses: list[int] = []

    def one() -> None:
        connection = HTTPConnection(server.http, timeout=20)
        connection.request("POST", "/v2/models/slow/infer", SLOW)
        statuses.append(connection.getresponse().status)
        connection.close()

    threads = [threading.Thread(target=one) for _ in range(12)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(20)
    assert statuses == [200] * 12
    assert server.process.wait(15) == 0


def test_a_second_signal_ends_everything_at_once(server: Server) -> None:
    pids = server.worker_pids()
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(5)
    assert time.monotonic() - began < 0.9
    assert not any(map(is_alive, pids))


def test_an_interrupt_drains_as_well(server: Server) -> None:
    server.process.send_signal(signal.SIGINT)
    wait_until(lambda: not server.is_ready(), 0.5, "readiness off")
    assert server.process.wait(10) == 0


def test_a_stop_before_ready_is_a_stop(folder: Path, tmp_path: Path) -> None:
    ports = ["--http-port", "0", "--grpc-port", "0", "--ops-port", "0"]
    process = subprocess.Popen(
        [*harness.COMMAND, "serve", str(folder), *ports], stderr=subprocess.PIPE, env=harness.environment(tmp_path)
    )
    time.sleep(0.45)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=15)
    assert process.returncode in {0, -signal.SIGTERM}  # a signal before there is anything to stop simply ends it
    assert b"Traceback" not in errors
