"""For each alert, series in which it fires, and series in which it stays quiet, a sample a minute."""

from collections.abc import Mapping
from dataclasses import dataclass

Series = Mapping[str, str]
"""Values in promtool's notation (``0+3x10``: from 0 in ten steps of 3), by name and labels of the series."""

GATEWAY = 'job="penstock",instance="g1:8002"'
OTHER = 'job="penstock",instance="g2:8002"'
MODEL = f'{GATEWAY},model="iris"'
VERSION = f'{MODEL},version="2"'
OF_MODEL = {"job": "penstock", "model": "iris"}
OF_VERSION = {**OF_MODEL, "version": "2"}
OF_ERRORS, OF_LATENCY = {**OF_MODEL, "slo": "errors"}, {**OF_MODEL, "slo": "latency"}
OF_GATEWAY = {"job": "penstock", "instance": "g1:8002"}


@dataclass(frozen=True)
class Case:
    """One alert: ``fires`` at ``at`` (minutes) with ``labels``, and shows its value as ``value``; it does not fire in
    each of ``quiet``: a reason, the series, and when."""

    alert: str
    fires: Series
    at: int
    labels: Mapping[str, str]
    quiet: Mapping[str, tuple[Series, int]]
    value: str = ""
    severity: str = "ticket"


def requests(ok: str, code: str, count: str) -> Series:
    """Requests that were answered, and those with another code."""
    head = f'penstock_requests_total{{{VERSION},route="stable",protocol="rest",code='
    return {f'{head}"200"}}': ok, f'{head}"{code}"}}': count}


def share_of_requests(name: str, label: str) -> tuple[Series, Mapping[str, tuple[Series, int]]]:
    """A counter that is 10 % of the requests, and the ways in which it is not an alert."""
    counter = f"penstock_{name}{{{MODEL},{label}}}"

    def series(ok: str, count: str) -> Series:
        return {**requests(ok, "400", "0x60"), counter: count}

    return series("0+90x60", "0+9x60"), {
        "low traffic": (series("0+3x60", "0+3x60"), 25),
        "below the threshold": (series("0+400x60", "0+1x60"), 25),
        "after recovery": (series("0+90x60", "0+9x30 270x30"), 45),
    }


def becomes(name: str, labels: str) -> tuple[Series, Mapping[str, tuple[Series, int]]]:
    """A rare event: its series begins with it."""
    series = f"penstock_{name}{{{labels}}}"
    return {series: "_x5 3x200"}, {
        "an old count": ({series: "3x200"}, 100),
        "after recovery": ({series: "_x5 3x200"}, 100),
        "no event": ({series: "0x200"}, 100),
    }


def gauge(
    name: str, labels: str, bad: str, good: str, after: int = 90
) -> tuple[Series, Mapping[str, tuple[Series, int]]]:
    """A gauge with a bad value, and with a good one."""
    series = f"penstock_{name}{{{labels}}}"
    return {series: f"{bad}x200"}, {
        "below the threshold": ({series: f"{good}x200"}, after),
        "after recovery": ({series: f"{bad}x40 {good}x200"}, after + 10),
    }


def state(kind: str, labels: str, value: str) -> str:
    return f'penstock_{kind}_state{{{labels},state="{value}"}}'


def ended(value: str) -> tuple[Series, Mapping[str, tuple[Series, int]]]:
    """A rollout that ends in a state after an hour."""
    series = state("rollout", VERSION, value)
    return {series: "0x60 1x200"}, {
        "before": ({series: "0x60 1x200"}, 50),
        "an hour later": ({series: "0x60 1x200"}, 130),
        "another end": ({series: "0x200"}, 100),
    }


SHEDS = share_of_requests("shed_total", 'reason="queue_full"')
DEADLINES = share_of_requests("deadline_exceeded_total", 'stage="request"')
LOADS = becomes("model_loads_total", f'{VERSION},result="failed"')
LABELS = becomes("answers_dropped_total", MODEL)
EVENTS = becomes("monitor_events_dropped_total", GATEWAY)
GIVEN_UP = becomes("outbox_deliveries_total", f'{MODEL},outcome="given_up"')
AUDIT = becomes("audit_dropped_total", GATEWAY)
REPOSITORY = gauge("repository_up", f'{GATEWAY},repository="models"', "0", "1")
DRIFT = gauge("drift_state", f'{VERSION},feature="f0"', "1", "0")
OUTBOX = gauge("outbox_oldest_age_seconds", MODEL, "1000", "60")
INSECURE = gauge("insecure", GATEWAY, "1", "0")
CERTIFICATE = gauge(
    "tls_certificate_expiration_timestamp_seconds", f'{GATEWAY},certificate="server"', "600000", "9000000"
)
ROLLED_BACK, INCONCLUSIVE = ended("rolled_back"), ended("inconclusive")

