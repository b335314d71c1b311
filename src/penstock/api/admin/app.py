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

from penstock.api.admin import admin, traffic
from penstock.api.admin.admin import Document, RegistryService
from penstock.api.admin.answers import AsciiJsonResponse, error_response
from penstock.api.admin.caller_check import CallerCheck
from penstock.api.admin.page import GatewayFacts, page
from penstock.api.admin.response_headers import SecurityHeaders
from penstock.api.admin.traffic import TrafficApi
from penstock.api.common.content_coding import encode_body, preferred_coding
from penstock.control.reconcile.status import Readiness
from penstock.core.desired import VersionStatus
from penstock.core.errors import Fault
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
    control: ControlPlaneService, registry_admin: RegistryService, services: TrafficApi, facts: GatewayFacts
) -> ASGIApp:
    """Build the application; ``facts`` are the addresses that the console shows."""
    exposition = Exposition(control.readings)

    async def live(_: Request) -> Response:
        problems = control.task_problems()
        return (
            AsciiJsonResponse({"live": False, "tasks": dict(problems)}, 503)
            if problems
            else AsciiJsonResponse({"live": True})
        )

    async def ready(_: Request) -> Response:
        readiness = control.readiness()
        body = {
            "ready": readiness.ready,
            "workers": {"ready": readiness.workers_ready, "configured": readiness.workers},
            "versions": dict(readiness.versions),
        }
        if readiness.reason:
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

    async def console(_: Request) -> Response:
        models = await _known_models(registry_admin)
        text = page(facts, control.readiness(), control.statuses(), control.worker_states(), models)
        return HTMLResponse(text.encode(errors="replace"))

    routes = {
        "/livez": live,
        "/readyz": ready,
        "/metrics": metrics,
        "/": console,
    }
    app = Starlette(
        routes=[
            *(Route(path, endpoint, methods=["GET"]) for path, endpoint in routes.items()),
            *admin.routes(registry_admin),
            *traffic.routes(services),
        ],
        exception_handlers={HTTPException: _fault_answer, Fault: _faulty, Exception: _internal_error},
    )
    return SecurityHeaders(CallerCheck(app))


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


async def _faulty(_: Request, error: Exception) -> Response:
    return error_response(error)


async def _internal_error(_: Request, __: Exception) -> Response:
    return AsciiJsonResponse({"error": "the request failed"}, 500)
