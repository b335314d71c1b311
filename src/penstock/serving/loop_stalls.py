"""Measures stalls of the event loop: the duration of the loop batcher's turns, and the delay of a timer."""

from collections.abc import Callable
from time import monotonic_ns
from typing import Final

STALL_NS: Final = 1_000_000
"""Minimum time of a stall."""

CHECK_INTERVAL_NS: Final = 20_000_000
"""Interval of the timer: it sees every longer stall, but up to this time less of it."""

IDLE_INTERVAL_NS: Final = 100_000_000
"""Interval of the timer while no client is connected: nobody waits for the loop then."""


class LoopStalls:
    """The stalls of one event loop; ``record`` takes the nanoseconds of each stall.

    The loop batcher reports its turns. Everything else that holds the loop, such as a callback or a thread that holds
    the interpreter, shows in the delay of a timer; of a delay that turns explain only the turns are recorded.
    """

    def __init__(self, record: Callable[[int], None], clock: Callable[[], int] = monotonic_ns) -> None:
        self._record = record
        self._clock = clock
        self._due_ns = 0
        self._explained_ns = 0

    def turn(self, duration_ns: int) -> None:
        """Record the duration of a turn of the loop batcher."""
        self._explained_ns += duration_ns
        self._record(duration_ns)

    def start(self, *, is_idle: bool = False) -> float:
        """Start the timer; return the seconds until ``check`` is due."""
        interval_ns = IDLE_INTERVAL_NS if is_idle else CHECK_INTERVAL_NS
        self._due_ns = self._clock() + interval_ns
        self._explained_ns = 0
        return interval_ns / 1e9

    def check(self, *, is_idle: bool = False) -> float:
        """Record the delay of this call, unless turns explain it; return the seconds until the next call."""
        delay_ns = self._clock() - self._due_ns
        if delay_ns - self._explained_ns >= STALL_NS:
            self._record(delay_ns - self._explained_ns)
        return self.start(is_idle=is_idle)
