"""The one use-case object behind every transport: find, infer, count, and the protocol's cold questions."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic_ns
from typing import Any, Final, Protocol

from penstock.core.batching import BATCHING
from penstock.core.desired import State
from penstock.core.errors import InvalidInput, NotFound, NotReady, OverBudget, Overloaded, Refused
from penstock.core.labels import OK, OUTCOME_INDEX, OUTCOMES, PROTOCOL_NAMES, SHED_REASONS, Route, is_blamed
from penstock.core.labels import Protocol as Transport
from penstock.core.limits import RequestLimits
from penstock.core.signature import TensorSpec
from penstock.core.versions import sort_key
from penstock.monitor.answers import Told
from penstock.monitor.counters import NOT_COUNTED, ReadTotals, Slot, Totals
from penstock.serving.infer_call import InferCall, OnDone
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.loop_batcher import LoopBatcher
from penstock.serving.memory_budget import MemoryBudget
from penstock.serving.offload import Offload
from penstock.serving.routing_table import Fields, ModelEntry, RouteDecision, RoutingTable, Target, shortened
from penstock.serving.shared_memory import Regions

SERVER_NAME: Final = "penstock"
EXTENSIONS: Final = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)
"""Protocol extensions that always work here."""

PLATFORM: Final = "onnxruntime_onnx"
DEFAULT_MEMORY_BYTES: Final = 1 << 30
"""The memory budget of a plane that is given none."""

OFFLOAD_BODIES: Final = 4
"""Bodies of the largest size that may wait for the threads of ``offload`` together."""

NO_VERSION_BLOCK: Final = 0
"""Counters of requests that reached no version."""


class Repository(Protocol):
    """Who loads and unloads models; the control plane does it for all workers."""

    async def load(self, model: str, config: str | None) -> None:
        """Load a model, or load it anew; ``config`` is a model configuration in JSON that replaces its own.

        Raises:
            NotFound: no such model.
            InvalidInput: it cannot be loaded, with the reason.
        """

    async def unload(self, model: str) -> None:
        """Stop serving a model.

        Raises:
            NotFound: no such model.
        """

    async def feedback(self, model: str, told: Sequence[Told]) -> int:
        """Join what was told to the answers that are remembered; how many belong to none."""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What the protocol's metadata call tells of a model."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    properties: dict[str, str]


@dataclass(frozen=True, slots=True)
class VersionStatistics:
    """One version's counts over all workers."""

    model: str
    version: str
    totals: Totals


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of the repository index; ``version`` and ``state`` are empty for a model without versions."""

    name: str
    version: str
    state: str
    reason: str


class DataPlane:
    """Everything a transport may ask of a worker; lives on the worker's event loop.

    ``loop_utilisation`` is how busy that loop was lately, 0 to 1; whoever runs the loop keeps it. ``memory`` is what
    the worker may hold for its callers, ``limits`` what one request may ask for, and ``offload`` does what would hold
    the loop.
    """

    def __init__(
        self,
        slot: Slot,
        totals: ReadTotals,
        repository: Repository,
        default_timeout_ns: int,
        regions: Regions | None = None,
        memory: MemoryBudget | None = None,
        limits: RequestLimits | None = None,
    ) -> None:
        self.regions = regions or Regions()
        self.limits = limits or RequestLimits()
        self.offload = Offload(OFFLOAD_BODIES * self.limits.max_body_bytes)
        self.memory = memory or MemoryBudget(DEFAULT_MEMORY_BYTES)
        self.routing_table = RoutingTable()
        self.default_timeout_ns = default_timeout_ns
        self.live = True
        self.batcher = LoopBatcher(self.record_answered)
        self.loop_utilisation = 0.0
        self._complete = False
        self._draining = False
        self._unmatched = slot.block(NO_VERSION_BLOCK)
        self._totals = totals
        self._repository = repository
        self._blocks: dict[tuple[str, str], int] = {}

    # The infer road.

    def route(self, target: Target, fields: Fields) -> RouteDecision:
        """Who answers a request with these headers, and why.

        Raises:
            NotFound: no such model or version.
            NotReady: known, but not able to answer.
        """
        router = self.routing_table.routers.get(target)
        return self.routing_table.find(target) if router is None else router.pick(fields)

    def submit(self, call: InferCall, done: OnDone) -> Callable[[], None] | None:
        """Run a call and tell ``done`` on the loop; a call that waits for a thread can be given up by the result."""
        if call.loaded.try_inline(call):
            done(call)
            return None
        return call.loaded.enqueue(call, done)

    async def infer(self, call: InferCall) -> None:
        """Run a call and wait for it; cancelling the wait gives the call up.

        Raises:
            Fault: whatever the call ended with.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        cancel = self.submit(call, lambda _: None if future.done() else future.set_result(None))
        try:
            await future
        except asyncio.CancelledError:
            if cancel is not None:
                cancel()
            raise
        if call.fault is not None:
            raise call.fault

    def record_outcome(self, call: InferCall, outcome: str) -> None:
        """Count a submitted call just before its answer is written (or when nobody is left to write it to)."""
        if outcome == OUTCOMES[OK]:
            self.record_answered([call])
        else:
            self._record_failed(call, outcome, monotonic_ns())

    def _record_failed(self, call: InferCall, outcome: str, now: int) -> None:
        blamed = is_blamed(outcome, call.run_began)
        call.loaded.block.failed(call.series, OUTCOME_INDEX[outcome], now - call.began_ns, blamed)

    def record_answered(self, calls: Sequence[InferCall]) -> None:
        """Count calls that have their outputs or their faults, just before they are answered; those of one run
        together."""
        now = monotonic_ns()
        runs: dict[tuple[LoadedVersion, int, int], list[InferCall]] = {}
        for call in calls:
            if call.fault is not None:
                self._record_failed(call, call.fault.kind, now)
                continue
            runs.setdefault((call.loaded, call.series, call.ran_ns), []).append(call)
            for follower in call.observers:
                follower.offer(call)
            if call.loaded.watch is not None:
                call.loaded.watch.offer(call)
        for (loaded, series, ran), some in runs.items():
            durations = [
                (now - one.began_ns, one.decoded_ns - one.began_ns, one.started_ns - one.decoded_ns) for one in some
            ]
            rows = [one.run_rows for one in some if one.run_rows != NOT_COUNTED]
            loaded.block.answered_together(series, rows, durations, ran - some[0].started_ns, now - ran)

    def record_rejected(self, answer: RouteDecision | None, transport: Transport, outcome: str, began_ns: int) -> None:
        """Count a request that was refused before it became a call; ``answer`` is None if no version was found."""
        if answer is None:
            block, route = self._unmatched, Route.STABLE
        else:
            block, route = answer[0].block, answer[1]
        series = route * len(PROTOCOL_NAMES) + transport
        blamed = is_blamed(outcome, run_began=False)
        block.failed(series, OUTCOME_INDEX[outcome], monotonic_ns() - began_ns, blamed)
        if outcome == Overloaded.kind:
            self.batcher.refused()
        elif outcome == OverBudget.kind:
            block.shed(SHED_REASONS.index("memory"))

    # What changes the picture.

    def publish(self, routing_table: RoutingTable, blocks: dict[tuple[str, str], int]) -> None:
        """Replace the picture of what is served; ``blocks`` are the versions' counter blocks."""
        self._blocks = blocks
        self.routing_table = routing_table

    def mark_ready(self) -> None:
        """The first desired state has been worked through: ready from now on."""
        self._complete = True

    def begin_drain(self) -> None:
        """Not ready any more, for good."""
        self._draining = True

    # The protocol's cold questions.

    @property
    def extensions(self) -> tuple[str, ...]:
        """Extensions of the protocol that work here, on both transports; tools switch features on by this list."""
        return (*EXTENSIONS, "system_shared_memory") if self.regions.offered else EXTENSIONS

    def ready(self) -> bool:
        """Whether the server as a whole takes requests."""
        return self._complete and not self._draining

    def model_ready(self, model: str, version: str = "") -> bool:
        """Whether this model (and version) answers now.

        Raises:
            NotFound: no such model or version.
        """
        try:
            self.routing_table.find((model, version))
        except NotReady:
            return False
        return True

    def metadata(self, model: str, version: str = "") -> ModelMetadata:
        """Names, shapes and datatypes of a model.

        Raises:
            NotFound: no such model or version.
            NotReady: it is not loaded.
        """
        loaded = self.routing_table.find((model, version))[0]
        signature = loaded.signature
        versions = (loaded.identity.version,) if version else self.routing_table.entry(model).ready
        refused = loaded.options.asks_for_batching and not loaded.sharing.shared
        properties = {BATCHING: loaded.sharing.text} if refused else {}
        return ModelMetadata(model, versions, PLATFORM, signature.inputs, signature.outputs, properties)

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        """The model's configuration in protobuf JSON form; raises as ``metadata`` does."""
        return self.routing_table.find((model, version))[0].config

    def statistics(self, model: str = "", version: str = "") -> list[VersionStatistics]:
        """Counts of every served version, or of one model, or of one version, over all workers.

        Raises:
            NotFound: no such model or version.
            NotReady: the version is not loaded.
        """
        if not model:
            return [found for entry in self.routing_table.models.values() for found in self._statistics(entry)]
        if not version:
            return list(self._statistics(self.routing_table.entry(model)))
        loaded = self.routing_table.find((model, version))[0]
        return [self._statistics_of(model, loaded.identity.version)]

    def index(self, ready_only: bool = False) -> list[IndexEntry]:
        """Every known model and version with its state."""
        lines = [line for entry in self.routing_table.models.values() for line in _index_lines(entry)]
        return [line for line in lines if line.state == State.READY] if ready_only else lines

    async def load(self, model: str, config: str | None = None) -> None:
        """See ``Repository.load``; the sentence of a refusal begins as clients of Triton expect."""
        try:
            await self._repository.load(model, config)
        except (InvalidInput, NotFound, Refused) as fault:
            raise type(fault)(f"failed to load '{shortened(model)}': {fault}") from None

    async def unload(self, model: str) -> None:
        """See ``Repository.unload``; a model that is not known is unloaded already."""
        with suppress(NotFound):
            await self._repository.unload(model)

    async def feedback(self, model: str, told: Sequence[Told]) -> tuple[int, int]:
        """Join labels and rewards to answers that any worker gave: how many were accepted, and how many of those
        belong to no answer that is remembered.

        Raises:
            NotFound: no such model.
            NotReady: the process that remembers answers is away.
        """
        entry = self.routing_table.entry(model)
        for version in entry.ready:
            watch = self.routing_table.find((model, version))[0].watch
            if watch is not None:
                watch.flush()  # an answer may be told of at once
        return len(told), await self._repository.feedback(model, told) if told else 0

    def _statistics(self, entry: ModelEntry) -> Iterator[VersionStatistics]:
        for version in entry.ready:
            yield self._statistics_of(entry.name, version)

    def _statistics_of(self, model: str, version: str) -> VersionStatistics:
        return VersionStatistics(model, version, self._totals(self._blocks[model, version]))


def _index_lines(entry: ModelEntry) -> Iterator[IndexEntry]:
    if not entry.statuses:
        yield IndexEntry(entry.name, "", "", "")
    for version in sorted(entry.statuses, key=sort_key):
        status = entry.statuses[version]
        yield IndexEntry(entry.name, version, status.state, status.reason)
