"""Workers and control processes that die, freeze, hang and stop: callers are answered, counts stay true."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests import harness, zoo
from tests.conformance.mistakes import SAFE
from tests.conformance.rawhttp import connected, request
from tests.conformance.test_operations import Samples, scrape, total
from tests.conformance.wire import Ask, GrpcRaw, Input, RestJson
from tests.faults.load import BODY, CALL_SECONDS, Load
from tests.harness import PATIENCE_S, Server, is_alive, wait_until

INFER = "/v2/models/pair/infer"
SLOW = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}'
ENDLESS = (
    b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]},'
    b'{"name":"steps","shape":[],"datatype":"INT64","data":[1000000000]}]}'
)
"""To the model ``steps``: it takes for ever."""


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """Models of this test's own, without the one whose warm-up takes seconds of each worker."""
    return shutil.copytree(tiny_folder, tmp_path / "models", ignore=shutil.ignore_patterns("slow.onnx"))


@pytest.fixture
def with_slow(folder: Path) -> Path:
    """These models, and one whose calls take a while."""
    zoo.save(zoo.slow(), folder / "slow.onnx")
    return folder


@pytest.fixture
def two(folder: Path, tmp_path: Path) -> Iterator[Server]:
    """Two workers that may be hurt."""
    with harness.running(folder, tmp_path, "--workers", "2") as started:
        yield started


def worker_pids(server: Server) -> list[int]:
    """The workers there are now: what holds the REST port of the server open, as the ops port tells."""
    described = server.admin("GET", "/readyz").json()
    found = [pid for pid in server.child_pids() if _listens(pid, server.http)]
    assert described
    return found


def _listens(pid: int, address: str) -> bool:
    port = f":{int(address.rpartition(':')[2]):04X}"
    sockets = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(port) and fields[3] == "0A":
            sockets.add(f"socket:[{fields[9]}]")
    try:
        return any(str(link.readlink()) in sockets for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def test_a_killed_worker_is_replaced_and_only_its_calls_are_lost(two: Server) -> None:
    before = scrape(two)
    with Load(two, pause=0.03) as load:
        for _ in range(2):
            time.sleep(0.5)
            victim = worker_pids(two)[0]
            os.kill(victim, signal.SIGKILL)
            wait_until(partial(_whole_again, two, victim), PATIENCE_S, "two ready workers")
        time.sleep(0.5)
    answered_only_well(load)
    assert sum(load.rest.lost.values()) <= 2 * 4 * 2  # a caller may meet the dying listener once more
    assert sum(load.grpc.lost.values()) <= 2 * 2 * 3
    after = scrape(two)
    assert_counts_match(load, before, after)
    assert total(after, "penstock_worker_restarts_total") == 2
    wait_until(
        lambda: total(scrape(two), "penstock_inflight_requests", model="pair") == 0, PATIENCE_S, "an empty system"
    )


def _whole_again(server: Server, victim: int) -> bool:
    pids = worker_pids(server)
    return len(pids) == 2 and victim not in pids and server.is_ready()


def answered_only_well(load: Load) -> None:
    """Whoever was answered was answered with success, and nobody waited long."""
    assert set(load.rest.answered) == {"200"}
    assert set(load.grpc.answered) == {"OK"}
    assert set(load.grpc.lost) <= {"UNAVAILABLE"}, load.grpc.lost
    assert load.rest.longest < CALL_SECONDS - 1
    assert load.grpc.longest < CALL_SECONDS - 1


def assert_counts_match(load: Load, before: Samples, after: Samples) -> None:
    """The server counted every answer; a call that was lost on the way may be counted or not."""
    for protocol, code, tally in (("rest", "200", load.rest), ("grpc", "OK", load.grpc)):
        labels = {"model": "pair", "protocol": protocol, "code": code}
        name = "penstock_requests_total"
        counted = total(after, name, **labels) - total(before, name, **labels)
        answered = tally.answered[code]
        assert answered <= counted <= answered + sum(tally.lost.values()), protocol


def test_readiness_reports_a_missing_worker_and_ends_with_the_last(two: Server) -> None:
    survivor = worker_pids(two)[0]

    def is_one_missing() -> bool:
        for victim in worker_pids(two):  # over and over: a successor must not be ready before somebody looks
            if victim != survivor:
                os.kill(victim, signal.SIGKILL)
        return bool(two.admin("GET", "/readyz").json()["workers"]["ready"] == 1)

    wait_until(is_one_missing, PATIENCE_S, "one worker less")
    wait_until(two.is_ready, PATIENCE_S, "ready again")

    def is_unready_without_workers() -> bool:
        for victim in two.child_pids():  # over and over: a successor must not be ready before somebody looks
            os.kill(victim, signal.SIGKILL)
        return two.admin("GET", "/readyz").status == 503

    wait_until(is_unready_without_workers, PATIENCE_S, "not ready")
    assert two.admin("GET", "/livez").status == 200
    wait_until(two.is_ready, PATIENCE_S, "ready again")
    for _ in range(20):
        RestJson(two).infer(SAFE)


def test_a_frozen_worker_is_replaced(folder: Path, tmp_path: Path) -> None:
    env = {harness.FREEZE: "2"}
    with harness.running(folder, tmp_path, "--workers", "2", env=env) as two:
        victim = worker_pids(two)[0]
        os.kill(victim, signal.SIGSTOP)
        wait_until(lambda: not is_alive(victim), PATIENCE_S, "the end of the frozen worker")
        wait_until(lambda: len(worker_pids(two)) == 2 and two.is_ready(), PATIENCE_S, "its successor")
        assert total(scrape(two), "penstock_worker_restarts_total", reason="frozen") >= 1


def test_counters_never_go_back_when_a_worker_dies(two: Server) -> None:
    for _ in range(30):
        RestJson(two).infer(SAFE)
    before = scrape(two)
    for victim in worker_pids(two):
        os.kill(victim, signal.SIGKILL)
    wait_until(two.is_ready, PATIENCE_S, "ready again")
    after = scrape(two)
    for key, value in before.items():
        if key[0].endswith(("_total", "_bucket", "_count", "_sum")):
            assert after.get(key, -1) >= value, key
    assert total(after, "penstock_requests_total", model="logistic") == 30


def test_what_an_operator_changed_outlives_the_workers(two: Server) -> None:
    assert two.rest("POST", "/v2/repository/models/mixed/unload", b"").status == 200
    body = {"parameters": {"config": zoo.load_config(max_batch_size=3)}}
    assert two.rest("POST", "/v2/repository/models/pair/load", body).status == 200
    for victim in worker_pids(two):
        os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(worker_pids(two)) == 2 and two.is_ready(), PATIENCE_S, "ready again")
    for _ in range(6):
        assert two.rest("GET", "/v2/models/mixed/ready").status == 503
        assert two.rest("GET", "/v2/models/pair/config").json()["max_batch_size"] == 3


