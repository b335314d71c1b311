"""What the answers of one connection take: how many are made before their client has taken others, and their memory.

An answer counts from when it is admitted, as large as it is thought to become, until the last of it is on its way. A
stream whose reader has paused counts apart, so that it holds back no other.
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

SPARE_BYTES: Final = 1024
"""Messages up to this size are taken and answered even where no memory is left, so that a worker under load tells its
health; the number of streams bounds them."""

RESERVED_SHARE: Final = 2
"""All answers of a connection together may reserve the worker's memory divided by this; a single one may be larger."""

CONNECTION_SHARE: Final = 2
"""All unfinished requests of a connection together may hold the worker's memory divided by this."""


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
        self._reserved_bytes = 0
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
            if self._may_reserve(stream, size) and self._memory.take(missing):
                stream.reserved_bytes = size
                self._reserved_bytes += missing
            elif size > SPARE_BYTES:
                return False
        if size > stream.answer_bytes:
            self._count(stream, size)
        return True

    def release(self, stream: Stream) -> None:
        """All of a stream's answer is on its way, or nobody wants it any more."""
        if stream.reserved_bytes:
            self._memory.give_back(stream.reserved_bytes)
            self._reserved_bytes -= stream.reserved_bytes
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
        while self._waiting and self._has_room(self._next_size()):
            self._admit_next()

    def admit_regardless(self) -> None:
        """Admit what there is room for, or else as much as if nothing were counted.

        For a client that takes all that is ready: what counts then are long runs and streams that are read slowly, and
        those hold back the others for so long only as is between two calls.
        """
        admitted = 0
        while self._waiting and (not admitted or admitted + self._next_size() <= self._most()):
            admitted += self._next_size()
            self._admit_next()

    def admit_expired(self, stream: Stream) -> bool:
        """Admit an answer that waits although there is no room, as its call is too late to be run; False if it does
        not wait."""
        if self._waiting.pop(stream.id, None) is None:
            return False
        stream.on_admitted()
        return True

    def is_waiting(self, stream: Stream) -> bool:
        """Whether the answer of a stream waits to be admitted."""
        return len(self._waiting) > 0 and stream.id in self._waiting

    def admit_no_more(self) -> None:
        """The connection is gone: whoever still waits is told so by its stream."""
        self._waiting.clear()

    def _next_size(self) -> int:
        return self._waiting[next(iter(self._waiting))][1]

    def _admit_next(self) -> None:
        stream, size = self._waiting.pop(next(iter(self._waiting)))
        self._count(stream, size)
        stream.on_admitted()

    def _may_reserve(self, stream: Stream, size: int) -> bool:
        others = self._reserved_bytes - stream.reserved_bytes
        return others <= 0 or others + size <= self._memory.limit // RESERVED_SHARE

    def _most(self) -> int:
        return min(MAX_MOVING_BYTES, self._memory.limit // SHARE)

    def _has_room(self, size: int) -> bool:
        return self._moving_bytes <= 0 or self._moving_bytes + size <= self._most()

    def _count(self, stream: Stream, size: int) -> None:
        change = size - stream.answer_bytes
        stream.answer_bytes = size
        if self._stalled and stream.id in self._stalled:
            self._stalled_bytes += change
        else:
            self._moving_bytes += change
