"""gRPC messages on the wire: a prefix of five bytes, then the message, which may be compressed."""

from io import BytesIO
from typing import Final

from penstock.api.common import compression
from penstock.api.common.compression import DEFLATE, GZIP, NotInflatable
from penstock.api.common.parts import Parts, Payload, merge_small
from penstock.core.errors import Internal, OverBudget, Overloaded, TooLarge
from penstock.core.slices import PauseWork

PREFIX: Final = 5
"""Bytes before each message: whether it is compressed, and its length."""

LARGE: Final = 1 << 16
"""Minimum bytes of a message that is not copied when it is complete."""

FORMATS: Final = {"gzip": GZIP, "deflate": DEFLATE}
"""Compressions of messages, by the names of ``grpc-encoding``."""


def in_parts(parts: Parts, size: int) -> Payload:
    """Return parts of ``size`` bytes in all, joined unless they are large."""
    return b"".join(parts) if size < LARGE else merge_small(parts)


def without_prefix(message: Payload) -> Parts:
    """Return the parts of one framed message without its prefix."""
    if isinstance(message, bytes):
        return (memoryview(message)[PREFIX:],)
    return (memoryview(message[0])[PREFIX:], *message[1:])


def add_prefix(message: bytes) -> bytes:
    """Return a message with its prefix."""
    return b"\x00" + len(message).to_bytes(4) + message


def compress(message: Payload, encoding: str, pause: PauseWork | None) -> Payload:
    """Compress a framed message; return it unchanged if that hardly makes it smaller. ``encoding`` is gzip or deflate.

    ``encoding`` is gzip or deflate. Without a ``pause`` this is the event loop; ``LargeWork`` declines long messages.
    """
    parts = compression.deflate(without_prefix(message), FORMATS[encoding], pause)
    if parts is None:
        return message
    size = sum(map(len, parts))
    return in_parts([b"\x01" + size.to_bytes(4), *parts], size)


class MessageBuffer:
    """Buffers the data of a unary call; copies it once."""

    __slots__ = ("_first", "_rest")

    def __init__(self) -> None:
        self._first = b""
        self._rest: BytesIO | None = None  # all but the prefix, once there is more than one piece

    def add(self, data: bytes) -> None:
        """Add the next piece."""
        if self._rest is not None:
            self._rest.write(data)
        elif len(self._first) < PREFIX:
            self._first += data
        else:
            self._rest = BytesIO()
            self._rest.write(memoryview(self._first)[PREFIX:])
            self._rest.write(data)
            self._first = self._first[:PREFIX]

    def message(self, encoding: str, max_bytes: int, pause: PauseWork | None) -> bytes:
        """Return the only message of the call. Without a ``pause``, the caller is the event loop.

        Raises:
            Internal: there is none, or more than one, or it is not as it says.
            TooLarge: it is longer than ``max_bytes`` when inflated.
            LargeWork: it has to be inflated on a thread.
        """
        first = self._first
        data = first[PREFIX:] if self._rest is None else self._rest.getvalue()  # the buffer itself
        if len(first) < PREFIX or _read_length(first) != len(data) or first[0] > 1:
            raise Internal("the call must have exactly one message")
        return inflate(data, encoding, max_bytes, pause) if first[0] else data

    def clear(self) -> None:
        """Drop all data."""
        self._first, self._rest = b"", None


def _read_length(prefix: bytes) -> int:
    """Return the length in a message's prefix."""
    return prefix[1] << 24 | prefix[2] << 16 | prefix[3] << 8 | prefix[4]


class MessageReader:
    """Extracts messages from the data of a call.

    A large message has its own buffer, so that it is not copied when it is complete.
    """

    __slots__ = ("_data", "_flag", "_large", "_left", "_max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._data = bytearray()  # all data, or what follows the large message
        self._large: BytesIO | None = None
        self._left = 0  # missing bytes of the large message
        self._flag = 0  # of the large message
        self._max_bytes = max_bytes

    def __len__(self) -> int:
        """Return the bytes that no message was extracted from yet."""
        return len(self._data) + (0 if self._large is None else PREFIX + self._large.tell())

    @property
    def has_message(self) -> bool:
        """Whether ``next`` would return a message or refuse it."""
        if self._large is not None:
            return not self._left
        data = self._data
        return len(data) >= PREFIX and len(data) >= PREFIX + min(self._max_bytes, int.from_bytes(data[1:PREFIX]))

    def feed(self, data: bytes) -> None:
        """Add received data."""
        if self._large is not None and self._left:
            taken = min(self._left, len(data))
            self._large.write(memoryview(data)[:taken])
            self._left -= taken
            data = data[taken:]
        self._data += data
        self._begin_large()

    def _begin_large(self) -> None:
        """Allocate a buffer for the next message if it is large."""
        data = self._data
        if self._large is not None or len(data) < PREFIX or data[0] > 1:
            return
        size = int.from_bytes(data[1:PREFIX])
        if LARGE <= size <= self._max_bytes:
            stop = min(len(data), PREFIX + size)
            self._large = BytesIO()
            self._large.write(bytes(data[PREFIX:stop]))
            self._left = PREFIX + size - stop
            self._flag = data[0]
            del data[:stop]

    def next(self) -> tuple[bool, bytes] | None:
        """Return the next message, and whether it is compressed; None while it is incomplete.

        Raises:
            Internal: it is not as it says.
            TooLarge: it is longer than a message may be.
        """
        if self._large is not None:
            return None if self._left else self._next_large(self._large)
        data = self._data
        if len(data) < PREFIX:
            return None
        flag, stop = data[0], PREFIX + int.from_bytes(data[1:PREFIX])
        if flag > 1:
            raise Internal("a message begins with an unknown flag")
        if stop > self._max_bytes + PREFIX:
            raise message_too_large(self._max_bytes)
        if len(data) < stop:
            return None
        with memoryview(data) as view:
            message = bytes(view[PREFIX:stop])
        del data[:stop]
        self._begin_large()
        return flag == 1, message

    def _next_large(self, large: BytesIO) -> tuple[bool, bytes]:
        message = self._flag == 1, large.getvalue()  # the buffer itself
        self._large = None
        self._begin_large()
        return message


def inflate(data: bytes, encoding: str, max_bytes: int, pause: PauseWork | None) -> bytes:
    """Inflate a compressed message; raises the errors of ``MessageBuffer.message``."""
    if encoding not in FORMATS:
        raise Internal("the message is compressed, but the call has no grpc-encoding")
    try:
        return compression.inflate(
            data, FORMATS[encoding], message_too_large(max_bytes), max_bytes, members=False, pause=pause
        )
    except NotInflatable:
        raise Internal(f"the message is not {encoding} data") from None


def message_too_large(max_bytes: int) -> TooLarge:
    """Return the error of a message that is too large."""
    return TooLarge(f"the message is over the limit of {max_bytes} bytes; send less at a time")


def no_memory() -> OverBudget:
    """Return the error of an answer that does not fit into memory."""
    return OverBudget("the server has no memory left for the answer; try again later")


def messages_too_large() -> Overloaded:
    """Return the error of incomplete messages that are too large together."""
    return Overloaded("the server receives too many large messages at the same time; send fewer at a time")
