"""The metrics of traces and of the export by OTLP."""

from typing import Final

from penstock.telemetry.metric import Metric, MetricType

SENT, REJECTED, FAILED, DROPPED = "sent", "rejected", "failed", "dropped"
OUTCOMES: Final = (SENT, REJECTED, FAILED, DROPPED)
"""What became of an item: the receiver has it, it refused it by itself, it never took its batch, or there was no space
in the queue."""

TRACES_DROPPED = Metric(
    "traces_dropped_total",
    MetricType.COUNTER,
    ("reason",),
    "Requests that were to be traced and were not: over tracing.max_forced_per_second (forced by callers, or kept as "
    "failed), a buffer was full (full, queue), or over tracing.max_processor_share (processor).",
)
OTLP_ITEMS = Metric(
    "otlp_items_total",
    MetricType.COUNTER,
    ("signal", "outcome"),
    "Spans and metric points for the OTLP receiver, by what became of them.",
)
OTLP_WAITING = Metric("otlp_waiting", MetricType.GAUGE, ("signal",), "Spans that wait for the OTLP receiver.")
