"""Descriptions of models below ``/v1/models``, shared by dialects: one answer serves the clients of all of them."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from penstock.api.rest.dialects.base import DialectSetup, Endpoint
from penstock.api.rest.dialects.tensorflow_documents import metadata_document, status_document
from penstock.api.rest.request_scope import access_of
from penstock.api.rest.responses import json_response


class ModelReads:
    """Answers ``GET /v1/models`` and ``GET /v1/models/{model}``."""

    def __init__(self, setup: DialectSetup) -> None:
        self._plane = setup.plane
        self._names = frozenset(setup.names)

    def endpoints(self) -> Mapping[str, Endpoint]:
        """Return the endpoints by method and path."""
        return {"GET /v1/models": self._models, "GET /v1/models/{model}": self._model}

    def serving_endpoints(self) -> Mapping[str, Endpoint]:
        """Return the endpoints of TensorFlow Serving by method and path."""
        return {
            "GET /v1/models/{model}": self._model,
            "GET /v1/models/{model}/versions/{version}": self._status,
            "GET /v1/models/{model}/labels/{version}": self._status,
            "GET /v1/models/{model}/metadata": self._metadata,
            "GET /v1/models/{model}/versions/{version}/metadata": self._metadata,
            "GET /v1/models/{model}/labels/{version}/metadata": self._metadata,
        }

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
        document: dict[str, Any] = {}
        status = 200
        if "kserve_v1" in self._names:
            ready = self._plane.queries.model_ready(model, "")
            document, status = {"name": model, "ready": ready}, 200 if ready else 503
        if "tfs" in self._names:
            document |= status_document(self._plane.routing_table.entry(model))
        return document, status

    async def _status(self, request: Request) -> Response:
        entry = self._plane.routing_table.entry(request.path_params["model"])
        return json_response(status_document(entry, request.path_params["version"]))

    async def _metadata(self, request: Request) -> Response:
        model, version = request.path_params["model"], request.path_params.get("version", "")
        loaded = self._plane.routing_table.find((model, version))[0]
        return json_response(metadata_document(model, loaded.identity.version, loaded.signature))
