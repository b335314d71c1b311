"""Alerts about what callers meet: gateways that are gone, failures, refusals, and models that are not served."""

from penstock.telemetry import metrics
from penstock.telemetry.promql import change, increase_by, make_matcher, max_by, rate_by, select, sum_by
from penstock.telemetry.rules.counted import COUNTED, GUARD, counted_requests, select_failures
from penstock.telemetry.rules.rule import Alert, Severity

BY_MODEL = "job, model"
BY_VERSION = "job, model, version"
MODEL_PAGE = "models/{{ $labels.model | urlquery }}"

_UP = 'up{job=~".*penstock.*"}'
_COUNTED = counted_requests(window="5m")
_ENOUGH = f"and {increase_by(BY_MODEL, _COUNTED)} > {GUARD}"
_LIMIT = sum_by(BY_MODEL, select(metrics.CONCURRENCY_LIMIT))


def _share(counter: str, limit: float) -> str:
    """Return the models of whose requests a counter has more than this share."""
    return f"{rate_by(BY_MODEL, counter)}\n/ {rate_by(BY_MODEL, _COUNTED)} > {limit}\n{_ENOUGH}\n"


def _in_state(labels: str, state: str) -> str:
    return max_by(labels, select(metrics.MODEL_STATE, make_matcher("state", state)))


SERVING_ALERTS = (
    Alert(
        "PenstockDown",
        Severity.PAGE,
        f"max by (job) ({_UP}) == 0",
        "No gateway of {{ $labels.job }} answers",
        "Prometheus cannot scrape the ops port of any gateway of this job.",
        wait="1m",
    ),
    Alert(
        "PenstockGatewayDown",
        Severity.TICKET,
        f"{_UP} == 0",
        "The gateway {{ $labels.instance }} does not answer",
        "Prometheus cannot scrape its ops port. The other gateways have its traffic.",
        wait="5m",
    ),
    Alert(
        "PenstockErrors",
        Severity.TICKET,
        _share(select_failures(window="5m"), 0.05),
        "{{ $value | humanizePercentage }} of the requests for {{ $labels.model }} fail",
        f"More than 5 % have failed for five minutes: {COUNTED}",
        MODEL_PAGE,
        "5m",
    ),
    Alert(
        "PenstockSheds",
        Severity.TICKET,
        _share(select(metrics.SHED, window="5m"), 0.01),
        "{{ $value | humanizePercentage }} of the requests for {{ $labels.model }} are refused for lack of capacity",
        "More than 1 % are refused because the queue is full, time is too short, or memory is used up.",
        MODEL_PAGE,
        "10m",
    ),
    Alert(
        "PenstockDeadlinesMissed",
        Severity.TICKET,
        _share(select(metrics.DEADLINE_EXCEEDED, window="5m"), 0.01),
        "{{ $value | humanizePercentage }} of the requests for {{ $labels.model }} miss their deadline",
        "More than 1 % have taken longer than their callers allow.",
        MODEL_PAGE,
        "10m",
    ),
    Alert(
        "PenstockSaturated",
        Severity.TICKET,
        f"{sum_by(BY_MODEL, select(metrics.INFLIGHT))}\n/ {_LIMIT} > 0.9\n",
        "{{ $labels.model }} uses {{ $value | humanizePercentage }} of its concurrency limit",
        "Beyond the limit requests are refused.",
        MODEL_PAGE,
        "10m",
    ),
    Alert(
        "PenstockModelNotServed",
        Severity.TICKET,
        f"{_in_state(BY_MODEL, 'READY')} == 0",
        "No version of {{ $labels.model }} is ready",
        "Callers receive 503 (UNAVAILABLE).",
        MODEL_PAGE,
        "5m",
    ),
    Alert(
        "PenstockModelUnavailable",
        Severity.TICKET,
        f"{_in_state(BY_VERSION, 'UNAVAILABLE')} == 1",
        "{{ $labels.model }}:{{ $labels.version }} cannot be served",
        "It should be served, but a gateway could not load it or has unloaded it.",
        MODEL_PAGE,
        "5m",
    ),
    Alert(
        "PenstockLoadsFail",
        Severity.TICKET,
        sum_by(BY_VERSION, change(select(metrics.MODEL_LOADS, make_matcher("result", "failed")), "15m")),
        "Workers cannot load {{ $labels.model }}:{{ $labels.version }}",
        "{{ $value }} attempts have failed in the last 15 minutes.",
        MODEL_PAGE,
    ),
    Alert(
        "PenstockRepositoryUnreachable",
        Severity.TICKET,
        f"min by (job, repository) ({select(metrics.REPOSITORY_UP)}) == 0",
        "The repository {{ $labels.repository }} is unreachable or empty",
        "What is served stays as it is; new versions do not arrive.",
        "models",
        "5m",
    ),
    Alert(
        "PenstockJointRunMismatch",
        Severity.PAGE,
        f"{increase_by(BY_VERSION, select(metrics.JOINT_RUN_MISMATCHES, window='1h'))} > 0",
        "Answers of {{ $labels.model }}:{{ $labels.version }} depend on requests of other callers",
        "A batch run gave other answers than its requests alone. Callers may receive wrong values.",
        MODEL_PAGE,
    ),
)
