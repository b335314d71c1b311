"""The table of metrics: the name, type, labels and help text of every metric that Penstock exposes."""

from penstock.core.buckets import LATENCY_EDGES_NS, ROWS_EDGES, STALL_EDGES_NS
from penstock.telemetry.capture_metrics import CAPTURE_DROPPED, CAPTURED, CAPTURED_BYTES, MARKED_ROWS
from penstock.telemetry.delivery_metrics import DELIVERIES, OUTBOX_AGE, OUTBOX_PENDING, RETRAINING_REQUESTS
from penstock.telemetry.explanation_metrics import EXPLANATION_METRICS
from penstock.telemetry.metric import Metric, MetricType
from penstock.telemetry.otlp_metrics import OTLP_ITEMS, OTLP_WAITING, TRACES_DROPPED

LATENCY_EDGES_S = tuple(edge / 1e9 for edge in LATENCY_EDGES_NS)
ROWS = tuple(float(edge) for edge in ROWS_EDGES)

REQUESTS = Metric(
    "requests_total",
    MetricType.COUNTER,
    ("model", "version", "route", "protocol", "code"),
    "Inference requests that ended, by HTTP status or gRPC status name.",
)
REQUEST_DURATION = Metric(
    "request_duration_seconds",
    MetricType.HISTOGRAM,
    ("model", "version", "route", "protocol"),
    "Time from the first byte of a request to the write of its answer.",
    LATENCY_EDGES_S,
)
STAGE_DURATION = Metric(
    "stage_duration_seconds",
    MetricType.HISTOGRAM,
    ("model", "version", "stage"),
    "Time successful requests spent in each stage: decode, queue, run, encode.",
    LATENCY_EDGES_S,
)
INFLIGHT = Metric("inflight_requests", MetricType.GAUGE, ("model",), "Requests that wait or run now.")
CONCURRENCY_LIMIT = Metric(
    "concurrency_limit",
    MetricType.GAUGE,
    ("model",),
    "Limit of requests that wait or run at the same time, over all versions and workers.",
)
SHED = Metric(
    "shed_total", MetricType.COUNTER, ("model", "reason"), "Requests refused for lack of capacity, by reason."
)
DEADLINE_EXCEEDED = Metric(
    "deadline_exceeded_total",
    MetricType.COUNTER,
    ("model", "stage"),
    "Requests that missed their deadline, by stage; the stage 'request' is the time from start to end.",
)
BATCH_ROWS = Metric("batch_rows", MetricType.HISTOGRAM, ("model", "version"), "Rows in each run of the model.", ROWS)
JOINT_RUN_MISMATCHES = Metric(
    "joint_run_mismatches_total",
    MetricType.COUNTER,
    ("model", "version"),
    "Batch runs whose answers differed when their requests were repeated alone.",
)
AUTH_REFUSED = Metric(
    "auth_refused_total",
    MetricType.COUNTER,
    ("reason",),
    "Requests refused for lack of a credential or a permission, or by their host or origin.",
)
AUTH_WOULD_REFUSE = Metric(
    "auth_would_refuse_total",
    MetricType.COUNTER,
    ("reason",),
    "Requests that would have been refused, where auth.dry_run is on.",
)
QUOTA_REFUSED = Metric("quota_refused_total", MetricType.COUNTER, ("caller",), "Requests over their caller's quota.")
MODEL_INFO = Metric("model_info", MetricType.GAUGE, ("model", "version", "digest"), "1 for the content served.")
MODEL_MEMORY = Metric(
    "model_memory_bytes",
    MetricType.GAUGE,
    ("model", "version"),
    "Memory of one loaded copy, as measured at admission.",
)
MODEL_STATE = Metric(
    "model_state",
    MetricType.GAUGE,
    ("model", "version", "state"),
    "1 for the current state of a version, 0 for the others.",
)
REPOSITORY_UP = Metric(
    "repository_up",
    MetricType.GAUGE,
    ("repository",),
    "1 if the last scan of a watched folder or bucket found models, 0 if it was unreachable or empty.",
)
MODEL_LOADS = Metric(
    "model_loads_total",
    MetricType.COUNTER,
    ("model", "version", "result"),
    "Attempts of a worker to load a version, by result: ok or failed.",
)
TRAFFIC_WEIGHT = Metric(
    "traffic_weight_ratio",
    MetricType.GAUGE,
    ("model", "version"),
    "Share of the requests without a version that the route sends to a version, given what is ready.",
)
SHADOW_REQUESTS = Metric(
    "shadow_requests_total",
    MetricType.COUNTER,
    ("model", "version", "outcome"),
    "Requests mirrored to a shadow, by outcome: pair, missed or dropped.",
)
SHADOW_PAIRS = Metric(
    "shadow_pairs_total", MetricType.COUNTER, ("model", "version"), "Mirrored requests that were compared."
)
SHADOW_DISAGREEMENTS = Metric(
    "shadow_disagreements_total",
    MetricType.COUNTER,
    ("model", "version"),
    "Compared requests that the shadow answered differently.",
)
ROLLOUT_STATE = Metric(
    "rollout_state",
    MetricType.GAUGE,
    ("model", "version", "state"),
    "1 for the current state of the newest rollout of a version, 0 for the others.",
)
ROLLOUT_LOG_EVIDENCE = Metric(
    "rollout_log_evidence",
    MetricType.GAUGE,
    ("model", "version", "guard"),
    "Natural logarithm of the e-value against the canary, by guard.",
)
FEATURE_BINS = Metric(
    "feature_bin_total",
    MetricType.COUNTER,
    ("model", "version", "feature", "bin"),
    "Rows counted in each bin of an input.",
)
FEATURE_REFERENCE = Metric(
    "feature_reference_ratio",
    MetricType.GAUGE,
    ("model", "version", "feature", "bin"),
    "Smoothed share of the reference's rows in each bin of an input; never 0.",
)
OUTPUT_BINS = Metric(
    "output_bin_total",
    MetricType.COUNTER,
    ("model", "version", "output", "bin"),
    "Rows counted in each bin of an output.",
)
OUTPUT_REFERENCE = Metric(
    "output_reference_ratio",
    MetricType.GAUGE,
    ("model", "version", "output", "bin"),
    "Smoothed share of the reference's rows in each bin of an output; never 0.",
)
FEATURE_BELOW = Metric(
    "feature_below_total",
    MetricType.COUNTER,
    ("model", "version", "feature", "bin"),
    "Cumulative count of rows up to each bin of an input.",
)
FEATURE_BELOW_REFERENCE = Metric(
    "feature_below_reference_ratio",
    MetricType.GAUGE,
    ("model", "version", "feature", "bin"),
    "Cumulative share of the reference's rows up to each bin of an input.",
)
OUTPUT_BELOW = Metric(
    "output_below_total",
    MetricType.COUNTER,
    ("model", "version", "output", "bin"),
    "Cumulative count of rows up to each bin of an output.",
)
OUTPUT_BELOW_REFERENCE = Metric(
    "output_below_reference_ratio",
    MetricType.GAUGE,
    ("model", "version", "output", "bin"),
    "Cumulative share of the reference's rows up to each bin of an output.",
)
DRIFT_LOG_EVIDENCE = Metric(
    "drift_log_evidence",
    MetricType.GAUGE,
    ("model", "version", "feature"),
    "Natural logarithm of the evidence since the last alarm that an input or output has changed.",
)
DRIFT_SCORE = Metric(
    "drift_score",
    MetricType.GAUGE,
    ("model", "version", "feature", "statistic"),
    "Distance of the window from the reference, by statistic: psi or js.",
)
DRIFT_STATE = Metric(
    "drift_state", MetricType.GAUGE, ("model", "version", "feature"), "1 while an input or output drifts."
)
DRIFT_ALARMS = Metric(
    "drift_alarms_total",
    MetricType.COUNTER,
    ("model", "version"),
    "Drift alarms that this gateway has sent; one gateway of a fleet sends each alarm.",
)
QUALITY_VIOLATIONS = Metric(
    "quality_violations_total",
    MetricType.COUNTER,
    ("model", "version", "feature", "kind"),
    "Invalid values, by kind: missing, non_finite, out_of_range, unseen or constant.",
)
MONITOR_ROWS = Metric("monitor_rows_total", MetricType.COUNTER, ("model", "version"), "Rows that the monitor counted.")
MONITOR_DROPPED = Metric(
    "monitor_dropped_total",
    MetricType.COUNTER,
    ("model", "version", "reason"),
    "Rows that the monitor dropped, by reason.",
)
PERFORMANCE_RATIO = Metric(
    "performance_ratio",
    MetricType.GAUGE,
    ("model", "version", "metric"),
    "Quality of the last 1000 labelled answers, by metrics from 0 to 1; estimated_accuracy needs no labels.",
)
PERFORMANCE_VALUE = Metric(
    "performance_value",
    MetricType.GAUGE,
    ("model", "version", "metric"),
    "Quality of the last 1000 labelled answers, by other metrics: mae and rmse in the label's unit, r2, log_loss.",
)
LABELS = Metric(
    "labels_total",
    MetricType.COUNTER,
    ("model", "version", "outcome"),
    "Labels received, by outcome: joined, late, doubled, unusable, unknown, given_up or unreadable.",
)
ANSWERS_DROPPED = Metric(
    "answers_dropped_total",
    MetricType.COUNTER,
    ("model",),
    "Answered rows that were dropped for lack of space, so that labels cannot be joined to them.",
)
EVENTS_DROPPED = Metric(
    "monitor_events_dropped_total",
    MetricType.COUNTER,
    (),
    "Events of the monitor that were dropped: too many waited for the database, or it refused one.",
)
LEADER = Metric("leader", MetricType.GAUGE, (), "1 while this gateway is the leader of its fleet, else 0.")
LEASE_TERM = Metric(
    "lease_term", MetricType.GAUGE, (), "The term of this gateway's leadership, 0 if it is not the leader."
)
WORKER_RESTARTS = Metric(
    "worker_restarts_total",
    MetricType.COUNTER,
    ("reason",),
    "Workers that were replaced, by reason: died, frozen, or never started (stuck).",
)
TASK_LAST_SUCCESS = Metric(
    "task_last_success_seconds",
    MetricType.GAUGE,
    ("task",),
    "Time of the last successful step of a periodic task of the control process or a worker (worker-N/…), in seconds "
    "since the epoch; before the first success, the start time of the task.",
)
TASK_FAILURES = Metric(
    "task_failures_total",
    MetricType.COUNTER,
    ("task",),
    "Failures in steps of a periodic task of the control process or a worker.",
)
TLS_EXPIRATION = Metric(
    "tls_certificate_expiration_timestamp_seconds",
    MetricType.GAUGE,
    ("certificate",),
    "Time at which the first certificate in use expires, in seconds since the epoch: server or client_ca.",
)
TLS_RELOADS = Metric(
    "tls_certificate_reloads_total",
    MetricType.COUNTER,
    ("result",),
    "Changed certificate files that were taken over (loaded), or cannot be used (refused).",
)
MEMORY_BUDGET = Metric(
    "memory_budget_bytes",
    MetricType.GAUGE,
    ("worker",),
    "Bytes a worker may hold for its callers: incomplete bodies, queued answers and mirrored calls.",
)
MEMORY_USED = Metric("memory_used_bytes", MetricType.GAUGE, ("worker",), "Bytes used of a worker's memory budget.")
BLOCKING_CALLS = Metric(
    "blocking_calls",
    MetricType.GAUGE,
    ("pool", "state"),
    "Calls to databases, buckets and sinks, by state: running, waiting for a thread, or abandoned.",
)
SCRATCH_FAILURES = Metric(
    "scratch_delete_failures_total",
    MetricType.COUNTER,
    (),
    "Failed deletions of scratch files and folders by the control process; the janitor retries them.",
)
CONFINEMENT_LAYER = Metric(
    "confinement_layer",
    MetricType.GAUGE,
    ("program", "layer"),
    "1 if a layer of confinement is in force in programs that run models (worker, sandbox), 0 if it is missing.",
)
AUDIT_DROPPED = Metric("audit_dropped_total", MetricType.COUNTER, (), "Refused requests without an entry in the audit.")
BLOCKING_CALLS_REFUSED = Metric(
    "blocking_calls_refused_total",
    MetricType.COUNTER,
    ("pool", "reason"),
    "Calls that a pool refused, by reason: too many calls waited (full), or the deadline was over (late).",
)
EVENT_LOOP_STALL = Metric(
    "event_loop_stall_seconds",
    MetricType.HISTOGRAM,
    ("worker",),
    "Periods of a millisecond or more in which a worker's event loop was blocked.",
    tuple(edge / 1e9 for edge in STALL_EDGES_NS),
)

