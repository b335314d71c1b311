"""Acquires and renews the leader's lease, and reports whether this gateway leads."""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol

from penstock.control.calls.blocking import READ_S, BlockingPool
from penstock.control.periodic import PeriodicTask
from penstock.core.errors import Fault
from penstock.core.leases import LOOK_S
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point, Reading

log = logging.getLogger("penstock.control")


class HeldLease(Protocol):
    """The lease as this process sees it."""

    @property
    def term(self) -> int | None:
        """The term in which this process leads, None if it does not."""

    def is_due(self) -> bool:
        """Whether it is to be acquired, renewed or read."""


class Leadership:
    """The part of one gateway in the election. ``lead`` acquires or renews the lease and returns whether this gateway
    leads; ``release`` gives it up. Both block, and raise ``Fault`` while the database is unreachable."""

    def __init__(self, lease: HeldLease, lead: Callable[[], bool], release: Callable[[], None]) -> None:
        self._lease = lease
        self._acquire = lead
        self._release = release
        self._pool = BlockingPool("lease", 1)
        self.pools = (self._pool,)
        self._logged_term: int | None = None
        self.task = PeriodicTask("leadership", self.step, LOOK_S, meanwhile="the leader's lease cannot be renewed")

    async def step(self) -> None:
        """Acquire or renew the lease once; raises ``Fault`` while the database is unreachable."""
        try:
            if self._lease.is_due():
                await self._pool.call(self._acquire)
        finally:
            self._log_change(self._lease.term)

    def _log_change(self, term: int | None) -> None:
        if term == self._logged_term:
            return
        self._logged_term = term
        if term is None:
            log.warning("this gateway is not the leader any more")
        else:
            log.info("this gateway is the leader, in term %d", term)

    async def stop(self) -> None:
        """Release the lease, so that another gateway can lead at once."""
        with suppress(Fault):  # the lease expires by itself
            await self._pool.call(self._release, deadline_s=READ_S)

    def readings(self) -> Iterator[Reading]:
        """Whether this gateway leads, and in which term (0 = it does not)."""
        term = self._lease.term
        yield Point(metrics.LEADER, (), int(term is not None))
        yield Point(metrics.LEASE_TERM, (), term or 0)

    def close(self) -> None:
        """End the thread."""
        self._pool.close()
