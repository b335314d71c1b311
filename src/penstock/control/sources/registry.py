"""The registry as a source of models: what should exist there, laid out on this machine."""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from penstock.control.calls.blocking import BlockingPool
from penstock.control.periodic import Complaints
from penstock.control.reconcile.planner import Found, Materialized
from penstock.core.errors import Fault, NotReady
from penstock.core.lineage import card_features
from penstock.core.versions import sort_key
from penstock.registry.admission.row_proof import proof_in
from penstock.registry.db.rows import UNKNOWN_FORM
from penstock.registry.graphs.rewrite import Rewrite
from penstock.registry.records import Content, ModelRecord, VersionRecord, VersionState
from penstock.registry.stores.snapshot import RegistrySnapshot

log = logging.getLogger("penstock.control")

FETCHING = "its content is being fetched"
RETRY_S = 15.0
"""A content that could not be laid out is tried again after that long."""

PLACES = 2
"""Contents that are laid out at a time."""

SCANS = 2
LAYOUT_S = 3600.0
"""Deadline of fetching and laying out one content."""

OPENING_S = 660.0
"""Deadline of the first look where nothing is known yet: a database may be migrated before it is read."""

MOMENT_S = 0.05


class ContentLayout(Protocol):
    """Lays contents out; may block."""

    def place(self, content: Content, rewrite: Rewrite | None) -> tuple[Path, Path]:
        """The folder and the graph of a content on this machine, the graph changed as admission had it changed."""


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    until: float


