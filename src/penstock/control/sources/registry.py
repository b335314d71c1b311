"""The registry as a source of models: their contents, materialized on this machine."""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from penstock.control.calls.blocking import BlockingPool
from penstock.control.periodic import ProblemLog
from penstock.control.reconcile.planner import MaterializedVersion, SourceModel
from penstock.core.errors import DataLoss, Fault, NotReady
from penstock.core.frames.terms import card_defaults
from penstock.core.lineage import card_features
from penstock.core.model_signing import UNSIGNED, SignedFiles
from penstock.core.versions import sort_key
from penstock.registry.admission.row_proof import decode_proof
from penstock.registry.db.rows import UNKNOWN_FORM
from penstock.registry.graphs.rewrite import Rewrite
from penstock.registry.records import (
    Content,
    ExaminedContent,
    ModelRecord,
    PreparationPlan,
    VersionRecord,
    VersionState,
)
from penstock.registry.stores.snapshot import RegistrySnapshot

log = logging.getLogger("penstock.control")

FETCHING = "its content is being fetched"
RETRY_S = 15.0
"""The pause before a content that could not be materialized is tried again."""

LAYOUTS = 2
"""Contents that are materialized at a time."""

SCANS = 2
LAYOUT_S = 3600.0
"""Deadline of fetching and materializing one content."""

OPENING_S = 660.0
"""Deadline of the first scan where nothing is known yet: a database may be migrated before it is read."""

MOMENT_S = 0.05


class ContentMaterializer(Protocol):
    """Materializes contents on this machine; blocks."""

    def materialize(self, content: Content, rewrite: Rewrite | None) -> tuple[Path, Path]:
        """The folder and the graph of a content on this machine, with the rewrite that admission chose applied."""


class SignedContents(Protocol):
    """The signatures of versions, where they are checked."""

    async def plan(self, subject: ExaminedContent) -> PreparationPlan:
        """Return the preparation that a graph needs."""

    def place(self, record: VersionRecord, unpacked: Path) -> SignedFiles:
        """Place the bundles of a version on this machine; blocks."""

    def original(self, content: Content) -> AbstractContextManager[Path]:
        """Return the graph of a content as it was pushed; blocks."""


@dataclass(frozen=True, slots=True)
class PlacedContent:
    """Where a content is on this machine, and what its signatures are about."""

    folder: Path
    graph: Path
    signed: SignedFiles = UNSIGNED


@dataclass(frozen=True, slots=True)
class _MaterializationFailure:
    reason: str
    until: float


