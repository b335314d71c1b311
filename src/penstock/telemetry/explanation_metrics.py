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
EXPLAINED_ROWS = Metric(
    "explained_rows_total",
    MetricType.COUNTER,
    ("model", "version"),
    "Live rows whose attributions count for the importance of features.",
)
FEATURE_IMPORTANCE = Metric(
    "feature_importance",
    MetricType.GAUGE,
    ("model", "version", "feature"),
    "Mean size of a feature's attributions over the window, on the scale of the model's margin or value.",
)

EXPLANATION_METRICS = EXPLANATIONS, EXPLANATION_SECONDS, EXPLAINED_ROWS, FEATURE_IMPORTANCE