class RegistrySource:
    """Offers every admitted version that is laid out; lays out those that are wanted. See ``reconciler.Source``.

    ``clock`` is monotonic, in seconds.
    """

    def __init__(
        self, picture: RegistrySnapshot, shelf: ContentLayout, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._picture = picture
        self._shelf = shelf
        self._reads = BlockingPool("registry_scans", SCANS)
        self._layouts = BlockingPool("layouts", PLACES, "the registry's store of contents", LAYOUT_S)
        self.pools = (self._reads, self._layouts)
        self._clock = clock
        self._seen: Sequence[ModelRecord] = ()
        self._known: dict[str, ModelRecord] = {}
        self._placed: dict[str, tuple[Path, Path]] = {}
        self._failures: dict[str, _Failure] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._complaints = Complaints()
        self._room = asyncio.Semaphore(PLACES)

    async def scan(self, settled_only: bool, retry: str = "") -> Sequence[Found]:
        """Every model with a version that is not retired; contents on their way are waited for unless ``settled_only``.
        What failed of the model ``retry`` is tried again at once.

        Raises:
            NotReady: the database is away, and what it said last is not known either.
        """
        models = self._understood(await self._models())
        records = [record for model in models for record in _wanted(model)]
        self._forget(models, retry)
        self._begin(records)
        await self._wait(records, MOMENT_S if settled_only else None)
        return [self._found(model) for model in models if _admitted(model)]

    async def _models(self) -> Sequence[ModelRecord]:
        """Every model; at the start, as it was last known where the database is slow, and later where nothing is."""
        try:
            return await self._reads.call(self._picture.models)
        except NotReady as fault:
            if self._seen:
                raise
            known = await self._reads.call(self._picture.recalled, str(fault))
            if known is not None:
                return known
            return await self._reads.call(self._picture.models, deadline_s=OPENING_S)

    def _understood(self, models: Sequence[ModelRecord]) -> Sequence[ModelRecord]:
        """The same, with what was understood before of those whose reports are of a form this release does not know."""
        if models is not self._seen:
            self._seen = models
            found = {model.name: self._checked(model) for model in models}
            self._known = {name: model for name, model in found.items() if model is not None}
        return list(self._known.values())

    def _checked(self, model: ModelRecord) -> ModelRecord | None:
        try:
            for record in _admitted(model):
                _placed(record, Path(), Path())
        except UNKNOWN_FORM as error:
            log.error(
                "model %s cannot be served as it is now: a report of a form that is not known: %s", model.name, error
            )
            return self._known.get(model.name)
        return model

    def _forget(self, models: Sequence[ModelRecord], retry: str) -> None:
        """Forget what was laid out of contents that no version has any more, which collection may delete; what is to be
        tried again is laid out again, and so checked."""
        places = {model.name: {_place_of(record) for record in _admitted(model)} for model in models}
        again = places.get(retry, set())
        kept = set().union(*places.values()) - again
        self._placed = {key: place for key, place in self._placed.items() if key in kept}
        self._failures = {key: failure for key, failure in self._failures.items() if key in kept}

    async def place(self, record: VersionRecord) -> None:
        """Have one version laid out; why it cannot be is told by the next scan."""
        self._failures.pop(_place_of(record), None)
        self._begin([record])
        await self._wait([record], None)

    async def close(self) -> None:
        """Stop laying contents out."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for pool in self.pools:
            pool.close()

    def _begin(self, records: Iterable[VersionRecord]) -> None:
        for record in records:
            key = _place_of(record)
            failed = self._failures.get(key)
            if key in self._placed or key in self._tasks or (failed and failed.until > self._clock()):
                continue
            task = self._tasks[key] = asyncio.create_task(self._lay_out(key, record))
            task.add_done_callback(lambda _, key=key: self._tasks.pop(key))  # type: ignore[misc]

    async def _lay_out(self, key: str, record: VersionRecord) -> None:
        digest = record.content.digest
        async with self._room:
            try:
                self._placed[key] = await self._layouts.call(self._shelf.place, record.content, record.rewrite)
                self._failures.pop(key, None)
                self._complaints.over(digest)
            except Fault as fault:
                self._complaints.tell(digest, f"content {digest} cannot be laid out: {fault.whole}", fault)
                self._failures[key] = _Failure(str(fault), self._clock() + RETRY_S)
            except Exception as error:
                self._complaints.tell(digest, f"content {digest} cannot be laid out", error)
                self._failures[key] = _Failure("it cannot be laid out", self._clock() + RETRY_S)

    async def _wait(self, records: Iterable[VersionRecord], seconds: float | None) -> None:
        keys = [_place_of(record) for record in records]
        tasks = [self._tasks[key] for key in keys if key in self._tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    def _found(self, model: ModelRecord) -> Found:
        versions, broken = {}, {}
        wanted = {record.version for record in _wanted(model)}
        for record in _admitted(model):
            place = self._placed.get(_place_of(record))
            if place is not None:
                versions[record.version] = _placed(record, *place)
            elif record.version in wanted:
                failed = self._failures.get(_place_of(record))
                broken[record.version] = failed.reason if failed else FETCHING
        return Found(
            model.name,
            versions,
            broken,
            model.settings.versions,
            aliases={alias.alias: alias.version for alias in model.aliases.values()},
            transition=model.settings.transition,
            keep_warm_s=model.settings.keep_warm_s,
            route=model.route,
        )


def _admitted(model: ModelRecord) -> list[VersionRecord]:
    return [record for record in model.versions.values() if record.standing is VersionState.ADMITTED]


def _wanted(model: ModelRecord) -> list[VersionRecord]:
    """The versions that have to be on this machine: the policy's choice and those an alias or the route leads to."""
    admitted = {record.version: record for record in _admitted(model)}
    routed = set() if model.route is None else model.route.receivers()
    named = {*(alias.version for alias in model.aliases.values()), *routed} & admitted.keys()
    return [admitted[version] for version in sorted({*model.settings.versions.choose(admitted), *named}, key=sort_key)]


def _place_of(record: VersionRecord) -> str:
    """Names what is laid out of a version: its content, and how its graph is changed."""
    rewrite = record.rewrite
    return record.content.digest if rewrite is None else f"{record.content.digest} {rewrite.digest}"


def _files_of(record: VersionRecord, graph: Path) -> tuple[tuple[str, str], ...]:
    """The files that are served, and what they have to be."""
    content, rewrite = record.content, record.rewrite
    digests = {graph.name: content.digest} if content.form == "onnx" else _told(content)
    if rewrite is not None:
        digests[graph.name if content.form == "onnx" else content.graph] = rewrite.digest
    return tuple((path, digest.removeprefix("sha256:")) for path, digest in digests.items())


def _told(content: Content) -> dict[str, str]:
    return {file.path: file.digest for file in content.files}


def _placed(record: VersionRecord, folder: Path, graph: Path) -> Materialized:
    content, facts = record.content, record.report.facts
    bare = content.form == "onnx"
    return Materialized(
        path=str(graph),
        tag=hashlib.sha256(_place_of(record).encode()).hexdigest()[:16],
        folder=str(folder),
        config=content.config,
        root=str(graph.parent if bare else folder),
        files=_files_of(record, graph),
        probes=json.dumps(facts["probes"]) if facts.get("probes") else "",
        rows=proof_in(facts),
        digest=content.digest,
        memory_bytes=int(facts.get("memory_bytes", 0)),
        report=record.report,
        features=tuple(facts.get("feature_names") or card_features(record.metadata.get("card"))),
    )
