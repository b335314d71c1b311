"""Threads that wait for work under one lock, each on a lock of its own: ``threading.Condition`` in compiled code."""

from threading import Lock
from typing import Final, Protocol

FOREVER: Final = -1.0
"""The seconds of a wait that only ``wake_one`` or ``wake_all`` ends."""


class WakeLock(Protocol):
    """The lock of one thread, which it holds except for the moment in which it is woken."""

    def acquire(self, blocking: bool = True, timeout: float = FOREVER) -> bool:
        """Take it; return False if it was not free within so many seconds."""

    def release(self) -> None:
        """Wake the thread."""


def make_wake_lock() -> WakeLock:
    """Return the lock of the calling thread."""
    wake = Lock()
    wake.acquire()
    return wake


class IdleThreads:
    """The waiting threads of one pool. Whoever calls a method holds ``lock``."""

    __slots__ = ("_waiting", "lock")

    def __init__(self) -> None:
        self.lock = Lock()
        self._waiting: list[WakeLock] = []

    @property
    def is_empty(self) -> bool:
        """Whether no thread waits."""
        return not self._waiting

    def wait(self, wake: WakeLock, timeout_s: float = FOREVER) -> None:
        """Release ``lock`` until the calling thread is woken by its ``wake``, or so many seconds have passed; then take
        it again."""
        self._waiting.append(wake)
        self.lock.release()
        woken = wake.acquire(timeout=timeout_s)
        self.lock.acquire()
        if woken:
            return
        if wake in self._waiting:
            self._waiting.remove(wake)
        else:
            wake.acquire()  # it was woken after the time had passed

    def wake_one(self) -> None:
        """Wake the thread that waits since the shortest time: its memory is most likely still cached."""
        if self._waiting:
            self._waiting.pop().release()

    def wake_all(self) -> None:
        """Wake all waiting threads."""
        while self._waiting:
            self.wake_one()