def test_versions_change_under_load_without_a_lost_call(two: Server, folder: Path) -> None:
    with Load(two) as load:
        for number in range(3, 9):
            zoo.save(zoo.versioned(number), folder / "pair" / str(number) / "model.onnx")
            shutil.rmtree(folder / "pair" / str(number - 1))
            assert two.rest("POST", "/v2/repository/models/pair/load", b"").status == 200
            assert two.rest("GET", "/v2/models/pair").json()["versions"] == ["1", str(number)]
    answered_only_well(load)
    assert not load.rest.lost
    assert not load.grpc.lost


def test_a_stop_while_starting_leaves_nobody_behind(folder: Path, tmp_path: Path) -> None:
    ports = ["--http-port", "0", "--grpc-port", "0", "--ops-port", "0"]
    command = [*harness.COMMAND, "serve", str(folder), *ports]
    for wait in (0.2, 0.5, 0.8):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env=harness.environment(tmp_path))
        time.sleep(wait)
        children = Server(process, tmp_path / "none").child_pids()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=harness.STOP_SECONDS)
        assert process.returncode in {0, -signal.SIGTERM}, errors
        assert b"Traceback" not in errors, errors
        wait_until(lambda pids=children: not any(map(is_alive, pids)), PATIENCE_S, "the end of the workers")  # type: ignore[misc]


def test_a_worker_that_dies_over_and_over_does_not_take_the_others_along(two: Server) -> None:
    for _ in range(4):
        victims = worker_pids(two)
        if victims:
            os.kill(victims[-1], signal.SIGKILL)
        time.sleep(0.3)
        assert two.admin("GET", "/livez").status == 200
    wait_until(two.is_ready, PATIENCE_S, "ready again")
    RestJson(two).infer(SAFE)


