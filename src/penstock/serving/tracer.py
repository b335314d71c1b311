"""Decides which calls of a worker are traced or logged, and records them when they end.

A request that is not sampled costs a look for ``traceparent`` and two subtractions. What is recorded waits in a bounded
buffer until the worker sends it to the control process; nothing here waits or raises.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import random
from threading import Lock
from time import monotonic_ns
from typing import Final

from penstock.core.errors import Unauthenticated
from penstock.core.labels import HTTP_STATUS, OUTCOME_INDEX, OUTCOMES
from penstock.core.traces.context import TRACEPARENT, read_sampled
from penstock.core.traces.records import (
    ACCESS,
    DISAGREES,
    EXPLAINED,
    HAS_PARENT,
    KEPT,
    NO_ID,
    NO_TRACE,
    RECORD_BYTES,
    REQUEST,
    SHADOW,
    SPANS,
    RecordBuffer,
    TraceRecord,
)
from penstock.core.traces.sampling import DistanceDraw, TokenBucket
from penstock.monitor.counters.block_writer import NOT_COUNTED
from penstock.serving.call_trace import (
    CallTrace,
    Fields,
    child_of,
    identify_trace,
    new_span_id,
    new_trace_id,
    read_parent,
)
from penstock.serving.infer_call import InferCall
from penstock.serving.version_info import VersionIdentity

MOST_RECORDS: Final = 2048
"""Records that wait to be sent, about half a megabyte."""

BETWEEN_NS: Final = 1_000_000_000
"""Time between two messages with records, unless half of what may wait does."""

_NO_FIELDS: Final[Fields] = {}
FIRST_FAILURE: Final = 500
KEPT_OUTCOMES: Final = frozenset(name for name in OUTCOMES if HTTP_STATUS[name] >= FIRST_FAILURE)
"""Ways to end that are kept whatever the ratio says: those that are not the caller's."""


@dataclass(frozen=True, slots=True)
class TraceLimits:
    """What is traced: a ``ratio`` of the requests without a caller's decision, and ``forced_per_second`` at most of
    those that callers decide, and as many of failed ones, in this worker; ``access_ratio`` goes to the access log."""

    ratio: float = 0.0
    forced_per_second: float = 0.0
    access_ratio: float = 0.0

    @property
    def is_on(self) -> bool:
        """Whether anything is recorded."""
        return any((self.ratio, self.forced_per_second, self.access_ratio))


@dataclass(frozen=True, slots=True)
class TraceBatch:
    """Records with the texts they refer to, and how many were not taken, by reason."""

    records: bytes
    texts: list[str]
    dropped: dict[str, int]

    @property
    def count(self) -> int:
        """Return the number of records."""
        return len(self.records) // RECORD_BYTES


