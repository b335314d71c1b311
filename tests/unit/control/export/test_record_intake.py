"""Records of workers become spans, exemplars and lines, within bounds."""

import asyncio
import logging
from base64 import b64encode
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from penstock.control.export import record_intake
from penstock.control.export.record_intake import CHUNK, RecordIntake
from penstock.core.traces.processor_budget import ProcessorBudget
from penstock.core.traces.records import ACCESS, KEPT, RECORD_BYTES, SHADOW, SPANS, RecordBuffer, TraceRecord
from penstock.core.traces.spans import NO_ROUTE
from penstock.telemetry.exemplars import ExemplarStore
from penstock.telemetry.metrics import REQUEST_DURATION
from penstock.telemetry.otlp.common import enclose
from penstock.telemetry.otlp.record_spans import EncodedSpans, RecordEncoder
from penstock.telemetry.readings import Distribution, Point
from tests.unit.core.traces.records import RECORD, record


def message_of(*records: TraceRecord, dropped: dict[str, int] | None = None) -> dict[str, Any]:
    buffer = RecordBuffer(1 << 20)
    for item in records:
        buffer.add(item)
    data, texts = buffer.take()
    return {"records": b64encode(data).decode(), "texts": texts, "dropped": dropped or {}, "count": len(records)}


class Bench:
    """An intake, and what it exports. Each chunk takes ``step_s`` of the processor."""

    step_s = 0.0

    def __init__(self, exports: bool = True) -> None:
        self.spans: list[EncodedSpans] = []
        self.exemplars = ExemplarStore()
        export = self.spans.extend if exports else None
        self.now = self.used = 0.0
        self.budget = ProcessorBudget(0.1, lambda: self.now)
        encoder = RecordEncoder(lambda _: NO_ROUTE)
        self.intake = RecordIntake(export, self.exemplars, encoder, self.budget, self.thread_time)

    def thread_time(self) -> float:
        self.used += self.step_s
        return self.used

    def take(self, *records: TraceRecord, **options: Any) -> None:
        self.intake.take(message_of(*records, **options))
        asyncio.run(self.intake.step())

    def names(self) -> list[str]:
        items = b"".join([encoded for encoded, _ in self.spans])
        request = ExportTraceServiceRequest.FromString(enclose({}, "1", items))
        return [
            span.name for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]

    def dropped(self) -> dict[str, float]:
        return {item.labels[0]: item.value for item in self.intake.readings() if isinstance(item, Point) and item.value}


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [item.message for item in caplog.records if item.name == "penstock.access"]


def test_flags_decide_what_becomes_of_a_record(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    bench.take(
        record(flags=SPANS), record(flags=ACCESS, request_id="logged"), record(kind=SHADOW, flags=SPANS | ACCESS)
    )
    assert bench.names() == ["POST /v2/models/{model}/infer", "decode", "queue", "run", "encode", "shadow"]
    assert lines(caplog) == ["POST /v2/models/m/infer 200 5.000 ms"]
    assert caplog.records[0].__dict__["fields"]["http.request.id"] == "logged"
    bench.intake.close()


def test_without_a_receiver_there_are_only_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench(exports=False)
    bench.take(record(flags=ACCESS))
    assert lines(caplog) and not bench.spans


def test_answered_requests_are_exemplars() -> None:
    bench = Bench()
    bench.take(RECORD, record(outcome=1, series=1), record(version="", series=2), record(kind=SHADOW, series=3))
    buckets = (0,) * (len(REQUEST_DURATION.edges) + 1)
    series = [("m", "1", "stable", "rest"), ("m", "1", "stable", "grpc"), ("m", "", "canary", "rest")]
    attached = bench.exemplars.attach([Distribution(REQUEST_DURATION, labels, buckets, 0.0) for labels in series])
    found = [item.exemplars for item in attached if isinstance(item, Distribution)]
    assert [len(item) for item in found] == [1, 0, 0]
    assert found[0][0][1].value == 0.005 and found[0][0][1].trace_id == RECORD.trace_id.hex()


def test_of_requests_that_took_as_long_the_newest_is_an_exemplar() -> None:
    bench = Bench()
    old, new = record(trace_id=bytes(15) + b"a"), record(trace_id=bytes(15) + b"b")
    slow = record(trace_id=bytes(15) + b"c", times=(*old.times[:4], old.times[4] + 10**9))
    bench.take(slow, old, new)
    buckets = (0,) * (len(REQUEST_DURATION.edges) + 1)
    [attached] = bench.exemplars.attach([Distribution(REQUEST_DURATION, ("m", "1", "stable", "rest"), buckets, 0.0)])
    assert isinstance(attached, Distribution)
    assert [item.trace_id for _, item in attached.exemplars] == [new.trace_id.hex(), slow.trace_id.hex()]


def test_a_request_that_is_kept_for_a_shadow_does_not_become_an_exemplar() -> None:
    bench = Bench()
    bench.take(record(flags=SPANS | KEPT))
    reading = Distribution(
        REQUEST_DURATION, ("m", "1", "stable", "rest"), (0,) * (len(REQUEST_DURATION.edges) + 1), 0.0
    )
    assert list(bench.exemplars.attach([reading])) == [reading]


def test_texts_count_in_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_intake, "MOST_BYTES", RECORD_BYTES + 200)
    bench = Bench()
    for size in (300, 100):
        bench.intake.take(message_of(record(request_id="x" * size)))
    assert bench.dropped() == {"queue": 1}
    bench.intake.process()
    bench.intake.take(message_of(record(request_id="x" * 100)))
    assert bench.dropped() == {"queue": 1}


def test_what_was_dropped_is_counted_and_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_intake, "MOST_BYTES", 20 * RECORD_BYTES)
    bench = Bench()
    bench.intake.take(message_of(dropped={"forced": 3, "full": 1}))
    half = message_of(*[RECORD] * 11)
    for _ in range(2):
        bench.intake.take(half)
    assert bench.dropped() == {"forced": 3, "full": 1, "queue": half["count"]}
    bench.intake.process()
    assert sum(number for _, number in bench.spans) == 5 * half["count"]
    bench.intake.take(half)
    assert bench.dropped()["queue"] == half["count"]


def test_spans_over_the_processor_time_are_dropped_and_counted_and_lines_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    bench.step_s = 0.06
    bench.take(*[record(flags=SPANS | ACCESS)] * (3 * CHUNK))
    assert len(bench.spans) == 2 * CHUNK  # the second chunk takes more than is left
    assert bench.dropped() == {"processor": CHUNK}
    assert len(lines(caplog)) == 3 * CHUNK
    bench.now += 1.0
    bench.take(RECORD)
    assert len(bench.spans) == 2 * CHUNK + 1
