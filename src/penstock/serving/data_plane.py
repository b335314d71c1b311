"""The use-case object of every transport: route, run, count; ``queries`` answers everything else."""

from collections.abc import Callable, Sequence
from enum import Enum
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from penstock.core.errors import OverBudget
from penstock.core.labels import OUTCOME_INDEX, PROTOCOL_NAMES, Route, is_attributed
from penstock.core.labels import Protocol as Transport
from penstock.core.limits import RequestLimits
from penstock.monitor.counters.block_writer import NOT_COUNTED
from penstock.monitor.counters.layout import LIVE_SERIES
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import ReadTotals
from penstock.serving.access.caller_quota import CallerQuotas
from penstock.serving.access.caller_resolver import CallerAuthenticator, CallerResolver
from penstock.serving.access.refused_requests import RefusedRequests
from penstock.serving.admission import MEMORY
from penstock.serving.call_trace import CallTrace
from penstock.serving.infer_call import CallObserver, InferCall, Servable
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.loop_batcher import LoopBatcher
from penstock.serving.loop_stalls import LoopStalls
from penstock.serving.memory_budget import DEFAULT_MEMORY_BYTES, MemoryBudget
from penstock.serving.observers.unit_vote import UnitVote
from penstock.serving.offload import OffloadPool
from penstock.serving.routing_table import SOURCE, Fields, RouteDecision, RoutingTable, Target, mark_decision
from penstock.serving.server_queries import ModelRepository, ServerQueries
from penstock.serving.shared_memory import SharedRegions
from penstock.serving.tracer import Tracer

if TYPE_CHECKING:
    from penstock.serving.explanations.explainer import Explainer

OFFLOAD_BODIES: Final = 4
"""Maximum bodies of the largest size that may wait for the threads of ``offload`` together."""

_NO_FIELDS: Final[Fields] = {}
_NOBODY: Final[tuple[CallObserver, ...]] = ()

NO_VERSION_BLOCK: Final = 0
"""Counters of requests that reached no version."""


class WorkerPhase(Enum):
    """The phase of a worker: a worker that drains never becomes ready again."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class DataPlane:
    """The calls of a transport to a worker; lives on the worker's event loop.

    ``loop_utilisation`` is the share of time that the loop was busy lately, 0 to 1; the owner of the loop updates it.
    ``callers`` knows by the ``authenticator`` who sends the requests, and quotas count what is used in ``other_slots``,
    those of the other workers, too. ``refused`` counts what access control refused.
    ``memory`` is the budget for what the worker holds for its callers, ``limits`` bounds one request, ``offload`` runs
    work that would hold the loop, and ``stalls`` measures how long the loop was held. ``tracer`` records requests
    (None: nothing is traced or logged).
    """

    def __init__(
        self,
        slot: Slot,
        totals: ReadTotals,
        repository: ModelRepository,
        default_timeout_ns: int,
        regions: SharedRegions | None = None,
        memory: MemoryBudget | None = None,
        limits: RequestLimits | None = None,
        authenticator: CallerAuthenticator | None = None,
        other_slots: Sequence[Slot] = (),
        tracer: Tracer | None = None,
    ) -> None:
        self.regions = regions or SharedRegions()
        self.queries = ServerQueries(totals, repository, self.regions)
        self.memory = memory or MemoryBudget(DEFAULT_MEMORY_BYTES)
        self.limits = (limits or RequestLimits()).within(self.memory.limit)
        self.offload = OffloadPool(OFFLOAD_BODIES * self.limits.max_body_bytes)
        quotas = CallerQuotas(slot, other_slots)
        self.refused = RefusedRequests(slot)
        self.callers = CallerResolver(authenticator, self.offload, self.refused, quotas)
        self.routing_table = RoutingTable()
        self.default_timeout_ns = default_timeout_ns
        self.tracer = tracer
        self.live = True
        self.stalls = LoopStalls(slot.count_stall)
        self.batcher = LoopBatcher(self.record_answered, self.memory, self.stalls.turn)
        self.loop_utilisation = 0.0
        self._explainer: Explainer | None = None
        self._phase = WorkerPhase.STARTING
        self._readiness_listeners: list[Callable[[], None]] = []
        self._unmatched = slot.block(NO_VERSION_BLOCK)

    def route(self, target: Target, fields: Fields) -> RouteDecision:
        """Return the version that answers a request with these headers, the reason, and its observers.

        Raises:
            NotFound: no such model or version.
            NotReady: known, but not able to answer.
            InvalidInput: the request has an unknown mark.
        """
        router = self.routing_table.routers.get(target)
        decision = self.routing_table.find(target) if router is None else router.pick(fields)
        return mark_decision(decision, fields[SOURCE]) if SOURCE in fields else decision

    def explainer(self) -> "Explainer":
        """Return what makes the explanations of the worker; a worker that makes none does not load it."""
        if self._explainer is None:
            from penstock.serving.explanations.explainer import Explainer  # noqa: PLC0415 - see above

            self._explainer = Explainer(self.memory, self._find_version)
        return self._explainer

    def _find_version(self, target: Target) -> LoadedVersion:
        return self.routing_table.find(target)[0]

    def close_threads(self) -> None:
        """End the threads of large work and of explanations, each after its current job."""
        self.offload.close()
        if self._explainer is not None:
            self._explainer.close()

    # Counting.

    def record_answered(self, calls: Sequence[InferCall]) -> None:
        """Count calls that have their outputs or their faults, just before they are answered; calls of one run
        together.
        """
        now = monotonic_ns()
        tracer = self.tracer
        sharing: list[InferCall] = []
        for call in calls:
            if tracer is not None and (call.trace is not None or call.fault is not None):
                tracer.record_call(call, now)
            if call.fault is not None:
                _record_failed(call, call.fault.kind, now)
                continue
            for observer in call.observers:
                observer.offer(call)
            if call.run_rows == call.rows:  # a run that others share has more rows, or another call stands for it
                _record_alone(call, now)
            else:
                sharing.append(call)
            if call.series >= LIVE_SERIES:
                call.loaded.block.count_marked(call.series, call.rows)
            elif call.loaded.sampler is not None:
                call.loaded.sampler.offer(call)
        if sharing:
            _record_runs(sharing, now)

    def record_rejected(
        self,
        decision: RouteDecision | None,
        transport: Transport,
        outcome: str,
        began_ns: int,
        fields: Fields = _NO_FIELDS,
        endpoint: str = "",
    ) -> CallTrace | None:
        """Count a request with these headers that was refused before it became a call; ``decision`` is None if no
        version was found. Returns its trace, None if it has none.
        """
        if decision is None:
            block, route, observers = self._unmatched, Route.STABLE, _NOBODY
        else:
            block, route, observers = decision[0].block, decision[1], decision[2]
        series = route * len(PROTOCOL_NAMES) + transport
        attributed = is_attributed(outcome, run_began=False) and _is_counted(observers)
        now = monotonic_ns()
        block.count_failure(series, OUTCOME_INDEX[outcome], now - began_ns, attributed)
        if outcome == OverBudget.kind:
            block.count_shed(MEMORY)
        if self.tracer is None:
            return None
        identity = None if decision is None else decision[0].identity
        return self.tracer.record_rejected(identity, series, outcome, began_ns, now, fields, endpoint)

    # Changes.

    def publish(self, routing_table: RoutingTable, blocks: dict[tuple[str, str], int]) -> None:
        """Replace the routing table; ``blocks`` are the counter blocks of the versions."""
        self.queries.publish(routing_table, blocks)
        self.routing_table = routing_table

    def mark_ready(self) -> None:
        """Become ready, once the first desired state is served; does nothing after ``begin_drain``."""
        if self._phase is WorkerPhase.STARTING:
            self._phase = WorkerPhase.READY
        self._notify_readiness()

    def begin_drain(self) -> None:
        """Stop being ready, for good."""
        self._phase = WorkerPhase.DRAINING
        self._notify_readiness()

    def on_readiness(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever the answer of ``ready`` may have changed."""
        self._readiness_listeners.append(listener)

    def _notify_readiness(self) -> None:
        for listener in self._readiness_listeners:
            listener()

    def ready(self) -> bool:
        """Whether the worker takes requests."""
        return self._phase is WorkerPhase.READY


