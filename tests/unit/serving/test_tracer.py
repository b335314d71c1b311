"""What a worker's tracer records: by the caller, by ratio, within limits, and of failures and disagreements."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from penstock.core.errors import DeadlineExceeded, Fault, InvalidInput
from penstock.core.explanations import ExplanationRecord, options_in
from penstock.core.labels import OUTCOMES
from penstock.core.tensors import Tensor
from penstock.core.traces.records import (
    ACCESS,
    DISAGREES,
    EXPLAINED,
    HAS_PARENT,
    KEPT,
    NO_ID,
    SHADOW,
    SPANS,
    TraceRecord,
    read_records,
)
from penstock.monitor.counters.block_writer import NOT_COUNTED
from penstock.serving.call_trace import CallTrace
from penstock.serving.infer_call import BatchResult, InferCall
from penstock.serving.tracer import BETWEEN_NS, MOST_RECORDS, TraceLimits, Tracer
from penstock.serving.version_info import VersionIdentity
from tests.unit.serving.stubs import served

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = {b"traceparent": f"00-{TRACE}-b7ad6b7169203331-01".encode(), b"tracestate": b"a=1"}
DECLINED = {b"traceparent": f"00-{TRACE}-b7ad6b7169203331-00".encode()}
ONE, TWO = VersionIdentity("m", "1"), VersionIdentity("m", "2")


def answered(trace: CallTrace | None, fault: Fault | None = None) -> InferCall:
    """A call with two rows that has been answered."""
    call = served([Tensor("x", "FP32", np.zeros((2, 1), np.float32))], [])
    call.trace, call.fault, call.is_traceable = trace, fault, True
    call.series, call.id, call.run_rows, call.output_bytes = 3, "r", NOT_COUNTED, 16
    call.began_ns, call.decoded_ns, call.started_ns, call.ran_ns = 10, 20, 30, 40
    return call


class Bench:
    """A tracer with a clock and draws of its own."""

    def __init__(
        self, ratio: float = 0.0, forced: float = 0.0, access: float = 0.0, draws: Sequence[float] = (0.5,)
    ) -> None:
        self.now = 10**9
        values = cycle(draws)
        self.tracer = Tracer(TraceLimits(ratio, forced, access), lambda: self.now, lambda: next(values))

    def answer(self, fields: dict[bytes, bytes] | None = None, fault: Fault | None = None) -> CallTrace | None:
        call = answered(self.tracer.begin(fields or {}), fault)
        self.tracer.record_call(call, 50)
        return call.trace

    def shadow(self, trace: CallTrace | None, disagrees: bool) -> None:
        call = answered(trace)
        self.tracer.record_shadow(call, TWO, 60, disagrees)

    def taken(self) -> tuple[list[TraceRecord], dict[str, int]]:
        batch = self.tracer.take()
        if batch is None:
            return [], {}
        records = list(read_records(batch.records, batch.texts))
        assert batch.count == len(records)
        return records, {reason: count for reason, count in batch.dropped.items() if count}


def test_nothing_is_recorded_of_requests_that_are_not_sampled() -> None:
    bench = Bench(forced=10.0)
    assert bench.answer() is None
    assert bench.tracer.take() is None


def test_the_caller_decides() -> None:
    bench = Bench(forced=10.0)
    trace = bench.answer(SAMPLED)
    assert trace is not None and trace.response.startswith(b"00-" + TRACE.encode())
    declined = bench.answer(DECLINED)
    assert declined is not None and declined.response == b""
    [record], dropped = bench.taken()
    assert (record.trace_id.hex(), record.parent_id.hex(), record.state) == (TRACE, "b7ad6b7169203331", "a=1")
    assert record.flags == SPANS | HAS_PARENT and record.span_id not in (NO_ID, record.parent_id)
    assert (record.model, record.version, record.request_id, record.series) == ("m", "1", "r", 3)
    assert record.times == (10, 20, 30, 40, 50) and (record.rows, record.run_rows) == (2, 0)
    assert dropped == {}


def test_the_caller_decides_only_within_the_limit() -> None:
    bench = Bench(forced=2.0)
    for _ in range(5):
        bench.answer(SAMPLED)
    records, dropped = bench.taken()
    assert (len(records), dropped) == (2, {"forced": 3})
    bench.now += 10**9
    bench.answer(SAMPLED)
    records, dropped = bench.taken()
    assert (len(records), dropped) == (1, {})


def test_a_ratio_samples_the_others() -> None:
    bench = Bench(ratio=0.25, forced=1.0, draws=(0.6,))  # every fourth
    traces = [bench.answer() for _ in range(12)]
    assert [trace is not None for trace in traces] == [False, False, False, True] * 3
    records, _ = bench.taken()
    assert len({record.trace_id for record in records}) == 3
    assert {(record.flags, record.parent_id) for record in records} == {(SPANS, NO_ID)}


def test_a_malformed_parent_counts_as_none() -> None:
    bench = Bench(ratio=1.0)
    trace = bench.answer({b"traceparent": b"00-nonsense"})
    assert trace is not None and trace.parent_id == NO_ID


@pytest.mark.parametrize("flags", ["00", "01"])
@pytest.mark.parametrize(
    "head", [f"00-{'0' * 32}-b7ad6b7169203331", f"00-{TRACE}-{'0' * 16}", f"ff-{TRACE}-b7ad6b7169203331"]
)
def test_a_caller_without_a_valid_trace_is_sampled_by_the_ratio_and_forces_nothing(head: str, flags: str) -> None:
    bench = Bench(ratio=1.0, forced=1.0)
    invalid = {b"traceparent": f"{head}-{flags}".encode()}
    traces = [bench.answer(invalid) for _ in range(3)]
    assert all(trace is not None and trace.flags & SPANS for trace in traces)
    records, dropped = bench.taken()
    assert dropped == {}
    assert all(any(record.trace_id) and record.parent_id == NO_ID for record in records)


def test_the_access_log_has_a_ratio_of_its_own() -> None:
    bench = Bench(access=1.0, forced=5.0)
    bench.answer()
    bench.answer(SAMPLED)
    bench.answer(DECLINED)
    records, _ = bench.taken()
    assert [record.flags & ~HAS_PARENT for record in records] == [ACCESS, ACCESS | SPANS, ACCESS]
    assert records[2].trace_id == bytes(16)


def test_failures_of_the_server_are_kept_within_the_limit() -> None:
    bench = Bench(forced=2.0)
    for fault in (InvalidInput("no"), DeadlineExceeded("late"), DeadlineExceeded("late"), DeadlineExceeded("late")):
        bench.answer(fault=fault)
    records, dropped = bench.taken()
    assert [OUTCOMES[record.outcome] for record in records] == ["deadline"] * 2
    assert all(record.flags == SPANS | KEPT for record in records)
    assert dropped == {"kept": 1}


def test_what_is_decided_before_an_answer_is_encoded_is_what_is_recorded() -> None:
    bench = Bench(forced=1.0)
    calls = [answered(None, fault) for fault in (DeadlineExceeded("late"), DeadlineExceeded("late"), None)]
    for call in calls:
        bench.tracer.decide_failed(call)
    stated = ["" if call.trace is None else call.trace.exported_id for call in calls]
    for call in calls:
        bench.tracer.record_call(call, 50)
    [record], dropped = bench.taken()
    assert stated == [record.trace_id.hex(), "", ""]
    assert dropped == {"kept": 1}


def test_a_kept_failure_stays_in_the_trace_of_its_caller() -> None:
    bench = Bench(forced=2.0, access=1e-9)
    bench.answer(DECLINED, DeadlineExceeded("late"))
    [record], _ = bench.taken()
    assert record.trace_id.hex() == TRACE
    assert record.flags == SPANS | KEPT | HAS_PARENT | ACCESS


def test_without_a_receiver_failures_are_not_kept() -> None:
    bench = Bench(access=1e-9)
    bench.answer(fault=DeadlineExceeded("late"))
    assert bench.taken() == ([], {})


@pytest.mark.parametrize(("identity", "names"), [(None, ("", "")), (ONE, ("m", "1"))])
def test_refused_requests_are_recorded_as_their_callers_ask(identity: VersionIdentity | None, names: Any) -> None:
    bench = Bench(forced=5.0)
    bench.tracer.record_rejected(identity, 0, "not_found", 10, 20, SAMPLED)
    bench.tracer.record_rejected(identity, 0, "not_found", 10, 20, {})
    bench.tracer.record_rejected(identity, 0, "not_ready", 10, 20, {})
    records, _ = bench.taken()
    assert [OUTCOMES[record.outcome] for record in records] == ["not_found", "not_ready"]
    assert (records[0].model, records[0].version) == names
    assert records[0].times == (10, 0, 0, 0, 20)


def test_an_unauthenticated_caller_cannot_force_a_trace() -> None:
    bench = Bench(forced=1.0)
    for _ in range(3):
        bench.tracer.record_rejected(None, 0, "unauthenticated", 10, 20, SAMPLED)
    assert bench.taken() == ([], {})
    bench.answer(SAMPLED)
    assert len(bench.taken()[0]) == 1


def test_a_shadow_is_recorded_with_its_request_and_links_it() -> None:
    bench = Bench(forced=5.0)
    trace = bench.answer(SAMPLED)
    bench.shadow(trace, disagrees=False)
    request, shadow = bench.taken()[0]
    assert (shadow.kind, shadow.version, shadow.flags) == (SHADOW, "2", SPANS)
    assert (shadow.linked_trace, shadow.linked_span) == (request.trace_id, request.span_id)
    assert shadow.trace_id != request.trace_id
    assert shadow.times == (60, 0, 0, 0, bench.now)


def test_a_disagreement_is_kept_with_its_request() -> None:
    bench = Bench(forced=1.0)
    bench.shadow(None, disagrees=False)
    bench.shadow(None, disagrees=True)
    bench.shadow(None, disagrees=True)
    (request, shadow), dropped = bench.taken()
    assert request.flags == SPANS | KEPT and request.times == (10, 20, 30, 40, 40)
    assert shadow.flags == SPANS | DISAGREES and shadow.linked_trace == request.trace_id
    assert dropped == {"kept": 1}


def test_a_request_with_which_several_shadows_disagree_is_kept_once() -> None:
    bench = Bench(forced=5.0, access=1.0)
    call = answered(bench.tracer.begin(DECLINED))
    bench.tracer.record_call(call, 50)
    for _ in range(3):
        bench.tracer.record_shadow(call, TWO, 60, True)
    (first, request, *shadows), dropped = bench.taken()
    assert first.flags == ACCESS and not request.flags & ACCESS  # one line
    assert {(shadow.linked_trace, shadow.linked_span) for shadow in shadows} == {(request.trace_id, request.span_id)}
    assert (len(shadows), request.trace_id.hex(), dropped) == (3, TRACE, {})


def test_every_call_of_a_joint_run_has_its_rows() -> None:
    bench = Bench(forced=5.0)
    call = answered(bench.tracer.begin(SAMPLED))
    call.batch_result = BatchResult([np.zeros((7, 3))])
    bench.tracer.record_call(call, 50)
    call.run_rows = 9
    bench.tracer.record_call(call, 50)
    assert [record.run_rows for record in bench.taken()[0]] == [7, 9]


def test_what_waits_is_bounded() -> None:
    bench = Bench(ratio=1.0)
    for _ in range(MOST_RECORDS + 3):
        bench.answer()
    records, dropped = bench.taken()
    assert (len(records), dropped) == (MOST_RECORDS, {"full": 3})
    assert bench.tracer.take() is None


def test_records_that_may_wait_are_taken_once_a_second_or_when_half_of_the_space_is_full() -> None:
    bench = Bench(ratio=1.0)

    def taken(more: int) -> int:
        for _ in range(more):
            bench.answer()
        batch = bench.tracer.take(at_once=False)
        return 0 if batch is None else batch.count

    assert taken(0) == 0
    assert taken(1) == 1  # the first waits for nothing
    assert taken(1) == 0
    bench.now += BETWEEN_NS - 1
    assert taken(1) == 0
    bench.now += 1
    assert taken(1) == 3
    assert taken(MOST_RECORDS // 2 - 1) == 0
    assert taken(1) == MOST_RECORDS // 2
    bench.answer()
    assert len(bench.taken()[0]) == 1  # the end of a worker waits for nothing


@pytest.mark.parametrize(
    ("limits", "is_on"),
    [
        (TraceLimits(), False),
        (TraceLimits(ratio=0.1), True),
        (TraceLimits(forced_per_second=1.0), True),
        (TraceLimits(access_ratio=0.1), True),
    ],
)
def test_a_tracer_is_needed_only_if_something_is_recorded(limits: TraceLimits, is_on: bool) -> None:
    assert limits.is_on is is_on


def test_a_defect_is_logged_with_the_ids_that_its_span_gets(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(forced=5.0)
    for fields in ({}, DECLINED):
        call = answered(bench.tracer.begin(fields))
        call.fail(RuntimeError("a defect"))
        bench.tracer.record_call(call, 50)
    records, _ = bench.taken()
    logged = [item.__dict__["fields"] for item in caplog.records]
    assert [item["trace.id"] for item in logged] == [record.trace_id.hex() for record in records]
    assert [item["span.id"] for item in logged] == [record.span_id.hex() for record in records]
    assert records[1].trace_id.hex() == TRACE and records[1].flags & HAS_PARENT
    assert {(item["http.request.id"], item["labels.model"], item["labels.version"]) for item in logged} == {
        ("r", "m", "1")
    }


def test_what_was_called_is_recorded() -> None:
    bench = Bench(ratio=1.0)
    call = answered(bench.tracer.begin({}))
    call.endpoint, call.explanation = "/v1/models/{model}:explain", ExplanationRecord(options_in({}))
    bench.tracer.record_call(call, 50)
    trace = bench.tracer.record_rejected(ONE, 0, "not_ready", 10, 20, {}, "/invocations")
    explained, refused = bench.taken()[0]
    assert (explained.endpoint, explained.flags & EXPLAINED) == ("/v1/models/{model}:explain", EXPLAINED)
    assert (refused.endpoint, refused.flags & EXPLAINED) == ("/invocations", 0)
    assert trace is not None and refused.span_id.hex().encode() in trace.response
