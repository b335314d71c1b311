"""The metrics of explanations."""

from penstock.telemetry.metric import Metric, MetricType

EXPLANATIONS = Metric(
    "explanations_total",
    MetricType.COUNTER,
    ("model", "version", "outcome"),
    "Explanations by outcome: exact, sampled (with a stated error) or failed.",
)
EXPLANATION_SECONDS = Metric(
    "explanation_seconds_total",
    MetricType.COUNTER,
    ("model", "version"),
    "Time that explanations took, from their admission to their answer.",
)
