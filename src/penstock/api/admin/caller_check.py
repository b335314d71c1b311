"""Finds out who sends each request to the ops port: ``scope["caller"]`` is a ``Caller`` for everything behind it."""

import os

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.core.access.callers import ANONYMOUS, OWNER, Caller

ROOT_UID = 0


class CallerCheck:
    """Identifies the callers of an application.

    A process that connects to the owner's socket as the gateway's own user, or as root, is the owner: the kernel notes
    the user of each end of a unix socket (SO_PEERCRED). Every other caller is anonymous.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._owners = frozenset({ROOT_UID, os.geteuid()})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            scope["caller"] = self._identify(scope)
        await self._app(scope, receive, send)

    def _identify(self, scope: Scope) -> Caller:
        peer: tuple[int, int] | None = scope.get("state", {}).get("peer")
        return OWNER if peer is not None and self._is_owner(*peer) else ANONYMOUS

    def _is_owner(self, _pid: int, uid: int) -> bool:
        return uid in self._owners


def caller_of(request: Request) -> Caller:
    """Return who sent a request."""
    caller: Caller = request.scope["caller"]
    return caller
