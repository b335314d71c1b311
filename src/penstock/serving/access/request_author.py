"""Who asked for a change of the server, as the audit records it."""

from typing import TypedDict

from penstock.core.access.callers import Caller


class RequestAuthor(TypedDict):
    """The caller of a request: the name, how it is known (``CallerKind``), and the id of the API key; the address of
    the client, and the id of the request."""

    actor: str
    method: str
    key_id: str
    address: str
    request_id: str


def author_of(caller: Caller, peer: object, request_id: str = "") -> RequestAuthor:
    """Return the author of a request from a client with this socket address."""
    address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
    return RequestAuthor(
        actor=caller.name, method=caller.kind.value, key_id=caller.key_id, address=address, request_id=request_id
    )
