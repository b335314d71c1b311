"""The application of the health port: whether the gateway lives and is ready, and nothing else about it.

An orchestrator's probes may reach it where the ops port, with its names and its changes, is out of reach.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.api.admin.answers import AsciiJsonResponse
from penstock.api.admin.response_headers import SecurityHeaders
from penstock.control.reconcile.status import Readiness


class HealthService(Protocol):
    """The control plane as probes see it; no call waits."""

    def readiness(self) -> Readiness:
        """Return whether the gateway takes requests."""

    def task_problems(self) -> Mapping[str, str]:
        """Return the periodic tasks that are dead or overdue, with reasons."""


def build_health_app(control: HealthService) -> ASGIApp:
    """Build the application: ``/livez`` and ``/readyz``, without names and reasons."""
    checks: dict[str, tuple[str, Callable[[], bool]]] = {
        "/livez": ("live", lambda: not control.task_problems()),
        "/readyz": ("ready", lambda: control.readiness().ready),
    }

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        check = checks.get(scope["path"])
        if check is None:
            response = AsciiJsonResponse({"error": "no such path; this port has /livez and /readyz"}, 404)
        elif scope["method"] not in ("GET", "HEAD"):
            response = AsciiJsonResponse({"error": "method not allowed"}, 405, {"allow": "GET, HEAD"})
        else:
            name, is_well = check[0], check[1]()
            response = AsciiJsonResponse({name: is_well}, 200 if is_well else 503)
        await response(scope, receive, send)

    return SecurityHeaders(answer)
