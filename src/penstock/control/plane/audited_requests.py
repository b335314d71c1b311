"""Repository requests of the data ports (load and unload), each recorded in the audit before it is performed."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

from penstock.core.errors import NotReady
from penstock.registry.records import Author, Document

RECORDER_S = 10.0
"""How long a request waits at the start until the registry is open."""


class Recorder(Protocol):
    """Adds entries to the audit."""

    async def record(
        self, action: str, subject: str, by: Author, model: str = "", after: Document | None = None
    ) -> None:
        """Add an entry; raises ``NotReady`` if that is not possible."""

    def count_kinds(self, kinds: Iterable[Document]) -> None:
        """Record refused requests of a worker."""


class Repository(Protocol):
    """Loads and unloads models."""

    async def load(self, model: str, config: str | None) -> None:
        """Load a model, or load it again."""

    async def unload(self, model: str) -> None:
        """Stop serving a model."""


class AuditedRequests:
    """Performs repository requests; belongs to the event loop. A request that cannot be recorded is refused."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._recorder: Recorder | None = None
        self._opened = asyncio.Event()

    def record_with(self, recorder: Recorder) -> None:
        """Record with this recorder from now on."""
        self._recorder = recorder
        self._opened.set()

    def count_refused(self, kinds: Iterable[Document]) -> None:
        """Record requests that access control refused on the data ports, once there is a recorder."""
        if self._recorder is not None:
            self._recorder.count_kinds(kinds)

    async def load(self, model: str, config: str | None, by: Author) -> None:
        """Load a model, or load it again; raises as ``Reconciler.load``, and ``NotReady`` if it cannot be recorded."""
        await self._record("model.load", model, by, {"config": config is not None})
        await self._repository.load(model, config)

    async def unload(self, model: str, by: Author) -> None:
        """Stop serving a model; raises as ``Reconciler.unload``, and ``NotReady`` if it cannot be recorded."""
        await self._record("model.unload", model, by, None)
        await self._repository.unload(model)

    async def _record(self, action: str, model: str, by: Author, after: Document | None) -> None:
        try:
            async with asyncio.timeout(RECORDER_S):
                await self._opened.wait()
        except TimeoutError:
            raise NotReady("the gateway is starting; try again") from None
        if self._recorder is not None:
            await self._recorder.record(action, "repository", by, model[:128], after)
