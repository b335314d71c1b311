"""Mirrors an MLflow server into the registry: a pure decision from both, and a thin loop that performs it.

MLflow only adds to what is here. Versions that people pushed are never touched, and what an operator retired stays so.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from penstock.control.calls.blocking import BlockingPool
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.core.errors import NotReady, Refused
from penstock.engine.scratch import scratch_folder, temporary_folder
from penstock.registry.contents.archive import pack
from penstock.registry.mlflow.source import SOURCE, MlflowVersion
from penstock.registry.records import Author, Document, ModelRecord, VersionState

log = logging.getLogger("penstock.control")

RETRY_S = 3600.0
"""Maximum interval between two attempts of a failing action: each one downloads a version's files again."""

OVERDUE_S = 3600.0
"""Maximum versions to copy in one synchronisation."""

LIST_S = 300.0
"""Deadline of one read of everything in MLflow."""

DOWNLOADS = 4
"""Maximum concurrent copies of versions: a slow one leaves capacity for the others."""

BESIDE_S = 5.0
"""Time after which a synchronisation stops waiting for open copies; they continue in the background."""

DOWNLOAD_S = 3600.0
"""Deadline of one call, which may download a large version; MLflow's client limits each request itself."""


@dataclass(frozen=True, slots=True)
class PushVersion:
    """Copy a version into the registry."""

    wanted: MlflowVersion

    def __str__(self) -> str:
        return f"version {self.wanted.version} of model {self.wanted.model}"


@dataclass(frozen=True, slots=True)
class MoveAlias:
    """Point an alias at the version it has in MLflow."""

    model: str
    alias: str
    version: str
    expected: str | None

    def __str__(self) -> str:
        return f"alias {self.alias} of model {self.model}"


@dataclass(frozen=True, slots=True)
class DropAlias:
    """Delete an alias that MLflow had at the last read and no longer has."""

    model: str
    alias: str

    def __str__(self) -> str:
        return f"alias {self.alias} of model {self.model}"


@dataclass(frozen=True, slots=True)
class RetireVersion:
    """Retire a version that MLflow no longer has."""

    model: str
    version: str

    def __str__(self) -> str:
        return f"the end of version {self.version} of model {self.model}"


SyncAction = PushVersion | MoveAlias | DropAlias | RetireVersion


def model_of(action: SyncAction) -> str:
    """Return the model of an action."""
    return action.wanted.model if isinstance(action, PushVersion) else action.model


def next_action(
    wanted: Sequence[MlflowVersion],
    present: Mapping[str, ModelRecord],
    before: Sequence[MlflowVersion],
    given_up: Collection[SyncAction],
) -> SyncAction | None:
    """What to do next so that the registry becomes like ``wanted``, if anything.

    ``before`` is what MLflow had at the last look; an empty answer asks for nothing.
    """
    if not wanted:
        return None
    for action in (
        *_plan_pushes(wanted, present),
        *_plan_moves(wanted, present),
        *_plan_drops(wanted, before, present),
        *_plan_retirements(wanted, present),
    ):
        if action not in given_up:
            return action
    return None


def _plan_pushes(wanted: Sequence[MlflowVersion], present: Mapping[str, ModelRecord]) -> list[SyncAction]:
    return [
        PushVersion(item)
        for item in wanted
        if item.model not in present or item.version not in present[item.model].versions
    ]


def _plan_moves(wanted: Sequence[MlflowVersion], present: Mapping[str, ModelRecord]) -> list[SyncAction]:
    moves: list[SyncAction] = []
    for item in wanted:
        model = present.get(item.model)
        record = model.versions.get(item.version) if model else None
        if model is None or record is None or record.state is not VersionState.ADMITTED:
            continue
        for alias in item.aliases:
            leads = model.aliases[alias].version if alias in model.aliases else None
            if leads != item.version:
                moves.append(MoveAlias(item.model, alias, item.version, leads))
    return moves


