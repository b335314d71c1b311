"""A database that is opened when it is first asked, so that a gateway can start while it is away."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from penstock.core.errors import NotReady
from penstock.registry.db.lease import LeaseHolder
from penstock.registry.db.shared_clock import SharedClock

PAUSE_S = 1.0
"""After a failed attempt, nobody tries again for that long: those who ask meanwhile hear the same."""


class Opened(Protocol):
    """A database that has been opened."""

    clock: SharedClock
    lease: LeaseHolder

    def reading(self) -> AbstractContextManager[Any]:
        """A connection for reading, for the time of a block."""

    def writing(self) -> AbstractContextManager[Any]:
        """A connection for one change, for the time of a block."""

    def recording(self) -> AbstractContextManager[Any]:
        """A connection for a change of rows that no other change rests on, for the time of a block."""

    def lead(self) -> bool:
        """Whether this process decides for all."""


class LazyDatabase:
    """Opens a database on demand and stands for it; the ``clock`` it is made with is monotonic, in seconds, and its
    attribute ``clock`` the time that those who share the database agree on, this machine's before it is opened."""

    def __init__(self, opening: Callable[[], Opened], clock: Callable[[], float] = time.monotonic) -> None:
        self._opening = opening
        self._clock = clock
        self.clock = SharedClock()
        self.lease = LeaseHolder()
        self._opened: Opened | None = None
        self._one_at_a_time = threading.Lock()
        self._failed: tuple[float, str] | None = None

    def reading(self) -> AbstractContextManager[Any]:
        """A connection for reading; raises ``NotReady`` while the database is away."""
        return self._database().reading()

    def writing(self) -> AbstractContextManager[Any]:
        """A connection for one change; raises ``NotReady`` while the database is away."""
        return self._database().writing()

    def recording(self) -> AbstractContextManager[Any]:
        """A connection for a change of rows that no other change rests on; raises ``NotReady`` while the database is
        away."""
        return self._database().recording()

    def lead(self) -> bool:
        """Whether this process decides for all; raises ``NotReady`` while the database is away."""
        return self._database().lead()

    def _database(self) -> Opened:
        if self._opened is None:
            with self._one_at_a_time:
                if self._opened is None:
                    self._opened = self._attempt()
        return self._opened

    def _attempt(self) -> Opened:
        if self._failed is not None and self._clock() < self._failed[0]:
            raise NotReady(self._failed[1])
        try:
            opened = self._opening()
        except NotReady as fault:
            self._failed = self._clock() + PAUSE_S, str(fault)
            raise
        opened.clock, opened.lease = self.clock, self.lease  # whoever was given them before has to see what it says
        return opened
