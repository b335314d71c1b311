"""The admin API for recent traffic: the requests that versions answered in the last minutes."""

from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from penstock.api.admin.answers import AsciiJsonResponse
from penstock.api.admin.caller_check import visible_models

Document = dict[str, Any]


class RecentTrafficService(Protocol):
    """The recent traffic as the admin API uses it; no call waits."""

    def document(self) -> Document:
        """Return the traffic of every model."""

    def model_document(self, model: str) -> Document:
        """Return the traffic of one model; raises ``NotFound``."""

    def activity(self, model: str) -> int:
        """Return a number that is the same as long as a model gets no request."""


class RecentTrafficCalls:
    """The calls on recent traffic."""

    def __init__(self, recent: RecentTrafficService) -> None:
        self._recent = recent

    def table(self) -> list[tuple[str, str, Any]]:
        """Method, path and call."""
        return [("GET", "/traffic", self.all), ("GET", "/models/{model}/traffic", self.one)]

    async def all(self, request: Request) -> Response:
        """Return the traffic of the models that the caller may read."""
        document, visible = self._recent.document(), visible_models(request)
        models = {name: model for name, model in document["models"].items() if visible.allows(name)}
        return AsciiJsonResponse({**document, "models": models})

    async def one(self, request: Request) -> Response:
        """Return the traffic of a model."""
        return AsciiJsonResponse(self._recent.model_document(request.path_params["model"]))
