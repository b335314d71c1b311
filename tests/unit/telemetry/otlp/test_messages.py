"""Messages of OTLP, read back by OpenTelemetry's own package."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from penstock.core.traces.spans import SERVER, Span, SpanEvent, SpanLink
from penstock.telemetry.metrics import BATCH_ROWS, INFLIGHT, MEMORY_USED, MODEL_STATE, REQUESTS, STAGE_DURATION
from penstock.telemetry.otlp.common import SCHEMA, enclose, read_rejected, signal_url
from penstock.telemetry.otlp.metrics_request import count_points, metrics_request, unit_of
from penstock.telemetry.otlp.protobuf import integer, read_fields
from penstock.telemetry.otlp.start_times import StartTimes
from penstock.telemetry.otlp.trace_request import encode_span
from penstock.telemetry.readings import Distribution, Exemplar, Point, PointBatch, Reading
from tests.otlp import values_of

SPAN = Span(
    bytes(range(16)),
    bytes(range(8)),
    bytes(range(8, 16)),
    "POST /x",
    SERVER,
    1_700_000_000_000_000_001,
    1_700_000_000_000_000_009,
    {"text": "ä", "flag": True, "negative": -5, "large": 1 << 40, "part": 0.25},
    (SpanEvent("chosen", 1_700_000_000_000_000_002, {"key": "m"}),),
    (SpanLink(bytes(16), bytes(8)),),
    is_error=True,
    has_remote_parent=True,
    state="a=1",
)


def test_spans_are_read_back() -> None:
    root = Span(bytes(16), bytes(8), bytes(8), "run", 1, 1, 2)
    body = enclose({"service.name": "penstock", "process.pid": 7}, "1.2", encode_span(SPAN) + encode_span(root))
    request = ExportTraceServiceRequest.FromString(body)
    [resource] = request.resource_spans
    [scope] = resource.scope_spans
    assert values_of(resource.resource.attributes) == {"service.name": "penstock", "process.pid": 7}
    assert (scope.scope.name, scope.scope.version, resource.schema_url) == ("penstock", "1.2", SCHEMA)
    span, other = scope.spans
    assert (span.trace_id, span.span_id, span.parent_span_id) == (SPAN.trace_id, SPAN.span_id, SPAN.parent_id)
    assert (span.name, span.kind, span.trace_state, span.flags) == ("POST /x", SERVER, "a=1", 0x301)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (SPAN.start_ns, SPAN.end_ns)
    assert values_of(span.attributes) == SPAN.attributes
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert (span.events[0].name, values_of(span.events[0].attributes)) == ("chosen", {"key": "m"})
    assert (span.links[0].trace_id, span.links[0].span_id) == (bytes(16), bytes(8))
    assert (other.parent_span_id, other.status.code, other.flags) == (b"", 0, 0x101)
    assert request.SerializeToString() == ExportTraceServiceRequest.FromString(body).SerializeToString()


READINGS: list[Reading] = [
    Point(REQUESTS, ("m", "1", "stable", "rest", "200"), 3),
    Point(REQUESTS, ("m", "1", "stable", "grpc", "OK"), 2),
    Point(INFLIGHT, ("m",), 1),
    Point(MEMORY_USED, ("0",), math.inf),
    PointBatch(MODEL_STATE, (("m", "1", "READY"), ("m", "1", "LOADING")), (1, 0)),
    Distribution(
        STAGE_DURATION,
        ("m", "1", "run"),
        (2, 1, *(0,) * 39, 4, 1),
        0.5,
        ((1, Exemplar("0a" * 16, "0b" * 8, 3e-5, 9.5)),),
    ),
    Distribution(BATCH_ROWS, ("m", "1"), (5, *(0,) * 13), 5),
]


def test_readings_are_read_back_under_the_names_of_the_exposition() -> None:
    request = ExportMetricsServiceRequest.FromString(metrics_request(READINGS, {"a": "b"}, "1", StartTimes(5), 9))
    metrics = {item.name: item for item in request.resource_metrics[0].scope_metrics[0].metrics}
    assert count_points(READINGS) == 8
    requests = metrics["penstock_requests_total"]
    assert requests.sum.is_monotonic
    assert requests.sum.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    assert [point.as_double for point in requests.sum.data_points] == [3, 2]
    point = requests.sum.data_points[0]
    assert values_of(point.attributes)["code"] == "200"
    assert (point.start_time_unix_nano, point.time_unix_nano) == (5, 9)
    assert [item.as_double for item in metrics["penstock_model_state"].gauge.data_points] == [1, 0]
    assert metrics["penstock_memory_used_bytes"].unit == "By"
    duration = metrics["penstock_stage_duration_seconds"]
    [histogram] = duration.histogram.data_points
    assert (duration.unit, histogram.count, histogram.sum) == ("s", 8, 0.5)
    assert list(histogram.bucket_counts) == [2, 1, *(0,) * 39, 4, 1]
    assert list(histogram.explicit_bounds) == list(STAGE_DURATION.edges)
    [exemplar] = histogram.exemplars
    assert (exemplar.trace_id.hex(), exemplar.span_id.hex()) == ("0a" * 16, "0b" * 8)
    assert (exemplar.as_double, exemplar.time_unix_nano) == (3e-5, 9_500_000_000)


def test_a_series_that_begins_anew_has_a_later_start() -> None:
    starts = StartTimes(5)
    labels = ("m", "1", "stable", "rest", "200"), ("m", "2", "stable", "rest", "200")
    pushes = [{0: 3}, {0: 4, 1: 1}, {0: 2, 1: 1}, {0: 2}, {0: 2, 1: 1}]
    found = []
    for at, push in enumerate(pushes, 1):
        readings = [Point(REQUESTS, labels[index], value) for index, value in push.items()]
        message = ExportMetricsServiceRequest.FromString(metrics_request(readings, {}, "1", starts, 10 * at))
        points = message.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points
        found.append([point.start_time_unix_nano for point in points])
    assert found == [[5], [5, 10], [20, 10], [20], [20, 40]]


def test_a_histogram_that_begins_anew_has_a_later_start() -> None:
    starts, found = StartTimes(5), []
    for at, count in enumerate((5, 6, 0, 1), 1):
        reading = Distribution(BATCH_ROWS, ("m", "1"), (count, *(0,) * 13), count)
        message = ExportMetricsServiceRequest.FromString(metrics_request([reading], {}, "1", starts, 10 * at))
        [point] = message.resource_metrics[0].scope_metrics[0].metrics[0].histogram.data_points
        found.append(point.start_time_unix_nano)
    assert found == [5, 5, 20, 20]


@pytest.mark.parametrize(
    ("name", "unit"),
    [("a_seconds", "s"), ("a_seconds_total", "s"), ("b_bytes", "By"), ("c_ratio", "1"), ("d_total", "")],
)
def test_units_follow_from_names(name: str, unit: str) -> None:
    assert unit_of(name) == unit


def test_a_partial_success_is_read() -> None:
    response = ExportTraceServiceResponse()
    assert read_rejected(response.SerializeToString()) == (0, "")
    response.partial_success.rejected_spans = 300
    response.partial_success.error_message = "too old"
    assert read_rejected(response.SerializeToString()) == (300, "too old")


@given(st.binary(max_size=60))
def test_a_malformed_answer_counts_as_success(body: bytes) -> None:
    rejected, reason = read_rejected(body)
    assert rejected >= 0 and len(reason) <= 200


@pytest.mark.parametrize("damaged", [b"\x0a\x05a", b"\x0b", b"\xff" * 11, b"\x80", b"\x09\x00"])
def test_a_damaged_message_is_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r"field|number"):
        read_fields(damaged)


def test_all_forms_of_fields_are_skipped() -> None:
    data = b"\x08\x96\x01" + b"\x11" + bytes(8) + b"\x1a\x02hi" + b"\x25" + bytes(4)
    assert read_fields(data) == {1: 150, 2: bytes(8), 3: b"hi", 4: bytes(4)}
    assert integer(1, -1) == b"\x08" + b"\xff" * 9 + b"\x01"


@pytest.mark.parametrize("endpoint", ["http://h:4318", "http://h:4318/", "http://h:4318/v1/traces"])
def test_the_address_of_a_signal_follows_from_the_base(endpoint: str) -> None:
    assert signal_url(endpoint, "/v1/traces") == "http://h:4318/v1/traces"
