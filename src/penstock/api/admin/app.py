"""The application of the ops plane: health, metrics, the console and the admin API."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from penstock.api.admin import access, admin, overview, runbook, traffic
from penstock.api.admin.access import AccessApi
from penstock.api.admin.admin import Document, RegistryService
from penstock.api.admin.answers import AsciiJsonResponse, error_response
from penstock.api.admin.caller_check import CallerCheck, caller_of, note_refusal
from penstock.api.admin.readiness import readiness_document
from penstock.api.admin.response_headers import SecurityHeaders
from penstock.api.admin.stream import routes as stream
from penstock.api.admin.stream.hub import StreamHub
from penstock.api.admin.stream.sources import load_by
from penstock.api.admin.traffic import TrafficApi
from penstock.api.common.content_coding import encode_body, preferred_coding
from penstock.control.reconcile.status import Readiness
from penstock.core.access.permissions import Permission
from penstock.core.desired import VersionStatus
from penstock.core.errors import Fault, Unauthorised
from penstock.core.slices import no_pause
from penstock.telemetry.exposition import Exposition
from penstock.telemetry.readings import Reading


def _no_page(_: Request, __: Fault) -> None:
    """Return no page for an error: its response is JSON."""


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    """The console, which is built above the admin API: its routes, and the page for an error of a request, None where
    the response should be JSON."""

    routes: Sequence[Route] = ()
    error_page: Callable[[Request, Fault], Response | None] = _no_page


class ControlPlaneService(Protocol):
    """The control plane as the ops plane uses it; no call waits."""

    def readiness(self) -> Readiness:
        """Return whether the gateway takes requests."""

    def statuses(self) -> list[VersionStatus]:
        """Return the status of every version."""

    def worker_states(self) -> list[tuple[int, str]]:
        """Return process id and state of each slot's worker."""

    def task_problems(self) -> Mapping[str, str]:
        """Return the periodic tasks that are dead or overdue, with reasons."""

    def process_document(self) -> Document:
        """Return the workers, and the periodic tasks of all processes."""

    def readings(self) -> Iterable[Reading]:
        """Return all metrics."""


def build_app(
    control: ControlPlaneService,
    registry_admin: RegistryService,
    services: TrafficApi,
    access_api: AccessApi,
    console: ConsoleParts,
) -> ASGIApp:
    """Build the application."""
    exposition = Exposition(control.readings)
    hub = StreamHub(
        load_by(control, registry_admin, services), services.traffic, services.mark, services.recent.activity
    )

    async def live(request: Request) -> Response:
        problems = control.task_problems()
        shown = {"tasks": dict(problems)} if problems and _is_reader(request) else {}
        return AsciiJsonResponse({"live": not problems, **shown}, 503 if problems else 200)

    async def ready(request: Request) -> Response:
        readiness = control.readiness()
        body = readiness_document(readiness, _is_reader(request))
        return AsciiJsonResponse(body, 200 if readiness.ready else 503)

    async def metrics(request: Request) -> Response:
        body, content_type = exposition.render(request.headers.get("accept", ""))
        fields = {"content-type": content_type, "vary": "accept, accept-encoding"}
        coding = preferred_coding(request.headers.get("accept-encoding", "").encode("latin-1"))
        packed = encode_body([body], coding, no_pause) if coding else None
        if packed is None:
            return Response(body, headers=fields)
        return Response(b"".join(packed), headers={**fields, "content-encoding": coding.decode()})

    async def faulty(request: Request, error: Exception) -> Response:
        if isinstance(error, Unauthorised):
            note_refusal(request)
        page = console.error_page(request, error) if isinstance(error, Fault) else None
        return page or error_response(error)

    plain = {
        "/livez": live,
        "/readyz": ready,
        "/metrics": metrics,
    }
    routes = [
        *(Route(path, endpoint, methods=["GET"]) for path, endpoint in plain.items()),
        *admin.list_routes(registry_admin),
        *traffic.list_routes(services, registry_admin),
        *overview.list_routes(services.overview, control),
        *stream.list_routes(hub),
        *access.list_routes(access_api.keys),
        *console.routes,
        runbook.route(),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _fault_answer, Fault: faulty, Exception: _internal_error},
    )
    check = CallerCheck(
        app,
        routes,
        access_api.authenticator,
        access_api.refusals,
        error_page=console.error_page,
        sessions=access_api.sessions,
    )
    return SecurityHeaders(check)


def _is_reader(request: Request) -> bool:
    """Whether probes may show names and reasons to the caller: nobody needs a credential for their result."""
    return caller_of(request).may_anywhere(Permission.READ)


async def _fault_answer(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    texts = {404: "no such path", 405: "method not allowed; the Allow header lists the methods of this path"}
    return AsciiJsonResponse({"error": texts.get(status, "the request cannot be answered")}, status, headers)


async def _internal_error(_: Request, __: Exception) -> Response:
    return AsciiJsonResponse({"error": "the request failed"}, 500)
