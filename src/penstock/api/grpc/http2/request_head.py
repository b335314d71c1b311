"""Validates the header block of a request (RFC 9113 section 8.3)."""

import re
from typing import Final

from penstock.api.grpc.http2.frames import ErrorCode, Http2StreamError

Fields = dict[bytes, bytes]
Field = tuple[bytes, bytes]
FieldList = tuple[Field, ...]

NO_LENGTH: Final = -1
"""The ``content_length`` of a request without one."""

MAX_LENGTH_DIGITS: Final = 18
_PSEUDO: Final = frozenset({b":method", b":path", b":scheme", b":authority"})
_CONNECTION_SPECIFIC: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_NAME: Final = re.compile(rb"[!-9;-@\[-~]+")
"""Visible ASCII without capitals and colons (RFC 9113 section 8.2.1)."""

_BAD_VALUE: Final = re.compile(rb"[\0\r\n]")


class Http2RequestHead:
    """A valid request: its method and path, its other fields in order, and by name (of a repeated name, the last).

    ``authority`` is the host and port that the request is for: ``:authority``, else ``host``, "" without both.
    ``content_length`` is in bytes, ``NO_LENGTH`` if none is stated. Of a request whose field list is over the limit,
    ``too_large`` is set, and only the pseudo-header fields and the content type are kept.

    Immutable, as one object stands for every request with the same header block. An application may extend it with
    what it reads in the fields, so that this too is read once.
    """

    __slots__ = ("authority", "content_length", "field_list", "fields", "method", "path", "too_large")

    def __init__(
        self,
        method: bytes,
        path: str,
        field_list: FieldList,
        content_length: int = NO_LENGTH,
        too_large: bool = False,
        authority: bytes = b"",
    ) -> None:
        self.method = method
        self.path = path
        self.field_list = field_list
        self.fields: Fields = dict(field_list)
        self.content_length = content_length
        self.too_large = too_large
        self.authority = authority


def request_head(fields: list[Field], too_large: bool = False) -> Http2RequestHead:
    """Return the request in a decoded header block.

    Raises:
        Http2StreamError: the request is malformed (RFC 9113 section 8.1.1).
    """
    pseudo, plain = _split_fields(fields)
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if pseudo.keys() - _PSEUDO or (not too_large and not _has_target(method, pseudo)):
        raise malformed_request("a request has a method, a scheme and a path")
    authority = _find_authority(pseudo, plain)
    return Http2RequestHead(method, path.decode("latin-1"), tuple(plain), _content_length(plain), too_large, authority)


def _has_target(method: bytes, pseudo: Fields) -> bool:
    if method == b"CONNECT":  # a tunnel has no scheme and no path
        return b":authority" in pseudo and b":path" not in pseudo and b":scheme" not in pseudo
    return method != b"" and b":scheme" in pseudo and pseudo.get(b":path", b"") != b""


def _find_authority(pseudo: Fields, plain: list[Field]) -> bytes:
    """Return the host and port that a request is for; it may state them twice, but not differently."""
    stated = {value for name, value in plain if name == b"host"}
    stated.update([pseudo[b":authority"]] if b":authority" in pseudo else [])
    if len(stated) > 1:
        raise malformed_request("the fields :authority and host differ")
    if b"" in stated:
        raise malformed_request("the host is empty")  # RFC 9110 section 4.2.1
    return stated.pop() if stated else b""


def check_trailers(fields: list[Field]) -> None:
    """Raise ``Http2StreamError`` if these cannot be the trailers of a request."""
    pseudo, _ = _split_fields(fields)
    if pseudo:
        raise malformed_request("there are pseudo-header fields in the trailers")


def _split_fields(fields: list[Field]) -> tuple[Fields, list[Field]]:
    """Return the pseudo-header fields, and the others with trimmed values."""
    pseudo: Fields = {}
    plain: list[Field] = []
    for name, value in fields:
        if _BAD_VALUE.search(value):
            raise malformed_request(f"the value of {name!r} has an invalid character")
        if name[:1] == b":":
            if plain or name in pseudo:
                raise malformed_request(f"{name!r} is out of place")
            pseudo[name] = value
        else:
            plain.append((name, _check_value(name, value)))
    return pseudo, plain


def _check_value(name: bytes, value: bytes) -> bytes:
    """Return the value of a field without surrounding white space, which gRPC allows servers to strip."""
    if not _NAME.fullmatch(name):
        raise malformed_request(f"{name!r} is not a field name")
    value = value.strip(b" \t")
    if name in _CONNECTION_SPECIFIC or (name == b"te" and value.lower() != b"trailers"):
        raise malformed_request(f"{name!r} is not allowed in HTTP/2")
    return value


def _content_length(fields: list[Field]) -> int:
    stated = {value for name, value in fields if name == b"content-length"}
    if not stated:
        return NO_LENGTH
    value = stated.pop()
    if stated or not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
        raise malformed_request("the content length is not a number")
    return int(value)


def malformed_request(reason: str) -> Http2StreamError:
    """Return the error of a request that breaks a rule of HTTP (RFC 9113 section 8.1.1)."""
    return Http2StreamError(ErrorCode.PROTOCOL_ERROR, reason)
