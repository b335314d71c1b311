"""The time that all gateways agree on: that of the database, continued by the steady clock of this machine.

One gateway stores the deadline of a rollout, the beginning of a step or a lease, and another compares it with the
present. The clocks of machines differ by seconds or are set, so the present is that of the database. SQLite is on one
machine and has no clock of its own: there this machine's time is read once, and then continued steadily.
"""

import time
from collections.abc import Callable

import sqlalchemy as sa

FRESH_S = 1.0
"""Shortest interval between two reads of the database's time."""


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # runs also while the machine sleeps, and is never set


class SharedClock:
    """The clock of one database; any thread may use it. ``wall`` gives seconds since the epoch, and ``steady`` seconds
    of a clock that is never set."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = _since_boot) -> None:
        self._wall = wall
        self._steady = steady
        self._known: tuple[float, float] | None = None
        self._asked: float | None = None

    def observe(self, connection: sa.Connection) -> None:
        """Read the time of a connection's database, unless that was done less than ``FRESH_S`` ago."""
        if connection.dialect.name == "sqlite":
            return
        now = self._steady()
        if self._asked is not None and now - self._asked < FRESH_S:
            return
        epoch_s = connection.execute(sa.select(sa.func.extract("epoch", sa.func.clock_timestamp()))).scalar_one()
        self._known, self._asked = (float(epoch_s), self._steady()), now

    def now(self) -> float:
        """Return seconds since the epoch for decisions; they increase steadily even if this machine's clock is set."""
        if self._known is None:
            self._known = self._wall(), self._steady()
        at, steady = self._known
        return at + self._steady() - steady

    def stamp(self) -> float:
        """Return seconds since the epoch for people; if the database has no clock, this machine's time."""
        return self._wall() if self._asked is None else self.now()
