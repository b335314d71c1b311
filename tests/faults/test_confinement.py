"""Confinement by the kernel itself: what a process that runs models cannot do, and what a missing layer changes."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock.core.confinement import ConfinementReport, Program
from penstock.core.errors import NotReady
from penstock.engine.confinement import child, confine, landlock, limits, seccomp
from penstock.engine.confinement.child import require_confinement, run_confined
from penstock.engine.confinement.confine import (
    SandboxedProgram,
    confine_sandbox,
    confine_worker,
    expect_layers,
    is_confined,
)
from penstock.engine.confinement.landlock import AllowedPaths
from penstock.engine.confinement.limits import ResourceLimits
from tests import attempts, harness, zoo
from tests.harness import PATIENCE_S, Server, is_alive, wait_until

ROOT = Path(__file__).resolve().parents[2]
WHOLE = all(expect_layers(program).is_complete for program in Program)
pytestmark = pytest.mark.skipif(not WHOLE, reason="this kernel lacks a layer of confinement")

READING = {"read passwd", "read another file", "read another's environment"}
CONFINED = ["NoNewPrivs:\t1", "Seccomp:\t2"]


@dataclass
class World:
    """A folder of the confined process, a file of others, and a listener."""

    own: Path
    other: Path
    listener: socket.socket

    def attempts(self) -> dict[str, Callable[[], object]]:
        return dict(attempts.attempts(self.own, self.other, self.listener.getsockname()[:2], os.getppid()))

    def values(self) -> str:
        address = self.listener.getsockname()[:2]
        facts = {"own": str(self.own), "other": str(self.other), "address": address, "stranger": os.getpid()}
        return json.dumps(facts)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "own").mkdir()
    (tmp_path / "others").mkdir()
    other = tmp_path / "others" / "registry.db"
    other.write_text("not mine")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield World(tmp_path / "own", other, listener)


def in_fork(work: Callable[[], object]) -> Any:
    """The JSON answer of a function that runs in a fork."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def sandboxed(world: World, confined: list[ConfinementReport], file_bytes: int = 0) -> list[str]:
    paths = AllowedPaths((), (world.own,))
    confined.append(confine_sandbox(SandboxedProgram(paths, ResourceLimits(1 << 30, 10, file_bytes))))
    return attempts.succeeded(world.attempts())


def test_a_sandbox_may_only_read_and_compute(world: World) -> None:
    assert in_fork(lambda: sandboxed(world, [])) == ["start a thread"]
    assert world.other.read_text() == "not mine"


def test_a_worker_may_write_in_its_folders(world: World) -> None:
    def work() -> list[str]:
        assert confine_worker(AllowedPaths((), (world.own,)), 8 << 30).is_complete
        return attempts.succeeded(world.attempts())

    assert in_fork(work) == ["write in its own folder", "start a thread"]


def test_threads_started_earlier_are_under_the_filter_too(world: World) -> None:
    def work() -> list[object]:
        go, done = threading.Event(), list[list[str]]()

        def attempt() -> None:
            go.wait()
            done.append(attempts.succeeded(world.attempts()))

        thread = threading.Thread(target=attempt)
        thread.start()
        report = confine_worker(AllowedPaths((), (world.own,)), 8 << 30)
        go.set()
        thread.join()
        return [dict(report.missing), done[0]]

    missing, done = in_fork(work)
    assert set(missing) == {"files", "network"}  # which is said, and refused where confinement is required
    assert not {"connect", "send a datagram", "execute", "trace", "mount", "start a process"} & set(done)


@pytest.mark.parametrize(
    ("weakened", "missing", "may"),
    [
        ({"namespace": False}, [], set()),
        ({"namespace": False, "landlock": 2}, [], set()),
        ({"landlock": 0}, ["files"], READING),
        ({"landlock": 0, "namespace": False}, ["files"], READING),
        (
            {"seccomp": False},
            ["system_calls"],
            {"start a process", "open a raw socket", "send a datagram", "change another's mode", "trace", "listen"},
        ),
    ],
)
def test_a_missing_layer_is_named_and_the_others_still_hold(
    world: World, monkeypatch: pytest.MonkeyPatch, weakened: dict[str, int], missing: list[str], may: set[str]
) -> None:
    abi = weakened.get("landlock")
    if abi is not None:
        monkeypatch.setattr(landlock, "landlock_abi", lambda: abi)
    if "namespace" in weakened:
        monkeypatch.setattr(limits, "without_network", lambda: False)
    if "seccomp" in weakened:
        monkeypatch.setattr(seccomp, "install_filter", lambda *_: False)

    def work() -> list[object]:
        reports: list[ConfinementReport] = []
        done = sandboxed(world, reports)
        return [list(reports[0].missing), done]

    found, done = in_fork(work)
    assert found == missing
    assert set(done) - {"start a thread"} <= may
    assert not {"connect", "create a file", "delete another file", "overwrite another file", "execute"} & set(done)


def test_programs_run_confined_with_a_small_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PGPASSWORD", "secret")
    paths = AllowedPaths((), (world.own,))
    ended = run_confined("tests.attempts", [world.values()], paths, PATIENCE_S)
    assert ended.code == 0, ended.errors
    done, lines = json.loads(ended.output)
    assert done == ["write in its own folder", "start a thread"]
    assert lines == CONFINED
    assert "PGPASSWORD" not in child.clean_environment()


