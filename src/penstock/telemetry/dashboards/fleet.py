"""The dashboard of a fleet: its gateways, what all models together do, and the processes behind them."""

from penstock.telemetry import delivery_metrics, metrics, otlp_metrics
from penstock.telemetry.dashboards.panel import Dashboard, Panel, Query, Row, draw_plot, show_last
from penstock.telemetry.dashboards.queries import highest, quantile, rate, series
from penstock.telemetry.promql import make_matcher, max_by, one_of, sum_by
from penstock.telemetry.rules.counted import ANSWER_CODES, FAILURE_CODES

_FAILED = one_of("code", FAILURE_CODES)
_COUNTED = one_of("code", FAILURE_CODES | ANSWER_CODES)
_READY = max_by("model, version", series(metrics.MODEL_STATE, make_matcher("state", "READY")))
_FAILURES = rate("model", metrics.REQUESTS, _FAILED)
_REQUESTS = rate("model", metrics.REQUESTS, _COUNTED)
_MEMORY = f"{series(metrics.MEMORY_USED)} / {series(metrics.MEMORY_BUDGET)}"
_LOAD = f"{sum_by('model', series(metrics.INFLIGHT))} / {sum_by('model', series(metrics.CONCURRENCY_LIMIT))}"
_OVER_50_MS = (
    f"{rate('instance, worker', metrics.EVENT_LOOP_STALL, suffix='_count')}"
    f" - {rate('instance, worker', metrics.EVENT_LOOP_STALL, make_matcher('le', '0.05'), suffix='_bucket')}"
)

