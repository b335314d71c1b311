"""Forked workers: what they keep of the process that forked them, and how they and their gateway end."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.control.workers.prefork import ForkedProcess, WaitingWorker, WaitingWorkers
from tests.harness import PATIENCE_S, is_alive, wait_until

pytestmark = pytest.mark.processes

ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
"""As `penstock serve` sets it: numpy starts no threads."""

BEGIN = """
import json, os, signal, sys, threading, time
from pathlib import Path
from penstock.control.workers.prefork import fork_workers

def say(fact):
    os.write(2, json.dumps(fact).encode() + b"\\n")

def main(arguments):
    say({"arguments": arguments, "pid": os.getpid(), "session": os.getsid(0), "threads": threading.active_count()})
    print("to standard error", flush=True)
    say([os.readlink(f"/proc/self/fd/{number}") for number in range(100) if os.path.exists(f"/proc/self/fd/{number}")])
    if arguments[0] == "raise":
        raise ValueError("a defect")
    if arguments[0] == "wait":
        time.sleep(600)
    return int(arguments[0])

def finish(process):
    while not process.ended():
        time.sleep(0.01)
    return process.close()

def children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
"""


def run(program: str, *arguments: str) -> tuple[str, str]:
    """What a program writes to its standard output and its standard error."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )
    return done.stdout, done.stderr


def test_a_forked_worker_works_with_its_arguments_and_reports_its_end() -> None:
    out, errors = run('print(finish(fork_workers(1, main).start(["3", "of two words"])), os.getsid(0))')
    how, session = out.rsplit(maxsplit=1)
    assert how == "exit 3"
    facts = json.loads(errors.splitlines()[0])
    assert facts["arguments"] == ["3", "of two words"]
    assert facts["session"] == facts["pid"] != int(session)  # signals of the terminal do not reach it


def test_a_worker_that_replaces_another_has_the_same_environment() -> None:
    added = {"PYTHONPATH": str(Path(__file__).parents[4])}
    secrets = {"PENSTOCK_REGISTRY": "postgresql://a:s3cret@h/d", "AWS_ACCESS_KEY_ID": "s3cret", "CI_TOKEN": "s3cret"}
    secrets |= {"NOTIFY_SOCKET": "/s3cret", "WATCHDOG_USEC": "s3cret"}
    program = """
from penstock.control.workers import process
os.environ.update(json.loads(sys.argv[1]))
def show(_):
    return say(sorted(item for item in os.environ.items() if item[0] not in ("GLIBC_TUNABLES", "LC_CTYPE"))) or 0
finish(fork_workers(1, show).start(["x"]))
finish(process.start("tests.unit.control.workers.shown_environment", []))
"""
    _, errors = run(program, json.dumps({**added, **secrets}))
    forked, started = (dict(json.loads(line)) for line in errors.splitlines())
    assert forked == started
    assert "s3cret" not in errors and forked["PATH"] and forked["OMP_NUM_THREADS"] == "1"


def test_a_forked_worker_has_no_file_of_the_gateway(tmp_path: Path) -> None:
    program = """
secret = open(sys.argv[1], "w")
waiting = fork_workers(3, main)
for _ in range(3):
    finish(waiting.start(["0"]))
"""
    out, errors = run(program, str(tmp_path / "secret"))
    assert out == ""
    assert errors.count("to standard error") == 3
    opened = [json.loads(line) for line in errors.splitlines() if line.startswith("[")]
    assert len(opened) == 3
    for targets in opened:
        assert targets[0] == os.devnull
        assert targets[1] == targets[2]
        assert set(targets[3:]) == {os.devnull}


def test_a_defect_ends_a_forked_worker_with_its_traceback() -> None:
    out, errors = run('print(finish(fork_workers(1, main).start(["raise"])))')
    assert out == "exit 1\n"
    assert "ValueError: a defect" in errors


def test_a_forked_worker_can_be_killed() -> None:
    out, _ = run('process = fork_workers(1, main).start(["wait"]); process.kill(); print(finish(process))')
    assert out == "signal 9\n"


def test_the_next_works_for_one_that_ended_while_it_waited() -> None:
    program = """
waiting = fork_workers(2, main)
os.kill(int(children()[-1]), signal.SIGKILL)
os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
print(finish(waiting.start(["0"])), waiting.start(["0"]), children())
"""
    assert run(program)[0] == "exit 0 None []\n"


def test_those_that_are_not_needed_end_and_leave_nothing() -> None:
    out, errors = run("waiting = fork_workers(2, main); print(len(children())); waiting.close(); print(children())")
    assert (out, errors) == ("2\n[]\n", "")


def test_a_process_with_threads_is_not_forked() -> None:
    program = """
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
print(fork_workers(2, main).start(["0"]), children())
"""
    assert run(program)[0] == "None []\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_waits_ends_with_its_gateway(number: int) -> None:
    program = "waiting = fork_workers(2, main); print(*children(), flush=True); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN + program], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as gateway:
        assert gateway.stdout
        pids = [int(text) for text in gateway.stdout.readline().split()]
        assert len(pids) == 2
        gateway.send_signal(number)
    wait_until(lambda: not any(map(is_alive, pids)), PATIENCE_S, "the end of the workers")


def test_the_arguments_of_a_worker_are_one_message_and_its_end_is_its_code() -> None:
    own, its = socket.socketpair()
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as child, its:
        process = ForkedProcess(child.pid)
        worker = WaitingWorkers([WaitingWorker(process, own)]).start(["a", "b c"])
        assert worker and worker.pid == child.pid
        assert its.recv(100) == b"\x05\x00\x00\x00a\0b c"
        wait_until(worker.ended, PATIENCE_S, "its end")
        assert worker.close() == "exit 3"
        assert its.recv(100) == b""


def test_a_worker_that_is_not_needed_is_killed_and_reaped() -> None:
    own, its = socket.socketpair()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child, its:
        waiting = WaitingWorkers([WaitingWorker(ForkedProcess(child.pid), own)])
        waiting.close()
        assert waiting.start(["a"]) is None
        with pytest.raises(ChildProcessError):
            os.waitpid(child.pid, 0)