def test_a_program_that_takes_too_long_is_ended_with_all_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    kill = child.kill_group

    def recorded(process: subprocess.Popen[bytes]) -> None:
        started.append(process)
        assert os.getpgid(process.pid) == process.pid
        kill(process)

    monkeypatch.setattr(child, "kill_group", recorded)
    with pytest.raises(subprocess.TimeoutExpired):
        run_confined("tests.attempts", [], AllowedPaths(), 0.0)
    assert started[0].returncode == -signal.SIGKILL


def test_nothing_runs_without_a_required_layer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-P", "-m", child.PROGRAM]
    rights = child.encode_program(SandboxedProgram(AllowedPaths(), ResourceLimits(4 << 30)))
    arguments = [json.dumps({**rights, "required": True}), "tests.attempts", world.values()]
    code = (
        "import os, sys; from tests.refused_calls import refuse; refuse('landlock'); "
        f"os.execv(sys.executable, {[*command, *arguments]!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=PATIENCE_S, check=False, text=True
    )
    assert done.returncode == child.UNSAFE, done.stderr
    assert "it cannot be run safely: files (this kernel has no Landlock" in done.stderr
    assert done.stdout == ""


def test_a_missing_layer_that_is_required_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended:
        returncode = child.UNSAFE
        pid = 0

        def __enter__(self) -> "Ended":
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def communicate(self, timeout: float) -> tuple[bytes, bytes]:
            return b"", b"penstock: it cannot be run safely: files (why)\n"

    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: Ended())
    require_confinement(True)
    try:
        with pytest.raises(NotReady, match=r"it cannot be run safely: files \(why\)"):
            run_confined("none", [], AllowedPaths(), 1.0)
    finally:
        require_confinement(False)


def weak_program(calls: str) -> list[str]:
    return [sys.executable, "-m", "tests.refused_calls", calls, "--"]


def graph() -> bytes:
    return zoo.versioned(1).SerializeToString()


def registry_of(server: Server) -> Any:
    return server.admin("GET", "/admin/v1/registry").json()["confinement"]


def metrics_of(server: Server) -> list[str]:
    text = harness.call(server.ops, "GET", "/metrics").body.decode()
    return [line for line in text.splitlines() if line.startswith("penstock_confinement_layer")]


def test_the_processes_of_a_gateway_are_confined_and_it_says_so(tmp_path: Path) -> None:
    with harness.running(None, tmp_path) as server:
        pushed = server.push("m", "1", graph())
        assert pushed.status == 201, pushed
        admission = pushed.json()["admission"]["confinement"]
        assert set(admission["in_force"]) == {*expect_layers(Program.SANDBOX).in_force}
        assert admission["missing"] == {}
        for worker in server.worker_pids():
            status = Path(f"/proc/{worker}/status").read_text()
            assert all(line in status for line in CONFINED)
            assert is_confined(worker)
        assert not is_confined(server.process.pid)
        assert registry_of(server)["mode"] == "best_effort"
        assert all(line.endswith(" 1.0") for line in metrics_of(server))
        assert "confinement (best_effort) of workers: files, network, signals" in server.log_text()
        killed = server.kill_worker()  # whose replacement is a new interpreter
        assert not is_alive(killed)
        assert all(is_confined(worker) for worker in server.worker_pids())


def test_best_effort_serves_without_a_layer_and_warns(tmp_path: Path) -> None:
    with harness.running(None, tmp_path, program=weak_program("landlock,unshare")) as server:
        pushed = server.push("m", "1", graph())
        assert pushed.status == 201, pushed
        assert list(pushed.json()["admission"]["confinement"]["missing"]) == ["files"]
        found = registry_of(server)
        assert list(found["sandbox"]["missing"]) == ["files"]
        assert list(found["worker"]["missing"]) == ["files", "network"]
        zero = [line for line in metrics_of(server) if line.endswith(" 0.0")]
        assert len(zero) == 3
        log = server.log_text()
        assert "WARNING" in log
        assert "missing: files (this kernel has no Landlock, or it is switched off)" in log
        assert "this worker is not fully confined; it lacks: files" in log


def test_required_refuses_to_examine_and_to_serve_without_a_layer(tmp_path: Path) -> None:
    env = harness.environment(tmp_path, {**harness.ANY_PORTS, "PENSTOCK_CONFINEMENT": "required"})
    log = tmp_path / "stderr.log"
    with log.open("wb") as errors:
        command = [*weak_program("landlock,unshare"), "serve"]
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stderr=errors)
    server = Server(process, log)
    try:
        record = tmp_path / "home" / "gateway.json"
        wait_until(lambda: record.exists() or process.poll() is not None, PATIENCE_S, server.log_text)
        server.ops = json.loads(record.read_text())["ops"]
        pushed = server.push("m", "1", graph())
        assert pushed.status == 503, pushed
        assert pushed.error().startswith("the model cannot be examined safely: files (this kernel has no Landlock")
        assert registry_of(server)["mode"] == "required"
        assert server.child_pids() == [] or not server.worker_pids()
        text = server.log_text()
        assert "confinement (required) of workers" in text
        assert "worker 0 cannot be started; retrying: confinement is required, and this system lacks: files" in text
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        server.kill()


def test_required_confinement_serves_where_every_layer_holds(tmp_path: Path) -> None:
    with harness.running(None, tmp_path, env={"PENSTOCK_CONFINEMENT": "required"}) as server:
        assert server.push("m", "1", graph()).status == 201
        assert registry_of(server)["mode"] == "required"


def test_the_expected_layers_are_those_that_hold() -> None:
    assert confine.expect_layers(Program.WORKER).missing == {}