UP, UP_OTHER = f"up{{{GATEWAY}}}", f"up{{{OTHER}}}"
READY, READY_OTHER = state("model", VERSION, "READY"), state("model", f'{MODEL},version="1"', "READY")
UNAVAILABLE = state("model", VERSION, "UNAVAILABLE")
PAUSED, RUNNING = state("rollout", VERSION, "paused"), state("rollout", VERSION, "running")
MISMATCHES = f"penstock_joint_run_mismatches_total{{{VERSION}}}"
INFLIGHT, LIMIT = f"penstock_inflight_requests{{{MODEL}}}", f"penstock_concurrency_limit{{{MODEL}}}"
VIOLATIONS = f'penstock_quality_violations_total{{{VERSION},feature="f0",kind="missing"}}'
ROWS = f"penstock_monitor_rows_total{{{VERSION}}}"
DROPPED = f'penstock_monitor_dropped_total{{{VERSION},reason="full"}}'
PAIRS, DISAGREEMENTS = f"penstock_shadow_pairs_total{{{VERSION}}}", f"penstock_shadow_disagreements_total{{{VERSION}}}"
TASK, JANITOR = (f'penstock_task_last_success_seconds{{{GATEWAY},task="{name}"}}' for name in ("rules", "janitor"))
FAILURES = f'penstock_task_failures_total{{{GATEWAY},task="rules"}}'
STALLS = f'penstock_event_loop_stall_seconds_count{{{GATEWAY},worker="0"}}'
SHORT_STALLS = f'penstock_event_loop_stall_seconds_bucket{{{GATEWAY},worker="0",le="0.05"}}'
RESTARTS = f'penstock_worker_restarts_total{{{GATEWAY},reason="died"}}'
USED, BUDGET = (
    f'penstock_memory_used_bytes{{{GATEWAY},worker="0"}}',
    f'penstock_memory_budget_bytes{{{GATEWAY},worker="0"}}',
)
LEADER, LEADER_OTHER = f"penstock_leader{{{GATEWAY}}}", f"penstock_leader{{{OTHER}}}"
REFUSED_CALLS = f'penstock_blocking_calls_refused_total{{{GATEWAY},pool="monitor",reason="full"}}'
REFUSED = f'penstock_auth_refused_total{{{GATEWAY},reason="unauthenticated"}}'

