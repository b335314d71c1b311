"""Alerts from the rules of a policy: performance below its limit, and more unsound values than a rule allows.

They fire for whoever watches Prometheus; the rules themselves ask for retraining at the leader of the fleet.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from penstock.core.triggers.conditions import QUALITY_LIMITS
from penstock.telemetry import metrics
from penstock.telemetry.metric import Metric
from penstock.telemetry.promql import increase_by, make_matcher, rate_by, select, sum_by
from penstock.telemetry.rules.counted import GUARD
from penstock.telemetry.rules.rule import Alert, Severity, labels_of

BY_VERSION = "job, model, version"
MONITOR_PAGE = "models/{{ $labels.model | urlquery }}/monitor"
RATIOS = frozenset({"accuracy", "error_rate", "macro_f1", "f1", "roc_auc"})
"""Metrics of performance between 0 and 1; the others have another series."""

Trigger = Mapping[str, Any]


def trigger_alerts(model: str, triggers: Sequence[Trigger]) -> list[Alert]:
    """Return the alerts of a model's rules, as they are in its policy. Rules that differ only in how much they wait for
    have one alert, which waits for the least: alerts with equal labels are one to Alertmanager."""
    leaves = [leaf for trigger in triggers for leaf in _iterate_leaves(trigger.get("when", {}))]
    limits = {
        *(limit for word, values in leaves if word == "performance" for limit in _performance_limits(values)),
        *(limit for word, values in leaves if word == "quality" for limit in _quality_limits(values)),
    }
    first = {limit[:-1]: limit for limit in sorted(limits, key=lambda limit: limit.least, reverse=True)}
    return [_make_alert(model, limit) for limit in sorted(first.values())]


def _iterate_leaves(condition: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the conditions that can make a rule fire by themselves: not parts of ``all``, and not what is negated."""
    for word, values in condition.items():
        if word == "any":
            for part in values:
                yield from _iterate_leaves(part)
        elif word in ("performance", "quality"):
            yield word, values


class Limit(NamedTuple):
    """A limit of a rule: what it bounds (the name of a metric of performance, or a kind of violation), on which side,
    and how many labels or rows the rule waits for."""

    condition: str
    bounded: str
    sign: str
    value: float
    least: int


def _performance_limits(values: Mapping[str, Any]) -> Iterator[Limit]:
    if values.get("source", "realised") != "realised":
        return
    for word, sign in (("below", "<"), ("above", ">")):
        if values.get(word) is not None:
            yield Limit("performance", str(values["metric"]), sign, values[word], values.get("min_labels", GUARD))


def _quality_limits(values: Mapping[str, Any]) -> Iterator[Limit]:
    for word, kind in QUALITY_LIMITS.items():
        if values.get(word) is not None:
            yield Limit("quality", kind, ">", values[word], values.get("min_rows", GUARD))


def _make_alert(model: str, limit: Limit) -> Alert:
    if limit.condition == "quality":
        return _quality_alert(model, limit.bounded, limit.value, limit.least)
    metric = metrics.PERFORMANCE_RATIO if limit.bounded in RATIOS else metrics.PERFORMANCE_VALUE
    return _performance_alert(model, metric, limit.bounded, f"{limit.sign} {limit.value!r}", limit.least)


def _performance_alert(model: str, metric: Metric, name: str, limit: str, least: int) -> Alert:
    chosen = make_matcher("model", model)
    labels = select(metrics.LABELS, chosen, make_matcher("outcome", "joined"))
    recent = select(metrics.LABELS, chosen, make_matcher("outcome", "joined"), window="1d")
    value = select(metric, chosen, make_matcher("metric", name))
    return Alert(
        "PenstockPerformance",
        Severity.TICKET,
        f"avg by ({BY_VERSION}, metric) ({value}) {limit}\n"
        f"and on ({BY_VERSION}) {sum_by(BY_VERSION, labels)} >= {least}\n"
        f"and on ({BY_VERSION}) {increase_by(BY_VERSION, recent)} > 0\n",
        '{{ $labels.metric }} of {{ $labels.model }}:{{ $labels.version }} is {{ $value | printf "%.3g" }}',
        f"A rule of its policy fires at {limit}. The mean over gateways of the last 1000 labelled answers counts.",
        MONITOR_PAGE,
        "5m",
        labels_of(model, limit=limit),
    )


def _quality_alert(model: str, kind: str, limit: float, least: int) -> Alert:
    chosen = make_matcher("model", model)
    rows = select(metrics.MONITOR_ROWS, chosen, window="10m")
    violations = select(metrics.QUALITY_VIOLATIONS, chosen, make_matcher("kind", kind), window="10m")
    return Alert(
        "PenstockDataQualityLimit",
        Severity.TICKET,
        f"{rate_by(f'{BY_VERSION}, feature, kind', violations)}\n"
        f"/ on ({BY_VERSION}) group_left {rate_by(BY_VERSION, rows)} > {limit!r}\n"
        f"and on ({BY_VERSION}) {increase_by(BY_VERSION, rows)} > {least}\n",
        "{{ $value | humanizePercentage }} of {{ $labels.feature }} in requests for {{ $labels.model }}:"
        "{{ $labels.version }} are {{ $labels.kind }}",
        f"A rule of its policy fires above {limit * 100:.4g} %.",
        MONITOR_PAGE,
        "5m",
        labels_of(model, limit=f"> {limit!r}"),
    )
