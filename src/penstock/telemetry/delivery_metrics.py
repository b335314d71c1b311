"""The metrics of retraining requests, and of events on their way to sinks."""

from enum import StrEnum

from penstock.telemetry.metric import Metric, MetricType


class Outcome(StrEnum):
    """How an attempt to deliver an event to a sink ended."""

    SENT = "sent"
    FAILED = "failed"
    """It is repeated."""

    GIVEN_UP = "given_up"
    """It is not repeated, unless somebody asks for it."""

    SUPERSEDED = "superseded"
    """It was given up because too many waited for the sink; a newer event says as much."""


RETRAINING_REQUESTS = Metric(
    "retraining_requests_total",
    MetricType.COUNTER,
    ("model", "rule", "outcome"),
    "Decisions of retraining rules, by outcome.",
)
OUTBOX_PENDING = Metric("outbox_pending", MetricType.GAUGE, ("model",), "Events that wait for delivery to a sink.")
OUTBOX_AGE = Metric(
    "outbox_oldest_age_seconds", MetricType.GAUGE, ("model",), "Age of the oldest event that waits for delivery."
)
DELIVERIES = Metric(
    "outbox_deliveries_total",
    MetricType.COUNTER,
    ("model", "outcome"),
    "Attempts to deliver events to sinks: sent, failed, given_up, superseded. Checkpoints of the audit have no model.",
)
