"""One call on an HTTP/2 connection: what arrives of it, and what is still to be sent, as far as windows allow."""

import asyncio
from typing import TYPE_CHECKING, Final
from zlib import MAX_WBITS, decompressobj, error

from penstock.api.grpc.http2.header_cache import Head
from penstock.core.errors import Internal, Overloaded, TooLarge

if TYPE_CHECKING:
    from penstock.api.grpc.http2.connection import Connection

PREFIX: Final = 5
"""Bytes before each message: whether it is compressed, and its length."""

_WBITS: Final = {"gzip": 16 + MAX_WBITS, "deflate": MAX_WBITS}


class Stream:
    """One call; a kind of call says what becomes of its messages. Times are ``time.monotonic_ns``."""

    __slots__ = (
        "began_ns",
        "chunks",
        "connection",
        "credit",
        "ended",
        "head",
        "id",
        "let_out",
        "over",
        "patient",
        "size",
        "unsent",
        "waits_since_ns",
        "window",
    )

    def __init__(self, connection: "Connection", number: int, head: Head, window: int, began_ns: int) -> None:
        self.connection = connection
        self.id = number
        self.head = head
        self.window = window
        self.began_ns = began_ns
        self.chunks: list[bytes] = []
        self.size = 0  # bytes in ``chunks``
        self.credit = 0  # bytes that came and that the peer may send anew
        self.ended = False  # the peer has said all
        self.over = False  # nobody is to hear anything more
        self.patient = False  # its request may take as long as it likes to be whole
        # parts that wait for room, and whether each is data
        self.unsent: list[tuple[bytes | memoryview, bool]] = []
        self.waits_since_ns = 0
        self.let_out: asyncio.Event | None = None  # set once nothing waits any more

    def arrived(self, data: bytes) -> None:
        """Some more of the request."""
        raise NotImplementedError

    def complete(self) -> None:
        """The request is whole."""
        raise NotImplementedError

    def broken_off(self) -> None:
        """The peer has gone or given up: stop, and count."""
        raise NotImplementedError


def message_of(raw: bytes, encoding: str, most: int) -> bytes:
    """The one message of a unary call.

    Raises:
        Internal: there is none, or more than one, or it is not as it says.
        TooLarge: it is longer than ``most`` bytes when inflated.
    """
    if len(raw) < PREFIX or int.from_bytes(raw[1:PREFIX]) != len(raw) - PREFIX or raw[0] > 1:
        raise Internal("the call does not bring exactly one message")
    return inflated(raw[PREFIX:], encoding, most) if raw[0] else raw[PREFIX:]


def inflated(data: bytes, encoding: str, most: int) -> bytes:
    """A compressed message; raises as ``message_of`` does."""
    if encoding not in _WBITS:
        raise Internal("the message is compressed, and the call does not say how")
    inflater = decompressobj(_WBITS[encoding])
    try:
        plain = inflater.decompress(data, most + 1)
    except error:
        raise Internal(f"the message is no {encoding} data") from None
    if len(plain) > most:
        raise TooLarge(f"the message is over the limit of {most} bytes")
    if not inflater.eof or inflater.unused_data:
        raise Internal(f"the message is no {encoding} data")
    return plain


def too_large(most: int) -> TooLarge:
    """A message is longer than it may be."""
    return TooLarge(f"the message is over the limit of {most} bytes")


def too_much() -> Overloaded:
    """All messages of a connection together are longer than they may be."""
    return Overloaded("too many large messages are under way on this connection; send fewer at a time")
