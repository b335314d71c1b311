"""Keeps the access table current: API keys from the database, keys of token issuers, and what the settings say.

A change reaches this process and its workers within a second, also one that another gateway or a command made.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from penstock.control.access.authenticator import Authenticator
from penstock.control.access.key_sets import EarlyFetches, KeySets
from penstock.control.calls.blocking import BlockingPool, pool_readings
from penstock.control.calls.repeated_read import Mark, read_always
from penstock.control.periodic import PeriodicTask
from penstock.core.access.documents import decode_table, encode_table
from penstock.core.access.table import AccessTable, KeyRecord
from penstock.core.errors import Fault
from penstock.engine.durable_files import write_atomically
from penstock.telemetry.readings import Reading

log = logging.getLogger("penstock.control")

LOOK_S: Final = 0.4
"""Time between two looks at the registry's revision and at files: with the way to the workers, less than a second."""

FETCH_S: Final = 60.0
START_S: Final = 3.0
"""Longest wait for the database at the start; then the keys that were last known are used."""

_MEANWHILE = "the API keys that were last known stay in use"


class KeyReader(Protocol):
    """The reads of the registry's keys that the table needs; both block and raise ``NotReady``."""

    def revision(self) -> int:
        """Return a number that grows by every change."""

    def list_valid(self) -> tuple[KeyRecord, ...]:
        """Return the keys that are valid now."""


@dataclass(frozen=True, slots=True)
class AccessSources:
    """Where the table comes from: ``settings`` has what they say of it, ``keys`` is None where API keys are off, and
    ``file`` keeps the table for the next process. ``unknown_keys`` counts the tokens that stated a key which
    their issuer did not have. ``mark`` is that of the database."""

    settings: AccessTable
    keys: KeyReader | None
    key_sets: KeySets
    file: Path
    unknown_keys: Callable[[], int] = int
    mark: Mark = read_always


class AccessTables:
    """Brings every change to the authenticator of this process and to ``publish``, which sends it to the workers.

    ``start``, then run ``tasks``. Belongs to the event loop. ``now`` gives seconds since the epoch, and
    ``clock`` is monotonic.
    """

    def __init__(
        self,
        sources: AccessSources,
        authenticator: Authenticator,
        publish: Callable[[AccessTable], None],
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = sources
        self._authenticator = authenticator
        self._publish = publish
        self._now = now
        self._clock = clock
        self._early_fetches = EarlyFetches()
        self._revision: int | None = None
        self._read_at: object = None
        self._keys: tuple[KeyRecord, ...] = ()
        self._table: AccessTable | None = None
        self._unwritten = False
        self._one_at_a_time = asyncio.Lock()
        self._reads = BlockingPool("access", 2)
        self._fetches = BlockingPool("key_sets", 1, "the issuer of tokens", 3 * FETCH_S)
        self.pools = (self._reads, self._fetches)
        self._task = PeriodicTask("access", self.refresh, LOOK_S, meanwhile=_MEANWHILE)
        self._fetching = PeriodicTask("key_sets", self._fetch, FETCH_S)

    @property
    def tasks(self) -> tuple[PeriodicTask, ...]:
        """The tasks that keep the table current; none without authentication."""
        if not self._sources.settings.enabled:
            return ()
        return (self._task, *((self._fetching,) if self._sources.key_sets.has_addresses else ()))

    async def start(self) -> None:
        """Publish the first table; while the database is away, with the keys that an earlier process kept."""
        if not self._sources.settings.enabled:
            self._use(self._sources.settings)
            return
        kept = await self._reads.call(_read_kept, self._sources.file)
        if kept is not None:
            self._table, self._keys = kept, kept.keys if self._sources.keys else ()
            self._sources.key_sets.restore(kept.issuers)
        await self._reads.call(self._sources.key_sets.read_files)
        try:
            await self._read_keys(START_S)
        except Fault as fault:
            log.warning("the API keys cannot be read from the database; those last known are used: %s", fault)
        await self._apply()

    async def refresh(self) -> None:
        """Publish what has changed; raises ``NotReady`` while the database is away."""
        if self._early_fetches.is_due(self._sources.unknown_keys(), self._clock()):
            self._fetching.wake()
        async with self._one_at_a_time:
            if self._sources.key_sets.has_files:
                await self._reads.call(self._sources.key_sets.read_files)
            try:
                await self._read_keys()
            finally:
                await self._apply()

    def readings(self) -> Iterator[Reading]:
        """Return the readings of the thread pools."""
        return pool_readings(self.pools)

    def close(self) -> None:
        """End the threads."""
        for pool in self.pools:
            pool.close()

    async def _read_keys(self, deadline_s: float | None = None) -> None:
        keys = self._sources.keys
        if keys is None:
            return
        mark = self._sources.mark()
        if mark is not None and mark == self._read_at:
            return
        self._read_at = None
        revision = await self._reads.call(keys.revision, deadline_s=deadline_s)
        if revision != self._revision:
            self._keys = await self._reads.call(keys.list_valid, deadline_s=deadline_s)
            self._revision = revision
        self._read_at = mark

    async def _fetch(self) -> None:
        self._early_fetches.begin(self._sources.unknown_keys(), self._clock())
        await self._fetches.call(self._sources.key_sets.fetch)
        async with self._one_at_a_time:
            await self._apply()

    async def _apply(self) -> None:
        """Use and publish the table as it is now, if it differs from the present one."""
        epoch = 0 if self._table is None else self._table.epoch
        issuers = self._sources.key_sets.issuers()
        table = replace(self._sources.settings, epoch=epoch, keys=self._keys, issuers=issuers)
        if table == self._authenticator.table:
            return
        # The epoch grows also over restarts of this process, which the workers outlive.
        table = replace(table, epoch=max(epoch + 1, int(self._now() * 1000)))
        self._use(table)
        await self._reads.call(self._write, table)

    def _use(self, table: AccessTable) -> None:
        self._table = table
        self._authenticator.use(table)
        self._publish(table)

    def _write(self, table: AccessTable) -> None:
        try:
            write_atomically(self._sources.file, json.dumps(encode_table(table)))
            self._unwritten = False
        except OSError as error:
            if not self._unwritten:
                log.warning("the last known API keys cannot be saved: %s", error.strerror or type(error).__name__)
            self._unwritten = True


def _read_kept(file: Path) -> AccessTable | None:
    try:
        return decode_table(json.loads(file.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