def _record_alone(call: InferCall, now_ns: int) -> None:
    """Count a call that had a run to itself."""
    if call.lease is not None and call.lease.is_charged:
        _charge(call, call.rows)
    began_ns, decoded_ns, started_ns, ran_ns = call.began_ns, call.decoded_ns, call.started_ns, call.ran_ns
    call.loaded.block.add_alone(
        call.series,
        call.rows,
        now_ns - began_ns,
        decoded_ns - began_ns,
        started_ns - decoded_ns,
        ran_ns - started_ns,
        now_ns - ran_ns,
        call.counted,
    )


def _record_runs(calls: Sequence[InferCall], now_ns: int) -> None:
    """Count calls that shared runs: mostly all of them the same one."""
    first = calls[0]
    ran_ns, series, counted = first.ran_ns, first.series, first.counted
    if all(
        call.ran_ns == ran_ns and call.series == series and call.counted == counted and call.loaded is first.loaded
        for call in calls
    ):
        _record_run(calls, now_ns)
        return
    runs: dict[tuple[Servable, int, int, bool], list[InferCall]] = {}
    for call in calls:
        runs.setdefault((call.loaded, call.series, call.ran_ns, call.counted), []).append(call)
    for together in runs.values():
        _record_run(together, now_ns)


def _record_run(calls: Sequence[InferCall], now_ns: int) -> None:
    """Count calls of one series that ran together and are answered together."""
    first, run_rows, leased = calls[0], NOT_COUNTED, False
    series, counted, block = first.series, first.counted, first.loaded.block
    for call in calls:
        decoded_ns = call.decoded_ns
        block.add_request(
            series, now_ns - call.began_ns, decoded_ns - call.began_ns, call.started_ns - decoded_ns, counted
        )
        if call.run_rows != NOT_COUNTED:
            run_rows = call.run_rows
        leased = leased or (call.lease is not None and call.lease.is_charged)
    if leased:
        total = sum([call.rows for call in calls]) if run_rows == NOT_COUNTED else run_rows
        for call in calls:
            _charge(call, total)
    block.add_run(series, run_rows, first.ran_ns - first.started_ns, now_ns - first.ran_ns, counted)


def _charge(call: InferCall, run_rows: int) -> None:
    """Count the rows of a call of a caller with a quota, and its part of the time of a run of ``run_rows`` rows."""
    if call.lease is not None:
        call.lease.charge(call.rows, (call.ran_ns - call.started_ns) * call.rows // max(call.rows, run_rows, 1))


def _record_failed(call: InferCall, outcome: str, now_ns: int) -> None:
    attributed = is_attributed(outcome, call.run_began) and _is_counted(call.observers)
    call.loaded.block.count_failure(call.series, OUTCOME_INDEX[outcome], now_ns - call.began_ns, attributed)


def _is_counted(observers: tuple[CallObserver, ...]) -> bool:
    """Whether a failure counts; for a unit of a sticky split, only the first one does."""
    for observer in observers:
        if isinstance(observer, UnitVote):
            return observer.failure()
    return True
