"""The requests of a replay as the load test's loop asks for them: pulled from a stream, held while under way."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from penstock.core.errors import Fault
from penstock.monitor.capture import CapturedRequest
from penstock.monitor.capture_parts import time_of
from penstock.replay.pace import ASAP, Pace

UNREADABLE: Final = -6
"""The outcome of a request that cannot be encoded for the transport."""


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """A request to send: its record and the record's number; ``is_repeat``: it is the same request once more."""

    number: int
    record: CapturedRequest
    is_repeat: bool


@dataclass(frozen=True, slots=True)
class ReplayEnd:
    """How a request ended: the status of its answer or a loss (``loadtest.wire``), when it was due and had ended, in
    seconds since the start, and what came."""

    request: ReplayRequest
    outcome: int
    due: float
    ended: float
    answer: bytes = b""


@dataclass(slots=True)
class _Open:
    request: ReplayRequest
    due: float
    body: bytes


OnEnd = Callable[[ReplayEnd], None]


class ReplayWindow:
    """A ``RequestWindow`` over a stream of records, and the bodies of its requests. Not safe for threads.

    ``times`` is how often each record is sent: twice to see the noise of a version.
    """

    def __init__(
        self,
        records: Iterator[CapturedRequest],
        pace: Pace,
        times: int,
        encode: Callable[[CapturedRequest], bytes],
        on_end: OnEnd,
    ) -> None:
        self._requests = (
            ReplayRequest(number, record, place > 0) for number, record in enumerate(records) for place in range(times)
        )
        self._pace = pace
        self._encode = encode
        self._on_end = on_end
        self._open: dict[int, _Open] = {}
        self._sent = 0
        self.finished = 0
        self.failed = 0
        self.stopped_at = math.inf
        self._next_due = 0.0
        self._next: ReplayRequest | None = None
        self._next_body = b""
        self._advance(0.0)

    def __getitem__(self, number: int, /) -> bytes:
        """Return the body of a request that is under way, for the connection that sends it."""
        return self._open[number].body

    @property
    def is_complete(self) -> bool:
        """Whether every request has ended."""
        return self._next is None and not self._open

    @property
    def is_stopped(self) -> bool:
        """Whether the user stopped the replay."""
        return self.stopped_at < math.inf

    def is_due(self, now: float) -> bool:
        """Whether the next request is to be sent."""
        return self._next is not None and self._next_due <= now

    def until_due(self, now: float) -> float:
        """Return the seconds until the next request is due, infinite without one."""
        return self._next_due - now if self._next is not None else math.inf

    def waited(self, number: int, now: float) -> float:
        """Return the seconds since a request was due."""
        return now - self._open[number].due

    def note_sent(self, now: float, _freed: float = 0.0) -> int:
        """Take the next request, and return its number."""
        if self._next is None:
            raise LookupError("no request is left to send")
        number, self._sent = self._sent, self._sent + 1
        due = now if self._pace.speed == ASAP else self._next_due
        self._open[number] = _Open(self._next, due, self._next_body)
        self._advance(now)
        return number

    def note_answer(self, number: int, now: float, outcome: int, answer: bytes) -> None:
        """Note an answer."""
        self._end(self._open.pop(number), outcome, now, answer)

    def note_failure(self, number: int, outcome: int) -> None:
        """Note that a request gets no answer."""
        opened = self._open.pop(number)
        self._end(opened, outcome, opened.due)

    def give_up(self, now: float, timeout_s: float, outcome: int) -> None:
        """End the requests that are not sent and have been due for longer than the timeout; without a pace, none is."""
        while self._next is not None and self._pace.speed < ASAP and now - self._next_due > timeout_s:
            expired = _Open(self._next, self._next_due, b"")
            self._advance(now)
            self._end(expired, outcome, now)

    def stop(self, now: float) -> None:
        """Send no further requests."""
        self.stopped_at = now
        self._next = None

    def _advance(self, now: float) -> None:
        """Take the next request that can be encoded from the stream."""
        for request in self._requests:
            due = self._pace.due(time_of(request.record))
            try:
                self._next_body = (
                    self._next_body if request.is_repeat and self._next_body else self._encode(request.record)
                )
            except (Fault, KeyError, ValueError, TypeError, OverflowError):
                self._next_body = b""
                self._end(_Open(request, due, b""), UNREADABLE, now)
                continue
            self._next, self._next_due = request, due
            return
        self._next = None

    def _end(self, opened: _Open, outcome: int, now: float, answer: bytes = b"") -> None:
        self.finished += 1
        self.failed += outcome not in (0, 200)
        self._on_end(ReplayEnd(opened.request, outcome, opened.due, now, answer))
