"""The header blocks and trailers of gRPC's answers."""

from typing import Any, Final

from penstock.api.grpc.http2.header_encoding import STATUS_OK, literal

GRPC: Final = STATUS_OK + literal(b"content-type", b"application/grpc")
"""What every answer's header block begins with."""

ACCEPTS: Final = literal(b"grpc-accept-encoding", b"identity,gzip,deflate")
OK: Final = literal(b"grpc-status", b"0")
"""The trailers of a call that went well."""


def failed_trailers(status: int, message: str) -> bytes:
    """The trailers of a call that did not go well."""
    return literal(b"grpc-status", str(status).encode()) + literal(b"grpc-message", percent(message))


def percent(text: str) -> bytes:
    """A text as gRPC's status messages are written: what is not printable ASCII, and per cent signs, encoded."""
    raw = text.encode("utf-8", "replace")
    if raw.isascii() and raw.decode().isprintable() and b"%" not in raw:
        return raw
    return b"".join(bytes((item,)) if 32 <= item < 127 and item != 37 else b"%%%02X" % item for item in raw)


def metadata(pairs: Any) -> bytes:
    """Metadata of an answer; what is no text is of a name in ``-bin``, which nobody here sends."""
    return b"".join(literal(name.encode("ascii"), str(value).encode("latin-1", "replace")) for name, value in pairs)
