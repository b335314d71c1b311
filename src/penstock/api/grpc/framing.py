"""gRPC messages on the wire: a prefix of five bytes, and the message, which may be compressed."""

from collections.abc import Callable
from functools import partial
from gzip import compress as _gzip
from typing import Final
from zlib import MAX_WBITS, decompressobj, error
from zlib import compress as _deflate

from penstock.core.errors import Internal, Overloaded, TooLarge

PREFIX: Final = 5
"""Bytes before each message: whether it is compressed, and its length."""

_WBITS: Final = {"gzip": 16 + MAX_WBITS, "deflate": MAX_WBITS}
_COMPRESSORS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": partial(_gzip, compresslevel=1),
    "deflate": _deflate,
}


def framed(message: bytes) -> bytes:
    """A message with its prefix."""
    return b"\x00" + len(message).to_bytes(4) + message


def compressed(framed_message: bytes, encoding: str) -> bytes:
    """A framed message, compressed and framed anew; ``encoding`` is gzip or deflate."""
    small = _COMPRESSORS[encoding](framed_message[PREFIX:])
    return b"\x01" + len(small).to_bytes(4) + small


def unary_message(raw: bytes, encoding: str, max_bytes: int) -> bytes:
    """The one message of a unary call.

    Raises:
        Internal: there is none, or more than one, or it is not as it says.
        TooLarge: it is longer than ``max_bytes`` when inflated.
    """
    if len(raw) < PREFIX or int.from_bytes(raw[1:PREFIX]) != len(raw) - PREFIX or raw[0] > 1:
        raise Internal("the call does not bring exactly one message")
    return inflated(raw[PREFIX:], encoding, max_bytes) if raw[0] else raw[PREFIX:]


def inflated(data: bytes, encoding: str, max_bytes: int) -> bytes:
    """A compressed message; raises as ``unary_message`` does."""
    if encoding not in _WBITS:
        raise Internal("the message is compressed, and the call does not say how")
    inflater = decompressobj(_WBITS[encoding])
    try:
        plain = inflater.decompress(data, max_bytes + 1)
    except error:
        raise Internal(f"the message is no {encoding} data") from None
    if len(plain) > max_bytes:
        raise too_large(max_bytes)
    if not inflater.eof or inflater.unused_data:
        raise Internal(f"the message is no {encoding} data")
    return plain


def too_large(max_bytes: int) -> TooLarge:
    """A message is longer than it may be."""
    return TooLarge(f"the message is over the limit of {max_bytes} bytes")


def too_much() -> Overloaded:
    """All unfinished messages together are longer than they may be."""
    return Overloaded("too many large messages are under way; send fewer at a time")