def test_a_call_that_is_far_slower_than_the_warm_up_disturbs_no_other(tmp_path: Path) -> None:
    """The cost of ``steps`` lies in its data, so that the warm-up cannot have seen it."""
    zoo.save(zoo.looping(None), tmp_path / "models" / "steps.onnx")
    zoo.save(zoo.logistic(), tmp_path / "models" / "logistic.onnx")
    long = [Input.of("x", "FP32", [1]), Input.of("steps", "INT64", 1000)]
    with harness.running(tmp_path / "models", tmp_path) as started, ThreadPoolExecutor(1) as pool:
        running = pool.submit(RestJson(started).infer, Ask("steps", long))
        wait_until(lambda: total(scrape(started), "penstock_inflight_requests") == 1, PATIENCE_S, "the long call")
        RestJson(started).infer(SAFE)
        assert not running.done()
        assert running.result().model == "steps"
        assert total(scrape(started), "penstock_worker_restarts_total") == 0


# Stopping.


def test_a_stop_lets_running_calls_finish(with_slow: Path, tmp_path: Path) -> None:
    server = harness.launch(with_slow, tmp_path)
    try:
        with connected(server.http) as busy, connected(server.http) as idle:
            for _ in range(3):  # one by itself may have ended before a busy machine looks
                busy.send(request("POST", "/v2/models/slow/infer", SLOW))
            idle.send(request("GET", "/v2/health/live"))
            assert idle.reply().status == 200
            wait_until(lambda: total(scrape(server), "penstock_inflight_requests") >= 1, PATIENCE_S, "a call under way")
            server.process.send_signal(signal.SIGTERM)
            assert [busy.reply().status for _ in range(3)] == [200] * 3
            assert busy.is_closed()
            assert idle.is_closed()
        assert server.process.wait(harness.STOP_SECONDS) == 0
        assert not any(map(is_alive, server.workers))
    finally:
        server.kill()


def test_readiness_ends_before_service_does(with_slow: Path, tmp_path: Path) -> None:
    server = harness.launch(with_slow, tmp_path, env={harness.DRAIN_DELAY: "1"})
    try:
        with connected(server.http) as busy:
            for _ in range(3):
                busy.send(request("POST", "/v2/models/slow/infer", SLOW))
            wait_until(lambda: total(scrape(server), "penstock_inflight_requests") >= 1, PATIENCE_S, "the first call")
            server.process.send_signal(signal.SIGTERM)
            seen = wait_for_ready_code(server)
            assert seen in {503, None}
            assert [busy.reply().status for _ in range(3)] == [200] * 3
        assert server.process.wait(harness.STOP_SECONDS) == 0
    finally:
        server.kill()


def wait_for_ready_code(server: Server) -> int | None:
    """The first readiness answer that is not 200; None when the port closes first."""
    codes: list[int | None] = []

    def is_over() -> bool:
        try:
            codes.append(server.admin("GET", "/readyz").status)
        except OSError:
            codes.append(None)
        return codes[-1] != 200

    wait_until(is_over, PATIENCE_S, "the end of readiness")
    return codes[-1]


def test_a_stop_under_load_loses_no_call(folder: Path, tmp_path: Path) -> None:
    server = harness.launch(folder, tmp_path, "--workers", "2")
    try:
        with Load(server, pause=0.002, patient=False) as load:
            time.sleep(1.0)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(harness.STOP_SECONDS) == 0
            load.stop()
        assert set(load.rest.answered) <= {"200", "503"}
        crossed = {name: count for name, count in load.rest.lost.items() if name != "ConnectionRefusedError"}
        assert set(crossed) <= {"RemoteDisconnected", "BrokenPipeError", "ConnectionResetError"}
        assert sum(crossed.values()) <= 8, (
            "each idle connection may be closed once while its next request is on the way, and so may the next one"
        )
        assert load.rest.longest < CALL_SECONDS - 1
        assert set(load.grpc.lost) <= {"UNAVAILABLE", "CANCELLED"}, load.grpc.lost
        assert load.grpc.lost["CANCELLED"] <= 2, "only a call that is on the wire just then, one for each caller"
        assert load.grpc.longest < CALL_SECONDS
    finally:
        server.kill()