def _plan_drops(
    wanted: Sequence[MlflowVersion], before: Sequence[MlflowVersion], present: Mapping[str, ModelRecord]
) -> list[SyncAction]:
    now = {(item.model, alias) for item in wanted for alias in item.aliases}
    then = {(item.model, alias) for item in before for alias in item.aliases}
    return [
        DropAlias(model, alias)
        for model, alias in sorted(then - now)
        if model in present and alias in present[model].aliases
    ]


def _plan_retirements(wanted: Sequence[MlflowVersion], present: Mapping[str, ModelRecord]) -> list[SyncAction]:
    keys = {(item.model, item.version) for item in wanted}
    return [
        RetireVersion(model.name, record.version)
        for model in present.values()
        for record in model.versions.values()
        if record.metadata.get("source") == SOURCE
        and record.state is VersionState.ADMITTED
        and (model.name, record.version) not in keys
        and not any(alias.version == record.version for alias in model.aliases.values())
    ]


class MlflowServer(Protocol):
    """The MLflow server; its methods block."""

    def wanted(self) -> list[MlflowVersion]:
        """Return its models and versions."""

    def download(self, wanted: MlflowVersion, into: Path) -> dict[str, Path]:
        """Download the files of a version."""

    def lineage(self, wanted: MlflowVersion) -> Document:
        """Return the origin of a version."""


class AliasedRegistry(Protocol):
    """Performs changes of the registry."""

    async def push(
        self, model: str, version: str, chunks: AsyncIterator[bytes], metadata: Document, by: Author
    ) -> tuple[Document, bool]:
        """Push a version."""

    async def alias(self, model: str, alias: str, version: str, by: Author, expected: str | None) -> Document:
        """Move an alias."""

    async def drop_alias(self, model: str, alias: str, by: Author) -> Document:
        """Delete an alias."""

    async def retire(self, model: str, version: str, by: Author) -> Document:
        """Retire a version."""


