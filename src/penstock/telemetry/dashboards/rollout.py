"""The dashboard of rollouts and shadows: traffic, evidence, canary beside control, disagreements."""

from penstock.telemetry import delivery_metrics, metrics
from penstock.telemetry.dashboards.panel import Dashboard, Row, draw_plot
from penstock.telemetry.dashboards.queries import MODEL, MODEL_VARIABLES, VERSION, quantile, rate, series
from penstock.telemetry.promql import max_by, one_of
from penstock.telemetry.rules.counted import ANSWER_CODES, FAILURE_CODES

_CHOSEN = (MODEL, VERSION)
_SPLIT = one_of("route", ("canary", "stable"))
_FAILURES = rate("version, route", metrics.REQUESTS, *_CHOSEN, _SPLIT, one_of("code", FAILURE_CODES))
_REQUESTS = rate("version, route", metrics.REQUESTS, *_CHOSEN, _SPLIT, one_of("code", FAILURE_CODES | ANSWER_CODES))
_PAIRS = rate("version", metrics.SHADOW_PAIRS, *_CHOSEN)

ROLLOUT_DASHBOARD = Dashboard(
    "rollout",
    "Penstock / Rollouts and shadows",
    "Changes under way: the split, the evidence of guards, the canary beside the control, and shadows.",
    variables=MODEL_VARIABLES,
    page="models/${model:percentencode}/rollouts",
    rows=(
        Row(
            "Rollout",
            (
                draw_plot(
                    "Traffic",
                    "Share of the requests without a version that the route sends to each version.",
                    "percentunit",
                    max_by("version", series(metrics.TRAFFIC_WEIGHT, *_CHOSEN)),
                    "{{version}}",
                ),
                draw_plot(
                    "State",
                    "1 for the state of the newest rollout of each version.",
                    "short",
                    f"{max_by('version, state', series(metrics.ROLLOUT_STATE, *_CHOSEN))} > 0",
                    "{{version}} {{state}}",
                ),
                draw_plot(
                    "Evidence against the canary",
                    "Natural logarithm of the e-value: a guard with an error rate of 1 % rolls back above 4.6.",
                    "short",
                    max_by("version, guard", series(metrics.ROLLOUT_LOG_EVIDENCE, *_CHOSEN)),
                    "{{version}} {{guard}}",
                ),
            ),
        ),
        Row(
            "Canary and control",
            (
                draw_plot(
                    "Requests",
                    "Requests that the split assigned.",
                    "reqps",
                    rate("version, route", metrics.REQUESTS, *_CHOSEN, _SPLIT),
                    "{{version}} {{route}}",
                ),
                draw_plot(
                    "Failures",
                    "Share of failures that the server is responsible for.",
                    "percentunit",
                    f"({_FAILURES} or {_REQUESTS} * 0) / ({_REQUESTS} > 0)",
                    "{{version}} {{route}}",
                ),
                draw_plot(
                    "99th percentile",
                    "From the first byte of a request to the write of its answer.",
                    "s",
                    quantile(0.99, "version, route", metrics.REQUEST_DURATION, *_CHOSEN, _SPLIT),
                    "{{version}} {{route}}",
                ),
            ),
        ),
        Row(
            "Shadow",
            (
                draw_plot(
                    "Mirrored requests",
                    "By outcome: compared, missed or dropped.",
                    "reqps",
                    rate("version, outcome", metrics.SHADOW_REQUESTS, *_CHOSEN),
                    "{{version}} {{outcome}}",
                ),
                draw_plot("Compared requests", "Pairs of an answer and the shadow's.", "reqps", _PAIRS, "{{version}}"),
                draw_plot(
                    "Disagreements",
                    "Share of the pairs that differ beyond the tolerance.",
                    "percentunit",
                    f"{rate('version', metrics.SHADOW_DISAGREEMENTS, *_CHOSEN)} / ({_PAIRS} > 0)",
                    "{{version}}",
                ),
            ),
        ),
        Row(
            "Retraining",
            (
                draw_plot(
                    "Decisions of rules",
                    "By outcome.",
                    "ops",
                    rate("rule, outcome", delivery_metrics.RETRAINING_REQUESTS, MODEL),
                    "{{rule}} {{outcome}}",
                    width=12,
                ),
                draw_plot(
                    "Deliveries",
                    "Attempts to send events to sinks, by outcome.",
                    "ops",
                    rate("outcome", delivery_metrics.DELIVERIES, MODEL),
                    "{{outcome}}",
                    width=12,
                ),
            ),
        ),
    ),
)
