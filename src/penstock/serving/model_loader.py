"""Makes a worker serve the desired state: loads new versions beside the old ones, swaps the routing table, then
unloads.
"""

import asyncio
import gc
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.desired import Desired, ModelSpec, ReadyState, VersionSpec, VersionStatus, WatchSpec
from penstock.core.errors import DataLoss, Fault
from penstock.core.model_signing import NO_SIGNATURES, SignaturePolicy
from penstock.core.options import ModelOptions
from penstock.core.versions import VersionKey
from penstock.engine import heap
from penstock.engine import model as engine
from penstock.engine.model import Model
from penstock.engine.probe import compare
from penstock.engine.start_memory import release_start_memory
from penstock.engine.threads import background_pool
from penstock.monitor.answer_segments import AnswerWriter
from penstock.monitor.capture import CaptureWriter
from penstock.monitor.columns import Columns, RowValues, input_columns, output_columns
from penstock.monitor.confidence import ConfidenceHistogram
from penstock.monitor.counters.slot import Slot
from penstock.monitor.reference import decode_reference
from penstock.monitor.row_attributions import RowAttributions
from penstock.monitor.rows import RowCounter
from penstock.monitor.unit_votes import CLOSED, UnitVotes
from penstock.monitor.value_masks import request_mask
from penstock.registry.blobs.verified_files import FilesChanged, verified_files
from penstock.registry.config import model_config
from penstock.registry.signing.loading import check_signed
from penstock.serving.data_plane import DataPlane
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.observers.baseline_collector import BaselineCollector
from penstock.serving.observers.capture import Capture
from penstock.serving.observers.explained_rows import ExplainedRows
from penstock.serving.observers.live_rows import LiveRows
from penstock.serving.observers.row_sampler import NullRowObserver, RowKeeper, RowKeepers, RowSampler
from penstock.serving.observers.shadow import ShadowExecutor
from penstock.serving.routing_table import LoopLoad, RoutingTable, build_model_entry
from penstock.serving.version_info import VersionIdentity

if TYPE_CHECKING:
    from penstock.serving.explanations.attributions import AttributionSampler

log = logging.getLogger("penstock.serving")

RESOURCES = "resources"
"""The transition that unloads old versions before it loads new ones."""

MOST_GRAPH_BYTES = 64 << 20
"""Bytes of the largest graph that is read for explanations."""

TRIES = 3
"""How often a version is read whose files others change meanwhile."""

OnStatus = Callable[[tuple[VersionStatus, ...]], None]
OnRows = Callable[[str, str, list[list[str]], list[RowValues], list[RowValues], ConfidenceHistogram | None, int], None]
"""Takes a model, a version, the names of its columns, the rows that were gathered of its inputs and outputs, how sure
it was, and out of how many requests the rows are."""
OnAttributions = Callable[[str, str, str, RowAttributions], None]
"""Takes a model, a version, the digest of its reference, and the attributions of some of its live rows."""