class MlflowSync:
    """Reads MLflow every ``poll_s`` seconds and performs the resulting actions; ``records`` returns the registry's
    records, and raises ``NotReady`` while it is unreachable.
    """

    def __init__(
        self,
        source: MlflowServer,
        registry_admin: AliasedRegistry,
        records: Callable[[], list[ModelRecord]],
        poll_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._registrar = registry_admin
        self._lists = BlockingPool("mlflow", 1, "MLflow", LIST_S)
        self._downloads = BlockingPool("mlflow_downloads", DOWNLOADS, "MLflow", DOWNLOAD_S)
        self._reads = BlockingPool("mlflow_records", 1)
        self.pools = (self._lists, self._downloads, self._reads)
        self._pushing: dict[PushVersion, asyncio.Task[None]] = {}
        self._registering = asyncio.Lock()
        self._records = records
        self._looking = False
        self._before: list[MlflowVersion] = []
        meanwhile = "MLflow is not mirrored"
        self.task = PeriodicTask("mlflow", self.step, poll_s, overdue_s=OVERDUE_S, meanwhile=meanwhile, clock=clock)
        self._keyed: KeyedWork[SyncAction] = KeyedWork(self.task, "not taken over from MLflow:", (poll_s, RETRY_S))

    def wake(self) -> None:
        """Synchronise now."""
        self.task.wake()

    async def step(self) -> None:
        """Synchronise once; a failing action is postponed alone, and a slow copy continues in the background."""
        wanted = await self._lists.call(self._source.wanted)
        tried: set[SyncAction] = set()
        self._looking = True
        try:
            while await self._start_next(wanted, tried) or await self._wait_for_any():
                pass
        except asyncio.CancelledError:
            for task in self._pushing.values():
                task.cancel()
            raise
        finally:
            self._looking = False
        if wanted:
            self._before = [*wanted, *self._pending_drops()]

    def _pending_drops(self) -> list[MlflowVersion]:
        """The aliases whose removal has failed, as MLflow had them: their removal is tried again."""
        failed = [action for action in self._keyed.put_off() if isinstance(action, DropAlias)]
        return [MlflowVersion(action.model, "", aliases=(action.alias,)) for action in failed]

    async def _start_next(self, wanted: Sequence[MlflowVersion], tried: set[SyncAction]) -> bool:
        """Perform or begin one action; return False if there is none now."""
        action = await self._next(wanted, tried)
        if action is None:
            return False
        tried.add(action)
        if isinstance(action, PushVersion):
            task = self._pushing[action] = asyncio.create_task(self._perform_isolated(action))
            task.add_done_callback(partial(self._note_ended, action))
        else:
            await self._perform_isolated(action)
        return True

    def _note_ended(self, push: PushVersion, _: "asyncio.Task[None]") -> None:
        del self._pushing[push]
        if not self._looking:
            self.task.wake()  # its aliases follow, and its place is free

    async def _wait_for_any(self) -> bool:
        """Wait until one open copy is complete; return False if there is none, or if all are slow."""
        if not self._pushing:
            return False
        done, _ = await asyncio.wait(self._pushing.values(), timeout=BESIDE_S, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    def problems(self, model: str) -> list[str]:
        """Return what could not be copied of a model, and why."""
        return [f"{item}: {why}" for item, why in self._keyed.problems.items() if model_of(item) == model]

    async def _next(self, wanted: Sequence[MlflowVersion], tried: Collection[SyncAction]) -> SyncAction | None:
        """What is to be done, but what has been tried in this step, is under way or is put off."""
        present = {record.name: record for record in await self._reads.call(self._records)}
        passed: set[SyncAction] = {*tried, *self._pushing, *self._keyed.put_off()}
        if len(self._pushing) >= DOWNLOADS:
            passed |= {PushVersion(item) for item in wanted}
        return next_action(wanted, present, self._before, passed)

    async def _perform_isolated(self, action: SyncAction) -> None:
        with self._keyed.isolated(action):
            await self._perform(action)

    async def _perform(self, action: SyncAction) -> None:
        match action:
            case PushVersion():
                await self._push(action.wanted)
            case MoveAlias():
                by = Author(SOURCE, "as in MLflow")
                await self._registrar.alias(action.model, action.alias, action.version, by, action.expected)
            case DropAlias():
                await self._registrar.drop_alias(action.model, action.alias, Author(SOURCE, "no more in MLflow"))
            case RetireVersion():
                await self._registrar.retire(action.model, action.version, Author(SOURCE, "no more in MLflow"))
        log.info("%s was taken over from MLflow", action)

    async def _push(self, wanted: MlflowVersion) -> None:
        scratch = await self._lists.call(scratch_folder, temporary_folder(), "mlflow")
        try:
            files, lineage = await self._downloads.call(self._fetch, wanted, scratch.path)
            by = Author(SOURCE, "registered in MLflow")
            async with self._registering:  # one at a time: people push too
                await self._registrar.push(wanted.model, wanted.version, self._chunks(files), lineage, by)
        finally:
            with suppress(NotReady):  # what took place counts, whether or not its files are gone
                await self._lists.call(scratch.discard)

    async def _chunks(self, files: dict[str, Path]) -> AsyncIterator[bytes]:
        """A bare graph as it is, several files as a tar."""
        chunks = _read_chunks(next(iter(files.values()))) if len(files) == 1 else pack(files)
        while chunk := await self._downloads.call(next, chunks, b""):
            yield chunk

    def _fetch(self, wanted: MlflowVersion, folder: Path) -> tuple[dict[str, Path], Document]:
        """A version's files and lineage. That they cannot be fetched concerns this version alone: MLflow has just
        answered."""
        try:
            return self._source.download(wanted, folder), self._source.lineage(wanted)
        except NotReady as fault:
            raise Refused(f"it cannot be fetched: {fault}", fault.detail) from None


def _read_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk
