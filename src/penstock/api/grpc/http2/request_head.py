"""What the header block of a request says (RFC 9113 section 8.3), and which field lists are no request at all."""

from typing import Final

from penstock.api.grpc.http2.frames import ErrorCode, Http2StreamError

Fields = dict[bytes, bytes]
FieldList = tuple[tuple[bytes, bytes], ...]

_PSEUDO: Final = frozenset({b":method", b":path", b":scheme", b":authority"})
_CONNECTION_SPECIFIC: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)


class RequestHead:
    """A valid request: its method and path, its other fields in order, and by name (of a repeated name, the last).

    Immutable, as one object stands for every request with the same header block. An application may extend it with
    what it reads in the fields, so that this too is read once.
    """

    __slots__ = ("field_list", "fields", "method", "path")

    def __init__(self, method: bytes, path: str, field_list: FieldList) -> None:
        self.method = method
        self.path = path
        self.field_list = field_list
        self.fields: Fields = dict(field_list)


def request_head(fields: list[tuple[bytes, bytes]]) -> RequestHead:
    """The request that a decoded header block describes.

    Raises:
        Http2StreamError: the request is malformed (RFC 9113 section 8.1.1).
    """
    pseudo: Fields = {}
    plain: list[tuple[bytes, bytes]] = []
    for name, value in fields:
        if name[:1] == b":":
            if plain or name in pseudo:
                raise _malformed(f"{name!r} is out of place")
            pseudo[name] = value
        elif name in _CONNECTION_SPECIFIC or not name or name != name.lower():
            raise _malformed(f"{name!r} has no place in HTTP/2")
        else:
            plain.append((name, value))
    path = pseudo.get(b":path", b"")
    if pseudo.keys() - _PSEUDO or not path or b":scheme" not in pseudo:
        raise _malformed("a request has a method, a scheme and a path")
    return RequestHead(pseudo.get(b":method", b""), path.decode("latin-1"), tuple(plain))


def _malformed(reason: str) -> Http2StreamError:
    return Http2StreamError(ErrorCode.PROTOCOL_ERROR, reason)