class Tracer:
    """The tracer of one worker. ``begin`` and ``record_…`` belong to the event loop, except ``record_shadow``, which
    any thread may call. ``clock`` is ``time.monotonic_ns``, ``chance`` gives random numbers from 0 to 1."""

    def __init__(
        self, limits: TraceLimits, clock: Callable[[], int] = monotonic_ns, chance: Callable[[], float] = random
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._chance = chance
        self._forced = TokenBucket(limits.forced_per_second)
        self._kept = TokenBucket(limits.forced_per_second)
        self._lock = Lock()  # a shadow's thread records too
        self._shadows = Lock()  # several shadows of one call disagree on threads of their own
        self._buffer = RecordBuffer(MOST_RECORDS)
        self._refused = {"forced": 0, "kept": 0}
        self._taken_ns = clock() - BETWEEN_NS
        self._traces = DistanceDraw(limits.ratio)
        self._lines = DistanceDraw(limits.access_ratio)
        self._until_trace = self._traces.draw(chance())
        self._until_access = self._lines.draw(chance())

    # The beginning of a request.

    def begin(self, fields: Fields) -> CallTrace | None:
        """Return the trace of a request with these fields; None if nothing is recorded unless it fails."""
        self._until_access -= 1
        if TRACEPARENT in fields:
            sampled = read_sampled(fields[TRACEPARENT])
            if sampled is not None:
                return self._continue(fields, sampled)
        return self._begin_own()

    def _begin_own(self) -> CallTrace | None:
        """Return the trace of a request whose caller has none."""
        self._until_trace -= 1
        if self._until_trace and self._until_access:
            return None
        return CallTrace(self._sampled() | self._logged(), new_trace_id(), new_span_id())

    def _continue(self, fields: Fields, sampled: bool) -> CallTrace | None:
        """Return the trace of a request whose caller has one: the caller decides, within the limit."""
        if sampled and self._may_be_forced():
            parent = read_parent(fields)
            return None if parent is None else child_of(parent, SPANS | self._logged())
        trace = CallTrace(self._logged(), NO_TRACE, NO_ID)
        trace.unread = fields
        return trace

    def _may_be_forced(self) -> bool:
        if not self._limits.forced_per_second:
            return False
        is_within = self._forced.take(self._clock())
        self._refused["forced"] += not is_within
        return is_within

    def _sampled(self) -> int:
        if self._until_trace > 0:
            return 0
        self._until_trace = self._traces.draw(self._chance())
        return SPANS

    def _logged(self) -> int:
        if self._until_access > 0:
            return 0
        self._until_access = self._lines.draw(self._chance())
        return ACCESS

    # Its end.

    def decide_failed(self, call: InferCall) -> None:
        """Decide whether a call that has failed is exported, before its answer is encoded: that states its trace."""
        if call.fault is not None and call.is_traceable:
            call.trace = self._with_failure(call.trace, call.fault.kind)
            call.is_traceable = False

    def record_call(self, call: InferCall, now_ns: int) -> None:
        """Record a call that is about to be answered, if its trace says so or it has failed."""
        self.decide_failed(call)
        trace = call.trace
        if trace is not None and trace.flags & (SPANS | ACCESS):
            with self._lock:
                self._put(call, trace, 0 if call.fault is None else OUTCOME_INDEX[call.fault.kind], now_ns)

    def _put(self, call: InferCall, trace: CallTrace, outcome: int, now_ns: int) -> None:
        """Record a call; the lock is held."""
        identity = call.loaded.identity
        self._buffer.put(
            REQUEST,
            call.series,
            outcome,
            trace.flags if call.explanation is None else trace.flags | EXPLAINED,
            identity.model,
            identity.version,
            call.id,
            trace.state,
            trace.trace_id,
            trace.span_id,
            trace.parent_id,
            call.began_ns,
            call.decoded_ns,
            call.started_ns,
            call.ran_ns,
            now_ns,
            call.rows,
            _rows_of_run(call),
            call.input_bytes,
            call.output_bytes,
            endpoint=call.endpoint,
        )

    def record_rejected(
        self,
        identity: VersionIdentity | None,
        series: int,
        outcome: str,
        began_ns: int,
        now_ns: int,
        fields: Fields,
        endpoint: str = "",
    ) -> CallTrace | None:
        """Record a request that was refused before it became a call, if its caller asks for it or it has failed; return
        its trace, None if it is not recorded. Who is not authenticated decides nothing: it would take from the limit of
        those who are."""
        decisive = _NO_FIELDS if outcome == Unauthenticated.kind else fields
        trace = self._with_failure(self.begin(decisive), outcome)
        if trace is None or not trace.flags & (SPANS | ACCESS):
            return None
        model, version = ("", "") if identity is None else (identity.model, identity.version)
        record = TraceRecord(
            REQUEST,
            series,
            OUTCOME_INDEX[outcome],
            trace.flags,
            model,
            version,
            "",
            trace.state,
            trace.trace_id,
            trace.span_id,
            trace.parent_id,
            (began_ns, 0, 0, 0, now_ns),
            endpoint=endpoint,
        )
        self._add(record)
        return trace

    def _with_failure(self, trace: CallTrace | None, outcome: str) -> CallTrace | None:
        """Return the trace of a request that has ended; one that failed is kept, within the limit."""
        if outcome not in KEPT_OUTCOMES or (trace is not None and trace.flags & SPANS):
            return trace
        return self._keep(trace) or trace

    def _keep(self, trace: CallTrace | None) -> CallTrace | None:
        """Return the trace of a request that is exported though it was not sampled; None over the limit."""
        if not self._limits.forced_per_second:
            return None
        with self._lock:
            if not self._kept.take(self._clock()):
                self._refused["kept"] += 1
                return None
        found = identify_trace(trace)
        flags = SPANS | KEPT | (ACCESS if self._limits.access_ratio else 0) | found.flags & HAS_PARENT
        return CallTrace(flags, found.trace_id, found.span_id, found.parent_id, found.state)

    def record_shadow(self, call: InferCall, shadow: VersionIdentity, began_ns: int, disagrees: bool) -> None:
        """Record that a shadow has answered a call: if the call is traced, or if the answers disagree."""
        trace = self._with_disagreement(call) if disagrees else call.trace
        if trace is not None and trace.flags & SPANS:
            self._add(_shadow_record(call, trace, shadow, (began_ns, self._clock()), disagrees))

    def _with_disagreement(self, call: InferCall) -> CallTrace | None:
        """Return the trace of a call with which a shadow disagrees; one that is not traced is kept, once for all of its
        shadows, within the limit. What the access log has of it was recorded with its answer."""
        with self._shadows:
            if call.trace is not None and call.trace.flags & SPANS:
                return call.trace
            kept = self._keep(call.trace)
            if kept is not None:
                kept.flags &= ~ACCESS
                with self._lock:
                    self._put(call, kept, 0, call.ran_ns)
                call.trace = kept
            return kept

    def _add(self, record: TraceRecord) -> None:
        with self._lock:
            self._buffer.add(record)

    # What the control process gets.

    def take(self, at_once: bool = True) -> TraceBatch | None:
        """Return what waits to be sent, and begin anew; None if there is nothing to say, or, unless it is wanted
        ``at_once``, if it may wait: what is sent less often costs both sides less."""
        with self._lock:
            dropped = {**self._refused, "full": self._buffer.dropped}
            if not len(self._buffer) and not any(dropped.values()):
                return None
            if not (at_once or self._is_due()):
                return None
            self._taken_ns = self._clock()
            self._refused = dict.fromkeys(self._refused, 0)
            self._buffer.dropped = 0
            return TraceBatch(*self._buffer.take(), dropped)

    def _is_due(self) -> bool:
        """Return whether the last records were taken ``BETWEEN_NS`` ago, or the buffer is half full."""
        return len(self._buffer) >= MOST_RECORDS // 2 or self._clock() - self._taken_ns >= BETWEEN_NS


def _rows_of_run(call: InferCall) -> int:
    """Return the rows of the run of a call; 0 if it has had none, or shared one with calls of several rows or other
    outputs, of which only the first knows."""
    if call.run_rows != NOT_COUNTED:
        return call.run_rows
    return 0 if call.batch_result is None else len(call.batch_result.arrays[0])


def _shadow_record(
    call: InferCall, trace: CallTrace, shadow: VersionIdentity, times: tuple[int, int], disagrees: bool
) -> TraceRecord:
    """Return the record of a shadow's run: of a trace of its own, which links that of the call."""
    return TraceRecord(
        SHADOW,
        call.series,
        OUTCOME_INDEX["ok"],
        SPANS | (DISAGREES if disagrees else 0),
        shadow.model,
        shadow.version,
        call.id,
        "",
        new_trace_id(),
        new_span_id(),
        NO_ID,
        (times[0], 0, 0, 0, times[1]),
        call.rows,
        linked_trace=trace.trace_id,
        linked_span=trace.span_id,
    )
