"""How long the event loop answered nobody: what its turns say of themselves, and how late a timer comes."""

from collections.abc import Callable
from time import monotonic_ns
from typing import Final

STALL_NS: Final = 1_000_000
"""Shorter times are no stall."""

TICK_NS: Final = 20_000_000
"""Between two looks of the timer: whatever holds the loop for longer is seen, though up to that much less of it."""


class LoopStalls:
    """One event loop's; ``record`` takes the nanoseconds of each stall.

    The loop batcher tells of its turns. Everything else that holds the loop, such as a callback or a thread that holds
    the interpreter, shows in the delay of a timer; of a delay that turns explain only the turns are recorded.
    """

    def __init__(self, record: Callable[[int], None], clock: Callable[[], int] = monotonic_ns) -> None:
        self._record = record
        self._clock = clock
        self._due_ns = 0
        self._explained_ns = 0

    def turn(self, duration_ns: int) -> None:
        """A turn of the loop batcher took so long."""
        self._explained_ns += duration_ns
        self._record(duration_ns)

    def start(self) -> float:
        """Begin to look; the seconds until ``tick`` is due."""
        self._due_ns = self._clock() + TICK_NS
        self._explained_ns = 0
        return TICK_NS / 1e9

    def tick(self) -> float:
        """Look how late this call is; the seconds until the next one."""
        late = self._clock() - self._due_ns
        if late - self._explained_ns >= STALL_NS:
            self._record(late - self._explained_ns)
        return self.start()
