"""Alerts about changes under way: rollouts, shadows, and events on their way to sinks."""

from penstock.telemetry import delivery_metrics, metrics
from penstock.telemetry.promql import change, increase_by, make_matcher, max_by, rate_by, select, sum_by
from penstock.telemetry.rules.counted import GUARD
from penstock.telemetry.rules.rule import Alert, Severity

BY_MODEL = "job, model"
BY_VERSION = "job, model, version"
ROLLOUTS_PAGE = "models/{{ $labels.model | urlquery }}/rollouts"
RETRAINING_PAGE = "models/{{ $labels.model | urlquery }}/retraining"
SHADOW_PAGE = "models/{{ $labels.model | urlquery }}/shadow/{{ $labels.version | urlquery }}"

_PAIRS = select(metrics.SHADOW_PAIRS, window="30m")
_DISAGREEMENTS = select(metrics.SHADOW_DISAGREEMENTS, window="30m")


def _is(state: str, offset: str = "") -> str:
    return f"{max_by(BY_VERSION, select(metrics.ROLLOUT_STATE, make_matcher('state', state)) + offset)} == 1"


def _select_became(state: str) -> str:
    """Return the rollouts that are in a state, and were not an hour ago."""
    return f"{_is(state)}\nunless {_is(state, ' offset 1h')}\n"


DELIVERY_ALERTS = (
    Alert(
        "PenstockRolloutRolledBack",
        Severity.TICKET,
        _select_became("rolled_back"),
        "The rollout of {{ $labels.model }}:{{ $labels.version }} was rolled back",
        "A guard found harm, or somebody aborted it. The traffic is as before the rollout.",
        ROLLOUTS_PAGE,
    ),
    Alert(
        "PenstockRolloutInconclusive",
        Severity.TICKET,
        _select_became("inconclusive"),
        "The rollout of {{ $labels.model }}:{{ $labels.version }} has ended without a decision",
        "Its deadline passed before the evidence was enough. The traffic is as before the rollout.",
        ROLLOUTS_PAGE,
    ),
    Alert(
        "PenstockRolloutPaused",
        Severity.TICKET,
        _is("paused"),
        "The rollout of {{ $labels.model }}:{{ $labels.version }} is paused",
        "It does not go on until somebody resumes it; its guards still watch.",
        ROLLOUTS_PAGE,
        "1h",
    ),
    Alert(
        "PenstockRolloutLong",
        Severity.TICKET,
        _is("running"),
        "The rollout of {{ $labels.model }}:{{ $labels.version }} has run for more than a day",
        "A step may wait for traffic, a gate or an approval.",
        ROLLOUTS_PAGE,
        "1d",
    ),
    Alert(
        "PenstockShadowDisagrees",
        Severity.TICKET,
        f"{rate_by(BY_VERSION, _DISAGREEMENTS)}\n/ {rate_by(BY_VERSION, _PAIRS)} > 0.05\n"
        f"and {increase_by(BY_VERSION, _PAIRS)} > {GUARD}\n",
        "The shadow {{ $labels.model }}:{{ $labels.version }} answers {{ $value | humanizePercentage }} differently",
        "More than 5 % of the compared answers differ beyond the tolerance.",
        SHADOW_PAGE,
        "10m",
    ),
    Alert(
        "PenstockOutboxStuck",
        Severity.TICKET,
        f"{max_by(BY_MODEL, select(delivery_metrics.OUTBOX_AGE))} > 900",
        "An event of {{ $labels.model }} has waited {{ $value | humanizeDuration }} for its sink",
        "Requests for retraining and other events do not arrive.",
        RETRAINING_PAGE,
        "5m",
    ),
    Alert(
        "PenstockDeliveriesGivenUp",
        Severity.TICKET,
        sum_by(BY_MODEL, change(select(delivery_metrics.DELIVERIES, make_matcher("outcome", "given_up")), "1h")),
        "Events of {{ $labels.model }} were not delivered",
        "{{ $value }} deliveries were given up in the last hour. They are not repeated by themselves.",
        RETRAINING_PAGE,
    ),
)
