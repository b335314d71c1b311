"""The cookie that holds the id of a browser's session, as fields of requests and responses."""

from collections.abc import Sequence
from typing import Final

from starlette.types import Scope

NAME: Final = "penstock-session"
SECURE_NAME: Final = f"__Host-{NAME}"
"""The name where the browser came by TLS: it is then set by no other host and by no plain connection (RFC 6265bis)."""

CSRF_FIELD: Final = b"penstock-csrf"
"""The header field by which changes prove that a page of the console makes them."""

Fields = Sequence[tuple[bytes, bytes]]


def find_session_ids(scope: Scope) -> list[str]:
    """Return the ids of sessions in a request, those of the secure name first.

    Over TLS the other name does not count: another host of the same domain, or whoever answers on a plain connection,
    can set a cookie of that name, and so put a browser into a session of theirs.
    """
    fields: Fields = scope["headers"]
    pairs = [
        item.strip().partition(b"=")[::2] for name, value in fields if name == b"cookie" for item in value.split(b";")
    ]
    wanted = (SECURE_NAME.encode(), *(() if is_secure(scope) else (NAME.encode(),)))
    return [value.decode("latin-1") for name in wanted for key, value in pairs if key == name]


def set_cookie(scope: Scope, session_id: str) -> str:
    """Return the field ``set-cookie`` of a new session. Scripts cannot read it, other sites do not send it, and it ends
    with the browser."""
    rest = "Path=/; HttpOnly; SameSite=Strict"
    if is_secure(scope):
        return f"{SECURE_NAME}={session_id}; {rest}; Secure"
    return f"{NAME}={session_id}; {rest}"


def clear_cookies() -> list[str]:
    """Return the fields ``set-cookie`` that remove the cookie of either name."""
    rest = "Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
    return [f"{NAME}=; {rest}", f"{SECURE_NAME}=; {rest}; Secure"]


def is_secure(scope: Scope) -> bool:
    """Whether the browser came by TLS: to this port, or to a proxy that says so. A client that lies about it only keeps
    its own cookie from plain connections."""
    forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
    return scope.get("scheme") == "https" or forwarded == [b"https"]