FLEET = Dashboard(
    "fleet",
    "Penstock / Fleet",
    "All gateways: requests, errors, latency, capacity, and the processes behind them.",
    page="fleet",
    rows=(
        Row(
            "Gateways",
            (
                show_last(
                    "Gateways",
                    "Gateways that answered the last scrape.",
                    "short",
                    f"count({series(metrics.INSECURE)})",
                    width=4,
                ),
                show_last(
                    "Leaders",
                    "1 is right: one gateway of a fleet leads.",
                    "short",
                    f"sum({series(metrics.LEADER)})",
                    width=4,
                ),
                show_last(
                    "Workers",
                    "Processes that answer requests.",
                    "short",
                    f"count({series(metrics.MEMORY_BUDGET)})",
                    width=4,
                ),
                show_last(
                    "Ready versions",
                    "Versions that can answer at one gateway at least.",
                    "short",
                    f"sum({_READY})",
                    width=4,
                ),
                show_last(
                    "Columns that drift",
                    "Inputs and outputs that differ from their reference.",
                    "short",
                    f"sum({max_by('model, version, feature', series(metrics.DRIFT_STATE))})",
                    width=4,
                ),
                show_last(
                    "Insecure gateways",
                    "Gateways that others can reach without authentication or TLS.",
                    "short",
                    f"sum({series(metrics.INSECURE)})",
                    width=4,
                ),
            ),
        ),
        Row(
            "Requests",
            (
                Panel(
                    "Requests",
                    "Requests that ended, with mistakes of callers: of all models, and of the ten that are asked most.",
                    "reqps",
                    (
                        Query(f"sum({rate('model', metrics.REQUESTS)})", "all models"),
                        Query(highest(rate("model", metrics.REQUESTS)), "{{model}}"),
                    ),
                ),
                draw_plot(
                    "Failures",
                    "Share of failures that the server is responsible for (not 501 and other 4xx), of the ten models "
                    "with the most.",
                    "percentunit",
                    highest(f"({_FAILURES} or {_REQUESTS} * 0) / ({_REQUESTS} > 0)"),
                    "{{model}}",
                ),
                draw_plot(
                    "99th percentile",
                    "From the first byte of a request to the write of its answer, of the ten slowest models.",
                    "s",
                    highest(quantile(0.99, "model", metrics.REQUEST_DURATION)),
                    "{{model}}",
                ),
                draw_plot(
                    "Load",
                    "Requests that wait or run, as a share of the concurrency limit, of the ten models with the most.",
                    "percentunit",
                    highest(_LOAD),
                    "{{model}}",
                ),
                draw_plot(
                    "Refused for lack of capacity",
                    "By reason, the ten models with the most; 0 is right.",
                    "reqps",
                    highest(rate("model, reason", metrics.SHED)),
                    "{{model}} {{reason}}",
                ),
                draw_plot(
                    "Missed deadlines",
                    "Requests that took longer than their caller allowed, of the ten models with the most.",
                    "reqps",
                    highest(rate("model", metrics.DEADLINE_EXCEEDED)),
                    "{{model}}",
                ),
            ),
        ),
        Row(
            "Processes",
            (
                draw_plot(
                    "Long stalls",
                    "Periods above 50 ms in which an event loop was blocked; 0 is right.",
                    "ops",
                    _OVER_50_MS,
                    "{{instance}} worker {{worker}}",
                ),
                draw_plot(
                    "Memory budget",
                    "Share that unfinished requests, answers and mirrored calls use.",
                    "percentunit",
                    max_by("instance, worker", _MEMORY),
                    "{{instance}} worker {{worker}}",
                ),
                draw_plot(
                    "Replaced workers",
                    "By reason: died, frozen or never started.",
                    "ops",
                    rate("instance, reason", metrics.WORKER_RESTARTS),
                    "{{instance}} {{reason}}",
                ),
                draw_plot(
                    "Age of the last success of tasks",
                    "The ten oldest; collection has an hour between steps.",
                    "s",
                    highest(f"time() - {series(metrics.TASK_LAST_SUCCESS)}"),
                    "{{instance}} {{task}}",
                ),
                draw_plot(
                    "Failures of tasks",
                    "The gateway repeats them with pauses.",
                    "ops",
                    highest(rate("instance, task", metrics.TASK_FAILURES)),
                    "{{instance}} {{task}}",
                ),
                draw_plot(
                    "Blocking calls",
                    "Calls to databases, buckets and sinks that wait or were abandoned.",
                    "short",
                    max_by("instance, pool, state", series(metrics.BLOCKING_CALLS, 'state!="running"')),
                    "{{instance}} {{pool}} {{state}}",
                ),
            ),
        ),
        Row(
            "Sinks",
            (
                draw_plot(
                    "Events that wait",
                    "Events in the outbox, of the ten models with the most.",
                    "short",
                    highest(max_by("model", series(delivery_metrics.OUTBOX_PENDING))),
                    "{{model}}",
                ),
                draw_plot(
                    "Oldest event",
                    "Age of the oldest event in the outbox, of the ten models with the oldest.",
                    "s",
                    highest(max_by("model", series(delivery_metrics.OUTBOX_AGE))),
                    "{{model}}",
                ),
                draw_plot(
                    "Refused blocking calls",
                    "Calls to databases, buckets and sinks for which there was no thread in time; 0 is right.",
                    "ops",
                    rate("instance, pool, reason", metrics.BLOCKING_CALLS_REFUSED),
                    "{{instance}} {{pool}} {{reason}}",
                ),
            ),
        ),
        Row(
            "Access",
            (
                Panel(
                    "Refused access",
                    "Requests without a credential or permission, by reason; a dry run lets them through.",
                    "reqps",
                    (
                        Query(rate("reason", metrics.AUTH_REFUSED), "{{reason}}"),
                        Query(rate("reason", metrics.AUTH_WOULD_REFUSE), "dry run: {{reason}}"),
                    ),
                ),
                draw_plot(
                    "Refused by quotas",
                    "Requests over the quota of their caller, of the ten with the most.",
                    "reqps",
                    highest(rate("caller", metrics.QUOTA_REFUSED)),
                    "{{caller}}",
                ),
                draw_plot(
                    "Certificates",
                    "Time until the first certificate in use expires.",
                    "s",
                    f"min by (instance, certificate) ({series(metrics.TLS_EXPIRATION)}) - time()",
                    "{{instance}} {{certificate}}",
                ),
                draw_plot(
                    "Renewed certificates",
                    "Changed files that were taken over (loaded), or cannot be used (refused).",
                    "ops",
                    rate("instance, result", metrics.TLS_RELOADS),
                    "{{instance}} {{result}}",
                ),
                draw_plot(
                    "Confinement that is missing",
                    "Layers that are not in force in programs that run models; 0 is right.",
                    "short",
                    f"max by (instance, program, layer) (1 - {series(metrics.CONFINEMENT_LAYER)})",
                    "{{instance}} {{program}} {{layer}}",
                ),
                draw_plot(
                    "Repositories that are unreachable",
                    "Folders and buckets whose last scan found no models; 0 is right.",
                    "short",
                    f"max by (repository) (1 - {series(metrics.REPOSITORY_UP)})",
                    "{{repository}}",
                ),
            ),
        ),
        Row(
            "What gateways lose",
            (
                Panel(
                    "Losses",
                    "Events of the monitor, entries of the audit, and scratch files that could not be deleted.",
                    "ops",
                    (
                        Query(rate("instance", metrics.EVENTS_DROPPED), "{{instance}} events"),
                        Query(rate("instance", metrics.AUDIT_DROPPED), "{{instance}} audit"),
                        Query(rate("instance", metrics.SCRATCH_FAILURES), "{{instance}} scratch files"),
                    ),
                ),
                Panel(
                    "Spans and pushed metrics",
                    "By what became of them at the OTLP receiver, and spans that wait for it.",
                    "short",
                    (
                        Query(rate("signal, outcome", otlp_metrics.OTLP_ITEMS), "{{signal}} {{outcome}}"),
                        Query(max_by("instance", series(otlp_metrics.OTLP_WAITING)), "{{instance}} waiting"),
                    ),
                ),
                draw_plot(
                    "Requests without their trace",
                    "By reason: over what callers can force, or a buffer was full.",
                    "reqps",
                    rate("reason", otlp_metrics.TRACES_DROPPED),
                    "{{reason}}",
                ),
            ),
        ),
    ),
)
