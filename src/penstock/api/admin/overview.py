"""The admin API for what is shown at a glance: all models in short, and the processes and tasks of this gateway."""

from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.admin.answers import AsciiJsonResponse, build_routes
from penstock.api.admin.caller_check import visible_models

Document = dict[str, Any]


class OverviewService(Protocol):
    """The models in short as the admin API uses them."""

    async def document(self) -> Document:
        """Return every model in one row; never raises."""


class ProcessService(Protocol):
    """The processes of a gateway; no call waits."""

    def process_document(self) -> Document:
        """Return the workers, and the periodic tasks of all processes."""


def list_routes(overview: OverviewService, processes: ProcessService) -> list[Route]:
    """Return the routes below ``/admin/v1``."""

    async def models(request: Request) -> Response:
        document, visible = await overview.document(), visible_models(request)
        shown = [model for model in document["models"] if visible.allows(model["name"])]
        return AsciiJsonResponse({**document, "models": shown})

    async def workers(_: Request) -> Response:
        return AsciiJsonResponse(processes.process_document())

    return build_routes([("GET", "/overview", models), ("GET", "/workers", workers)])
