"""Every periodic task of a running gateway raises once and dies once: all come back, the others go on."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import harness, zoo
from tests.faults.failing_tasks import HANG
from tests.harness import PATIENCE_S, Server, wait_until

SOME = {"supervisor", "leadership", "fleet", "janitor", "rules", "worker-0/heartbeat", "worker-0/house"}
"""Tasks without which the list that the gateway tells would not be the whole one."""

ROOT = Path(__file__).parents[2]
"""Where workers find the module that stands in for theirs."""

_SAMPLE = re.compile(r'^penstock_task_(\w+)\{task="([\w/-]+)"\} (\S+)$', re.MULTILINE)


def reported(server: Server) -> dict[str, dict[str, float]]:
    """What the metrics say of every task, by metric."""
    found: dict[str, dict[str, float]] = {}
    for metric, task, value in _SAMPLE.findall(server.admin("GET", "/metrics").body.decode()):
        found.setdefault(metric, {})[task] = float(value)
    return found


@pytest.fixture
def hang(tmp_path: Path) -> Path:
    return tmp_path / "hang"


@pytest.fixture
def server(tmp_path: Path, hang: Path) -> Iterator[Server]:
    program, env = [sys.executable, "-m", "tests.faults.failing_tasks"], {HANG: str(hang), "PYTHONPATH": str(ROOT)}
    with harness.running(None, tmp_path, "--workers", "1", env=env, program=program) as server:
        yield server


def test_every_task_comes_back_and_a_hung_one_is_named(server: Server, hang: Path) -> None:
    wait_until(
        lambda: set(reported(server)["failures_total"].values()) == {2.0}, PATIENCE_S, "two failures of each task"
    )
    tasks = reported(server)["failures_total"].keys()
    assert tasks >= SOME
    before = reported(server)["last_success_seconds"]
    wait_until(lambda: _all_later(server, before), PATIENCE_S, "another good step of each task")
    assert set(reported(server)["failures_total"].values()) == {2.0}  # nobody failed because of another
    log = server.log_text()
    assert all(log.count(f"task {name} failed: RuntimeError: made to fail") == 1 for name in map(_own, tasks))
    assert server.admin("GET", "/livez").json() == {"live": True}
    assert server.push("m", "1", zoo.versioned(1).SerializeToString()).status == 201
    _hang_and_go_on(server, hang)


def _own(name: str) -> str:
    """What a task is called in its own process."""
    return name.rpartition("/")[2]


def _all_later(server: Server, before: dict[str, float]) -> bool:
    return all(value > before[task] for task, value in reported(server)["last_success_seconds"].items())


def _hang_and_go_on(server: Server, hang: Path) -> None:
    hang.touch()
    wait_until(lambda: server.admin("GET", "/livez").status == 503, PATIENCE_S, "a task that is overdue")
    keywords = {"labels", "worker-0/house"}
    wait_until(lambda: server.admin("GET", "/livez").json()["tasks"].keys() == keywords, PATIENCE_S, "both that hang")
    hang.unlink()
    wait_until(lambda: server.admin("GET", "/livez").status == 200, PATIENCE_S, "its next step")
