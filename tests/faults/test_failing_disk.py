"""Every kind of call by which the control process makes a change durable fails for a while: nothing acknowledged is
lost, each refusal says why, and all goes on when the calls succeed again.

The kernel's answers are replaced by `strace`, so it is the code of the whole gateway that meets them.
"""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests import harness
from tests.faults.test_full_disk import MODEL, assert_reads_go_on, changes, infer, versions_of
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.traffic.drive import scorer

CALLS = ["fsync", "fdatasync", "rename,renameat,renameat2", "mkdir,mkdirat", "unlink,unlinkat"]
ERRORS = {"mkdir,mkdirat": "ENOSPC"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    with harness.running(None, tmp_path_factory.mktemp("failing"), "--workers", "1") as running:
        assert running.push("m", "1", scorer().SerializeToString()).status == 201
        wait_until(lambda: running.rest("GET", "/v2/models/m/ready").status == 200, PATIENCE_S, "the model")
        assert all(reply.status < 300 for reply in changes(running, "before", 2).values())
        yield running


@contextmanager
def failing(server: Server, calls: str, error: str, when: str = "1+") -> Iterator[Path]:
    """The control process's calls of these kinds fail within the block; the file lists those that did."""
    record = server.log.with_name("strace.txt")
    inject = [f"--inject={call}:error={error}:when={when}" for call in calls.split(",")]
    command = ["strace", "-f", "-o", str(record), "-p", str(server.process.pid), f"--trace={calls}", *inject]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        attached = tracer.stderr.readline() if tracer.stderr else ""
        if "attached" not in attached:
            pytest.skip(f"strace may not trace here: {attached.strip()}")
        yield record
        assert tracer.poll() is None
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=PATIENCE_S)


@pytest.mark.parametrize(("calls", "version"), [(calls, 10 + index) for index, calls in enumerate(CALLS)])
def test_calls_that_fail_for_a_while(server: Server, calls: str, version: int) -> None:
    before = versions_of(server)
    with failing(server, calls, ERRORS.get(calls, "EIO")) as record:
        tried = changes(server, "failing", version)
        infer(server, 200)
        assert_reads_go_on(server)
        assert "INJECTED" in record.read_text()
    assert {name: reply.status for name, reply in tried.items() if reply.status not in {200, 201, 202, 503}} == {}
    acknowledged = [str(version)] if tried["push"].status == 201 else []
    assert versions_of(server) == before + acknowledged
    again = changes(server, "again", version)
    assert all(reply.status < 300 for reply in again.values()), again
    assert again["feedback"].json() == {"accepted": 1, "unmatched": 0}
    assert versions_of(server) == [*before, str(version)]


def is_ready(server: Server, path: str) -> bool:
    return server.rest("GET", path).status == 200


def test_a_push_whose_calls_fail_one_by_one(server: Server) -> None:
    """The first, the second … durable call of a push fails, until a push meets no failure any more."""
    calls, failed = "fsync,fdatasync,rename,renameat,renameat2", 0
    for turn in range(1, 40):
        version = str(100 + turn)
        with failing(server, calls, "EIO", when=str(turn)) as record:
            reply = server.push("m", version, scorer(1.0 + turn / 100).SerializeToString())
            hit = [line for line in record.read_text().splitlines() if "INJECTED" in line]
        known = version in versions_of(server)
        assert reply.status in {201, 503}, reply
        assert known >= (reply.status == 201)
        if not known:
            failed += 1
            assert server.push("m", version, scorer(1.0 + turn / 100).SerializeToString()).status == 201
        path = f"/v2/models/m/versions/{version}/ready"
        wait_until(partial(is_ready, server, path), PATIENCE_S, "the version")
        if not hit:
            break
    else:
        raise AssertionError("no push without a failure")
    assert failed
    assert server.admin("GET", MODEL).status == 200
