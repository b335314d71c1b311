"""Alerts from the rules of a policy: performance below its limit, and more unsound values than a rule allows.

They fire for whoever watches Prometheus; the rules themselves ask for retraining at the leader of the fleet.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock.core.triggers.conditions import QUALITY_LIMITS
from penstock.telemetry import metrics
from penstock.telemetry.metric import Metric
from penstock.telemetry.promql import equals, increase_by, rate_by, select, sum_by
from penstock.telemetry.rules.counted import GUARD
from penstock.telemetry.rules.rule import Alert, Severity, labels_of

BY_VERSION = "job, model, version"
MONITOR_PAGE = "models/{{ $labels.model | urlquery }}/monitor"
RATIOS = frozenset({"accuracy", "error_rate", "macro_f1", "f1", "roc_auc"})
"""Metrics of performance between 0 and 1; the others have another series."""

Trigger = Mapping[str, Any]


def trigger_alerts(model: str, triggers: Sequence[Trigger]) -> list[Alert]:
    """Return the alerts of a model's rules, as they are in its policy."""
    leaves = [leaf for trigger in triggers for leaf in _leaves(trigger.get("when", {}))]
    found = [
        *(alert for word, values in leaves if word == "performance" for alert in _performance(model, values)),
        *(alert for word, values in leaves if word == "quality" for alert in _quality(model, values)),
    ]
    return list({(alert.name, alert.expression): alert for alert in found}.values())


def _leaves(condition: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the conditions that can make a rule fire by themselves: not parts of ``all``, and not what is negated."""
    for word, values in condition.items():
        if word == "any":
            for part in values:
                yield from _leaves(part)
        elif word in ("performance", "quality"):
            yield word, values


def _performance(model: str, values: Mapping[str, Any]) -> Iterator[Alert]:
    name = str(values["metric"])
    if values.get("source", "realised") != "realised":
        return
    metric = metrics.PERFORMANCE_RATIO if name in RATIOS else metrics.PERFORMANCE_VALUE
    for word, sign in (("below", "<"), ("above", ">")):
        if values.get(word) is not None:
            limit = f"{sign} {values[word]!r}"
            yield _performance_alert(model, metric, name, limit, values.get("min_labels", GUARD))


def _performance_alert(model: str, metric: Metric, name: str, limit: str, least: int) -> Alert:
    chosen = equals("model", model)
    labels = select(metrics.LABELS, chosen, equals("outcome", "joined"))
    recent = select(metrics.LABELS, chosen, equals("outcome", "joined"), window="1d")
    value = select(metric, chosen, equals("metric", name))
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


def _quality(model: str, values: Mapping[str, Any]) -> Iterator[Alert]:
    for word, kind in QUALITY_LIMITS.items():
        if values.get(word) is not None:
            yield _quality_alert(model, kind, values[word], values.get("min_rows", GUARD))


def _quality_alert(model: str, kind: str, limit: float, least: int) -> Alert:
    chosen = equals("model", model)
    rows = select(metrics.MONITOR_ROWS, chosen, window="10m")
    violations = select(metrics.QUALITY_VIOLATIONS, chosen, equals("kind", kind), window="10m")
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
