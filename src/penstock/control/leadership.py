"""Keeps the lease of the gateway that decides for all: asks for it, renews it, and shows whether this one has it."""

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


class Lease(Protocol):
    """This process's part in the lease."""

    @property
    def term(self) -> int | None:
        """The term in which it leads, None if it does not."""


class Leadership:
    """One gateway's. ``lead`` looks, does what is due, and says whether this gateway leads; ``release`` lets another
    one lead. Both block, and raise ``Fault`` while the database is away."""

    def __init__(self, lease: Lease, lead: Callable[[], bool], release: Callable[[], None]) -> None:
        self._lease = lease
        self._lead = lead
        self._release = release
        self._pool = BlockingPool("lease", 1)
        self.pools = (self._pool,)
        self._told: int | None = None
        self.task = PeriodicTask("leadership", self.step, LOOK_S, meanwhile="no gateway may decide for all")

    async def step(self) -> None:
        """Look once; raises ``Fault`` while the database is away."""
        try:
            await self._pool.call(self._lead)
        finally:
            self._tell(self._lease.term)

    def _tell(self, term: int | None) -> None:
        if term == self._told:
            return
        self._told = term
        if term is None:
            log.warning("this gateway does not decide for all any more")
        else:
            log.info("this gateway decides for all, in term %d", term)

    async def stop(self) -> None:
        """Let another gateway lead at once."""
        with suppress(Fault):  # the lease ends by itself
            await self._pool.call(self._release, deadline_s=READ_S)

    def readings(self) -> Iterator[Reading]:
        """Whether this gateway leads, and in which term; 0 for none."""
        term = self._lease.term
        yield Point(metrics.LEADER, (), int(term is not None))
        yield Point(metrics.LEASE_TERM, (), term or 0)

    def close(self) -> None:
        """Let the thread go."""
        self._pool.close()
