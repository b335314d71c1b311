"""Reports to the service manager that started this process (systemd with ``Type=notify`` and ``WatchdogSec``): that the
gateway is ready, that it stops, and that it is well."""

import logging
import os
import socket
from collections.abc import Callable, MutableMapping

from penstock.control.periodic import PeriodicTask, ProblemLog
from penstock.core.service_notification import (
    ADDRESS,
    KEEP_ALIVE,
    STOPPING,
    VARIABLES,
    keep_alive_interval_s,
    ready_message,
    socket_address,
    status_message,
)

log = logging.getLogger("penstock.app")

FindProblem = Callable[[], str]

_SUBJECT = "service manager"


class ServiceManager:
    """The service manager that ``environment`` names, or none; its variables are removed there.

    No method raises or waits: a message that cannot be sent is logged once. Of one thread.
    """

    def __init__(self, environment: MutableMapping[str, str], pid: int) -> None:
        variables = {name: environment.pop(name) for name in VARIABLES if name in environment}
        self._address = socket_address(variables.get(ADDRESS, ""))
        self._interval_s = keep_alive_interval_s(variables, pid) if self._address else 0.0
        self._status = ""
        self._problem_log = ProblemLog()

    def report_ready(self, http: str, grpc: str, ops: str) -> None:
        """Report that the gateway serves at these addresses."""
        self._status = ready_message(http, grpc, ops)
        self._send(self._status)

    def report_stopping(self) -> None:
        """Report that the gateway has begun to stop."""
        self._send(STOPPING)

    def tasks(self, find_problem: FindProblem) -> list[PeriodicTask]:
        """Return the task that feeds the watchdog while ``find_problem`` finds none; no task without a watchdog."""

        async def feed() -> None:
            self._feed(find_problem())

        return [PeriodicTask("watchdog", feed, self._interval_s)] if self._interval_s else []

    def _feed(self, problem: str) -> None:
        if problem:
            self._problem_log.report("health", f"the watchdog of the service manager gets no keep-alive: {problem}")
            self._send(status_message(f"unhealthy: {problem}"))
        elif self._problem_log.clear("health"):
            self._send(f"{KEEP_ALIVE}\n{self._status}")
        else:
            self._send(KEEP_ALIVE)

    def _send(self, message: str) -> None:
        """Send one datagram; as the protocol says, a service manager that does not listen is no reason to fail."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto(os.fsencode(message), self._address)
        except OSError as error:
            self._problem_log.report(_SUBJECT, f"the service manager cannot be reached: {error.strerror or error}")
        else:
            self._problem_log.clear(_SUBJECT)
