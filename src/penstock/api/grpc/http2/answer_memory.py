"""What the answers of one connection take: how many are made before their client has taken others, and their memory.

An answer counts from when it is admitted, as large as it is thought to become, until the last of it is on its way. The
answers of a stream whose reader has paused count apart, so that they hold back no others.
"""

from typing import Final, Protocol

from penstock.api.grpc.http2.stream import Stream

SMALL_BYTES: Final = 16 << 10
"""Answers up to this size are admitted at once: the number of streams bounds them."""

MAX_MOVING_BYTES: Final = 32 << 20
"""Answers that a client is taking, or that are made for it; a single one may be larger."""

MAX_STALLED_BYTES: Final = 64 << 20
"""Answers whose readers have paused."""

SHARE: Final = 4
"""Neither may be more than the worker's memory divided by this."""


class Memory(Protocol):
    """The worker's memory budget."""

    limit: int

    def take(self, size: int) -> bool:
        """Reserve bytes; False, with nothing reserved, where they do not fit."""

    def give_back(self, size: int) -> None:
        """Return bytes."""


class AnswerMemory:
    """The accounts of one connection. Sizes are in bytes."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._moving_bytes = 0
        self._stalled_bytes = 0
        self._stalled: dict[int, Stream] = {}
        self._waiting: dict[int, tuple[Stream, int]] = {}

    def admit(self, stream: Stream, size: int) -> bool:
        """Whether an answer of about ``size`` bytes may be made now; if not, ``on_admitted`` is called when it may."""
        if size <= SMALL_BYTES:
            return True
        if self._waiting or not self._has_room(size):
            self._waiting[stream.id] = stream, size
            return False
        self._count(stream, size)
        return True

    def reserve(self, stream: Stream, size: int) -> bool:
        """Take memory for an answer, or more of it, that has ``size`` bytes which are not sent; False if there is
        none left."""
        missing = size - stream.reserved_bytes
        if missing > 0:
            if not self._memory.take(missing):
                return False
            stream.reserved_bytes = size
        if size > stream.answer_bytes:
            self._count(stream, size)
        return True

    def release(self, stream: Stream) -> None:
        """All of a stream's answer is on its way, or nobody wants it any more."""
        if stream.reserved_bytes:
            self._memory.give_back(stream.reserved_bytes)
            stream.reserved_bytes = 0
        if self._waiting:
            self._waiting.pop(stream.id, None)
        if stream.answer_bytes:
            self._count(stream, 0)
            self.resume(stream)
            if self._waiting:
                self.admit_waiting()

    def stall(self, stream: Stream) -> None:
        """The reader of a stream has paused."""
        if stream.id not in self._stalled:
            self._stalled[stream.id] = stream
            self._moving_bytes -= stream.answer_bytes
            self._stalled_bytes += stream.answer_bytes

    def resume(self, stream: Stream) -> None:
        """The reader of a stream goes on, if it had paused."""
        if self._stalled and self._stalled.pop(stream.id, None) is not None:
            self._stalled_bytes -= stream.answer_bytes
            self._moving_bytes += stream.answer_bytes

    def youngest_over_limit(self) -> Stream | None:
        """The youngest stalled stream, if these hold more than they may."""
        if self._stalled_bytes <= min(MAX_STALLED_BYTES, self._memory.limit // SHARE) or not self._stalled:
            return None
        return self._stalled[max(self._stalled)]

    def admit_waiting(self) -> None:
        """Admit the answers that there is room for now, in the order in which they were asked for."""
        while self._waiting:
            number = next(iter(self._waiting))
            stream, size = self._waiting[number]
            if not self._has_room(size):
                return
            del self._waiting[number]
            self._count(stream, size)
            stream.on_admitted()

    def admit_no_more(self) -> None:
        """The connection is gone: whoever still waits is told so by its stream."""
        self._waiting.clear()

    def _has_room(self, size: int) -> bool:
        most = min(MAX_MOVING_BYTES, self._memory.limit // SHARE)
        return self._moving_bytes <= 0 or self._moving_bytes + size <= most

    def _count(self, stream: Stream, size: int) -> None:
        change = size - stream.answer_bytes
        stream.answer_bytes = size
        if self._stalled and stream.id in self._stalled:
            self._stalled_bytes += change
        else:
            self._moving_bytes += change
