"""The admin API of the audit as a verifiable log: HTTP requests to calls of ``AuditService``."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from penstock.api.admin.answers import AsciiJsonResponse, build_routes
from penstock.api.admin.incoming import read_author, read_document
from penstock.core.errors import InvalidInput
from penstock.registry.records import Author

Document = dict[str, Any]

MOST_KEYS = 100
MOST_DIGITS = 18


class AuditService(Protocol):
    """The audit as the admin API uses it; every call may raise a ``Fault``."""

    async def verify(self, checkpoints: str, keys: Sequence[str]) -> Document:
        """Return the result of a verification of all entries."""

    async def keys(self) -> Document:
        """Return the public keys whose checkpoints are trusted."""

    async def checkpoint(self) -> str:
        """Return the newest signed checkpoint."""

    async def prove(self, seq: int) -> str:
        """Return the proof that an entry is in the audit."""

    async def explain(self, model: str, at: str) -> Document:
        """Return what served a model at a time, why, and by whose change."""

    def export(self, by: Author) -> AsyncIterator[bytes]:
        """Yield all entries and checkpoints as JSON lines."""


def list_routes(audit: AuditService) -> list[Route]:
    """Return the routes below ``/admin/v1`` for the audit."""
    calls = _AuditEndpoints(audit)
    table = [
        ("POST", "/audit/verify", calls.verify),
        ("GET", "/audit/keys", calls.keys),
        ("GET", "/audit/checkpoint", calls.checkpoint),
        ("GET", "/audit/proofs/{seq}", calls.prove),
        ("GET", "/audit/export", calls.export),
        ("GET", "/models/{model}/explanation", calls.explain),
    ]
    return build_routes(table)


class _AuditEndpoints:
    """One method for each route."""

    def __init__(self, audit: AuditService) -> None:
        self._audit = audit

    async def verify(self, request: Request) -> Response:
        body = await read_document(request, "checkpoints", "keys")
        checkpoints, keys = body.get("checkpoints", ""), body.get("keys", [])
        if not isinstance(checkpoints, str):
            raise InvalidInput("'checkpoints' must be the text of one or more signed checkpoints")
        if not isinstance(keys, list) or len(keys) > MOST_KEYS or not all(isinstance(key, str) for key in keys):
            raise InvalidInput(f"'keys' must be a list of at most {MOST_KEYS} public keys")
        return AsciiJsonResponse(await self._audit.verify(checkpoints, keys))

    async def keys(self, _: Request) -> Response:
        return AsciiJsonResponse(await self._audit.keys())

    async def checkpoint(self, _: Request) -> Response:
        return PlainTextResponse(await self._audit.checkpoint())

    async def prove(self, request: Request) -> Response:
        text = request.path_params["seq"]
        if not (text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS):
            raise InvalidInput("the number of an entry must be a whole number")
        return PlainTextResponse(await self._audit.prove(int(text)))

    async def export(self, request: Request) -> Response:
        lines = self._audit.export(read_author(request))
        first = await anext(lines)  # a refusal is raised before the response starts
        return StreamingResponse(_chain_streams(first, lines), media_type="application/x-ndjson")

    async def explain(self, request: Request) -> Response:
        at = request.query_params.get("at", "")
        if not at:
            raise InvalidInput("'at' must give the time, such as 2026-11-20T10:00:00Z")
        return AsciiJsonResponse(await self._audit.explain(request.path_params["model"], at))


async def _chain_streams(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
