"""Erases the rows of a subject at every gateway, on request, and reports what was removed.

Each home erases in its own files; a home that is away does so when it is back. Rows that were gathered for references
are in the database, and erased by each of them.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from penstock.control.calls.blocking import BlockingPool
from penstock.control.monitoring.references.gathered_rows import GatheredRows
from penstock.control.periodic import PeriodicTask
from penstock.control.privacy.gathered_erasure import packed_without_subject, rows_without_subject
from penstock.control.privacy.home_erasure import HomeErasure
from penstock.core.erasure import ErasureReport, SubjectKey
from penstock.core.versions import VersionKey
from penstock.registry.records import Author, Document
from penstock.registry.stores.erasures import Erasure, ErasureState, ErasureStore
from penstock.registry.stores.gathered import GatheredStore

log = logging.getLogger("penstock.control")

LOOK_S, OWN_LOOK_S = 5.0, 300.0
"""Time between two looks for erasures that other gateways were asked for, and for own ones that a crash interrupted."""

ERASE_S: Final = 600.0
"""Deadline of one erasure in the files of a home."""

WAIT_S: Final = 60.0
SILENT_S: Final = 15.0
"""Time to wait for other homes, and silence after which one is not awaited."""

POLL_S: Final = 0.25

ChangeRows = Callable[[Callable[[VersionKey, GatheredRows], GatheredRows]], int]
"""Changes the gathered rows that wait in this process; returns how many are gone."""


class ErasureWork:
    """What one home does for erasures. Calls block; one thread may use it at a time."""

    def __init__(
        self, store: ErasureStore, gathered: GatheredStore, home: HomeErasure, name: Callable[[], str]
    ) -> None:
        self.store = store
        self._gathered = gathered
        self._home = home
        self._name = name

    def open(self) -> list[Erasure]:
        """Return the erasures that this home has not answered; raises ``NotReady``."""
        return self.store.open(self._name())

    def answer(self, erasure: Erasure, waiting: int = 0) -> None:
        """Erase, and store what was removed; ``waiting`` rows that were gathered are gone already.

        Raises:
            NotReady: the database is away.
        """
        report = self._home.erase(erasure.model, erasure.key)
        stored = self._gathered.erase(erasure.model, lambda version, rows: self._packed(version, rows, erasure.key))
        self.store.answer(erasure.id, self._name(), report + ErasureReport(gathered=max(waiting, stored)))

    def without_subject(self, erasure: Erasure, version: VersionKey, rows: GatheredRows) -> GatheredRows:
        """Return gathered rows of a version without those of the subject."""
        if erasure.model not in (None, version[0]):
            return rows
        return rows_without_subject(rows, erasure.key, self._home.features(version))

    def _packed(self, version: VersionKey, rows: bytes, key: SubjectKey) -> tuple[int, int, bytes] | None:
        try:
            return packed_without_subject(rows, key, self._home.features(version))
        except ValueError:  # of another release: references leave them out too
            return None


class Erasures:
    """The erasures of one gateway, on one event loop; ``is_shared`` says whether others may share the registry."""

    def __init__(
        self, work: ErasureWork, waiting: ChangeRows, *, is_shared: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._work = work
        self._store = work.store
        self._waiting = waiting
        self._is_shared = is_shared
        self._clock = clock
        self._pool = BlockingPool("erasures", 2, "the erasure", ERASE_S)
        self._erasing = asyncio.Lock()
        self.pools = (self._pool,)
        look_s = LOOK_S if is_shared else OWN_LOOK_S
        self.task = PeriodicTask("erasures", self.step, look_s, delay_s=LOOK_S, meanwhile="erasures wait")

    async def forget(self, model: str | None, key: SubjectKey, by: Author) -> Document:
        """Erase the rows of a subject of a model (None: of all), and return what was removed, in all and by home.

        Raises:
            NotReady: the database is away. What was asked for is erased later; the request can also be repeated.
        """
        erasure: Erasure = await self._pool.call(self._store.ask, model, key, by)
        await self.step()
        result = erasure_result(await self._await_others(erasure))
        await self._pool.call(partial(self._store.finish, erasure, result, by, is_shared=self._is_shared))
        log.info("erasure %s has removed %s", erasure.id, result["removed"])
        return {"id": erasure.id, **result}

    async def step(self) -> None:
        """Answer the erasures that this home has not answered; raises ``NotReady`` while the database is away."""
        async with self._erasing:
            for erasure in await self._pool.call(self._work.open):
                waiting = self._waiting(lambda *rows, of=erasure: self._work.without_subject(of, *rows))
                await self._pool.call(self._work.answer, erasure, waiting)

    async def _await_others(self, erasure: Erasure) -> ErasureState:
        """Return the state when no living home is awaited any longer."""
        until = self._clock() + WAIT_S
        state: ErasureState = await self._pool.call(self._store.state, erasure.id)
        while self._clock() < until and any(silent_s <= SILENT_S for silent_s in state.missing.values()):
            await asyncio.sleep(POLL_S)
            state = await self._pool.call(self._store.state, erasure.id)
        return state

    def close(self) -> None:
        """End the threads."""
        self._pool.close()


def erasure_result(state: ErasureState) -> Document:
    """Return what was removed, in all and by home, and the homes that have not answered."""
    total = sum(state.reports.values(), ErasureReport()).document()
    return {
        "removed": {name: count for name, count in total.items() if name != "problems"},
        "problems": total["problems"],
        "homes": {home: report.document() for home, report in sorted(state.reports.items())},
        "missing": {home: f"it has been silent for {silent:.0f} s" for home, silent in sorted(state.missing.items())},
    }
