"""Cross-origin requests of browsers (the CORS protocol of the Fetch standard): off unless origins are named.

Answers carry no permission for credentials: callers authenticate by a field that their page sets itself.
"""

from collections.abc import Mapping, Sequence
from typing import Final

ANY: Final = "*"
MAX_AGE_S: Final = 600
"""Seconds that a browser may cache a permission."""

EXPOSED: Final = "inference-header-content-length, penstock-model-version, penstock-route, retry-after, x-request-id"
"""Fields of answers that pages may read, in addition to those that they always may."""

Fields = Mapping[bytes, bytes]


class CorsPolicy:
    """The permissions of pages of the ``origins``; ``*`` stands for any origin."""

    def __init__(self, origins: Sequence[str] = ()) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._takes_any = ANY in origins

    def answer_lines(self, fields: Fields) -> bytes:
        """Return the lines that allow the page to read the answer; none without an allowed origin."""
        origin = fields.get(b"origin")
        if origin is None or not self._origins:
            return b""
        if not self._allows(origin):
            return b"vary: origin\r\n"
        return b"%baccess-control-expose-headers: %b\r\n" % (self._allowed_origin(origin), EXPOSED.encode())

    def preflight_lines(self, fields: Fields) -> bytes | None:
        """Return the lines that answer a preflight request; None if it is not one.

        Without the lines that allow it, the browser does not send the request.
        """
        origin = fields.get(b"origin")
        if origin is None or b"access-control-request-method" not in fields or not self._origins:
            return None
        if not self._allows(origin):
            return b"vary: origin\r\n"
        asked = fields.get(b"access-control-request-headers", b"")
        allowed = b"access-control-allow-headers: %b\r\n" % asked if asked else b""
        return b"%baccess-control-allow-methods: GET, HEAD, POST\r\n%baccess-control-max-age: %d\r\n" % (
            self._allowed_origin(origin),
            allowed,
            MAX_AGE_S,
        )

    def _allows(self, origin: bytes) -> bool:
        return self._takes_any or origin in self._origins

    def _allowed_origin(self, origin: bytes) -> bytes:
        if self._takes_any:
            return b"access-control-allow-origin: *\r\n"
        return b"access-control-allow-origin: %b\r\nvary: origin\r\n" % origin