CASES = (
    Case(
        "PenstockDown",
        {UP: "0x60", UP_OTHER: "0x60"},
        5,
        {"job": "penstock"},
        {
            "one of two answers": ({UP: "0x60", UP_OTHER: "1x60"}, 30),
            "after recovery": ({UP: "0x10 1x60"}, 30),
            "another job": ({'up{job="node"}': "0x60"}, 30),
        },
        severity="page",
    ),
    Case(
        "PenstockGatewayDown",
        {UP: "0x60", UP_OTHER: "1x60"},
        10,
        OF_GATEWAY,
        {"after recovery": ({UP: "0x10 1x60"}, 30), "a short gap": ({UP: "1x10 0x2 1x60"}, 12)},
    ),
    Case(
        "PenstockErrors",
        requests("0+30x60", "500", "0+30x60"),
        20,
        OF_MODEL,
        {
            "low traffic": (requests("0+3x60", "500", "0+3x60"), 20),
            "below the threshold": (requests("0+100x60", "500", "0+2x60"), 20),
            "mistakes of callers": (requests("0+30x60", "400", "0+30x60"), 20),
            "after recovery": (requests("0+30x60", "500", "0+30x20 600x40"), 40),
        },
        "50%",
    ),
    Case("PenstockSheds", SHEDS[0], 25, OF_MODEL, SHEDS[1], "10%"),
    Case("PenstockDeadlinesMissed", DEADLINES[0], 25, OF_MODEL, DEADLINES[1], "10%"),
    Case(
        "PenstockSaturated",
        {INFLIGHT: "95x60", LIMIT: "100x60"},
        20,
        OF_MODEL,
        {
            "below the threshold": ({INFLIGHT: "80x60", LIMIT: "100x60"}, 20),
            "after recovery": ({INFLIGHT: "95x20 10x40", LIMIT: "100x60"}, 40),
        },
        "95%",
    ),
    Case(
        "PenstockModelNotServed",
        {READY: "0x60", READY_OTHER: "0x60"},
        10,
        OF_MODEL,
        {
            "another version answers": ({READY: "0x60", READY_OTHER: "1x60"}, 30),
            "after recovery": ({READY: "0x20 1x40"}, 40),
        },
    ),
    Case(
        "PenstockModelUnavailable",
        {UNAVAILABLE: "1x60"},
        10,
        OF_VERSION,
        {"it is ready": ({UNAVAILABLE: "0x60"}, 30), "after recovery": ({UNAVAILABLE: "1x20 0x40"}, 40)},
    ),
    Case("PenstockLoadsFail", LOADS[0], 10, OF_VERSION, LOADS[1], "3"),
    Case(
        "PenstockRepositoryUnreachable", REPOSITORY[0], 10, {"job": "penstock", "repository": "models"}, REPOSITORY[1]
    ),
    Case(
        "PenstockJointRunMismatch",
        {MISMATCHES: "0x10 1x200"},
        20,
        OF_VERSION,
        {"none": ({MISMATCHES: "0x200"}, 60), "after recovery": ({MISMATCHES: "0x10 1x200"}, 120)},
        severity="page",
    ),
    Case("PenstockDrift", DRIFT[0], 10, {**OF_VERSION, "feature": "f0"}, DRIFT[1]),
    Case(
        "PenstockDataQuality",
        {VIOLATIONS: "0+10x60", ROWS: "0+100x60"},
        25,
        {**OF_VERSION, "feature": "f0", "kind": "missing"},
        {
            "low traffic": ({VIOLATIONS: "0+2x60", ROWS: "0+5x60"}, 25),
            "below the threshold": ({VIOLATIONS: "0+4x60", ROWS: "0+100x60"}, 25),
            "after recovery": ({VIOLATIONS: "0+10x20 200x60", ROWS: "0+100x80"}, 50),
        },
        "10%",
    ),
    Case(
        "PenstockMonitorDropsRows",
        {DROPPED: "0+10x60", ROWS: "0+90x60"},
        30,
        OF_VERSION,
        {
            "below the threshold": ({DROPPED: "0+1x60", ROWS: "0+1000x60"}, 30),
            "after recovery": ({DROPPED: "0+10x20 200x60", ROWS: "0+90x80"}, 50),
        },
        "10%",
    ),
    Case("PenstockLabelsLost", LABELS[0], 10, OF_MODEL, LABELS[1], "3"),
    Case("PenstockMonitorEventsDropped", EVENTS[0], 10, OF_GATEWAY, EVENTS[1], "3"),
    Case("PenstockRolloutRolledBack", ROLLED_BACK[0], 70, OF_VERSION, ROLLED_BACK[1]),
    Case("PenstockRolloutInconclusive", INCONCLUSIVE[0], 70, OF_VERSION, INCONCLUSIVE[1]),
    Case(
        "PenstockRolloutPaused",
        {PAUSED: "1x200"},
        90,
        OF_VERSION,
        {"not yet": ({PAUSED: "1x200"}, 30), "after recovery": ({PAUSED: "1x90 0x100"}, 120)},
    ),
    Case(
        "PenstockRolloutLong",
        {RUNNING: "1x1600"},
        1500,
        OF_VERSION,
        {"not yet": ({RUNNING: "1x1600"}, 600), "after its end": ({RUNNING: "1x1500 0x100"}, 1550)},
    ),
    Case(
        "PenstockShadowDisagrees",
        {PAIRS: "0+100x90", DISAGREEMENTS: "0+20x90"},
        50,
        OF_VERSION,
        {
            "low traffic": ({PAIRS: "0+2x90", DISAGREEMENTS: "0+2x90"}, 50),
            "below the threshold": ({PAIRS: "0+100x90", DISAGREEMENTS: "0+4x90"}, 50),
            "after recovery": ({PAIRS: "0+100x120", DISAGREEMENTS: "0+20x60 1200x60"}, 110),
        },
        "20%",
    ),
    Case("PenstockOutboxStuck", OUTBOX[0], 10, OF_MODEL, OUTBOX[1], "16m 40s"),
    Case("PenstockDeliveriesGivenUp", GIVEN_UP[0], 10, OF_MODEL, GIVEN_UP[1], "3"),
    Case(
        "PenstockTaskOverdue",
        {TASK: "0x60", JANITOR: "0x60"},
        20,
        {**OF_GATEWAY, "task": "rules"},
        {
            "it succeeds": ({TASK: "0+60x60"}, 50),
            "it may take longer": ({JANITOR: "0x60"}, 50),
            "after recovery": ({TASK: "0x20 1200+60x60"}, 50),
        },
        "20m 0s",
    ),
    Case(
        "PenstockTaskFails",
        {FAILURES: "0+1x60"},
        40,
        {**OF_GATEWAY, "task": "rules"},
        {"below the threshold": ({FAILURES: "0+0.1x90"}, 60), "after recovery": ({FAILURES: "0+1x40 40x60"}, 90)},
        "30",
    ),
    Case(
        "PenstockEventLoopStalls",
        {STALLS: "0+5x60", SHORT_STALLS: "0+1x60"},
        20,
        OF_GATEWAY,
        {
            "short stalls": ({STALLS: "0+50x60", SHORT_STALLS: "0+50x60"}, 20),
            "below the threshold": ({STALLS: "0+2x60", SHORT_STALLS: "0+1.5x60"}, 20),
            "after recovery": ({STALLS: "0+5x20 100x60", SHORT_STALLS: "0+1x20 20x60"}, 40),
        },
        "40",
    ),
    Case(
        "PenstockWorkerRestarts",
        {RESTARTS: "0+1x60"},
        40,
        {**OF_GATEWAY, "reason": "died"},
        {"one": ({RESTARTS: "0x20 1x60"}, 30), "after recovery": ({RESTARTS: "0+1x20 20x90"}, 80)},
        "30",
    ),
    Case(
        "PenstockMemoryBudget",
        {USED: "95x60", BUDGET: "100x60"},
        20,
        OF_GATEWAY,
        {
            "below the threshold": ({USED: "50x60", BUDGET: "100x60"}, 20),
            "after recovery": ({USED: "95x20 10x60", BUDGET: "100x80"}, 50),
        },
        "95%",
    ),
    Case(
        "PenstockLeadership",
        {LEADER: "1x60", LEADER_OTHER: "1x60"},
        10,
        {"job": "penstock"},
        {
            "one of two": ({LEADER: "1x60", LEADER_OTHER: "0x60"}, 20),
            "after recovery": ({LEADER: "0x20 1x40", LEADER_OTHER: "0x60"}, 40),
        },
        "2",
    ),
    Case(
        "PenstockBlockingCallsRefused",
        {REFUSED_CALLS: "0+1x60"},
        20,
        {**OF_GATEWAY, "pool": "monitor"},
        {"none": ({REFUSED_CALLS: "0x60"}, 20), "after recovery": ({REFUSED_CALLS: "0+1x20 20x60"}, 50)},
    ),
    Case(
        "PenstockAuthRefusals",
        {REFUSED: "0+120x60"},
        20,
        {"job": "penstock", "reason": "unauthenticated"},
        {
            "below the threshold": ({REFUSED: "0+30x60"}, 20),
            "after recovery": ({REFUSED: "0+120x20 2400x60"}, 50),
        },
        "2",
    ),
    Case("PenstockInsecure", INSECURE[0], 20, OF_GATEWAY, INSECURE[1]),
    Case(
        "PenstockCertificateExpires",
        CERTIFICATE[0],
        20,
        {**OF_GATEWAY, "certificate": "server"},
        CERTIFICATE[1],
        "6d 22h 20m 0s",
    ),
    Case("PenstockAuditDrops", AUDIT[0], 10, OF_GATEWAY, AUDIT[1], "3"),
)

