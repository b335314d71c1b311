"""Limits the processor time of work that may be left out."""

from collections.abc import Callable
from threading import Lock
from typing import Final

MOST_S: Final = 1.0
"""Seconds of processor time that wait at most for work that comes at once."""


class ProcessorBudget:
    """Lets work take a ``share`` of one processor on average, and what it did not take within ``MOST_S`` at once. Any
    thread may use it; ``clock`` gives steady seconds.

    What is spent may be more than what is left: the work after it waits until that is made up for.
    """

    def __init__(self, share: float, clock: Callable[[], float]) -> None:
        self._share = share
        self._clock = clock
        self._most = MOST_S * share
        self._left = self._most
        self._at = clock()
        self._lock = Lock()

    def has_left(self) -> bool:
        """Return whether more work may begin."""
        with self._lock:
            now = self._clock()
            self._left = min(self._most, self._left + (now - self._at) * self._share)
            self._at = now
            return self._left > 0

    def spend(self, seconds: float) -> None:
        """Count processor time that work has taken."""
        with self._lock:
            self._left -= seconds
