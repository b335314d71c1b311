"""The newest events, read once for all streams that watch them."""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Protocol

from penstock.api.admin.stream.feeds import STEP_S
from penstock.control.periodic import PeriodicTask
from penstock.core.access.model_filter import EVERY_MODEL, ModelFilter

Event = Mapping[str, Any]

KEPT: Final = 1000
"""Events in memory; a stream that is further behind reads the database."""

BATCH: Final = 100
"""Events of one read, and of one message."""


class EventService(Protocol):
    """Reads events; may raise a ``Fault``."""

    async def events(
        self, model: str | None, after: int | None, limit: int, visible: ModelFilter = EVERY_MODEL
    ) -> list[dict[str, Any]]:
        """Return events of visible models: the first after a sequence number, or the newest."""


class EventFeed:
    """The events since the first look, of which the newest are kept; ``watchers`` are set when there are new ones."""

    def __init__(self, service: EventService) -> None:
        self.watchers: set[asyncio.Event] = set()
        self.task = PeriodicTask("stream events", self.step, STEP_S, meanwhile="pages show older events")
        self._service = service
        self._events: deque[Event] = deque()
        self._after: int | None = None
        self.newest: int | None = None

    def is_due(self, _now: float, _mark: object) -> bool:
        """Events are looked for in every step."""
        return True

    async def step(self) -> None:
        """Read the new events, and wake those who watch; raises ``Fault``."""
        if self.newest is None:
            latest = await self._service.events(None, None, 1)
            self._start(latest[-1]["sequence"] if latest else 0)
            return
        read = await self._service.events(None, self.newest, BATCH)
        for event in read:
            self._keep(event)
        if read:
            self._wake()

    def _start(self, sequence: int) -> None:
        self._after = self.newest = sequence
        self._wake()

    def _keep(self, event: Event) -> None:
        if len(self._events) >= KEPT:
            self._after = self._events.popleft()["sequence"]
        self._events.append(event)
        self.newest = event["sequence"]

    def _wake(self) -> None:
        for watcher in self.watchers:
            watcher.set()

    async def read_after(self, sequence: int | None, visible: ModelFilter) -> tuple[list[Event], int] | None:
        """Return at most ``BATCH`` visible events after a sequence number (None, or one that is not known yet: the
        newest ones), and the number to go on from; None before the first look.

        Raises:
            Fault: the events cannot be read now.
        """
        newest = self.newest
        if newest is None or self._after is None:
            return None
        if sequence is not None and self._after <= sequence <= newest:
            return self._kept_after(sequence, visible, newest)
        known = sequence if sequence is not None and sequence <= newest else None
        read: list[Event] = list(await self._service.events(None, known, BATCH, visible))
        last = max([newest if len(read) < BATCH or known is None else 0, *(event["sequence"] for event in read)])
        return read, last

    def _kept_after(self, sequence: int, visible: ModelFilter, newest: int) -> tuple[list[Event], int]:
        found = [event for event in self._events if event["sequence"] > sequence and visible.allows(model_of(event))]
        return found[:BATCH], newest if len(found) <= BATCH else found[BATCH - 1]["sequence"]


def model_of(event: Event) -> str:
    """Return the model of an event, "" for an event of none; its subject is ``models/NAME/…``."""
    kind, _, rest = str(event["subject"]).partition("/")
    return rest.partition("/")[0] if kind == "models" else ""
