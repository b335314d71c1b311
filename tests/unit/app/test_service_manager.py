"""Messages to the service manager: by a path or an abstract name, keep-alive only while all is well, never a fault."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from penstock.app.service_manager import ServiceManager

PID = 7


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A listening service manager and the name of its socket."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@penstock/{uuid4()}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listener:
        listener.bind(name.replace("@", "\0"))
        listener.settimeout(0)
        yield listener, name


def received(listener: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(listener.recv(4096).decode())
        except BlockingIOError:
            return messages


def feed(manager: ServiceManager, *problems: str) -> None:
    """Do a step of the watchdog's task for each problem."""
    left = list(problems)
    (task,) = manager.tasks(lambda: left.pop(0))

    async def run() -> None:
        for _ in problems:
            await task.attempt()

    asyncio.run(run())
    assert task.failures == 0


def test_it_reports_the_course_of_a_gateway(manager: tuple[socket.socket, str]) -> None:
    listener, name = manager
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(PID), "PATH": "/bin"}
    there = ServiceManager(environment, PID)
    assert environment == {"PATH": "/bin"}
    there.report_ready("a:1", "a:2", "a:3")
    ready = "READY=1\nSTATUS=ready http=a:1 grpc=a:2 ops=a:3"
    assert received(listener) == [ready]
    feed(there, "", "task x: it is dead", "task x: it is dead", "", "")
    assert received(listener) == [
        "WATCHDOG=1",
        "STATUS=unhealthy: task x: it is dead",
        "STATUS=unhealthy: task x: it is dead",
        f"WATCHDOG=1\n{ready}",
        "WATCHDOG=1",
    ]
    there.report_stopping()
    assert received(listener) == ["STOPPING=1\nSTATUS=open requests drain"]


def test_a_problem_is_logged_once(manager: tuple[socket.socket, str], caplog: pytest.LogCaptureFixture) -> None:
    there = ServiceManager({"NOTIFY_SOCKET": manager[1], "WATCHDOG_USEC": "2000000"}, PID)
    with caplog.at_level(logging.INFO):
        feed(there, "no worker takes requests", "no worker takes requests")
    assert [record.getMessage() for record in caplog.records] == [
        "the watchdog of the service manager gets no keep-alive: no worker takes requests"
    ]


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "2000000"}, {"NOTIFY_SOCKET": "vsock:2:1", "WATCHDOG_USEC": "2000000"}],
)
def test_without_a_service_manager_nothing_is_sent(
    environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    there = ServiceManager(environment, PID)
    there.report_ready("a:1", "a:2", "a:3")
    there.report_stopping()
    assert there.tasks(lambda: "") == [] and not caplog.records


def test_one_that_does_not_listen_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    there = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, PID)
    there.report_ready("a:1", "a:2", "a:3")
    there.report_stopping()
    assert [record.getMessage() for record in caplog.records] == [
        "the service manager cannot be reached: No such file or directory"
    ]
