"""What a service says to its service manager: the address, the interval and the messages of sd_notify(3) and
sd_watchdog_enabled(3) of systemd, and when the watchdog gets no keep-alive message."""

from collections.abc import Mapping
from typing import Final

ADDRESS: Final = "NOTIFY_SOCKET"
WATCHDOG_US: Final = "WATCHDOG_USEC"
WATCHDOG_PID: Final = "WATCHDOG_PID"
VARIABLES: Final = (ADDRESS, WATCHDOG_US, WATCHDOG_PID)
"""The variables in which a service manager states them; no child of the service may have them."""

KEEP_ALIVE: Final = "WATCHDOG=1"
STOPPING: Final = "STOPPING=1\nSTATUS=open requests drain"

_PARTS: Final = 4
"""Keep-alive messages in the time of the watchdog: several in a row must be missing before it acts."""

_STATUS_CHARACTERS: Final = 400


def socket_address(text: str) -> str:
    """Return the address of the socket that ``NOTIFY_SOCKET`` names, "" for none that is supported.

    A path begins with a slash, and the name of an abstract socket with an @, which stands for a zero byte.
    """
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def keep_alive_interval_s(variables: Mapping[str, str], pid: int) -> float:
    """Return the time between two keep-alive messages in seconds; 0 if the process ``pid`` is not watched.

    A variable that is not a positive number counts as missing.
    """
    period, watched = variables.get(WATCHDOG_US, ""), variables.get(WATCHDOG_PID, str(pid))
    return int(period) / 1e6 / _PARTS if period.isdecimal() and watched == str(pid) else 0.0


def ready_message(http: str, grpc: str, ops: str) -> str:
    """Return the message of a gateway that serves at these addresses."""
    return f"READY=1\nSTATUS=ready http={http} grpc={grpc} ops={ops}"


def status_message(text: str) -> str:
    """Return the message that shows a text as the status of the service: one line, of bounded length."""
    return f"STATUS={' '.join(text.split())[:_STATUS_CHARACTERS]}"


def find_health_problem(task_problems: Mapping[str, str], workers_ready: int) -> str:
    """Return why a gateway that has begun to serve needs a restart, "" if it does not.

    It does while a periodic task of the control process or of a worker is dead or overdue, and while no worker takes
    requests. A single worker that fails is no reason: the gateway replaces it.
    """
    if task_problems:
        name, problem = next(iter(task_problems.items()))
        return f"task {name}: {problem}"
    return "" if workers_ready else "no worker takes requests"
