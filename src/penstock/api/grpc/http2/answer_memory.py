"""The memory of the answers of one connection, and the admission of new ones until earlier ones are read.

An answer counts with its estimated size from its admission until its last byte is sent. Streams whose readers have
paused count separately, so that they do not hold up others.
"""

from typing import Final, Protocol

from penstock.api.grpc.http2.stream import Http2Stream

SMALL_BYTES: Final = 16 << 10
"""Answers up to this size are always admitted; the number of streams limits them."""

MAX_MOVING_BYTES: Final = 32 << 20
"""Limit of answers that are being made or read; a single one may be larger."""

MAX_STALLED_BYTES: Final = 64 << 20
"""Limit of answers whose readers have paused."""

SHARE: Final = 4
"""Each limit is at most the worker's memory divided by this."""

SPARE_BYTES: Final = 1024
"""Messages up to this size are read and answered even without free memory, so that health checks work under load; the
number of streams limits them."""

RESERVED_SHARE: Final = 2
"""Limit of all answers of a connection: the worker's memory divided by this; a single one may be larger."""

CONNECTION_SHARE: Final = 2
"""Limit of all incomplete requests of a connection: the worker's memory divided by this."""


class MemoryLimit(Protocol):
    """The worker's memory budget."""

    limit: int

    def take(self, size: int) -> bool:
        """Reserve bytes; return False, with nothing reserved, if they do not fit."""

    def give_back(self, size: int) -> None:
        """Return bytes."""


class AnswerMemory:
    """The answers of one connection. Sizes are in bytes; runs on one event loop."""

    def __init__(self, memory: MemoryLimit) -> None:
        self._memory = memory
        self._reserved_bytes = 0
        self._moving_bytes = 0
        self._stalled_bytes = 0
        self._stalled: dict[int, Http2Stream] = {}
        self._waiting: dict[int, tuple[Http2Stream, int]] = {}

    def admit(self, stream: Http2Stream, size: int) -> bool:
        """Admit an answer of about ``size`` bytes, or queue it: then return False, and call ``on_admitted`` later."""
        if size <= SMALL_BYTES:
            return True
        if self._waiting or not self._fits(size):
            self._waiting[stream.id] = stream, size
            return False
        self._count(stream, size)
        return True

    def reserve(self, stream: Http2Stream, size: int) -> bool:
        """Reserve memory for the ``size`` unsent bytes of an answer; return False if there is none."""
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

    def release(self, stream: Http2Stream) -> None:
        """Release the memory of a stream's answer, which is sent or no longer wanted."""
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

    def stall(self, stream: Http2Stream) -> None:
        """Count a stream as stalled: its reader has paused."""
        if stream.id not in self._stalled:
            self._stalled[stream.id] = stream
            self._moving_bytes -= stream.answer_bytes
            self._stalled_bytes += stream.answer_bytes

    def resume(self, stream: Http2Stream) -> None:
        """Count a stream as moving again if it was stalled."""
        if self._stalled and self._stalled.pop(stream.id, None) is not None:
            self._stalled_bytes -= stream.answer_bytes
            self._moving_bytes += stream.answer_bytes

    def youngest_over_limit(self) -> Http2Stream | None:
        """Return the youngest stalled stream if stalled streams exceed their limit."""
        if self._stalled_bytes <= min(MAX_STALLED_BYTES, self._memory.limit // SHARE) or not self._stalled:
            return None
        return self._stalled[max(self._stalled)]

    def admit_waiting(self) -> None:
        """Admit the queued answers that fit now, in order."""
        while self._waiting and self._fits(self._next_size()):
            self._admit_next()

    def admit_regardless(self) -> None:
        """Admit as many queued answers as would fit if nothing were counted, at least one.

        For a client that reads everything that is ready: long runs and slow streams then hold up its other answers
        only until the next call.
        """
        admitted = 0
        while self._waiting and (not admitted or admitted + self._next_size() <= self._most()):
            admitted += self._next_size()
            self._admit_next()

    def admit_expired(self, stream: Http2Stream) -> bool:
        """Admit a queued answer whose call has missed its deadline; return False if it is not queued."""
        if self._waiting.pop(stream.id, None) is None:
            return False
        stream.on_admitted()
        return True

    def is_waiting(self, stream: Http2Stream) -> bool:
        """Whether the answer of a stream is queued."""
        return len(self._waiting) > 0 and stream.id in self._waiting

    def admit_no_more(self) -> None:
        """Clear the queue of a closed connection."""
        self._waiting.clear()

    def _next_size(self) -> int:
        return self._waiting[next(iter(self._waiting))][1]

    def _admit_next(self) -> None:
        stream, size = self._waiting.pop(next(iter(self._waiting)))
        self._count(stream, size)
        stream.on_admitted()

    def _may_reserve(self, stream: Http2Stream, size: int) -> bool:
        others = self._reserved_bytes - stream.reserved_bytes
        return others <= 0 or others + size <= self._memory.limit // RESERVED_SHARE

    def _most(self) -> int:
        return min(MAX_MOVING_BYTES, self._memory.limit // SHARE)

    def _fits(self, size: int) -> bool:
        return self._moving_bytes <= 0 or self._moving_bytes + size <= self._most()

    def _count(self, stream: Http2Stream, size: int) -> None:
        change = size - stream.answer_bytes
        stream.answer_bytes = size
        if self._stalled and stream.id in self._stalled:
            self._stalled_bytes += change
        else:
            self._moving_bytes += change
