"""The application of the ops plane: health, metrics, the console and the admin API."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from penstock.api.admin import access, admin, traffic
from penstock.api.admin.access import AccessApi
from penstock.api.admin.admin import Document, RegistryService
from penstock.api.admin.answers import AsciiJsonResponse, error_response
from penstock.api.admin.caller_check import CallerCheck, caller_of, note_refusal, visible_models
from penstock.api.admin.page import GatewayFacts, page
from penstock.api.admin.response_headers import SecurityHeaders
from penstock.api.admin.traffic import TrafficApi
from penstock.api.common.content_coding import encode_body, preferred_coding
from penstock.control.reconcile.status import Readiness
from penstock.core.access.permissions import Permission
from penstock.core.desired import VersionStatus
from penstock.core.errors import Fault, Unauthorised
from penstock.core.slices import no_pause
from penstock.telemetry.exposition import Exposition
from penstock.telemetry.readings import Reading

Endpoint = Callable[[Request], Awaitable[Response]]

PAGE_S = 2.0
"""Seconds that the console waits for the registry; then it shows the models without it."""


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

    def readings(self) -> Iterable[Reading]:
        """Return all metrics."""


def build_app(
    control: ControlPlaneService,
    registry_admin: RegistryService,
    services: TrafficApi,
    facts: GatewayFacts,
    access_api: AccessApi,
) -> ASGIApp:
    """Build the application; ``facts`` are the addresses that the console shows."""
    exposition = Exposition(control.readings)

    async def live(request: Request) -> Response:
        problems = control.task_problems()
        shown = {"tasks": dict(problems)} if problems and _is_reader(request) else {}
        return AsciiJsonResponse({"live": not problems, **shown}, 503 if problems else 200)

    async def ready(request: Request) -> Response:
        readiness = control.readiness()
        body = {
            "ready": readiness.ready,
            "workers": {"ready": readiness.workers_ready, "configured": readiness.workers},
            "versions": dict(readiness.versions),
        }
        if readiness.reason and _is_reader(request):
            body["reason"] = readiness.reason
        return AsciiJsonResponse(body, 200 if readiness.ready else 503)

    async def metrics(request: Request) -> Response:
        body, content_type = exposition.render(request.headers.get("accept", ""))
        fields = {"content-type": content_type, "vary": "accept, accept-encoding"}
        coding = preferred_coding(request.headers.get("accept-encoding", "").encode("latin-1"))
        packed = encode_body([body], coding, no_pause) if coding else None
        if packed is None:
            return Response(body, headers=fields)
        return Response(b"".join(packed), headers={**fields, "content-encoding": coding.decode()})

    async def console(request: Request) -> Response:
        visible = visible_models(request)
        models = [model for model in await _known_models(registry_admin) if visible.allows(model["name"])]
        statuses = [status for status in control.statuses() if visible.allows(status.model)]
        text = page(facts, control.readiness(), statuses, control.worker_states(), models)
        return HTMLResponse(text.encode(errors="replace"))

    plain = {
        "/livez": live,
        "/readyz": ready,
        "/metrics": metrics,
        "/": console,
    }
    routes = [
        *(Route(path, endpoint, methods=["GET"]) for path, endpoint in plain.items()),
        *admin.routes(registry_admin),
        *traffic.routes(services, registry_admin),
        *access.routes(access_api.keys),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _fault_answer, Fault: _faulty, Exception: _internal_error},
    )
    return SecurityHeaders(CallerCheck(app, routes, access_api.authenticator, access_api.refusals))


def _is_reader(request: Request) -> bool:
    """Whether probes may show names and reasons to the caller: nobody needs a credential for their result."""
    return caller_of(request).may_anywhere(Permission.READ)


async def _known_models(registry_admin: RegistryService) -> list[Document]:
    try:
        async with asyncio.timeout(PAGE_S):
            return await registry_admin.models()
    except (Fault, TimeoutError):
        return []


async def _fault_answer(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    texts = {404: "no such path", 405: "method not allowed; the Allow header lists the methods of this path"}
    return AsciiJsonResponse({"error": texts.get(status, "the request cannot be answered")}, status, headers)


async def _faulty(request: Request, error: Exception) -> Response:
    if isinstance(error, Unauthorised):
        note_refusal(request)
    return error_response(error)


async def _internal_error(_: Request, __: Exception) -> Response:
    return AsciiJsonResponse({"error": "the request failed"}, 500)
