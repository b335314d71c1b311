"""Header blocks of answers: literals without indexing (RFC 7541 section 6.2.2), so that none depends on another."""

from typing import Final

STATUS_OK: Final = b"\x88"
"""``:status 200``, of the static table."""


def literal(name: bytes, value: bytes) -> bytes:
    """One field."""
    return b"\x00" + _text(name) + _text(value)


def _text(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    rest, parts = size - 127, bytearray((127,))
    while rest >= 128:
        parts.append(rest & 127 | 128)
        rest >>= 7
    parts.append(rest)
    return bytes(parts) + text


def status(code: int) -> bytes:
    """``:status`` with any code."""
    return literal(b":status", str(code).encode())
