"""The routes of the ops plane; every answer is made from what the control plane knows at that moment."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from penstock.api.ops.page import Shown, page
from penstock.control.view import Readiness
from penstock.core.desired import VersionStatus
from penstock.core.errors import Fault
from penstock.core.labels import HTTP_STATUS
from penstock.telemetry.exposition import Exposition
from penstock.telemetry.metrics import Reading

Endpoint = Callable[[Request], Awaitable[Response]]


class Control(Protocol):
    """What the ops plane asks of the control plane; nothing of it waits."""

    def readiness(self) -> Readiness:
        """Whether requests are taken."""

    def statuses(self) -> list[VersionStatus]:
        """Every version of every model."""

    def model(self, name: str) -> list[VersionStatus]:
        """Every version of one model; raises ``NotFound``."""

    def signature(self, model: str, version: str) -> Mapping[str, Any] | None:
        """A version's inputs and outputs, if known."""

    def digest(self, model: str, version: str) -> str | None:
        """The digest of a version's graph, if known."""

    def worker_states(self) -> list[tuple[int, str]]:
        """Process id and state of each slot's worker."""

    def readings(self) -> Iterable[Reading]:
        """Everything there is to measure."""


def build_app(control: Control, shown: Shown) -> Starlette:
    """The application; ``shown`` is what the page tells beside the models."""
    exposition = Exposition(control.readings)

    async def live(_: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(_: Request) -> Response:
        found = control.readiness()
        body = {
            "ready": found.ready,
            "workers": {"ready": found.workers_ready, "configured": found.workers},
            "versions": dict(found.versions),
        }
        return JSONResponse(body, 200 if found.ready else 503)

    async def metrics(request: Request) -> Response:
        body, content_type = exposition.render(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    async def models(_: Request) -> Response:
        names = dict.fromkeys(status.model for status in control.statuses())
        return JSONResponse({"models": [_model(control, name) for name in names]})

    async def model(request: Request) -> Response:
        return JSONResponse(_model(control, request.path_params["model"]))

    async def console(_: Request) -> Response:
        return HTMLResponse(page(shown, control.readiness(), control.statuses(), control.worker_states()))

    routes = {
        "/livez": live,
        "/readyz": ready,
        "/metrics": metrics,
        "/": console,
        "/admin/v1/models": models,
        "/admin/v1/models/{model}": model,
    }
    return Starlette(
        routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in routes.items()],
        exception_handlers={HTTPException: _refused, Fault: _faulty, Exception: _broken},
    )


def _model(control: Control, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "versions": [_version(control, status) for status in control.model(name) if status.version],
    } | (_problem(control.model(name)))


def _version(control: Control, status: VersionStatus) -> dict[str, Any]:
    return {
        "version": status.version,
        "state": status.state.value,
        "reason": status.reason,
        "digest": control.digest(status.model, status.version),
        "signature": control.signature(status.model, status.version),
    }


def _problem(statuses: list[VersionStatus]) -> dict[str, str]:
    return next(({"reason": status.reason} for status in statuses if not status.version), {})


async def _refused(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    texts = {404: "no such path", 405: "this path knows the methods in the Allow header only"}
    return JSONResponse({"error": texts.get(status, "the request cannot be answered")}, status, headers)


async def _faulty(_: Request, error: Exception) -> Response:
    kind = error.kind if isinstance(error, Fault) else "internal"
    return JSONResponse({"error": str(error)}, HTTP_STATUS[kind])


async def _broken(_: Request, __: Exception) -> Response:
    return JSONResponse({"error": "the request failed"}, 500)