INSECURE = Metric(
    "insecure",
    MetricType.GAUGE,
    (),
    "1 if the gateway listens beyond loopback without authentication or TLS.",
)

METRICS: tuple[Metric, ...] = (
    REQUESTS,
    REQUEST_DURATION,
    STAGE_DURATION,
    INFLIGHT,
    CONCURRENCY_LIMIT,
    SHED,
    DEADLINE_EXCEEDED,
    BATCH_ROWS,
    JOINT_RUN_MISMATCHES,
    *EXPLANATION_METRICS,
    AUTH_REFUSED,
    AUTH_WOULD_REFUSE,
    QUOTA_REFUSED,
    MODEL_INFO,
    MODEL_MEMORY,
    MODEL_STATE,
    REPOSITORY_UP,
    MODEL_LOADS,
    TRAFFIC_WEIGHT,
    SHADOW_REQUESTS,
    SHADOW_PAIRS,
    SHADOW_DISAGREEMENTS,
    ROLLOUT_STATE,
    ROLLOUT_LOG_EVIDENCE,
    FEATURE_BINS,
    FEATURE_REFERENCE,
    OUTPUT_BINS,
    OUTPUT_REFERENCE,
    FEATURE_BELOW,
    FEATURE_BELOW_REFERENCE,
    OUTPUT_BELOW,
    OUTPUT_BELOW_REFERENCE,
    DRIFT_LOG_EVIDENCE,
    DRIFT_SCORE,
    DRIFT_STATE,
    DRIFT_ALARMS,
    QUALITY_VIOLATIONS,
    MONITOR_ROWS,
    MONITOR_DROPPED,
    PERFORMANCE_RATIO,
    PERFORMANCE_VALUE,
    LABELS,
    ANSWERS_DROPPED,
    EVENTS_DROPPED,
    MARKED_ROWS,
    CAPTURED,
    CAPTURED_BYTES,
    CAPTURE_DROPPED,
    RETRAINING_REQUESTS,
    OUTBOX_PENDING,
    OUTBOX_AGE,
    DELIVERIES,
    LEADER,
    LEASE_TERM,
    WORKER_RESTARTS,
    TASK_LAST_SUCCESS,
    TASK_FAILURES,
    TLS_EXPIRATION,
    TLS_RELOADS,
    MEMORY_BUDGET,
    MEMORY_USED,
    BLOCKING_CALLS,
    BLOCKING_CALLS_REFUSED,
    SCRATCH_FAILURES,
    CONFINEMENT_LAYER,
    AUDIT_DROPPED,
    EVENT_LOOP_STALL,
    INSECURE,
    TRACES_DROPPED,
    OTLP_ITEMS,
    OTLP_WAITING,
)
"""All metrics, in the order of the exposition."""
