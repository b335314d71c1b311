"""Encodes header blocks of answers as literals without indexing (RFC 7541 section 6.2.2), so that blocks are
independent.
"""

from typing import Final

STATUS_OK: Final = b"\x88"
"""``:status 200`` in the static table."""


def encode_literal(name: bytes, value: bytes) -> bytes:
    """Return one field."""
    return b"\x00" + _encode_text(name) + _encode_text(value)


def _encode_text(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    rest, parts = size - 127, bytearray((127,))
    while rest >= 128:
        parts.append(rest & 127 | 128)
        rest >>= 7
    parts.append(rest)
    return bytes(parts) + text


def encode_status(code: int) -> bytes:
    """Return ``:status`` with any code."""
    return encode_literal(b":status", str(code).encode())
