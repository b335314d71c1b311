"""Keeps the objects of a long body from holding the event loop: the garbage collector does not walk them while they are
read, and they are freed in slices."""

import gc
from collections.abc import Callable
from threading import Lock
from time import monotonic_ns
from typing import Any, Final, Self

from penstock.core.slices import TEXT_SLICE, PauseWork

MOST_NS: Final = 10_000_000_000
"""Longest time without the garbage collector, however many long bodies are read, and the time of one body more."""


class CollectorPause:
    """The time in which the garbage collector is off, as a context manager of any number of threads.

    The rows of a body of 8 MB are millions of lists that are not garbage, and a collection walks them all without
    giving the interpreter lock back: 0.1 s and more.
    """

    def __init__(self, clock: Callable[[], int] = monotonic_ns) -> None:
        self._clock = clock
        self._lock = Lock()
        self._open = 0
        self._since_ns = 0
        self._was_on = False

    def __enter__(self) -> Self:
        with self._lock:
            self._open += 1
            if self._open == 1:
                self._since_ns, self._was_on = self._clock(), gc.isenabled()
                gc.disable()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._open -= 1
            is_over = not self._open or self._clock() - self._since_ns >= MOST_NS
            if is_over and self._was_on:
                gc.enable()


COLLECTOR_PAUSE: Final = CollectorPause()
"""That of this process, which has one garbage collector."""


def free_lists(held: list[list[Any]], pause: PauseWork) -> None:
    """Empty long lists whose elements nobody needs, in slices with pauses, and forget them."""
    while held:
        found = held.pop()
        while found:
            del found[-TEXT_SLICE:]
            pause()
