"""Readings as OTLP (``ExportMetricsServiceRequest``, opentelemetry/proto/metrics/v1/metrics.proto)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from penstock.telemetry.metric import PREFIX, Metric, MetricType
from penstock.telemetry.otlp.common import Value, attributes, enclose
from penstock.telemetry.otlp.protobuf import double, fixed64, integer, message, packed_double, packed_fixed64, text
from penstock.telemetry.otlp.start_times import StartTimes
from penstock.telemetry.readings import Distribution, Exemplar, Point, PointBatch, Reading

CUMULATIVE: Final = 2
_GAUGE, _SUM, _HISTOGRAM = 5, 7, 9
_UNITS: Final = {"_seconds": "s", "_bytes": "By", "_ratio": "1"}

Times = tuple[StartTimes, int]
"""When counting began, and the time of the readings, in nanoseconds since the epoch."""


def metrics_request(
    readings: Iterable[Reading], resource: Mapping[str, Value], version: str, starts: StartTimes, now_ns: int
) -> bytes:
    """Return the message with these readings; ``starts`` knows since when counters and histograms have counted."""
    points: dict[str, tuple[Metric, list[bytes]]] = {}
    for reading in readings:
        points.setdefault(reading.metric.name, (reading.metric, []))[1].extend(
            _encode_points(reading, (starts, now_ns))
        )
    starts.end_push(now_ns)
    items = b"".join([message(2, _encode_metric(metric, encoded)) for metric, encoded in points.values()])
    return enclose(resource, version, items)


def count_points(readings: Iterable[Reading]) -> int:
    """Return how many points readings have."""
    return sum(len(reading.labels) if isinstance(reading, PointBatch) else 1 for reading in readings)


def unit_of(name: str) -> str:
    """Return the unit of a metric in UCUM, "" for a number of things."""
    base = name.removesuffix("_total")
    return next((unit for suffix, unit in _UNITS.items() if base.endswith(suffix)), "")


def _encode_metric(metric: Metric, points: Sequence[bytes]) -> bytes:
    body = b"".join([message(1, point) for point in points])
    head = text(1, PREFIX + metric.name) + text(2, metric.help) + text(3, unit_of(metric.name))
    match metric.kind:
        case MetricType.HISTOGRAM:
            return head + message(_HISTOGRAM, body, integer(2, CUMULATIVE))
        case MetricType.COUNTER:
            return head + message(_SUM, body, integer(2, CUMULATIVE), integer(3, 1))
    return head + message(_GAUGE, body)


def _encode_points(reading: Reading, times: Times) -> list[bytes]:
    match reading:
        case Point(labels=labels, value=value):
            return [_encode_number(reading.metric, labels, value, times)]
        case PointBatch(labels=many, values=values):
            pairs = zip(many, values, strict=True)
            return [_encode_number(reading.metric, labels, value, times) for labels, value in pairs]
        case Distribution():
            return [_encode_histogram(reading, times)]


def _make_labels(metric: Metric, labels: Sequence[str]) -> dict[str, Value]:
    return dict(zip(metric.labels, labels, strict=True))


def _encode_number(metric: Metric, labels: tuple[str, ...], value: float, times: Times) -> bytes:
    began = fixed64(2, times[0].find(metric, labels, value)) if metric.kind is MetricType.COUNTER else b""
    return attributes(7, _make_labels(metric, labels)) + began + fixed64(3, times[1]) + double(4, value)


def _encode_histogram(reading: Distribution, times: Times) -> bytes:
    count = sum(reading.buckets)
    parts = [
        fixed64(2, times[0].find(reading.metric, reading.labels, count)),
        fixed64(3, times[1]),
        fixed64(4, count),
        double(5, reading.total),
        packed_fixed64(6, reading.buckets),
        packed_double(7, reading.metric.edges),
        *(message(8, _encode_exemplar(exemplar)) for _, exemplar in reading.exemplars),
        attributes(9, _make_labels(reading.metric, reading.labels)),
    ]
    return b"".join(parts)


def _encode_exemplar(exemplar: Exemplar) -> bytes:
    ids = message(4, bytes.fromhex(exemplar.span_id)) + message(5, bytes.fromhex(exemplar.trace_id))
    return fixed64(2, int(exemplar.at * 1e9)) + double(3, exemplar.value) + ids
