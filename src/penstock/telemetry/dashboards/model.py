"""The dashboard of a model: objectives, rate, errors and duration by version, stages, and capacity."""

from penstock.telemetry import capture_metrics, explanation_metrics, metrics
from penstock.telemetry.dashboards.panel import Dashboard, Panel, Query, Row, draw_plot, show_last
from penstock.telemetry.dashboards.queries import (
    MODEL,
    MODEL_VARIABLES,
    VERSION,
    mean,
    quantile,
    rate,
    recorded,
    series,
)
from penstock.telemetry.promql import max_by, one_of, sum_by
from penstock.telemetry.rules.counted import ANSWER_CODES, FAILURE_CODES

_CHOSEN = (MODEL, VERSION)
_FAILURES = rate("version", metrics.REQUESTS, *_CHOSEN, one_of("code", FAILURE_CODES))
_REQUESTS = rate("version", metrics.REQUESTS, *_CHOSEN, one_of("code", FAILURE_CODES | ANSWER_CODES))
_EXPLAINING = rate("version", explanation_metrics.EXPLANATION_SECONDS, *_CHOSEN)
_EXPLAINED = rate("version", explanation_metrics.EXPLANATIONS, *_CHOSEN)

MODEL_DASHBOARD = Dashboard(
    "model",
    "Penstock / Model",
    "One model: objectives, requests, errors and latency of its versions side by side, stages, and capacity.",
    variables=MODEL_VARIABLES,
    page="models/${model:percentencode}",
    rows=(
        Row(
            "Objectives",
            (
                show_last(
                    "Error budget left",
                    "Share of what the objective allows in 30 days that is left.",
                    "percentunit",
                    recorded("penstock:slo_period_error_budget_remaining:ratio", MODEL),
                    "{{slo}}",
                    width=6,
                ),
                show_last(
                    "Objective",
                    "Share of the requests that must be good, from the model's policy.",
                    "percentunit",
                    recorded("penstock:slo_objective:ratio", MODEL),
                    "{{slo}}",
                    width=6,
                ),
                Panel(
                    "Burn rate",
                    "1 uses up exactly what the objective allows.",
                    "short",
                    (
                        Query(recorded("penstock:slo_current_burn_rate:ratio", MODEL), "{{slo}} 5m"),
                        Query(recorded("penstock:slo_period_burn_rate:ratio", MODEL), "{{slo}} 30d"),
                    ),
                    width=12,
                ),
            ),
        ),
        Row(
            "Requests by version",
            (
                draw_plot(
                    "Requests",
                    "Requests that ended, with mistakes of callers.",
                    "reqps",
                    rate("version", metrics.REQUESTS, *_CHOSEN),
                    "{{version}}",
                ),
                draw_plot(
                    "Failures",
                    "Share of failures that the server is responsible for.",
                    "percentunit",
                    f"({_FAILURES} or {_REQUESTS} * 0) / ({_REQUESTS} > 0)",
                    "{{version}}",
                ),
                draw_plot(
                    "99th percentile",
                    "From the first byte of a request to the write of its answer.",
                    "s",
                    quantile(0.99, "version", metrics.REQUEST_DURATION, *_CHOSEN),
                    "{{version}}",
                ),
                draw_plot(
                    "Requests by code",
                    "HTTP status, or name of the gRPC status.",
                    "reqps",
                    rate("protocol, code", metrics.REQUESTS, *_CHOSEN),
                    "{{protocol}} {{code}}",
                ),
                draw_plot(
                    "Requests by route",
                    "Why this version answered: stable, canary, pinned or rule; batch and replay are not live traffic.",
                    "reqps",
                    rate("version, route", metrics.REQUESTS, *_CHOSEN),
                    "{{version}} {{route}}",
                ),
                Panel(
                    "Quantiles",
                    "Of all chosen versions together.",
                    "s",
                    tuple(
                        Query(quantile(share, "model", metrics.REQUEST_DURATION, *_CHOSEN), name)
                        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))
                    ),
                ),
            ),
        ),
        Row(
            "Stages",
            (
                draw_plot(
                    "Mean time by stage",
                    "Time of successful requests: decode, queue, run, encode.",
                    "s",
                    mean("version, stage", metrics.STAGE_DURATION, *_CHOSEN),
                    "{{version}} {{stage}}",
                ),
                draw_plot(
                    "99th percentile by stage",
                    "A long queue says that runs or cores are too few.",
                    "s",
                    quantile(0.99, "version, stage", metrics.STAGE_DURATION, *_CHOSEN),
                    "{{version}} {{stage}}",
                ),
                draw_plot(
                    "Rows in a run",
                    "Mean; above 1 where requests share runs.",
                    "short",
                    mean("version", metrics.BATCH_ROWS, *_CHOSEN),
                    "{{version}}",
                ),
            ),
        ),
        Row(
            "Capacity",
            (
                Panel(
                    "Requests that wait or run",
                    "Beside their limit.",
                    "short",
                    (
                        Query(sum_by("model", series(metrics.INFLIGHT, MODEL)), "now"),
                        Query(sum_by("model", series(metrics.CONCURRENCY_LIMIT, MODEL)), "limit"),
                    ),
                ),
                draw_plot(
                    "Memory of a copy",
                    "As measured at admission.",
                    "bytes",
                    max_by("version", series(metrics.MODEL_MEMORY, *_CHOSEN)),
                    "{{version}}",
                ),
                draw_plot(
                    "State",
                    "Gateways at which a version is in each state.",
                    "short",
                    f"{sum_by('version, state', series(metrics.MODEL_STATE, *_CHOSEN))} > 0",
                    "{{version}} {{state}}",
                ),
                draw_plot(
                    "Loads",
                    "Attempts of workers to load a version, by result.",
                    "ops",
                    rate("version, result", metrics.MODEL_LOADS, *_CHOSEN),
                    "{{version}} {{result}}",
                ),
                draw_plot(
                    "Mismatches of joint runs",
                    "Runs whose answers depended on other callers; 0 is right.",
                    "ops",
                    rate("version", metrics.JOINT_RUN_MISMATCHES, *_CHOSEN),
                    "{{version}}",
                ),
                draw_plot(
                    "Refused for lack of capacity",
                    "By reason; 0 is right.",
                    "reqps",
                    rate("reason", metrics.SHED, MODEL),
                    "{{reason}}",
                ),
            ),
        ),
        Row(
            "Explanations",
            (
                draw_plot(
                    "Explanations",
                    "By outcome: exact, sampled (with a stated error) or failed.",
                    "reqps",
                    rate("version, outcome", explanation_metrics.EXPLANATIONS, *_CHOSEN),
                    "{{version}} {{outcome}}",
                ),
                draw_plot(
                    "Mean time of an explanation",
                    "From its admission to its answer.",
                    "s",
                    f"{_EXPLAINING} / ({_EXPLAINED} > 0)",
                    "{{version}}",
                ),
                draw_plot(
                    "Importance of features",
                    "Mean size of a feature's attributions over the window, on the scale of the margin or value.",
                    "short",
                    max_by("version, feature", series(explanation_metrics.FEATURE_IMPORTANCE, *_CHOSEN)),
                    "{{version}} {{feature}}",
                ),
            ),
        ),
        Row(
            "Capture, and traffic that is not live",
            (
                draw_plot(
                    "Batch and replay",
                    "Rows of requests that are marked as no live traffic; the monitor leaves them out.",
                    "rowsps",
                    rate("version, source", capture_metrics.MARKED_ROWS, *_CHOSEN),
                    "{{version}} {{source}}",
                ),
                Panel(
                    "Captured requests",
                    "Beside those that were too many or too large, or could not be written.",
                    "reqps",
                    (
                        Query(rate("version", capture_metrics.CAPTURED, *_CHOSEN), "{{version}}"),
                        Query(rate("version", capture_metrics.CAPTURE_DROPPED, *_CHOSEN), "{{version}} dropped"),
                    ),
                ),
                draw_plot(
                    "Captured bytes",
                    "What captures add to the disk.",
                    "Bps",
                    rate("version", capture_metrics.CAPTURED_BYTES, *_CHOSEN),
                    "{{version}}",
                ),
            ),
        ),
    ),
)
