"""Queues events of the monitor for the database: they wait in a file while it is unreachable, and are stored once."""

import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from penstock.control.periodic import ProblemLog
from penstock.core.errors import NotReady
from penstock.engine.durable_files import write_atomically
from penstock.registry.stores.traffic import TrialEvent

log = logging.getLogger("penstock.control")

MOST_WAITING = 1000
"""The most events that wait; beyond it the oldest are dropped."""

EmitEvent = Callable[[str, TrialEvent], Awaitable[object]]
"""Stores an event of a model, a repeated event once; raises ``NotReady`` while the database is unreachable."""


class EventQueue:
    """The queue of one gateway, for one event loop. ``path`` is a file that outlives the control process. ``given_up``
    counts the events that a full queue dropped, or that the database refuses."""

    def __init__(self, emit: EmitEvent, path: Path) -> None:
        self._emit = emit
        self._path = path
        self._waiting = self._read()
        self._is_flushing = False
        self._problem_log = ProblemLog()
        self.given_up = 0

    async def add(self, model: str, event: TrialEvent) -> None:
        """Emit an event, or let it wait for the database."""
        if len(self._waiting) == MOST_WAITING:
            self._waiting.popleft()
            self.given_up += 1
        self._waiting.append((model, event))
        self._write()
        await self.flush()

    async def flush(self) -> None:
        """Emit the waiting events, oldest first, until the database is unreachable."""
        if self._is_flushing or not self._waiting:
            return
        self._is_flushing = True
        try:
            while self._waiting and await self._emit_oldest(self._waiting[0]):
                pass
        finally:
            self._is_flushing = False
            self._write()

    async def _emit_oldest(self, head: tuple[str, TrialEvent]) -> bool:
        """Emit the oldest event, and return whether it has left the queue."""
        try:
            await self._emit(*head)
        except NotReady as fault:
            self._problem_log.report(self._path, f"events wait for the registry's database: {fault}")
            return False
        except Exception:  # an event that cannot be stored must not block all others
            self.given_up += 1
            log.exception("cannot store an event of model %s; it is dropped", head[0])
        else:
            self._problem_log.clear(self._path)
        if self._waiting and self._waiting[0] is head:  # else it was dropped in the meantime
            self._waiting.popleft()
        return True

    def _write(self) -> None:
        values = [[model, asdict(event)] for model, event in self._waiting]
        with suppress(OSError):  # they wait in memory
            write_atomically(self._path, json.dumps(values))

    def _read(self) -> deque[tuple[str, TrialEvent]]:
        try:
            values: list[Any] = json.loads(self._path.read_text())
            return deque((str(model), TrialEvent(**event)) for model, event in values)
        except (OSError, ValueError, TypeError):
            return deque()
