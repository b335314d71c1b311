"""Publishes stored changes to the workers in the background, so that steps of trials do not wait for a slow load."""

import asyncio
import logging
from functools import partial
from typing import Protocol

from penstock.core.errors import Fault

log = logging.getLogger("penstock.control")


class ChangeServer(Protocol):
    """The workers of this gateway, as this module needs them."""

    async def serve_changes(self) -> bool:
        """Publish stored changes to the workers; return whether all have applied them."""


class BackgroundServing:
    """At most one task for each model. Belongs to the event loop."""

    def __init__(self, fleet: ChangeServer) -> None:
        self._fleet = fleet
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, model: str) -> None:
        """Publish the newest change of a model; cancel its earlier task."""
        if (before := self._tasks.get(model)) is not None:
            before.cancel()  # it waits for weights that are out of date
        task = self._tasks[model] = asyncio.create_task(self._serve(model))
        task.add_done_callback(partial(self._note_served, model))

    async def _serve(self, model: str) -> None:
        try:
            await self._fleet.serve_changes()
        except Fault as fault:
            log.warning("a step of model '%s' is stored; the next scan of the registry serves it: %s", model, fault)

    def _note_served(self, model: str, task: "asyncio.Task[None]") -> None:
        if self._tasks.get(model) is task:
            del self._tasks[model]

    def close(self) -> None:
        """Cancel all tasks."""
        for task in self._tasks.values():
            task.cancel()
