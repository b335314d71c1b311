"""Keeps the registry like an MLflow server: a pure decision from both, and a thin loop that performs it.

MLflow only adds to what is here. Versions that people pushed are never touched, and what an operator retired stays so.
"""

import asyncio
import logging
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from penstock.core.errors import Conflict, Fault, InvalidInput, Refused
from penstock.registry.contents.archive import pack
from penstock.registry.mlflow.source import SOURCE, Wanted
from penstock.registry.records import By, Document, ModelRecord, VersionState

log = logging.getLogger("penstock.control")

RETRY_S = 600.0
"""What could not be done is tried again after that long."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Push:
    """Bring a version in."""

    wanted: Wanted


@dataclass(frozen=True, slots=True)
class MoveAlias:
    """Lead an alias to where it leads in MLflow."""

    model: str
    alias: str
    version: str
    expected: str | None


@dataclass(frozen=True, slots=True)
class DropAlias:
    """Take an alias away that MLflow had at the last look and has no more."""

    model: str
    alias: str


@dataclass(frozen=True, slots=True)
class Retire:
    """Take a version out of service that MLflow has no more."""

    model: str
    version: str


Action = Push | MoveAlias | DropAlias | Retire


def next_action(
    wanted: Sequence[Wanted], present: Mapping[str, ModelRecord], before: Sequence[Wanted], given_up: Collection[Action]
) -> Action | None:
    """What to do next so that the registry becomes like ``wanted``, if anything.

    ``before`` is what MLflow had at the last look; an empty answer asks for nothing.
    """
    if not wanted:
        return None
    for action in (
        *_pushes(wanted, present),
        *_moves(wanted, present),
        *_drops(wanted, before, present),
        *_retirements(wanted, present),
    ):
        if action not in given_up:
            return action
    return None


def _pushes(wanted: Sequence[Wanted], present: Mapping[str, ModelRecord]) -> list[Action]:
    return [Push(one) for one in wanted if one.model not in present or one.version not in present[one.model].versions]


def _moves(wanted: Sequence[Wanted], present: Mapping[str, ModelRecord]) -> list[Action]:
    moves: list[Action] = []
    for one in wanted:
        model = present.get(one.model)
        record = model.versions.get(one.version) if model else None
        if model is None or record is None or record.standing is not VersionState.ADMITTED:
            continue
        for alias in one.aliases:
            leads = model.aliases[alias].version if alias in model.aliases else None
            if leads != one.version:
                moves.append(MoveAlias(one.model, alias, one.version, leads))
    return moves


def _drops(wanted: Sequence[Wanted], before: Sequence[Wanted], present: Mapping[str, ModelRecord]) -> list[Action]:
    now = {(one.model, alias) for one in wanted for alias in one.aliases}
    then = {(one.model, alias) for one in before for alias in one.aliases}
    return [
        DropAlias(model, alias)
        for model, alias in sorted(then - now)
        if model in present and alias in present[model].aliases
    ]


def _retirements(wanted: Sequence[Wanted], present: Mapping[str, ModelRecord]) -> list[Action]:
    keys = {(one.model, one.version) for one in wanted}
    return [
        Retire(model.name, record.version)
        for model in present.values()
        for record in model.versions.values()
        if record.metadata.get("source") == SOURCE
        and record.standing is VersionState.ADMITTED
        and (model.name, record.version) not in keys
        and not any(alias.version == record.version for alias in model.aliases.values())
    ]


class Source(Protocol):
    """The MLflow server; blocking."""

    def wanted(self) -> list[Wanted]:
        """What it has."""

    def download(self, wanted: Wanted, into: Path) -> dict[str, Path]:
        """The files of a version."""

    def lineage(self, wanted: Wanted) -> Document:
        """Where a version comes from."""


class RegistryAdmin(Protocol):
    """What changes the registry."""

    async def push(
        self, model: str, version: str, chunks: AsyncIterator[bytes], metadata: Document, by: By
    ) -> tuple[Document, bool]:
        """A new version."""

    async def alias(self, model: str, alias: str, version: str, by: By, expected: str | None) -> Document:
        """Move an alias."""

    async def drop_alias(self, model: str, alias: str, by: By) -> Document:
        """Take an alias away."""

    async def retire(self, model: str, version: str, by: By) -> Document:
        """Take a version out of service."""


class MlflowSync:
    """Looks at MLflow every ``poll_s`` seconds and does what follows; ``clock`` is monotonic, in seconds."""

    def __init__(
        self,
        source: Source,
        registry_admin: RegistryAdmin,
        records: Callable[[], list[ModelRecord]],
        poll_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._registrar = registry_admin
        self._records = records
        self._poll_s = poll_s
        self._clock = clock
        self._before: list[Wanted] = []
        self._given_up: dict[Action, float] = {}
        self._woken = asyncio.Event()
        self._complaint = ""

    def wake(self) -> None:
        """Look at once."""
        self._woken.set()

    async def run(self) -> None:
        """MlflowSync until cancelled."""
        while True:
            self._woken.clear()
            await self.step()
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def step(self) -> None:
        """Look once, and do everything that follows."""
        try:
            wanted = await asyncio.to_thread(self._source.wanted)
            while (action := await self._next(wanted)) is not None:
                await self._perform(action)
        except Fault as fault:
            if str(fault) != self._complaint:
                log.warning("MLflow is not mirrored: %s", fault)
            self._complaint = str(fault)
            return
        self._complaint = ""
        if wanted:
            self._before = wanted

    async def _next(self, wanted: Sequence[Wanted]) -> Action | None:
        now = self._clock()
        self._given_up = {action: until for action, until in self._given_up.items() if until > now}
        present = {record.name: record for record in await asyncio.to_thread(self._records)}
        return next_action(wanted, present, self._before, self._given_up)

    async def _perform(self, action: Action) -> None:
        try:
            match action:
                case Push():
                    await self._push(action.wanted)
                case MoveAlias():
                    by = By(SOURCE, "as in MLflow")
                    await self._registrar.alias(action.model, action.alias, action.version, by, action.expected)
                case DropAlias():
                    await self._registrar.drop_alias(action.model, action.alias, By(SOURCE, "no more in MLflow"))
                case Retire():
                    await self._registrar.retire(action.model, action.version, By(SOURCE, "no more in MLflow"))
        except (Refused, Conflict, InvalidInput) as fault:
            log.warning("%s was not taken over from MLflow: %s", _subject(action), fault)
            self._given_up[action] = self._clock() + RETRY_S
        else:
            log.info("%s was taken over from MLflow", _subject(action))

    async def _push(self, wanted: Wanted) -> None:
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="penstock-mlflow-"))
        try:
            files = await asyncio.to_thread(self._source.download, wanted, folder)
            lineage = await asyncio.to_thread(self._source.lineage, wanted)
            by = By(SOURCE, "registered in MLflow")
            await self._registrar.push(wanted.model, wanted.version, _chunks(files), lineage, by)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _chunks(files: dict[str, Path]) -> AsyncIterator[bytes]:
    """A bare graph as it is, several files as a tar."""
    chunks = _plain(next(iter(files.values()))) if len(files) == 1 else pack(files)
    while chunk := await asyncio.to_thread(next, chunks, b""):
        yield chunk


def _plain(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk


def _subject(action: Action) -> str:
    match action:
        case Push(wanted):
            return f"version {wanted.version} of model {wanted.model}"
        case Retire(model, version):
            return f"the end of version {version} of model {model}"
        case MoveAlias(model, alias) | DropAlias(model, alias):
            return f"alias {alias} of model {model}"
