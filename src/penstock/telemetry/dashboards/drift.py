"""The dashboard of drift and quality: columns against their reference, unsound values, labels and performance."""

from penstock.telemetry import explanation_metrics, metrics
from penstock.telemetry.dashboards.panel import Dashboard, Kind, Panel, Query, Row, Variable, draw_plot
from penstock.telemetry.dashboards.queries import MODEL, MODEL_VARIABLES, VERSION, rate, recorded, series
from penstock.telemetry.promql import max_by, sum_by

FEATURE = 'feature=~"$feature"'
_CHOSEN = (MODEL, VERSION)
_COLUMNS = (*_CHOSEN, FEATURE)
_BY_COLUMN = "version, feature"
_ROWS = rate("version", metrics.MONITOR_ROWS, *_CHOSEN)
_DROPPED = rate("version", metrics.MONITOR_DROPPED, *_CHOSEN)
_VIOLATIONS = rate("version, feature, kind", metrics.QUALITY_VIOLATIONS, *_COLUMNS)

DRIFT_DASHBOARD = Dashboard(
    "drift",
    "Penstock / Drift and quality",
    "What the monitor sees of a model: columns against their reference, unsound values, labels and performance.",
    variables=(
        *MODEL_VARIABLES,
        Variable("feature", series(metrics.DRIFT_STATE, MODEL)),
    ),
    page="models/${model:percentencode}/monitor",
    rows=(
        Row(
            "Verdict",
            (
                draw_plot(
                    "Columns that drift",
                    "1 while an input or output differs by more than chance explains.",
                    "short",
                    max_by(_BY_COLUMN, series(metrics.DRIFT_STATE, *_COLUMNS)),
                    "{{version}} {{feature}}",
                ),
                draw_plot(
                    "Evidence",
                    "Natural logarithm of the evidence that a column has changed.",
                    "short",
                    max_by(_BY_COLUMN, series(metrics.DRIFT_LOG_EVIDENCE, *_COLUMNS)),
                    "{{version}} {{feature}}",
                ),
                draw_plot(
                    "Alarms",
                    "Drift alarms that gateways have sent.",
                    "ops",
                    rate("version", metrics.DRIFT_ALARMS, *_CHOSEN),
                    "{{version}}",
                ),
            ),
        ),
        Row(
            "Distance from the reference, over five minutes and all gateways",
            (
                draw_plot(
                    "PSI of inputs",
                    "Population stability index; above 0.2 is usually called a large change.",
                    "short",
                    recorded("penstock:feature:psi5m", *_COLUMNS),
                    "{{version}} {{feature}}",
                    width=12,
                ),
                draw_plot(
                    "KS of inputs",
                    "Kolmogorov-Smirnov: largest difference of the cumulative shares.",
                    "short",
                    recorded("penstock:feature:ks5m", *_COLUMNS),
                    "{{version}} {{feature}}",
                    width=12,
                ),
                draw_plot(
                    "PSI of outputs",
                    "Population stability index of what the model answers.",
                    "short",
                    recorded("penstock:output:psi5m", *_CHOSEN),
                    "{{version}} {{output}}",
                    width=12,
                ),
                draw_plot(
                    "KS of outputs",
                    "Largest difference of the cumulative shares of what the model answers.",
                    "short",
                    recorded("penstock:output:ks5m", *_CHOSEN),
                    "{{version}} {{output}}",
                    width=12,
                ),
                Panel(
                    "Rows by bin",
                    "Share of the rows in each bin of the chosen inputs, now.",
                    "percentunit",
                    (Query(recorded("penstock:feature_bin:share5m", *_COLUMNS), "{{feature}} {{bin}}"),),
                    Kind.BARS,
                    12,
                ),
                Panel(
                    "Reference by bin",
                    "Share of the reference's rows in each bin.",
                    "percentunit",
                    (Query(recorded("penstock:feature_bin:reference", *_COLUMNS), "{{feature}} {{bin}}"),),
                    Kind.BARS,
                    12,
                ),
                draw_plot(
                    "Scores of gateways",
                    "PSI and Jensen-Shannon over the window of the policy, by gateway.",
                    "short",
                    max_by("instance, feature, statistic", series(metrics.DRIFT_SCORE, *_COLUMNS)),
                    "{{instance}} {{feature}} {{statistic}}",
                    width=24,
                ),
            ),
        ),
        Row(
            "Quality",
            (
                draw_plot(
                    "Unsound values",
                    "Share of the rows whose value is missing, not finite, out of range or unseen.",
                    "percentunit",
                    f"{_VIOLATIONS} / on (version) group_left () ({_ROWS} > 0)",
                    "{{version}} {{feature}} {{kind}}",
                ),
                draw_plot("Rows counted", "Rows that the monitor has counted.", "rowsps", _ROWS, "{{version}}"),
                draw_plot(
                    "Rows dropped",
                    "Share of the rows that the monitor has dropped.",
                    "percentunit",
                    f"{_DROPPED} / ({_DROPPED} + {_ROWS} > 0)",
                    "{{version}}",
                ),
            ),
        ),
        Row(
            "Labels and performance",
            (
                draw_plot(
                    "Performance",
                    "Of the last 1000 labelled answers; estimated_accuracy needs no labels.",
                    "percentunit",
                    max_by("version, metric", series(metrics.PERFORMANCE_RATIO, *_CHOSEN)),
                    "{{version}} {{metric}}",
                ),
                draw_plot(
                    "Errors and scores",
                    "Metrics that are not shares: mae and rmse in the label's unit, r2, log_loss.",
                    "short",
                    max_by("version, metric", series(metrics.PERFORMANCE_VALUE, *_CHOSEN)),
                    "{{version}} {{metric}}",
                ),
                draw_plot(
                    "Labels",
                    "By outcome: joined, late, doubled, unknown and others.",
                    "ops",
                    sum_by("outcome", f"rate({series(metrics.LABELS, MODEL, window='$__rate_interval')})"),
                    "{{outcome}}",
                ),
                draw_plot(
                    "Answers that labels cannot be joined to",
                    "Rows that were dropped for lack of space; 0 is right.",
                    "rowsps",
                    rate("model", metrics.ANSWERS_DROPPED, MODEL),
                    "{{model}}",
                ),
                draw_plot(
                    "Rows whose attributions count",
                    "Live rows that the importance of features rests on.",
                    "rowsps",
                    rate("version", explanation_metrics.EXPLAINED_ROWS, *_CHOSEN),
                    "{{version}}",
                ),
            ),
        ),
    ),
)
