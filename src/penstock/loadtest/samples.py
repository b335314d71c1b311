"""The moments of each request of a window: when it was due, sent and answered, and how it ended."""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penstock.loadtest.schedule import Moments

INTERRUPTED: Final = -4
"""The outcome of a request without an answer when the user stopped the load test; it counts as neither."""

_PENDING: Final = -5
_GOOD: Final = (0, 200)
"""The status of success: of gRPC, and of HTTP."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What became of each request of a window, in seconds since its start.

    ``sent`` and ``done`` are NaN where there was no such moment; ``lag`` is how long the generator itself delayed the
    request, ``outcome`` the status of the answer, or LOST, TIMED_OUT, UNSENT or INTERRUPTED. A stopped window has only
    the requests that were due by then.
    """

    due: Moments
    sent: Moments
    done: Moments
    lag: Moments
    outcome: NDArray[np.int16]
    stopped: bool

    @property
    def is_good(self) -> NDArray[np.bool_]:
        """Which requests were answered with success."""
        return np.isin(self.outcome, _GOOD)


class LoadWindow:
    """The requests of a window while it runs; moments are seconds since its start, in order. Not safe for threads.

    ``finished`` and ``failed`` are numbers of requests; ``stopped_at`` is infinite unless the window was stopped.
    """

    def __init__(self, due: Moments | Sequence[float]) -> None:
        self._due = array("d", np.asarray(due, np.float64).tobytes())
        self._total = len(self._due)
        self._sent = array("d", [nan]) * self._total
        self._done = array("d", [nan]) * self._total
        self._lag = array("d", [0.0]) * self._total
        self._outcome = array("h", [_PENDING]) * self._total
        self._next = 0
        self.finished = 0
        self.failed = 0
        self.stopped_at = inf

    @property
    def is_complete(self) -> bool:
        """Whether every request has ended."""
        return self.finished >= self._total

    @property
    def is_stopped(self) -> bool:
        """Whether the user stopped the window."""
        return self.stopped_at < inf

    def is_due(self, now: float) -> bool:
        """Whether the next request is to be sent."""
        return self._next < self._total and self._due[self._next] <= now

    def until_due(self, now: float) -> float:
        """Return the seconds until the next request is due, infinite after the last one."""
        return self._due[self._next] - now if self._next < self._total else inf

    def waited(self, number: int, now: float) -> float:
        """Return the seconds since a request was due."""
        return now - self._due[number]

    def note_sent(self, now: float, freed: float) -> int:
        """Take the next request, over a connection that could carry it since ``freed``; return its number."""
        number = self._next
        self._next += 1
        self._sent[number] = now
        self._lag[number] = now - max(self._due[number], freed)
        return number

    def note_answer(self, number: int, now: float, outcome: int, answer: bytes = b"") -> None:
        """Note the status of an answer; a load test does not read what came."""
        self._done[number] = now
        self._end(number, outcome)

    def note_failure(self, number: int, outcome: int) -> None:
        """Note that a request gets no answer."""
        self._end(number, outcome)

    def give_up(self, now: float, timeout_s: float, outcome: int) -> None:
        """End the requests that are not sent and have been due for longer than the timeout."""
        while self._next < self._total and now - self._due[self._next] > timeout_s:
            self._end(self._next, outcome)
            self._next += 1

    def stop(self, now: float) -> None:
        """Drop the requests that are not due yet."""
        self.stopped_at = now
        self._total = max(self._next, bisect_right(self._due, now))

    def samples(self) -> Samples:
        """Return what became of the requests."""
        moments = [np.array(values[: self._total], np.float64) for values in self._columns()]
        outcome = np.array(self._outcome[: self._total], np.int16)
        return Samples(moments[0], moments[1], moments[2], moments[3], outcome, self.is_stopped)

    def _columns(self) -> tuple["array[float]", ...]:
        return self._due, self._sent, self._done, self._lag

    def _end(self, number: int, outcome: int) -> None:
        self._outcome[number] = outcome
        self.finished += 1
        self.failed += outcome not in _GOOD
