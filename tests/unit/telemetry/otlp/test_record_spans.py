"""The spans of records, read back by OpenTelemetry's own package: names and attributes of the conventions, stages,
links, failures, and how much work they take.
"""

import sys
from itertools import count
from types import FrameType
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from penstock.core.labels import OUTCOME_INDEX
from penstock.core.traces.records import (
    DISAGREES,
    EXPLAINED,
    HAS_PARENT,
    KEPT,
    SHADOW,
    SPANS,
    RecordBuffer,
    TraceRecord,
    read_records,
)
from penstock.core.traces.spans import NO_ROUTE, RPC_STREAM, RouteTraits
from penstock.telemetry.otlp.common import enclose
from penstock.telemetry.otlp.record_spans import RecordEncoder, new_stage_ids
from tests.otlp import values_of
from tests.unit.core.traces.records import MS, RECORD, record

OFFSET = 1_000_000_000
MOST_CALLS = 85
"""Calls of functions to read a record and encode its five spans, of which there were 77."""


def made_of(item: TraceRecord, is_split: bool = False, scheme: str = "http") -> list[Span]:
    numbers = count(100)

    def new_ids() -> bytes:
        return b"".join([next(numbers).to_bytes(8, "big") for _ in range(4)])

    encoded, number = RecordEncoder(lambda _: RouteTraits(is_split, "r1"), scheme, new_ids).encode(item, OFFSET)
    [resource] = ExportTraceServiceRequest.FromString(enclose({}, "1", encoded)).resource_spans
    spans = list(resource.scope_spans[0].spans)
    assert len(spans) == number
    return spans


