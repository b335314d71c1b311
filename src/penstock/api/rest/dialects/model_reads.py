"""Descriptions of models below ``/v1/models``, shared by dialects: one answer serves the clients of all of them."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from penstock.api.rest.dialects.base import DialectSetup, Endpoint
from penstock.api.rest.responses import json_response
from penstock.serving.access.caller_access import CallerAccess


def access_of(request: Request) -> CallerAccess:
    """Return what the credential of a request may do."""
    access: CallerAccess = request.scope["access"]
    return access


class ModelReads:
    """Answers ``GET /v1/models`` and ``GET /v1/models/{model}``."""

    def __init__(self, setup: DialectSetup) -> None:
        self._plane = setup.plane
        self._names = frozenset(setup.names)

    def endpoints(self) -> Mapping[str, Endpoint]:
        """Return the endpoints by method and path."""
        return {"GET /v1/models": self._models, "GET /v1/models/{model}": self._model}

    async def _models(self, request: Request) -> Response:
        access = access_of(request)
        return json_response({"models": [name for name in self._plane.routing_table.models if access.sees(name)]})

    async def _model(self, request: Request) -> Response:
        document, status = self.model_document(request.path_params["model"])
        return json_response(document, status)

    def model_document(self, model: str) -> tuple[dict[str, Any], int]:
        """Return the members that the dialects have for a model, and the status.

        Raises:
            NotFound: no such model.
        """
        ready = self._plane.queries.model_ready(model, "")
        return {"name": model, "ready": ready}, 200 if ready else 503