def test_a_second_signal_means_now(tmp_path: Path) -> None:
    zoo.save(zoo.looping(None), tmp_path / "models" / "steps.onnx")
    server = harness.launch(tmp_path / "models", tmp_path)
    try:
        with connected(server.http) as busy:
            busy.send(request("POST", "/v2/models/steps/infer", ENDLESS))
            wait_until(lambda: total(scrape(server), "penstock_inflight_requests") == 1, PATIENCE_S, "the call")
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not server.is_ready(), PATIENCE_S, "the stop")
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(PATIENCE_S)
        wait_until(lambda: not any(map(is_alive, server.workers)), PATIENCE_S, "the end of the workers")
    finally:
        server.kill()


def test_interrupt_stops_as_well(folder: Path, tmp_path: Path) -> None:
    server = harness.launch(folder, tmp_path)
    try:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(harness.STOP_SECONDS) == 0
    finally:
        server.kill()


def test_half_sent_requests_do_not_hold_up_a_stop(folder: Path, tmp_path: Path) -> None:
    server = harness.launch(folder, tmp_path, env={"PENSTOCK_STOP__DRAIN_TIMEOUT_SECONDS": "1"})
    try:
        with connected(server.http) as torn:
            torn.send(request("POST", INFER, BODY)[:60])
            time.sleep(0.1)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(harness.STOP_SECONDS) == 0
    finally:
        server.kill()


# The control process.


def test_workers_outlive_the_control_process_for_a_while(folder: Path, tmp_path: Path) -> None:
    server = harness.launch(folder, tmp_path, "--workers", "2", env={"PENSTOCK_STOP__ORPHAN_GRACE_SECONDS": "3"})
    try:
        server.process.kill()
        server.process.wait(PATIENCE_S)
        for _ in range(20):
            RestJson(server).infer(SAFE)
            time.sleep(0.05)
        opened = GrpcRaw(server)
        opened.infer(SAFE)
        opened.close()
        wait_until(lambda: not any(map(is_alive, server.workers)), PATIENCE_S, "the end of the orphans")
    finally:
        server.kill()


def test_a_new_control_process_takes_over_without_a_gap(folder: Path, tmp_path: Path) -> None:
    server = harness.launch(folder, tmp_path, "--workers", "2")
    successor = None
    try:
        with Load(server, grpc_callers=1, pause=0.002) as load:
            time.sleep(0.5)
            server.process.kill()
            server.process.wait(PATIENCE_S)
            time.sleep(0.5)
            successor = harness.launch(folder, tmp_path, "--workers", "2")
            time.sleep(1.0)
        answered_only_well(load)
        assert successor.http == server.http
        assert successor.is_ready()
        samples = scrape(successor)
        counted = total(samples, "penstock_requests_total", model="pair", protocol="rest", code="200")
        assert counted >= load.rest.answered["200"]
        wait_until(
            lambda: not any(map(is_alive, set(server.workers) - set(successor.workers))), PATIENCE_S, "no orphans"
        )
        assert successor.stop() == 0
    finally:
        server.kill()
        if successor is not None:
            successor.kill()


# The long form.


def resident(pid: int) -> int:
    """Memory a process holds now, bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_memory_comes_back_when_models_go(two: Server, folder: Path) -> None:
    zoo.save(zoo.mlp((64, 2048, 2048, 10)), folder / "heavy.onnx")
    come_and_go(two, "heavy", rounds=3)
    time.sleep(1.0)
    usual = sum(map(resident, two.workers))
    come_and_go(two, "heavy", rounds=30)
    # Both workers together have loaded a gigabyte; the allocator may keep a few of the 17 MB models' pages.
    wait_until(lambda: sum(map(resident, two.workers)) < usual + (100 << 20), PATIENCE_S, "memory to come back")


def come_and_go(server: Server, model: str, rounds: int) -> None:
    """Load and unload a model some times."""
    for _ in range(rounds):
        for action in ("load", "unload"):
            assert server.rest("POST", f"/v2/repository/models/{model}/{action}", b"").status == 200


@pytest.mark.slow
def test_a_minute_of_load_with_a_worker_killed_every_five_seconds(two: Server) -> None:
    before = scrape(two)
    with Load(two) as load:
        for _ in range(12):
            time.sleep(5.0)
            victim = worker_pids(two)[0]
            os.kill(victim, signal.SIGKILL)
    wait_until(two.is_ready, PATIENCE_S, "two ready workers")
    answered_only_well(load)
    assert sum(load.rest.lost.values()) <= 12 * 4 * 2
    assert_counts_match(load, before, scrape(two))