class RegistrySource:
    """Offers every admitted version that is materialized, and materializes those that are wanted.

    See ``reconciler.Source``. Belongs to the event loop. ``clock`` is monotonic, in seconds.
    """

    def __init__(
        self,
        snapshot: RegistrySnapshot,
        layout: ContentMaterializer,
        clock: Callable[[], float] = time.monotonic,
        signed: SignedContents | None = None,
    ) -> None:
        self._signed = signed
        self._snapshot = snapshot
        self._layout = layout
        self._reads = BlockingPool("registry_scans", SCANS)
        self._layouts = BlockingPool("layouts", LAYOUTS, "the registry's store of contents", LAYOUT_S)
        self.pools = (self._reads, self._layouts)
        self._clock = clock
        self._seen: Sequence[ModelRecord] = ()
        self._known: dict[str, ModelRecord] = {}
        self._placed: dict[str, PlacedContent] = {}
        self._failures: dict[str, _MaterializationFailure] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._offered: Mapping[tuple[str, str], MaterializedVersion] = {}
        self._problem_log = ProblemLog()
        self._slots = asyncio.Semaphore(LAYOUTS)

    async def scan(self, settled_only: bool, retry: str = "") -> Sequence[SourceModel]:
        """Every model with an admitted version; waits for contents that are being fetched unless ``settled_only``.
        Failed contents of the model ``retry`` are tried again at once.

        Raises:
            NotReady: the database is unreachable, and no earlier snapshot is known.
        """
        models = self._readable(await self._models())
        records = [record for model in models for record in _needed_versions(model)]
        self._forget(models, retry)
        self._begin(records)
        await self._wait(records, MOMENT_S if settled_only else None)
        found = [self._source_model(model) for model in models if _list_admitted(model)]
        self._offered = {(model.name, name): version for model in found for name, version in model.versions.items()}
        return found

    async def _models(self) -> Sequence[ModelRecord]:
        """Every model; at the start, the stored snapshot if the database is slow."""
        if (unchanged := self._snapshot.unchanged()) is not None:
            return unchanged
        try:
            return await self._reads.call(self._snapshot.models)
        except NotReady as fault:
            if self._seen:
                raise
            models = await self._reads.call(self._snapshot.last_stored, str(fault))
            if models is not None:
                return models
            return await self._reads.call(self._snapshot.models, deadline_s=OPENING_S)

    def _readable(self, models: Sequence[ModelRecord]) -> Sequence[ModelRecord]:
        """The models; one whose report has a form unknown to this release keeps its last readable record."""
        if models is not self._seen:
            self._seen = models
            readable = {model.name: self._check_model(model) for model in models}
            self._known = {name: model for name, model in readable.items() if model is not None}
        return list(self._known.values())

    def _check_model(self, model: ModelRecord) -> ModelRecord | None:
        try:
            for record in _list_admitted(model):
                describe_placed(record, PlacedContent(Path(), Path()))
        except UNKNOWN_FORM as error:
            log.error(
                "model %s keeps its previous versions, as this release cannot read its admission report: %s",
                model.name,
                error,
            )
            return self._known.get(model.name)
        return model

    def _forget(self, models: Sequence[ModelRecord], retry: str) -> None:
        """Forget contents that no version has any more, which garbage collection may delete; contents of the model
        ``retry`` are materialized, and so verified, again."""
        keys = {model.name: {_content_key(record) for record in _list_admitted(model)} for model in models}
        again = keys.get(retry, set())
        wanted = set().union(*keys.values()) - again
        self._placed = {key: location for key, location in self._placed.items() if key in wanted}
        self._failures = {key: failure for key, failure in self._failures.items() if key in wanted}

    async def place(self, record: VersionRecord) -> None:
        """Materialize one version; if that fails, the next scan says why."""
        self._failures.pop(_content_key(record), None)
        self._begin([record])
        await self._wait([record], None)

    async def close(self) -> None:
        """Stop materializing contents."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for pool in self.pools:
            pool.close()

    def _begin(self, records: Iterable[VersionRecord]) -> None:
        for record in records:
            key = _content_key(record)
            failed = self._failures.get(key)
            if key in self._placed or key in self._tasks or (failed and failed.until > self._clock()):
                continue
            task = self._tasks[key] = asyncio.create_task(self._materialize(key, record))
            task.add_done_callback(partial(self._end, key))

    def _end(self, key: str, _: "asyncio.Task[None]") -> None:
        self._tasks.pop(key)

    async def _materialize(self, key: str, record: VersionRecord) -> None:
        digest = record.content.digest
        async with self._slots:
            try:
                folder, graph = await self._layouts.call(self._layout.materialize, record.content, record.rewrite)
                self._placed[key] = PlacedContent(folder, graph, await self._place_signatures(record, folder))
                self._failures.pop(key, None)
                self._problem_log.clear(digest)
            except Fault as fault:
                self._problem_log.report(digest, f"content {digest} cannot be materialized: {fault.full_text}", fault)
                self._failures[key] = _MaterializationFailure(str(fault), self._clock() + RETRY_S)
            except Exception as error:
                self._problem_log.report(digest, f"content {digest} cannot be materialized", error)
                self._failures[key] = _MaterializationFailure(
                    "its content cannot be put on this machine", self._clock() + RETRY_S
                )

    async def _place_signatures(self, record: VersionRecord, folder: Path) -> SignedFiles:
        """Place the bundles of a version; raises ``Damaged`` where its record contradicts what is signed."""
        if self._signed is None:
            return UNSIGNED
        if record.rewrite is not None:
            await self._check_rewrite(self._signed, record)
        return await self._layouts.call(self._signed.place, record, folder)

    async def _check_rewrite(self, signed: SignedContents, record: VersionRecord) -> None:
        """Check that the stored rewrite of a graph is what admission makes of the signed graph."""
        context = signed.original(record.content)
        graph = await self._layouts.call(context.__enter__)
        try:
            plan = await signed.plan(ExaminedContent(graph))
        finally:
            await self._layouts.call(context.__exit__, None, None, None)
        if plan.rewrite != record.rewrite:
            raise DataLoss("its graph was not rewritten as this release does; push it again under a new version")

    async def _wait(self, records: Iterable[VersionRecord], seconds: float | None) -> None:
        keys = [_content_key(record) for record in records]
        tasks = [self._tasks[key] for key in keys if key in self._tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    def _source_model(self, model: ModelRecord) -> SourceModel:
        versions, broken = {}, {}
        wanted = {record.version for record in _needed_versions(model)}
        for record in _list_admitted(model):
            location = self._placed.get(_content_key(record))
            if location is not None:
                versions[record.version] = describe_placed(record, location)
            elif record.version in wanted:
                failed = self._failures.get(_content_key(record))
                offered = self._offered.get((model.name, record.version))
                if failed is None and offered is not None:
                    versions[record.version] = offered  # served until what has changed of it is here
                else:
                    broken[record.version] = failed.reason if failed else FETCHING
        return SourceModel(
            model.name,
            versions,
            broken,
            model.settings.versions,
            aliases={alias.alias: alias.version for alias in model.aliases.values()},
            transition=model.settings.transition,
            keep_warm_s=model.settings.keep_warm_s,
            route=model.route,
            withheld=model.withheld,
        )


def _list_admitted(model: ModelRecord) -> list[VersionRecord]:
    return [record for record in model.versions.values() if record.state is VersionState.ADMITTED]


def _needed_versions(model: ModelRecord) -> list[VersionRecord]:
    """The versions that must be on this machine: those of the policy, the aliases and the route."""
    admitted = {record.version: record for record in _list_admitted(model)}
    routed = set() if model.route is None else model.route.receivers()
    referenced = {*(alias.version for alias in model.aliases.values()), *routed} & admitted.keys()
    return [
        admitted[version] for version in sorted({*model.settings.versions.choose(admitted), *referenced}, key=sort_key)
    ]


def _content_key(record: VersionRecord) -> str:
    """The key of what is materialized for a version: its content, the rewrite of its graph, and its signatures."""
    key = record.content.digest if record.rewrite is None else f"{record.content.digest} {record.rewrite.digest}"
    if not record.signatures:
        return key
    return " ".join((key, record.model, record.version, *(item.digest for item in record.signatures)))


def _files_of(record: VersionRecord, graph: Path) -> tuple[tuple[str, str], ...]:
    """The served files and their SHA-256 (hex)."""
    content, rewrite = record.content, record.rewrite
    digests = {graph.name: content.digest} if content.form == "onnx" else _list_digests(content)
    if rewrite is not None:
        digests[graph.name if content.form == "onnx" else content.graph] = rewrite.digest
    return tuple((path, digest.removeprefix("sha256:")) for path, digest in digests.items())


def _list_digests(content: Content) -> dict[str, str]:
    return {file.path: file.digest for file in content.files}


def describe_placed(record: VersionRecord, placed: PlacedContent) -> MaterializedVersion:
    """Return a version whose content is on this machine."""
    content, facts, folder, graph = record.content, record.report.facts, placed.folder, placed.graph
    bare = content.form == "onnx"
    return MaterializedVersion(
        path=str(graph),
        tag=hashlib.sha256(_content_key(record).encode()).hexdigest()[:16],
        folder=str(folder),
        config=content.config,
        root=str(graph.parent if bare else folder),
        files=_files_of(record, graph),
        probes=json.dumps(facts["probes"]) if facts.get("probes") else "",
        rows=decode_proof(facts),
        digest=content.digest,
        memory_bytes=int(facts.get("memory_bytes", 0)),
        report=record.report,
        features=tuple(facts.get("feature_names") or card_features(record.metadata.get("card"))),
        defaults=card_defaults(record.metadata.get("card")),
        signed=placed.signed,
    )