def test_a_request_is_a_server_span_with_its_stages() -> None:
    request, *stages = made_of(RECORD)
    assert (request.name, request.kind) == ("POST /v2/models/{model}/infer", Span.SPAN_KIND_SERVER)
    assert (request.start_time_unix_nano, request.end_time_unix_nano) == (OFFSET + 10 * MS, OFFSET + 15 * MS)
    assert (request.trace_id, request.span_id) == (RECORD.trace_id, RECORD.span_id)
    assert values_of(request.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v2/models/{model}/infer",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/v2/models/m/infer",
        "penstock.model.name": "m",
        "penstock.model.version": "1",
        "penstock.route": "stable",
        "penstock.request.id": "r",
        "penstock.rows": 2,
        "penstock.batch.rows": 5,
        "penstock.input.bytes": 8,
        "penstock.output.bytes": 16,
    }
    assert (request.trace_state, request.flags, request.parent_span_id) == ("a=1", 0x101, b"")
    assert request.status.code == Status.STATUS_CODE_UNSET
    assert [(span.name, (span.end_time_unix_nano - span.start_time_unix_nano) // MS) for span in stages] == [
        ("decode", 1),
        ("queue", 0),
        ("run", 3),
        ("encode", 1),
    ]
    assert {(span.trace_id, span.parent_span_id) for span in stages} == {(RECORD.trace_id, RECORD.span_id)}
    assert {(span.kind, span.flags) for span in stages} == {(Span.SPAN_KIND_INTERNAL, 0x101)}
    assert len({span.span_id for span in stages}) == 4


@pytest.mark.parametrize(
    ("series", "is_split", "reason"),
    [
        (0, False, "default"),
        (0, True, "split"),
        (2, True, "split"),
        (4, True, "static"),
        (6, True, "targeting_match"),
        (8, True, "unknown"),
        (10, False, "unknown"),
    ],
)
def test_the_decision_of_the_route_is_an_evaluated_flag(series: int, is_split: bool, reason: str) -> None:
    [event] = made_of(record(series=series), is_split)[0].events
    assert event.name == "feature_flag.evaluation"
    assert event.time_unix_nano == OFFSET + 10 * MS
    assert values_of(event.attributes) == {
        "feature_flag.key": "m",
        "feature_flag.result.variant": "1",
        "feature_flag.result.reason": reason,
        "feature_flag.provider.name": "penstock",
        "feature_flag.version": "r1",
    }


def test_without_a_route_there_is_no_version_of_its_rules() -> None:
    encoded, _ = RecordEncoder(lambda _: NO_ROUTE).encode(RECORD, OFFSET)
    assert b"feature_flag.version" not in encoded and b"feature_flag.key" in encoded


def test_another_route_is_stated_from_the_next_request_on() -> None:
    present = RouteTraits(is_split=False, version="r1")
    encoder = RecordEncoder(lambda _: present)
    assert b"r1" in encoder.encode(RECORD, OFFSET)[0]
    present = RouteTraits(is_split=True, version="r2")
    assert b"r2" in encoder.encode(RECORD, OFFSET)[0]


@pytest.mark.parametrize("request_id", ["r", "x" * 100, "x" * 101, "x" * 200, "ä" * 60, "\ud800"])
def test_ids_of_any_length_and_kind_are_read_back(request_id: str) -> None:
    spans = made_of(record(request_id=request_id))
    assert values_of(spans[0].attributes)["penstock.request.id"] == request_id.encode("utf-8", "replace").decode()


def test_a_port_with_tls_has_its_scheme() -> None:
    request = made_of(RECORD, scheme="https")[0]
    assert values_of(request.attributes)["url.scheme"] == "https"


def test_a_pinned_request_has_the_version_in_its_path() -> None:
    attributes = values_of(made_of(record(series=4))[0].attributes)
    assert attributes["url.path"] == "/v2/models/m/versions/1/infer"
    assert attributes["http.route"] == "/v2/models/{model}/versions/{version}/infer"


@pytest.mark.parametrize(
    ("endpoint", "method"),
    [
        ("", "inference.GRPCInferenceService/ModelInfer"),
        (RPC_STREAM, "inference.GRPCInferenceService/ModelStreamInfer"),
        ("tensorflow.serving.PredictionService/Predict", "tensorflow.serving.PredictionService/Predict"),
    ],
)
def test_grpc_has_its_own_names(endpoint: str, method: str) -> None:
    request = made_of(record(series=1, endpoint=endpoint))[0]
    attributes = values_of(request.attributes)
    assert (request.name, attributes["rpc.method"]) == (method, method)
    assert attributes["rpc.response.status_code"] == "OK"


def test_a_dialect_has_its_own_paths() -> None:
    request = made_of(record(endpoint="/v1/models/{model}/labels/{label}:predict"))[0]
    attributes = values_of(request.attributes)
    assert request.name == "POST /v1/models/{model}/labels/{label}:predict"
    assert attributes["http.route"] == "/v1/models/{model}/labels/{label}:predict"
    assert attributes["url.path"] == "/v1/models/m/labels/1:predict"


@pytest.mark.parametrize("explained", [False, True])
def test_an_explanation_says_so(explained: bool) -> None:
    request = made_of(record(flags=SPANS | (EXPLAINED if explained else 0)))[0]
    assert ("penstock.explanation" in values_of(request.attributes)) is explained


@pytest.mark.parametrize(
    ("outcome", "series", "is_error"),
    [
        ("invalid", 0, False),
        ("overloaded", 0, False),
        ("internal", 0, True),
        ("deadline", 0, True),
        ("invalid", 1, False),
        ("over_budget", 1, False),
        ("not_ready", 1, True),
    ],
)
def test_only_failures_of_the_server_are_errors(outcome: str, series: int, is_error: bool) -> None:
    request = made_of(record(outcome=OUTCOME_INDEX[outcome], series=series))[0]
    assert values_of(request.attributes)["error.type"] == outcome
    assert (request.status.code == Status.STATUS_CODE_ERROR) is is_error


def test_a_refused_request_has_neither_stages_nor_a_version() -> None:
    item = record(model="", version="", flags=SPANS | HAS_PARENT | KEPT, times=(10 * MS, 0, 0, 0, 11 * MS), outcome=2)
    [request] = made_of(item)
    attributes = values_of(request.attributes)
    assert not request.events and request.flags == 0x301
    assert "url.path" not in attributes and "penstock.route" not in attributes
    assert attributes["penstock.trace.kept"] is True


@pytest.mark.parametrize(("flags", "disagrees"), [(SPANS, False), (SPANS | DISAGREES, True)])
def test_a_shadow_is_a_trace_of_its_own_that_links_the_request(flags: int, disagrees: bool) -> None:
    linked = bytes(16), bytes(range(8))
    item = record(kind=SHADOW, flags=flags, linked_trace=bytes(range(16)), linked_span=linked[1], version="2")
    [shadow] = made_of(item)
    assert (shadow.name, shadow.parent_span_id, shadow.kind) == ("shadow", b"", Span.SPAN_KIND_INTERNAL)
    assert [(link.trace_id, link.span_id) for link in shadow.links] == [(bytes(range(16)), linked[1])]
    assert values_of(shadow.attributes)["penstock.shadow.disagrees"] is disagrees
    assert not made_of(record(kind=SHADOW))[0].links


def test_a_caller_is_the_parent() -> None:
    request = made_of(record(parent_id=bytes(range(3, 11)), request_id="", state=""))[0]
    assert (request.parent_span_id, request.trace_state) == (bytes(range(3, 11)), "")
    assert "penstock.request.id" not in values_of(request.attributes)


def test_ids_of_stages_are_random_and_never_zero() -> None:
    ids = [new_stage_ids() for _ in range(50)]
    spans = {whole[start : start + 8] for whole in ids for start in range(0, 32, 8)}
    assert len(spans) == 200 and all(any(item) for item in spans)


def count_calls(work: Any) -> int:
    """How many functions and methods are called, of Python and of C."""
    calls = 0

    def note(_: FrameType, event: str, __: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def test_the_spans_of_a_request_take_little_work() -> None:
    """What 1 % sampling costs is the control process's time for each record, and that follows the calls it makes."""
    buffer = RecordBuffer(100)
    for number in range(100):
        buffer.add(record(request_id=f"r{number}", run_rows=number % 8))
    data, texts = buffer.take()
    encoder = RecordEncoder(lambda _: NO_ROUTE)

    def encode() -> None:
        for item in read_records(data, texts):
            encoder.encode(item, OFFSET)

    encode()  # the parts that are shared
    assert count_calls(encode) <= MOST_CALLS * 100
