"""gRPC messages on the wire: a prefix of five bytes, and the message, which may be compressed."""

from io import BytesIO
from typing import Final

from penstock.api.common import compression
from penstock.api.common.compression import DEFLATE, GZIP, NotInflatable
from penstock.api.common.parts import joined
from penstock.core.errors import Internal, OverBudget, Overloaded, TooLarge
from penstock.core.slices import Pause, no_pause

PREFIX: Final = 5
"""Bytes before each message: whether it is compressed, and its length."""

FORMATS: Final = {"gzip": GZIP, "deflate": DEFLATE}
"""What messages may be compressed with, by the names of ``grpc-encoding``."""


def framed(message: bytes) -> bytes:
    """A message with its prefix."""
    return b"\x00" + len(message).to_bytes(4) + message


def compressed(framed_message: bytes, encoding: str, pause: Pause | None) -> bytes:
    """A framed message, compressed and framed anew, or as it is where that hardly makes it smaller.

    ``encoding`` is gzip or deflate. Without a ``pause`` this is the event loop; ``LargeWork`` declines long messages.
    """
    parts = compression.deflated([memoryview(framed_message)[PREFIX:]], FORMATS[encoding], pause)
    if parts is None:
        return framed_message
    size = sum(map(len, parts))
    return joined([b"\x01" + size.to_bytes(4), *parts], pause or no_pause)


class MessageBuffer:
    """The data of a unary call as it comes; it is copied once, when it comes, and not again."""

    __slots__ = ("_first", "_rest")

    def __init__(self) -> None:
        self._first = b""
        self._rest: BytesIO | None = None  # all but the prefix, once there is more than one piece

    def add(self, data: bytes) -> None:
        """The next piece."""
        if self._rest is not None:
            self._rest.write(data)
        elif len(self._first) < PREFIX:
            self._first += data
        else:
            self._rest = BytesIO()
            self._rest.write(memoryview(self._first)[PREFIX:])
            self._rest.write(data)
            self._first = self._first[:PREFIX]

    def message(self, encoding: str, max_bytes: int, pause: Pause | None) -> bytes:
        """The one message of the call. Without a ``pause`` this is the event loop.

        Raises:
            Internal: there is none, or more than one, or it is not as it says.
            TooLarge: it is longer than ``max_bytes`` when inflated.
            LargeWork: it has to be inflated on a thread.
        """
        first = self._first
        data = first[PREFIX:] if self._rest is None else self._rest.getvalue()  # the buffer itself
        if len(first) < PREFIX or int.from_bytes(first[1:PREFIX]) != len(data) or first[0] > 1:
            raise Internal("the call does not bring exactly one message")
        return inflated(data, encoding, max_bytes, pause) if first[0] else data


class MessageReader:
    """Cuts messages out of the data of a call, one whenever somebody asks."""

    __slots__ = ("_data", "_max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._data = bytearray()
        self._max_bytes = max_bytes

    def __len__(self) -> int:
        """Bytes of data that no message was made of yet."""
        return len(self._data)

    @property
    def has_message(self) -> bool:
        """Whether ``next`` would give a message, or refuse it."""
        data = self._data
        return len(data) >= PREFIX and len(data) >= PREFIX + min(self._max_bytes, int.from_bytes(data[1:PREFIX]))

    def feed(self, data: bytes) -> None:
        """Add data that has come."""
        self._data += data

    def next(self) -> tuple[bool, bytes] | None:
        """The next message, and whether it is compressed; None while it is not whole.

        Raises:
            Internal: it is not as it says.
            TooLarge: it is longer than a message may be.
        """
        data = self._data
        if len(data) < PREFIX:
            return None
        flag, stop = data[0], PREFIX + int.from_bytes(data[1:PREFIX])
        if flag > 1:
            raise Internal("a message begins with an unknown flag")
        if stop > self._max_bytes + PREFIX:
            raise too_large(self._max_bytes)
        if len(data) < stop:
            return None
        with memoryview(data) as view:
            message = bytes(view[PREFIX:stop])
        del data[:stop]
        return flag == 1, message


def inflated(data: bytes, encoding: str, max_bytes: int, pause: Pause | None) -> bytes:
    """A compressed message; raises as ``MessageBuffer.message`` does."""
    if encoding not in FORMATS:
        raise Internal("the message is compressed, and the call does not say how")
    try:
        return compression.inflated(
            data, FORMATS[encoding], too_large(max_bytes), max_bytes, members=False, pause=pause
        )
    except NotInflatable:
        raise Internal(f"the message is no {encoding} data") from None


def too_large(max_bytes: int) -> TooLarge:
    """A message is longer than it may be."""
    return TooLarge(f"the message is over the limit of {max_bytes} bytes")


def no_memory() -> OverBudget:
    """There is no memory for an answer that is made."""
    return OverBudget("there is no memory to keep the answer until its client takes it; try again later")


def too_much() -> Overloaded:
    """All unfinished messages together are longer than they may be."""
    return Overloaded("too many large messages are under way; send fewer at a time")
