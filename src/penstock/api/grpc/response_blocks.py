"""The header blocks and trailers of gRPC's answers."""

from typing import Any, Final

from penstock.api.grpc.http2.header_encoding import STATUS_OK, encode_literal

GRPC: Final = STATUS_OK + encode_literal(b"content-type", b"application/grpc")
"""The beginning of every answer's header block."""

ACCEPTS: Final = encode_literal(b"grpc-accept-encoding", b"identity,gzip,deflate")
OK: Final = encode_literal(b"grpc-status", b"0")
"""The trailers of a successful call."""


def failed_trailers(status: int, message: str) -> bytes:
    """Return the trailers of a failed call."""
    return encode_literal(b"grpc-status", str(status).encode()) + encode_literal(
        b"grpc-message", percent_encode(message)
    )


def percent_encode(text: str) -> bytes:
    """Percent-encode a text as a gRPC status message: everything except printable ASCII, and percent signs."""
    raw = text.encode("utf-8", "replace")
    if raw.isascii() and raw.decode().isprintable() and b"%" not in raw:
        return raw
    return b"".join(bytes((item,)) if 32 <= item < 127 and item != 37 else b"%%%02X" % item for item in raw)


def encode_metadata(pairs: Any) -> bytes:
    """Return metadata of an answer; binary values would need a name in ``-bin``, which is not used here."""
    return b"".join(
        encode_literal(name.encode("ascii"), str(value).encode("latin-1", "replace")) for name, value in pairs
    )
