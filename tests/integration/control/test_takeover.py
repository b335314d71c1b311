"""Control processes that die: workers go on, a successor takes over, and callers notice nothing."""

import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import harness
from tests.harness import PATIENCE_S, Server, is_alive, wait_until
from tests.integration.control.watch import Caller, counts, infer, metric

OPTIONS = ("--workers", "2", "--drain-delay", "0.2")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def launch(stack: ExitStack, folder: Path, workspace: Path, *options: str) -> Server:
    server = harness.launch(folder, workspace, *OPTIONS, *options)
    stack.callback(server.kill)
    return server


def kill_control(server: Server) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(PATIENCE_S)


@contextmanager
def calling(server: Server) -> Iterator[list[Caller]]:
    """Four callers that call all the time."""
    callers, over = [Caller(server) for _ in range(4)], threading.Event()

    def call(caller: Caller) -> None:
        while not over.is_set():
            caller.call()
        caller.close()

    threads = [threading.Thread(target=call, args=(caller,)) for caller in callers]
    for thread in threads:
        thread.start()
    try:
        yield callers
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE_S)


def test_a_successor_takes_the_workers_over_without_a_gap(stack: ExitStack, folder: Path, tmp_path: Path) -> None:
    first = launch(stack, folder, tmp_path)
    before = first.worker_pids()
    with calling(first) as callers:
        wait_until(lambda: sum(caller.succeeded for caller in callers) > 200, PATIENCE_S, "calls")
        kill_control(first)
        at_death = sum(caller.succeeded for caller in callers)
        second = launch(stack, folder, tmp_path)
        wait_until(lambda: sum(caller.succeeded for caller in callers) > at_death + 200, PATIENCE_S, "more calls")
    assert [caller.failed for caller in callers] == [[]] * 4
    assert (second.http, second.grpc) == (first.http, first.grpc)
    assert second.worker_pids() == before
    counts(second, sum(caller.succeeded for caller in callers))
    assert metric(second, "penstock_model_loads_total", model="logistic") == 2  # nothing was loaded again
    second.kill_worker()
    assert metric(second, "penstock_worker_restarts_total") == 1
    assert second.stop() == 0
    assert not any(map(is_alive, before))


def test_workers_go_on_while_a_successor_finds_no_models(stack: ExitStack, folder: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    first = launch(stack, folder, tmp_path)
    before = first.worker_pids()
    kill_control(first)
    shutil.move(folder, away)
    folder.mkdir()
    second = launch(stack, folder, tmp_path)
    assert second.worker_pids() == before
    wait_until(lambda: "no model can be served yet" in second.log_text(), PATIENCE_S, "the reason")
    infer(second)
    assert second.is_ready()
    for model in away.iterdir():
        shutil.move(model, folder / model.name)
    wait_until(lambda: "logistic" in str(second.admin("GET", "/admin/v1/models").json()), PATIENCE_S, "the models")
    infer(second)
    assert metric(second, "penstock_model_loads_total", model="logistic") == 2  # nothing was loaded again
    assert second.stop() == 0


def test_a_takeover_keeps_what_an_operator_unloaded(stack: ExitStack, folder: Path, tmp_path: Path) -> None:
    first = launch(stack, folder, tmp_path)
    assert first.rest("POST", "/v2/repository/models/pair/unload").status == 200
    kill_control(first)
    second = launch(stack, folder, tmp_path)
    assert second.rest("GET", "/v2/models/pair/ready").status == 503
    assert second.rest("POST", "/v2/repository/models/pair/load").status == 200
    infer(second)


def test_repository_requests_are_refused_while_nobody_controls(stack: ExitStack, folder: Path, tmp_path: Path) -> None:
    first = launch(stack, folder, tmp_path)
    kill_control(first)
    infer(first)
    reply = first.rest("POST", "/v2/repository/models/pair/unload")
    assert reply.status == 503
    assert "control" in reply.error()
    infer(first)


def test_other_options_replace_the_workers_on_the_same_ports(stack: ExitStack, folder: Path, tmp_path: Path) -> None:
    first = launch(stack, folder, tmp_path)
    before = first.worker_pids()
    kill_control(first)
    ports = ["--http-port", first.http.rpartition(":")[2], "--grpc-port", first.grpc.rpartition(":")[2]]
    second = launch(stack, folder, tmp_path, *ports, "--max-body-bytes", "4096")
    assert (second.http, second.grpc) == (first.http, first.grpc)
    assert not set(second.worker_pids()) & set(before)
    wait_until(lambda: not any(map(is_alive, before)), PATIENCE_S, "the end of the replaced workers")
    infer(second)
    assert second.rest("POST", "/v2/models/pair/infer", b" " * 5000).status == 413


def test_workers_without_a_control_process_drain_after_their_grace_time(
    stack: ExitStack, folder: Path, tmp_path: Path
) -> None:
    first = launch(stack, folder, tmp_path, "--orphan-grace", "1")
    pids = first.worker_pids()
    kill_control(first)
    infer(first)
    wait_until(lambda: not any(map(is_alive, pids)), PATIENCE_S, "the end of the orphans")
    second = launch(stack, folder, tmp_path)
    infer(second)


def test_two_servers_of_one_home_live_side_by_side(stack: ExitStack, folder: Path, tmp_path: Path) -> None:
    first = launch(stack, folder, tmp_path)
    second = harness.launch(folder, tmp_path / "other", env={"PENSTOCK_HOME": str(tmp_path / "home")})
    stack.callback(second.kill)
    assert {first.http, first.grpc, first.ops}.isdisjoint({second.http, second.grpc, second.ops})
    for server in (first, second):
        infer(server)
        counts(server, 1)
    assert second.stop() == 0
    infer(first)