class ModelLoader:
    """Holds the loaded versions of one worker and applies desired states in order; lives on the event loop.

    ``on_closing`` takes the models of which versions are still in memory although they are unloaded, at each change.
    """

    def __init__(
        self,
        plane: DataPlane,
        slot: Slot,
        threads: int,
        on_status: OnStatus,
        on_rows: OnRows = lambda *_: None,
        votes: UnitVotes | None = None,
        signatures: SignaturePolicy = NO_SIGNATURES,
        on_closing: Callable[[tuple[str, ...]], None] = lambda _: None,
        on_attributions: OnAttributions = lambda *_: None,
    ) -> None:
        self._on_closing = on_closing
        self._on_attributions = on_attributions
        self._signatures = signatures
        self._votes = votes or UnitVotes(slot.units)
        self._plane = plane
        self._slot = slot
        self._threads = threads
        self._on_status = on_status
        self._on_rows = on_rows
        self._loaded: dict[VersionKey, LoadedVersion] = {}
        self._statuses: dict[VersionKey, VersionStatus] = {}
        self._closing: dict[asyncio.Task[None], str] = {}
        self._low_priority_pool = background_pool(1, "loader")
        self._normal_pool = ThreadPoolExecutor(1, "opener")
        self._loop_load = LoopLoad(lambda: plane.loop_utilisation)
        self._one_at_a_time = asyncio.Lock()

    async def apply(self, desired: Desired) -> None:
        """Serve exactly this state: load new and changed versions first, then unload the rest."""
        async with self._one_at_a_time:
            wanted = {(model.name, item.version): item for model in desired.models for item in model.versions}
            for spec in desired.models:
                if spec.transition == RESOURCES:
                    await self._unload_first(desired, spec)
            for (model, _), version in wanted.items():
                if self._needs_loading(model, version):
                    await self._load(desired, model, version)
            leaving = [key for key in self._loaded if key not in wanted and not self._keeps_available(desired, key)]
            leftover = [self._loaded.pop(key) for key in leaving]
            for key, version in wanted.items():
                self._sample(key, version)
            self._forget_statuses({*wanted, *self._loaded})
            self._publish(desired)
            for loaded in leftover:
                self._close(loaded)
            if not desired.waiting:
                self._become_ready()

    def _become_ready(self) -> None:
        if not self._plane.ready():
            gc.collect()
            gc.freeze()  # what a worker starts with stays: no collection under traffic need walk it
            self._low_priority_pool.submit(release_start_memory)
        self._plane.mark_ready()

    def shadows(self) -> list[ShadowExecutor]:
        """Return the executors of versions that answer as shadows, or did."""
        return [loaded.shadow for loaded in self._loaded.values() if loaded.shadow is not None]

    async def release_memory(self) -> None:
        """Release unused memory of large requests to the system; off the event loop."""
        await asyncio.get_running_loop().run_in_executor(None, _release_memory, list(self._loaded.values()))

    async def close(self) -> None:
        """Count the rows of the last answers, then unload everything: each version after its last call."""
        for loaded in self._loaded.values():
            if loaded.sampler is not None:
                loaded.sampler.flush()
        async with self._one_at_a_time:
            self._plane.publish(RoutingTable(), {})
            for loaded in self._loaded.values():
                self._close(loaded)
            self._loaded.clear()
        if self._closing:
            await asyncio.wait(self._closing)
        self._low_priority_pool.shutdown(wait=False)
        self._normal_pool.shutdown(wait=False)

    def _keeps_available(self, desired: Desired, key: VersionKey) -> bool:
        """Whether a version to unload is the only one that answers, because its successor cannot be loaded."""
        spec = next((model for model in desired.models if model.name == key[0]), None)
        if spec is None or not spec.versions or spec.transition == RESOURCES:
            return False
        return not any((spec.name, version.version) in self._loaded for version in spec.versions)

    async def _unload_first(self, desired: Desired, model: ModelSpec) -> None:
        """Unload versions that will not be served before anything new is loaded."""
        specs = {spec.version: spec for spec in model.versions}
        if not any(self._needs_loading(model.name, spec) for spec in specs.values()):
            return
        kept = {version for version, spec in specs.items() if not self._needs_loading(model.name, spec)}
        going = [key for key in self._loaded if key[0] == model.name and key[1] not in kept]
        leaving = [self._loaded.pop(key) for key in going]
        for key in going:
            self._statuses.pop(key, None)
        self._publish(desired)
        await asyncio.gather(*(loaded.close() for loaded in leaving))

    def _needs_loading(self, model: str, spec: VersionSpec) -> bool:
        tried = self._statuses.get((model, spec.version))
        return tried is None or tried.tag != spec.tag

    async def _load(self, desired: Desired, model: str, spec: VersionSpec) -> None:
        key = (model, spec.version)
        old = self._loaded.get(key)
        if old is None:
            self._report(desired, VersionStatus(model, spec.version, ReadyState.LOADING, tag=spec.tag))
        try:
            self._loaded[key] = await self._open(model, spec)
        except Fault as fault:
            log.warning("model %s version %s cannot be loaded: %s", model, spec.version, fault.full_text)
            state = ReadyState.UNAVAILABLE if old is None else ReadyState.READY
            self._report(desired, VersionStatus(model, spec.version, state, str(fault), spec.tag, fault.detail))
        else:
            self._report(desired, VersionStatus(model, spec.version, ReadyState.READY, tag=spec.tag))
            if old is not None:
                self._close(old)

    async def _open(self, model: str, spec: VersionSpec) -> LoadedVersion:
        loop = asyncio.get_running_loop()
        options, loaded = await loop.run_in_executor(self._low_priority_pool, self._load_admitted, model, spec)
        _log_refused_batching(model, spec, options, loaded)
        config = model_config.describe(model, options, loaded.signature, loaded.sharing, spec.config)
        identity, block = VersionIdentity(model, spec.version), self._slot.block(spec.block)
        version = LoadedVersion(identity, loaded, options, config, block, self._plane.memory, self._plane.limits)
        version.check_batch_runs(self._low_priority_pool.submit)
        version.read_graph = partial(_read_graph, spec)
        return version

    def _sample(self, key: VersionKey, spec: VersionSpec) -> None:
        """Apply the watch settings of a version."""
        loaded = self._loaded.get(key)
        if loaded is None:
            return
        loaded.set_latency_slo(spec.latency_ns)
        if loaded.row_terms != spec.row_terms:
            loaded.set_row_terms(spec.row_terms)
        learn = spec.watch.learn
        wanted = replace(spec.watch, learn=replace(learn, is_awaited=False))
        if loaded.sampled_as != (wanted, spec.block):
            loaded.sampled_as = wanted, spec.block
            self._sample_anew(key, loaded, wanted)
        if learn.is_awaited and loaded.sampler is not None:
            loaded.sampler.publish_baseline()

    def _sample_anew(self, key: VersionKey, loaded: LoadedVersion, wanted: WatchSpec) -> None:
        if loaded.sampler is not None:
            loaded.sampler.close()
        loaded.sampler = None
        signature = loaded.signature
        columns = (
            input_columns(signature.inputs, signature.batching, wanted.names),
            output_columns(signature.outputs, signature.batching),
        )
        loaded.set_mask(request_mask(columns, wanted.masked, wanted.patterns))
        loaded.input_columns, loaded.reference_path = columns[0], wanted.path
        keeps = signature.batching and loaded.mask.inputs.is_empty  # what is masked is kept nowhere
        loaded.live_rows = LiveRows([spec.name for spec in signature.inputs if not spec.optional]) if keeps else None
        answers = AnswerWriter(Path(wanted.answers), *key) if wanted.answers else None
        capture = None
        if wanted.capture:
            writer = CaptureWriter(Path(wanted.captures), key, columns, wanted.masked, wanted.patterns)
            capture = Capture(writer, wanted.capture, loaded.block)
        counter, collector = self._counter(key, wanted, columns), None
        if counter is None and wanted.learn.rows:
            collector = self._collector(key, wanted, columns)
        if answers or capture or counter or collector:
            counted = counter or NullRowObserver()
            hidden = [spec.name for spec in signature.outputs if loaded.mask.outputs.hides(spec.name)]
            parts = (answers, capture, self._plane.memory, collector, hidden, self._keeper(key, loaded, wanted))
            loaded.sampler = RowSampler(counted, signature.batching, *parts)

    def _keeper(self, key: VersionKey, loaded: LoadedVersion, wanted: WatchSpec) -> RowKeeper | None:
        """Return what keeps rows for explanations: as a background, and to be explained themselves."""
        if not wanted.explained_rate or not wanted.path or loaded.live_rows is None:
            return loaded.live_rows
        samplers: list[AttributionSampler] = []

        def explain(rows: ExplainedRows) -> None:
            explainer = self._plane.explainer()
            if not samplers:
                samplers.append(explainer.sampler(loaded, partial(self._on_attributions, *key, wanted.digest)))
            explainer.explain_beside(samplers[0], rows)

        names = [spec.name for spec in loaded.signature.inputs if not spec.optional]
        return RowKeepers(loaded.live_rows, ExplainedRows(names, wanted.explained_rate, explain))

    def _counter(self, key: VersionKey, wanted: WatchSpec, columns: tuple[Columns, Columns]) -> RowCounter | None:
        try:
            if wanted.path:
                reference = decode_reference(json.loads(Path(wanted.path).read_text()))
                region = self._slot.region(wanted.offset, wanted.size)
                return RowCounter(reference, region, columns, wanted.sample, wanted.keys)
        except (OSError, ValueError, KeyError):
            log.exception("model %s version %s is not watched: its reference cannot be read", *key)
        return None

    def _collector(self, key: VersionKey, wanted: WatchSpec, columns: tuple[Columns, Columns]) -> BaselineCollector:
        names = [[*side.numbers, *side.labels] for side in columns]
        later = asyncio.get_running_loop().call_later
        return BaselineCollector(columns, wanted.learn, partial(self._on_rows, *key, names), time.monotonic, later)

    def _load_admitted(self, model: str, spec: VersionSpec) -> tuple[ModelOptions, Model]:
        """Load only admitted content: verify its signatures, its files by digest, and its answers by those at
        admission.

        Files that others change meanwhile are read again a few times: a store may put the same content in their place.
        """
        check_signed(self._signatures, model, spec)
        for _ in range(TRIES - 1):
            with suppress(FilesChanged):
                return self._load_verified(spec)
        return self._load_verified(spec)

    def _load_verified(self, spec: VersionSpec) -> tuple[ModelOptions, Model]:
        if not spec.root:
            return self._load_from(Path(spec.path), Path(spec.folder), spec)
        root = Path(spec.root)
        with ExitStack() as stack:
            anchor = stack.enter_context(verified_files(root, spec.files))
            graph, folder = (anchor / os.path.relpath(path, root) for path in (spec.path, spec.folder or root))
            options, loaded = self._load_from(graph, folder, spec)
            with _closing_on_failure(loaded):
                stack.close()
        return options, loaded

    def _load_from(self, graph: Path, folder: Path, spec: VersionSpec) -> tuple[ModelOptions, Model]:
        options, opener = model_config.read(spec.config, folder), self._normal_pool
        with heap.huge_pages():
            loaded = engine.load(graph, options, self._threads, spec.rows, lambda work: opener.submit(work).result())
        difference = compare(json.loads(spec.probes), loaded, options.warmup) if spec.probes else ""
        if difference:
            loaded.close()
            raise DataLoss(difference)
        return options, loaded

    def _close(self, loaded: LoadedVersion) -> None:
        task = asyncio.get_running_loop().create_task(loaded.close())
        self._closing[task] = loaded.identity.model
        task.add_done_callback(self._on_closed)
        self._on_closing(tuple(self._closing.values()))

    def _on_closed(self, task: asyncio.Task[None]) -> None:
        del self._closing[task]
        self._on_closing(tuple(self._closing.values()))

    def _forget_statuses(self, wanted: set[VersionKey]) -> None:
        for key in [key for key in self._statuses if key not in wanted]:
            del self._statuses[key]

    def _report(self, desired: Desired, status: VersionStatus) -> None:
        self._statuses[status.model, status.version] = status
        self._publish(desired)

    def _publish(self, desired: Desired) -> None:
        models = {
            spec.name: build_model_entry(spec, *self._of(spec), self._loop_load, self._votes) for spec in desired.models
        }
        tracer = self._plane.tracer
        for shadow in self.shadows():
            shadow.record = None if tracer is None else tracer.record_shadow
        tags = (entry.router.tag for entry in models.values() if entry.router is not None)
        self._votes.live = frozenset(tag for tag in tags if tag != CLOSED)
        blocks = {(model.name, spec.version): spec.block for model in desired.models for spec in model.versions}
        self._plane.publish(RoutingTable(models), blocks)
        self._on_status(tuple(self._statuses.values()))

    def _of(self, spec: ModelSpec) -> tuple[dict[str, LoadedVersion], dict[str, VersionStatus]]:
        loaded = {version: item for (model, version), item in self._loaded.items() if model == spec.name}
        statuses = {version: status for (model, version), status in self._statuses.items() if model == spec.name}
        return {version: item for version, item in loaded.items() if version in statuses}, statuses


