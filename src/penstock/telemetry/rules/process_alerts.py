"""Alerts about the processes of a gateway: tasks, stalls, memory, workers, leadership, access and certificates."""

from penstock.telemetry import metrics
from penstock.telemetry.metric import Metric
from penstock.telemetry.promql import change, increase_by, make_matcher, max_by, quote, rate_by, select, sum_by
from penstock.telemetry.rules.rule import Alert, Severity

BY_GATEWAY = "job, instance"
SLOW_TASKS = "collection|erasures|janitor|mlflow"
"""Names of periodic tasks that may take an hour for a step or between two."""

STALL_S = 0.05
"""No request may block an event loop for longer."""


_STALLS = increase_by(BY_GATEWAY, select(metrics.EVENT_LOOP_STALL, suffix="_count", window="10m"))
_SHORT_STALLS = select(metrics.EVENT_LOOP_STALL, make_matcher("le", repr(STALL_S)), suffix="_bucket", window="10m")


def _select_age(comparison: str, limit_s: int) -> str:
    last = max_by(f"{BY_GATEWAY}, task", select(metrics.TASK_LAST_SUCCESS, f"task{comparison}{quote(SLOW_TASKS)}"))
    return f"time() - {last} > {limit_s}"


def _select_increase(metric: Metric, window: str, label: str) -> str:
    return increase_by(f"{BY_GATEWAY}, {label}", select(metric, window=window))


PROCESS_ALERTS = (
    Alert(
        "PenstockTaskOverdue",
        Severity.TICKET,
        f"{_select_age('!~', 600)}\nor {_select_age('=~', 10_800)}\n",
        "The task {{ $labels.task }} of {{ $labels.instance }} has not succeeded for {{ $value | humanizeDuration }}",
        "The gateway continues with what it knew at the last success.",
        wait="1m",
    ),
    Alert(
        "PenstockTaskFails",
        Severity.TICKET,
        f"{_select_increase(metrics.TASK_FAILURES, '30m', 'task')} > 5",
        "The task {{ $labels.task }} of {{ $labels.instance }} fails again and again",
        "It, or one of the models it works for, has failed {{ $value | humanize }} times in 30 minutes.",
    ),
    Alert(
        "PenstockEventLoopStalls",
        Severity.TICKET,
        f"{_STALLS}\n- {increase_by(BY_GATEWAY, _SHORT_STALLS)} > 10\n",
        "Event loops of {{ $labels.instance }} are blocked",
        "Workers were blocked for more than 50 ms {{ $value | humanize }} times in ten minutes; requests waited.",
    ),
    Alert(
        "PenstockWorkerRestarts",
        Severity.TICKET,
        f"{_select_increase(metrics.WORKER_RESTARTS, '30m', 'reason')} > 2",
        "Workers of {{ $labels.instance }} end or freeze ({{ $labels.reason }})",
        "{{ $value | humanize }} were replaced in 30 minutes. The calls of each have failed.",
    ),
    Alert(
        "PenstockMemoryBudget",
        Severity.TICKET,
        f"{max_by(BY_GATEWAY, f'{select(metrics.MEMORY_USED)} / {select(metrics.MEMORY_BUDGET)}')} > 0.9",
        "A worker of {{ $labels.instance }} uses {{ $value | humanizePercentage }} of its memory budget",
        "Beyond the budget, new requests receive 503 (RESOURCE_EXHAUSTED).",
        wait="5m",
    ),
    Alert(
        "PenstockLeadership",
        Severity.TICKET,
        f"{sum_by('job', select(metrics.LEADER))} != 1",
        "{{ $value }} gateways of {{ $labels.job }} lead",
        "Without a leader, rollouts, alarms and retraining wait; traffic does not.",
        wait="2m",
    ),
    Alert(
        "PenstockBlockingCallsRefused",
        Severity.TICKET,
        f"{_select_increase(metrics.BLOCKING_CALLS_REFUSED, '10m', 'pool')} > 0",
        "Calls of {{ $labels.instance }} to its database, bucket or sinks are refused (pool {{ $labels.pool }})",
        "The other side is slow: calls wait longer than they may.",
        wait="5m",
    ),
    Alert(
        "PenstockAuthRefusals",
        Severity.TICKET,
        f"{rate_by('job, reason', select(metrics.AUTH_REFUSED, window='5m'))} > 1",
        "{{ $value | humanize }} requests a second are refused ({{ $labels.reason }})",
        "A credential has expired or was revoked, or somebody tries keys.",
        "access",
        "10m",
    ),
    Alert(
        "PenstockInsecure",
        Severity.TICKET,
        f"{max_by(BY_GATEWAY, select(metrics.INSECURE))} == 1",
        "{{ $labels.instance }} can be reached without authentication or TLS",
        "It listens beyond loopback with --insecure-no-auth.",
        wait="15m",
    ),
    Alert(
        "PenstockCertificateExpires",
        Severity.TICKET,
        f"min by ({BY_GATEWAY}, certificate) ({select(metrics.TLS_EXPIRATION)}) - time() < 604800",
        "A certificate of {{ $labels.instance }} ({{ $labels.certificate }}) expires soon",
        "In {{ $value | humanizeDuration }}. Replace its files; the gateway takes them over without a restart.",
        wait="10m",
    ),
    Alert(
        "PenstockAuditDrops",
        Severity.TICKET,
        sum_by(BY_GATEWAY, change(select(metrics.AUDIT_DROPPED), "1h")),
        "{{ $labels.instance }} has refused {{ $value }} requests without an entry in the audit",
        "Too many refusals waited for the database, or it was unreachable.",
        "access",
    ),
)
