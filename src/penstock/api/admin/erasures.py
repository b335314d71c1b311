"""The admin API for erasure: removes the rows of a subject from everything that is kept of requests."""

from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from penstock.api.admin.answers import AsciiJsonResponse
from penstock.api.admin.incoming import read_author, read_document, text_field
from penstock.core.erasure import SubjectKey, check_key
from penstock.registry.records import Author


class ErasureService(Protocol):
    """Erasures as the admin API uses them."""

    async def forget(self, model: str | None, key: SubjectKey, by: Author) -> dict[str, Any]:
        """Erase the rows of a subject of a model (None: of all), and return what was removed."""


class ErasureCalls:
    """The calls on erasures."""

    def __init__(self, erasures: ErasureService) -> None:
        self._erasures = erasures

    def table(self) -> list[tuple[str, str, Any]]:
        """Method, path and call."""
        return [("POST", "/erasures", self.forget)]

    async def forget(self, request: Request) -> Response:
        """Erase, and answer with what was removed."""
        body = await read_document(request, "model", "column", "value", "reason")
        key = check_key(SubjectKey(text_field(body, "column"), text_field(body, "value")))
        model = text_field(body, "model", "") or None
        return AsciiJsonResponse(await self._erasures.forget(model, key, read_author(request, body)))
