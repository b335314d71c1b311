"""Rules that can never fire: found when a policy is written, each with the path of what is in the way."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.core.triggers.burn_rate import find_error_budgets
from penstock.core.triggers.conditions import QUALITY_LIMITS, Condition, Schedule
from penstock.core.triggers.rules import RuleLimits, Trigger, TriggerKind

UNIT = {"accuracy", "error_rate", "macro_f1", "f1", "roc_auc", "calibration_error", "precision", "recall"}
"""Metrics from 0 to 1."""

REALISED = (UNIT - {"precision", "recall"}) | {"log_loss", "mae", "rmse", "r2"}
ESTIMATED = {"accuracy", "f1", "precision", "recall", "roc_auc"}


@dataclass(frozen=True, slots=True)
class MonitoringCoverage:
    """What the rest of a policy lets rules rest on: whether rows are counted, whether labels are joined, whether rows
    are watched by slices, the service-level objectives, and what holds for all rules together; ``columns`` is how many
    columns there are at most in each scope of ``drift``, as far as that is known."""

    rows: bool = True
    labels: bool = True
    slices: bool = True
    objectives: Mapping[str, float] = field(default_factory=dict)
    limits: RuleLimits = field(default_factory=RuleLimits)
    columns: Mapping[str, int] = field(default_factory=dict)


def find_unreachable(triggers: Sequence[Trigger], watched: MonitoringCoverage) -> list[str]:
    """Why rules can never fire, or never be over; nothing where all may."""
    faults = [
        fault
        for index, trigger in enumerate(triggers)
        for fault in _list_unreachable(trigger, f"triggers[{index}]", watched)
    ]
    if not watched.limits.budget_per_day and any(trigger.kind is TriggerKind.RETRAIN for trigger in triggers):
        faults.append("'retraining.budget_per_day' 0 lets no rule ask: leave the rules out, or let them ask")
    return faults


def _list_unreachable(trigger: Trigger, path: str, watched: MonitoringCoverage) -> list[str]:
    faults = _reasons_never(trigger.when, f"{path}.when", watched)
    if trigger.until is not None:
        faults += _reasons_never(trigger.until, f"{path}.until", watched)
    if trigger.for_s > 0 and not _can_last(trigger.when):
        faults.append(f"'{path}.for_seconds' is never reached: a schedule holds for a moment only; leave it out")
    if trigger.kind is TriggerKind.RETRAIN and watched.limits.quality_veto and _asks_for_unsound(trigger.when):
        faults.append(
            f"'{path}.when' holds only while values are not sound, when 'retraining.quality_veto' lets no rule ask"
        )
    return faults


def _asks_for_unsound(condition: Condition) -> bool:
    """Whether a condition holds only while the monitor says that values are not sound."""
    match condition.word:
        case "all":
            return any(_asks_for_unsound(part) for part in condition.parts)
        case "any":
            return all(_asks_for_unsound(part) for part in condition.parts)
        case "quality":
            return bool(condition.values["violated"]) and not _list_ratios(condition)
    return False


def _can_last(condition: Condition) -> bool:
    """Whether a condition may hold from one look to the next."""
    if condition.word == "any":
        return any(_can_last(part) for part in condition.parts)
    if condition.word == "all":
        return all(_can_last(part) for part in condition.parts)
    return condition.word != "schedule"


def _reasons_never(condition: Condition, path: str, watched: MonitoringCoverage) -> list[str]:
    """Why a condition can never hold."""
    match condition.word:
        case "not":
            always = _always_holds(condition.parts[0])
            return [f"'{path}.not' can never hold: what it denies always holds"] if always else []
        case "any":
            reasons = _list_parts(condition, path, watched)
            return [fault for part in reasons for fault in part] if all(reasons) else []
        case "all":
            reasons = _list_parts(condition, path, watched)
            return [fault for part in reasons for fault in part] + _find_contradictions(condition, path)
        case word:
            return [
                f"'{path}.{word}{suffix}' can never hold: {why}"
                for suffix, why in _reasons_unreachable(condition, watched)
            ]


def _list_parts(condition: Condition, path: str, watched: MonitoringCoverage) -> list[list[str]]:
    return [
        _reasons_never(part, f"{path}.{condition.word}[{index}]", watched) for index, part in enumerate(condition.parts)
    ]


def _always_holds(condition: Condition) -> bool:
    """Whether a condition holds whatever happens."""
    match condition.word:
        case "all":
            return all(_always_holds(part) for part in condition.parts)
        case "any":
            return any(_always_holds(part) for part in condition.parts)
    least = _LEAST.get(condition.word)
    return least is not None and float(condition.values[least]) <= 0


_LEAST = {"age": "days", "labels": "new_at_least", "drift": "at_least"}
"""What simple conditions ask for at least."""


def _find_contradictions(condition: Condition, path: str) -> list[str]:
    """Parts that exclude each other: one and its opposite, a metric below one limit and above a higher one, or
    schedules that never meet."""
    together = list(_iterate_conjuncts(condition))
    denied = [part.parts[0] for part in together if part.word == "not"]
    faults = [
        f"'{path}.all' can never hold: it requires '{part.word}' and its opposite"
        for part in together
        if part in denied
    ]
    return [*faults, *_disjoint_schedules(together, path), *_exclude(together, path)]


def _iterate_conjuncts(condition: Condition) -> Iterator[Condition]:
    """The parts of an ``all``, those of an ``all`` in it among them."""
    for part in condition.parts:
        yield from _iterate_conjuncts(part) if part.word == "all" else (part,)


def _disjoint_schedules(together: Sequence[Condition], path: str) -> list[str]:
    """Schedules that have no minute in common: each holds at the minutes of its times only."""
    schedules = [part.schedule for part in together if part.schedule is not None]
    if all(frozenset.intersection(*sets) for sets in _common_time_sets(schedules)):
        return []
    return [f"'{path}.all' can never hold: its schedules never come in the same minute"]


def _common_time_sets(schedules: Sequence[Schedule]) -> Iterator[list[frozenset[int]]]:
    """What more than one schedule have to have in common, one after the other: days are slow to count."""
    if schedules[1:]:
        yield [schedule.minutes() for schedule in schedules]
        yield [schedule.days() for schedule in schedules]


def _exclude(together: Sequence[Condition], path: str) -> list[str]:
    """Limits of a metric that exclude each other."""
    limits = [part for part in together if part.word == "performance" and part.values["fallen_by"] is None]
    low = [part for part in limits if part.values["below"] is not None and part.values["above"] is None]
    high = [part for part in limits if part.values["above"] is not None and part.values["below"] is None]
    return [
        f"'{path}.all' can never hold: '{limit.values['metric']}' cannot be below {limit.values['below']:g} and above "
        f"{other.values['above']:g}"
        for limit in low
        for other in high
        if _same_metric(limit, other) and limit.values["below"] <= other.values["above"]
    ]


def _same_metric(one: Condition, other: Condition) -> bool:
    return all(one.values[key] == other.values[key] for key in ("metric", "source"))


def _reasons_unreachable(condition: Condition, watched: MonitoringCoverage) -> Iterator[tuple[str, str]]:
    """What is in the way of a simple condition: a setting of it ("" for the whole), and why."""
    match condition.word:
        case "drift":
            yield from _check_drift(condition, watched)
        case "performance":
            yield from _check_performance(condition, watched)
        case "concept" | "labels" if not watched.labels:
            yield "", "no label is ever joined with 'monitor.label_horizon_seconds' 0"
        case "quality":
            yield from _check_quality(condition, watched)
        case "slo":
            yield from _check_slo(condition, watched)


def _check_drift(condition: Condition, watched: MonitoringCoverage) -> Iterator[tuple[str, str]]:
    scope, least = condition.values["scope"], condition.values["at_least"]
    if not watched.rows:
        yield "", "no row is counted with 'monitor.sample' 0"
    if scope == "joint" and least > 1:
        yield ".at_least", "all columns together are one"
    if scope == "slices" and not watched.slices:
        yield ".scope", "'monitor.slices' names none"
    elif least > watched.columns.get(scope, least) and not (scope == "any" and watched.slices):
        yield ".at_least", f"the model has {watched.columns[scope]} such columns"


def _check_performance(condition: Condition, watched: MonitoringCoverage) -> Iterator[tuple[str, str]]:
    values = condition.values
    estimated = values["source"] == "estimated"
    metrics = ESTIMATED if estimated else REALISED
    if values["metric"] not in metrics:
        yield ".metric", f"the metrics are {', '.join(sorted(metrics))}"
        return
    if estimated and not watched.rows:
        yield "", "no row is counted with 'monitor.sample' 0"
    if not estimated and not watched.labels:
        yield "", "no label is ever joined with 'monitor.label_horizon_seconds' 0"
    yield from _out_of_range(values)


def _out_of_range(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Limits that all lie where the metric never does."""
    metric = str(values["metric"])
    least = None if metric == "r2" else 0.0
    most = 1.0 if metric in UNIT or metric == "r2" else None
    limits = {key: float(values[key]) for key in ("below", "above", "fallen_by") if values[key] is not None}
    reached = {
        "below": least is None or limits.get("below", 0.0) > least,
        "above": most is None or limits.get("above", 0.0) < most,
        "fallen_by": metric not in UNIT or limits.get("fallen_by", 0.0) <= 1,
    }
    if limits and not any(reached[key] for key in limits):
        yield f".{next(iter(limits))}", f"'{metric}' never lies there"


def _check_quality(condition: Condition, watched: MonitoringCoverage) -> Iterator[tuple[str, str]]:
    if not watched.rows:
        yield "", "no row is counted with 'monitor.sample' 0"
    ratios = _list_ratios(condition)
    if not condition.values["violated"] and ratios and all(condition.values[word] >= 1 for word in ratios):
        yield f".{ratios[0]}", "a ratio is 1 at most"


def _list_ratios(condition: Condition) -> list[str]:
    """The limits of ratios that a condition of quality states."""
    return [word for word in QUALITY_LIMITS if condition.values[word] is not None]


def _check_slo(condition: Condition, watched: MonitoringCoverage) -> Iterator[tuple[str, str]]:
    allowed, asked = find_error_budgets(watched.objectives), condition.values["objective"]
    looked = {name: share for name, share in allowed.items() if asked in ("any", name)}
    if not looked:
        yield "", "the policy states no such objective in 'slo'"
    elif all(share * condition.values["burn_rate"] > 1 for share in looked.values()):
        yield ".burn_rate", "not even if every request were bad"
