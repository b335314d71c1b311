"""Cuts long work that holds the GIL into slices with pauses, so that an event loop on another thread can run."""

from collections.abc import Callable
from time import monotonic_ns, sleep
from typing import Final

PauseWork = Callable[[], None]
"""Called between two slices of long work."""

TEXT_SLICE: Final = 1024
"""Elements of text in a slice: about 0.3 ms."""

NUMBER_SLICE: Final = 1 << 14
"""Numbers in a slice that are converted one by one: about 0.5 ms."""

JSON_SLICE: Final = 1 << 14
"""Bytes of JSON numbers in a slice: at most 8,192 numbers, about 0.6 ms."""

BYTE_SLICE: Final = 1 << 16
"""Bytes in a slice that are examined one by one in C."""

WORK_NS: Final = 500_000
PAUSE_S: Final = 0.00002


def no_pause() -> None:
    """Do not pause: the work is short."""


class Pacer:
    """The pauses of work on a thread of its own: a short sleep after half a millisecond of work.

    A sleep of no time at all would not do: the GIL would be taken back before a thread that waits for it has woken.
    """

    __slots__ = ("_since_ns",)

    def __init__(self) -> None:
        self._since_ns = monotonic_ns()

    def pause(self) -> None:
        """Let the other threads run, if it is time."""
        if monotonic_ns() - self._since_ns >= WORK_NS:
            sleep(PAUSE_S)
            self._since_ns = monotonic_ns()
