"""Events of the monitor on their way to the database: they wait in a file while it is away, and are told once."""

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
from penstock.registry.stores.traffic import Event

log = logging.getLogger("penstock.control")

MOST_WAITING = 1000
"""Events that wait; of more, the oldest are given up."""

Tell = Callable[[str, Event], Awaitable[object]]
"""Writes an event of a model down, the same one twice once; raises ``NotReady`` while the database is away."""


class EventQueue:
    """One gateway's; of one event loop. ``path`` is a file that outlives the control process. ``given_up`` counts
    events that there was no room for, or that can never be told."""

    def __init__(self, tell: Tell, path: Path) -> None:
        self._tell = tell
        self._path = path
        self._waiting = self._read()
        self._is_telling = False
        self._problem_log = ProblemLog()
        self.given_up = 0

    async def add(self, model: str, event: Event) -> None:
        """Tell an event, or let it wait for the database."""
        if len(self._waiting) == MOST_WAITING:
            self._waiting.popleft()
            self.given_up += 1
        self._waiting.append((model, event))
        self._write()
        await self.flush()

    async def flush(self) -> None:
        """Tell what waits, oldest first, as far as the database takes it."""
        if self._is_telling or not self._waiting:
            return
        self._is_telling = True
        try:
            while self._waiting and await self._is_told(self._waiting[0]):
                pass
        finally:
            self._is_telling = False
            self._write()

    async def _is_told(self, head: tuple[str, Event]) -> bool:
        """Whether the oldest event waits no more."""
        try:
            await self._tell(*head)
        except NotReady as fault:
            self._problem_log.report(self._path, f"events wait for the registry's database: {fault}")
            return False
        except Exception:  # an event that cannot be told must not hold up all others
            self.given_up += 1
            log.exception("an event of model %s cannot be told", head[0])
        else:
            self._problem_log.clear(self._path)
        if self._waiting and self._waiting[0] is head:  # else it was given up meanwhile
            self._waiting.popleft()
        return True

    def _write(self) -> None:
        values = [[model, asdict(event)] for model, event in self._waiting]
        with suppress(OSError):  # they wait in memory
            write_atomically(self._path, json.dumps(values))

    def _read(self) -> deque[tuple[str, Event]]:
        try:
            values: list[Any] = json.loads(self._path.read_text())
            return deque((str(model), Event(**event)) for model, event in values)
        except (OSError, ValueError, TypeError):
            return deque()
