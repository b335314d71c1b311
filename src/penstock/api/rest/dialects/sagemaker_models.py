"""The models of a multi-model endpoint of SageMaker: loading, listing and unloading, as "Custom Containers Contract for
Multi-Model Endpoints" has it. A model is loaded by its name below the folder that is served; no other path is opened.
"""

from bisect import bisect_right
from contextlib import suppress
from posixpath import normpath
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from penstock.api.rest.request_body import BodyReader, decode_body
from penstock.api.rest.request_scope import access_of, author_of_request
from penstock.api.rest.responses import json_response
from penstock.core.access.endpoints import OPERATE
from penstock.core.errors import DeadlineExceeded, Fault, InvalidInput, OverBudget, unknown_model
from penstock.core.versions import is_model_name
from penstock.serving.data_plane import DataPlane

PAGE: Final = 100
"""Models in one part of the list."""

UNPACKED: Final = "model"
"""The folder in a model's own into which SageMaker unpacks its archive."""

CONFLICT: Final = 409
INSUFFICIENT_STORAGE: Final = 507


NO_FOLDER: Final = "this gateway serves no folder from which models are loaded by request; set sagemaker.multi_model"


class LoadBody(msgspec.Struct):
    """The body of a request to load a model."""

    model_name: str
    url: str


class ModelEndpoints:
    """Loads, lists and unloads the models in the folder ``root`` of one data plane."""

    def __init__(self, plane: DataPlane, root: str) -> None:
        self._plane = plane
        self._root = root
        self._bodies = BodyReader(plane.memory, plane.offload)

    async def load(self, request: Request) -> Response:
        """Load a model: 409 if it is loaded already, 507 if there is no memory for it."""
        body = decode_body(await self._bodies.read(request), LoadBody)
        check_location(self._root, body.model_name, body.url)
        client: object = request.scope["client"]
        access_of(request).check(OPERATE, body.model_name, lambda _: client)
        if self._is_loaded(body.model_name):
            return json_response({"error": f"model '{body.model_name}' is loaded already"}, CONFLICT)
        author = author_of_request(request)
        try:
            await self._plane.queries.load(body.model_name, None, author)
        except (DeadlineExceeded, InvalidInput, OverBudget) as fault:
            with suppress(Fault):  # it must not be loaded later, when others have made place
                await self._plane.queries.unload(body.model_name, author)
            if isinstance(fault, OverBudget):
                return json_response({"error": str(fault)}, INSUFFICIENT_STORAGE)
            raise
        return json_response(self._document(body.model_name))

    async def list(self, request: Request) -> Response:
        """List the loaded models, in parts of at most ``PAGE``."""
        access = access_of(request)
        names = sorted(name for name in self._plane.routing_table.models if self._is_loaded(name) and access.sees(name))
        return json_response(list_models(names, request.query_params.get("next_page_token", ""), self._root))

    async def show(self, request: Request) -> Response:
        """Describe a loaded model."""
        return json_response(self._document(self._loaded_name(request)))

    async def unload(self, request: Request) -> Response:
        """Unload a model; the answer means that its memory is free."""
        name = self._loaded_name(request)
        if not self._root:
            raise InvalidInput(NO_FOLDER)  # nobody could load it again
        await self._plane.queries.unload(name, author_of_request(request))
        return Response(status_code=200)

    def _loaded_name(self, request: Request) -> str:
        name: str = request.path_params["model"]
        if not self._is_loaded(name):
            raise unknown_model(name)
        return name

    def _is_loaded(self, name: str) -> bool:
        entry = self._plane.routing_table.models.get(name)
        return entry is not None and bool(entry.ready)

    def _document(self, name: str) -> dict[str, Any]:
        return {"modelName": name, "modelUrl": location_of(self._root, name)}


def check_location(root: str, name: str, url: str) -> None:
    """Check that a model is to be loaded from its own place below ``root``: the text is compared, and never opened.

    Raises:
        InvalidInput: the name is not valid, or the location is another one.
    """
    if not root:
        raise InvalidInput(NO_FOLDER)
    if not is_model_name(name):
        raise InvalidInput(
            "model_name must be letters, digits and ._-, begin with a letter, digit or _, and have at most 128"
        )
    if normpath(url) != location_of(root, name) or ".." in url.split("/"):
        raise InvalidInput(f"url must be {UNPACKED} in the folder of this model, below the folder that is served")


def location_of(root: str, name: str) -> str:
    """Return where the files of a model lie."""
    return f"{root.rstrip('/')}/{name}/{UNPACKED}"


def list_models(names: list[str], after: str, root: str) -> dict[str, Any]:
    """Return a part of a sorted list: what follows the token ``after``, and, if more follows, the token for it."""
    begin = bisect_right(names, after)
    part = names[begin : begin + PAGE]
    models = [{"modelName": name, "modelUrl": location_of(root, name)} for name in part]
    return {"models": models, **({"nextPageToken": part[-1]} if names[begin + PAGE :] else {})}
