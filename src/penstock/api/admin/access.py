"""The admin API for access: who the caller is, and API keys."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.admin.answers import AsciiJsonResponse, build_routes
from penstock.api.admin.caller_check import OpsAuthenticator, RefusalSink, caller_of
from penstock.api.admin.incoming import read_author, read_document
from penstock.control.access.sessions import Sessions
from penstock.core.access.callers import Caller
from penstock.core.access.permissions import find_roles
from penstock.registry.records import Author

Document = dict[str, Any]


class KeyService(Protocol):
    """API keys as the admin API uses them; every call may raise a ``Fault``."""

    async def list_keys(self, caller: Caller) -> list[Document]:
        """Return the keys whose models the caller administers."""

    async def create(self, values: Document, by: Author, caller: Caller) -> Document:
        """Make a key; return it with its text, this once."""

    async def rotate(self, name: str, values: Document, by: Author, caller: Caller) -> Document:
        """Replace the keys of a name by a new one; return it with its text, this once."""

    async def revoke(self, name: str, by: Author, caller: Caller) -> list[Document]:
        """Revoke a key by its id, or all keys of a name; return them."""


@dataclass(frozen=True, slots=True)
class AccessApi:
    """What decides who may use the ops port: ``keys`` administers API keys, ``authenticator`` knows callers (None:
    there is no authentication), ``refusals`` counts, and ``sessions`` are those of browsers that have signed in."""

    keys: KeyService
    authenticator: OpsAuthenticator | None = None
    refusals: RefusalSink | None = None
    sessions: Sessions = field(default_factory=Sessions)


def list_routes(keys: KeyService) -> list[Route]:
    """Return the routes below ``/admin/v1`` for access."""
    calls = _AccessCalls(keys)
    table = [
        ("GET", "/whoami", calls.whoami),
        ("GET", "/keys", calls.list_keys),
        ("POST", "/keys", calls.create),
        ("DELETE", "/keys/{name}", calls.revoke),
        ("POST", "/keys/{name}/rotate", calls.rotate),
    ]
    return build_routes(table)


class _AccessCalls:
    """One method for each route."""

    def __init__(self, keys: KeyService) -> None:
        self._keys = keys

    async def whoami(self, request: Request) -> Response:
        return AsciiJsonResponse(caller_document(caller_of(request)))

    async def list_keys(self, request: Request) -> Response:
        return AsciiJsonResponse({"keys": await self._keys.list_keys(caller_of(request))})

    async def create(self, request: Request) -> Response:
        body = await read_document(request, "name", "roles", "models", "expires_days", "quota", "reason")
        made = await self._keys.create(body, read_author(request, body), caller_of(request))
        return AsciiJsonResponse(made, 201)

    async def rotate(self, request: Request) -> Response:
        body = await read_document(request, "overlap_seconds", "expires_days", "reason")
        name, author = request.path_params["name"], read_author(request, body)
        return AsciiJsonResponse(await self._keys.rotate(name, body, author, caller_of(request)), 201)

    async def revoke(self, request: Request) -> Response:
        author = read_author(request, await read_document(request, "reason"))
        revoked = await self._keys.revoke(request.path_params["name"], author, caller_of(request))
        return AsciiJsonResponse({"revoked": revoked})


def caller_document(caller: Caller) -> Document:
    """Return a caller as the admin API shows it: its name, how that is known, and what it may do with which models."""
    return {
        "name": caller.name,
        "method": caller.kind.value,
        "key_id": caller.key_id,
        "groups": sorted(caller.groups),
        "expires_at": caller.expires_at,
        "grants": [
            {
                "models": grant.pattern,
                "roles": list(find_roles(grant.permissions)),
                "permissions": sorted(permission.value for permission in grant.permissions),
            }
            for grant in caller.grants
        ],
    }
