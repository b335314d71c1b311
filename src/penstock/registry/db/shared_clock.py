"""The time that all gateways agree on: the database's, gone on with by this machine's steady clock.

A rollout's deadline, the beginning of a step, a lease: one gateway writes such a time down and another one compares it
with the present. Clocks of machines are seconds apart or are set anew, so the present is the database's. SQLite lies
on one machine and has no clock of its own: there, this machine's time is taken once and then goes on steadily.
"""

import time
from collections.abc import Callable

import sqlalchemy as sa

FRESH_S = 1.0
"""The database is asked no more often than that."""


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the machine sleeps, and is never set


class SharedClock:
    """One database's; any thread may use it. ``wall`` gives seconds since the epoch, ``steady`` seconds that are never
    set anew."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = _since_boot) -> None:
        self._wall = wall
        self._steady = steady
        self._known: tuple[float, float] | None = None
        self._asked: float | None = None

    def observe(self, connection: sa.Connection) -> None:
        """Take the time from the database of a connection, unless that was done a moment ago."""
        if connection.dialect.name == "sqlite":
            return
        now = self._steady()
        if self._asked is not None and now - self._asked < FRESH_S:
            return
        told = connection.execute(sa.select(sa.func.extract("epoch", sa.func.clock_timestamp()))).scalar_one()
        self._known, self._asked = (float(told), self._steady()), now

    def now(self) -> float:
        """Seconds since the epoch, for decisions: it goes on steadily whatever happens to this machine's clock."""
        if self._known is None:
            self._known = self._wall(), self._steady()
        at, steady = self._known
        return at + self._steady() - steady

    def stamp(self) -> float:
        """Seconds since the epoch, for what people read: where the database has no clock, this machine's time."""
        return self._wall() if self._asked is None else self.now()