ACCURACY = f'penstock_performance_ratio{{{VERSION},metric="accuracy"}}'
JOINED = f'penstock_labels_total{{{VERSION},outcome="joined"}}'

POLICY_CASES = (
    Case(
        "PenstockPerformance",
        {ACCURACY: "0.8x60", JOINED: "0+50x60"},
        20,
        {**OF_VERSION, "metric": "accuracy", "limit": "< 0.9"},
        {
            "few labels": ({ACCURACY: "0.8x60", JOINED: "0+5x60"}, 20),
            "below the threshold": ({ACCURACY: "0.95x60", JOINED: "0+50x60"}, 20),
            "after recovery": ({ACCURACY: "0.8x20 0.95x60", JOINED: "0+50x80"}, 40),
            "a version without new labels": ({ACCURACY: "0.8x1600", JOINED: "500x1600"}, 1500),
        },
        "0.8",
    ),
    Case(
        "PenstockDataQualityLimit",
        {VIOLATIONS: "0+4x60", ROWS: "0+100x60"},
        25,
        {**OF_VERSION, "feature": "f0", "kind": "missing", "limit": "> 0.02"},
        {
            "low traffic": ({VIOLATIONS: "0+2x60", ROWS: "0+5x60"}, 25),
            "below the threshold": ({VIOLATIONS: "0+1x60", ROWS: "0+100x60"}, 25),
            "after recovery": ({VIOLATIONS: "0+4x20 80x60", ROWS: "0+100x80"}, 50),
        },
        "4%",
    ),
)
