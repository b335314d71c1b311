"""Records in the audit what changes no row: exports, load and unload, and refused requests, these in bounded number."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from penstock.control.calls.blocking import BlockingPool
from penstock.control.periodic import PeriodicTask
from penstock.core.access.refusals import Refusal
from penstock.core.audit.refusals import CountedRefusals, RefusalWindow
from penstock.core.errors import Fault
from penstock.registry.records import Author, Document, VersionRecord
from penstock.registry.stores.versions import VersionStore
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point, Reading

log = logging.getLogger("penstock.control")

FLUSH_S = 5.0
MOST_WAITING = 200
"""Refusals that wait to be written, beyond which they are only counted in the log: the database is away."""

WRITE_S = 10.0


Counted = CountedRefusals[Refusal]


class RecordedPart(Protocol):
    """A part of the gateway whose events are recorded."""

    def record_with(self, recorder: "AuditRecorder", /) -> None:
        """Record with this recorder from now on."""


class AuditRecorder:
    """Adds entries for one gateway; belongs to the event loop. ``clock`` gives steady seconds."""

    def __init__(self, store: VersionStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._window = RefusalWindow[Refusal]()
        self._waiting: list[Counted] = []
        self.dropped = 0
        self._pool = BlockingPool("audit_events", 1, deadline_s=WRITE_S)
        self.pools = (self._pool,)
        self.task = PeriodicTask("audit refusals", self.step, FLUSH_S, meanwhile="refused requests are not recorded")

    def attach(self, *parts: RecordedPart) -> None:
        """Record what these parts of the gateway report from now on."""
        for part in parts:
            part.record_with(self)

    async def record(
        self, action: str, subject: str, by: Author, model: str = "", after: Document | None = None
    ) -> None:
        """Add an entry before something happens that changes no row.

        Raises:
            NotReady: it cannot be written; what it is about must not happen then.
        """
        await self._pool.call(self._store.record_event, action, subject, by, model, after)

    async def record_export(self, version: VersionRecord, by: Author) -> None:
        """Add an entry before the content of a version is exported; raises as ``record``."""
        after = {"digest": version.content.digest}
        await self.record("version.export", f"versions/{version.version}", by, version.model, after)

    def count_refusal(self, refusal: Refusal, count: int = 1) -> None:
        """Record refused requests: the first of a kind soon, others together once a minute; never waits or raises."""
        due = self._window.add(refusal, self._clock(), count)
        if due:
            self._take(due)
            self.task.wake()

    def count_kinds(self, kinds: Iterable[Document]) -> None:
        """Record refused requests of a worker: the fields of ``Refusal`` of each kind, and its ``count``."""
        for kind in kinds:
            fields = {name: str(value) for name, value in kind.items() if name != "count"}
            self.count_refusal(Refusal(**fields), int(kind["count"]))

    def _take(self, due: list[Counted]) -> None:
        free = MOST_WAITING - len(self._waiting)
        self._waiting += due[:free]
        self.dropped += sum(item.count for item in due[free:])

    async def step(self) -> None:
        """Write what waits; raises ``Fault`` while that is not possible."""
        self._take(self._window.collect(self._clock()))
        while self._waiting:
            await self._write(self._waiting[0])
            del self._waiting[0]

    async def _write(self, item: Counted) -> None:
        refusal = item.kind or Refusal("access.refuse", "various", "", detail="other refused requests")
        after: Document = {"count": item.count} | ({"detail": refusal.detail} if refusal.detail else {})
        await self._pool.call(self._store.record_event, refusal.action, "access", author_of(refusal), "", after)

    async def flush(self) -> None:
        """Write what waits before the end, as far as possible."""
        try:
            async with asyncio.timeout(WRITE_S):
                await self.step()
        except (Fault, TimeoutError) as fault:
            log.warning("%d kinds of refused requests are not in the audit: %s", len(self._waiting), fault)

    def readings(self) -> Iterator[Reading]:
        """Yield how many refused requests have no entry."""
        yield Point(metrics.AUDIT_DROPPED, (), self.dropped)

    def close(self) -> None:
        """End the thread."""
        self._pool.close()


def author_of(refusal: Refusal) -> Author:
    """Return the author of the entry of a refusal."""
    return Author(refusal.actor, method=refusal.method, key_id=refusal.key_id, address=refusal.address)