@contextmanager
def _closing_on_failure(loaded: Model) -> Iterator[None]:
    """Close a model if the block fails."""
    try:
        yield
    except BaseException:
        loaded.close()
        raise


def _read_graph(spec: VersionSpec) -> bytes:
    """Return the bytes of a version's graph as they were admitted; none if they are too many, or have changed since."""
    with suppress(OSError, Fault):
        if not spec.root:
            return _read_small(Path(spec.path))
        root = Path(spec.root)
        with verified_files(root, spec.files) as anchor:
            return _read_small(anchor / os.path.relpath(spec.path, root))
    return b""


def _read_small(path: Path) -> bytes:
    return path.read_bytes() if path.stat().st_size <= MOST_GRAPH_BYTES else b""


def _release_memory(versions: Sequence[LoadedVersion]) -> None:
    for loaded in versions:
        loaded.release_memory()
    heap.trim_heap()


def _log_refused_batching(model: str, spec: VersionSpec, options: ModelOptions, loaded: Model) -> None:
    """Log why a version does not get the batching that its configuration requests, and where its proof ended."""
    if options.asks_for_batching and not loaded.sharing.shared:
        node = f" (node '{spec.rows.node}')" if spec.rows.node and spec.rows.reason in loaded.sharing.reason else ""
        log.warning("model %s version %s asks for batching, but %s%s", model, spec.version, loaded.sharing.text, node)
