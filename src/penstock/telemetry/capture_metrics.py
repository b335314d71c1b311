"""The metrics of captured requests, and of requests that are marked as no live traffic."""

from penstock.telemetry.metric import Metric, MetricType

MARKED_ROWS = Metric(
    "marked_rows_total",
    MetricType.COUNTER,
    ("model", "version", "source"),
    "Rows of answered requests that are marked as no live traffic (penstock-source: batch or replay).",
)
CAPTURED = Metric("captured_requests_total", MetricType.COUNTER, ("model", "version"), "Requests captured.")
CAPTURED_BYTES = Metric("captured_bytes_total", MetricType.COUNTER, ("model", "version"), "Bytes of captured requests.")
CAPTURE_DROPPED = Metric(
    "capture_dropped_total",
    MetricType.COUNTER,
    ("model", "version"),
    "Requests not captured because they were too many or too large, or could not be written.",
)
