"""What a service says to its service manager, as sd_notify(3) and sd_watchdog_enabled(3) define it."""

import pytest

from penstock.core.service_notification import (
    find_health_problem,
    keep_alive_interval_s,
    ready_message,
    socket_address,
    status_message,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/systemd/notify", "/run/systemd/notify"),
        ("@/org/example/notify", "\0/org/example/notify"),
        ("", ""),
        ("vsock:2:1234", ""),
        ("relative", ""),
    ],
)
def test_the_address_of_the_socket(text: str, address: str) -> None:
    assert socket_address(text) == address


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 7.5),
        ({"WATCHDOG_USEC": "30000000"}, 7.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": ""}, 0.0),
        ({"WATCHDOG_USEC": "0"}, 0.0),
        ({"WATCHDOG_USEC": "-5"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_PID": "7"}, 0.0),
        ({}, 0.0),
    ],
)
def test_only_the_process_that_is_watched_sends_keep_alive_messages(variables: dict[str, str], seconds: float) -> None:
    assert keep_alive_interval_s(variables, 7) == seconds


def test_messages_are_lines_of_assignments() -> None:
    assert ready_message("a:1", "a:2", "a:3") == "READY=1\nSTATUS=ready http=a:1 grpc=a:2 ops=a:3"
    assert status_message("two\nlines\tof  text") == "STATUS=two lines of text"
    assert len(status_message("x" * 10_000)) < 500


@pytest.mark.parametrize(
    ("problems", "workers_ready", "problem"),
    [
        ({}, 1, ""),
        ({}, 4, ""),
        ({}, 0, "no worker takes requests"),
        ({"lease": "it is dead: KeyError"}, 4, "task lease: it is dead: KeyError"),
        ({"lease": "it is dead"}, 0, "task lease: it is dead"),
    ],
)
def test_health_is_that_of_the_tasks_and_of_at_least_one_worker(
    problems: dict[str, str], workers_ready: int, problem: str
) -> None:
    assert find_health_problem(problems, workers_ready) == problem
