"""Conditions over what the monitor says of a version: whether each holds now, and what that rests on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from penstock.core.triggers.burn_rate import RequestCounts, burn_rates, find_error_budgets
from penstock.core.triggers.state import RuleMemory

Document = Mapping[str, Any]

QUALITY_LIMITS = {
    "missing_ratio_above": "missing",
    "non_finite_ratio_above": "non_finite",
    "out_of_range_ratio_above": "out_of_range",
    "unseen_ratio_above": "unseen",
}
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class VersionSnapshot:
    """What is known of the version that answers, at a time (seconds since the epoch).

    ``monitor`` is its document; ``age_s`` how long ago it came; ``labels`` how many labels it got in all. ``ready``:
    every worker has it; ``failed``: versions that were to answer instead and cannot. ``objectives`` are those of the
    policy's ``slo``, ``history`` the counts of requests that they are judged by, oldest first. ``wall`` is the time by
    the clock that people read, for schedules: it may be set, ``now`` goes on steadily (None: they are the same).
    """

    model: str
    version: str
    now: float
    monitor: Document
    age_s: float = 0.0
    ready: bool = True
    failed: Collection[str] = ()
    objectives: Mapping[str, float] = field(default_factory=dict)
    history: Sequence[RequestCounts] = ()
    wall: float | None = None

    @property
    def schedule_time(self) -> float:
        """When schedules are looked at, in seconds since the epoch."""
        return self.now if self.wall is None else self.wall

    @property
    def labels(self) -> int:
        """Labels that were joined to its answers."""
        return int((self.monitor.get("performance") or {}).get("labels") or 0)


@dataclass(frozen=True, slots=True)
class ConditionResult:
    """Whether a condition holds, and what it rests on."""

    holds: bool
    evidence: tuple[Document, ...] = ()


class Schedule(Protocol):
    """Times that come again and again."""

    def due(self, after: float, until: float) -> bool:
        """Whether one of them lies after the one and not after the other (seconds since the epoch)."""

    def minutes(self) -> frozenset[int]:
        """The minutes of a day at which they come."""

    def days(self) -> frozenset[int]:
        """The days on which they come, as ordinals, of so many years that there is every kind of one."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition: its word, its parameters, and for ``all``, ``any`` and ``not`` the ones below it."""

    word: str
    values: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple["Condition", ...] = ()
    schedule: Schedule | None = None

    def leaves(self) -> list["Condition"]:
        """The simple conditions that it is made of."""
        return [leaf for part in self.parts for leaf in part.leaves()] if self.parts else [self]


def evaluate(condition: Condition, snapshot: VersionSnapshot, memory: RuleMemory) -> ConditionResult:
    """Whether a condition holds now; ``memory`` is what its rule remembers."""
    match condition.word:
        case "all":
            results = [evaluate(part, snapshot, memory) for part in condition.parts]
            return ConditionResult(all(item.holds for item in results), _gather_evidence(results))
        case "any":
            results = [evaluate(part, snapshot, memory) for part in condition.parts]
            return ConditionResult(
                any(item.holds for item in results), _gather_evidence([item for item in results if item.holds])
            )
        case "not":
            return ConditionResult(not evaluate(condition.parts[0], snapshot, memory).holds)
        case word:
            return SIMPLE[word](condition, snapshot, memory)


def _gather_evidence(results: Sequence[ConditionResult]) -> tuple[Document, ...]:
    return tuple(item for part in results for item in part.evidence)


def _evaluate_drift(condition: Condition, snapshot: VersionSnapshot, _: RuleMemory) -> ConditionResult:
    scope, monitor = condition.values["scope"], snapshot.monitor
    joint = [monitor["joint"]] if monitor.get("joint") else []
    columns = {
        "features": list(monitor.get("features") or []),
        "outputs": list(monitor.get("outputs") or []),
        "joint": joint,
        "slices": _drifting_slices(monitor),
    }
    looked = [item for part in columns.values() for item in part] if scope == "any" else columns[scope]
    least = condition.values["min_psi"]
    drifting = [item for item in looked if item["state"] == "drift" and item["psi"] >= least]
    reported = sorted(drifting, key=lambda item: -float(item["psi"]))[:5]
    evidence = {
        "statistic": "e-SR",
        "scope": scope,
        "value": len(drifting),
        "threshold": condition.values["at_least"],
        "rows_between_false_alarms": monitor.get("rows_between_false_alarms"),
        "features": [
            {key: item.get(key) for key in ("name", "since", "psi", "psi_threshold", "rows", "moved")}
            for item in reported
        ],
    }
    return ConditionResult(len(drifting) >= condition.values["at_least"], (evidence,))


def _drifting_slices(monitor: Document) -> list[Document]:
    return [
        {"name": f"{column['name']} where {key} is {value}", "state": "drift", **column}
        for key, values in (monitor.get("slices") or {}).items()
        for value, states in values.items()
        for column in states["drifting"]
    ]


def _evaluate_performance(condition: Condition, snapshot: VersionSnapshot, memory: RuleMemory) -> ConditionResult:
    values, performance = condition.values, snapshot.monitor.get("performance") or {}
    estimated = values["source"] == "estimated"
    metrics = performance.get("estimated" if estimated else "windowed") or {}
    value, labels = metrics.get(values["metric"]), snapshot.labels
    if value is None or (not estimated and labels < values["min_labels"]):
        return ConditionResult(False)
    fallen = None if values["fallen_by"] is None else memory.best.get(values["metric"], value) - value
    holds = (
        (values["below"] is not None and value < values["below"])
        or (values["above"] is not None and value > values["above"])
        or (fallen is not None and fallen >= values["fallen_by"])
    )
    limit = {key: values[key] for key in ("below", "above", "fallen_by") if values[key] is not None}
    source = "estimated" if estimated else "realised"
    evidence = {"statistic": values["metric"], "source": source, "value": value, "threshold": limit, "labels": labels}
    return ConditionResult(holds, (evidence,))


def _evaluate_concept(condition: Condition, snapshot: VersionSnapshot, _: RuleMemory) -> ConditionResult:
    performance = snapshot.monitor.get("performance") or {}
    change = performance.get("concept" if condition.values["on"] == "errors" else "gap")
    if not change:
        return ConditionResult(False)
    return ConditionResult(change["state"] == "drift", ({"statistic": f"e-SR on {condition.values['on']}", **change},))


def _evaluate_quality(condition: Condition, snapshot: VersionSnapshot, _: RuleMemory) -> ConditionResult:
    quality, violations = snapshot.monitor.get("quality") or {}, []
    for word, kind in QUALITY_LIMITS.items():
        limit = condition.values[word]
        for item in (snapshot.monitor.get("features") or []) if limit is not None else ():
            number = item.get("infinite" if kind == "non_finite" else kind, 0)
            rows = item.get("rows") or 0
            if rows >= condition.values["min_rows"] and number / rows > limit:
                evidence = {"statistic": f"{kind} ratio", "feature": item["name"], "value": round(number / rows, 6)}
                violations.append({**evidence, "threshold": limit, "rows": rows})
    if condition.values["violated"]:
        violations += [{"statistic": "violated", **item} for item in quality.get("violated") or ()]
    return ConditionResult(bool(violations), tuple(violations))


def _schedule(condition: Condition, snapshot: VersionSnapshot, memory: RuleMemory) -> ConditionResult:
    due = condition.schedule is not None and condition.schedule.due(
        memory.looked or snapshot.schedule_time, snapshot.schedule_time
    )
    return ConditionResult(due, ({"statistic": "schedule", "value": condition.values["cron"]},))


def _evaluate_age(condition: Condition, snapshot: VersionSnapshot, _: RuleMemory) -> ConditionResult:
    days = snapshot.age_s / DAY_S
    evidence = {"statistic": "age in days", "value": round(days, 3), "threshold": condition.values["days"]}
    return ConditionResult(days >= condition.values["days"], (evidence,))


def _evaluate_labels(condition: Condition, snapshot: VersionSnapshot, memory: RuleMemory) -> ConditionResult:
    fresh = snapshot.labels - memory.labels
    evidence = {"statistic": "new labels", "value": fresh, "threshold": condition.values["new_at_least"]}
    return ConditionResult(fresh >= condition.values["new_at_least"], (evidence,))


def _evaluate_slo(condition: Condition, snapshot: VersionSnapshot, _: RuleMemory) -> ConditionResult:
    """Whether an objective's burn rate is too high over the long window, and over the short one still."""
    values, allowed = condition.values, find_error_budgets(snapshot.objectives)
    long, short = (burn_rates(snapshot.history, values[key], allowed) for key in ("long_seconds", "short_seconds"))
    if long is None or short is None or long.requests < values["min_requests"]:
        return ConditionResult(False)
    evidence = [
        {
            "statistic": f"burn rate of {name}",
            "value": round(long.rates[name], 3),
            "short": round(short.rates[name], 3),
            "threshold": values["burn_rate"],
            "requests": long.requests,
        }
        for name in allowed
        if values["objective"] in ("any", name) and min(long.rates[name], short.rates[name]) >= values["burn_rate"]
    ]
    return ConditionResult(bool(evidence), tuple(evidence))


SIMPLE = {
    "drift": _evaluate_drift,
    "performance": _evaluate_performance,
    "concept": _evaluate_concept,
    "quality": _evaluate_quality,
    "schedule": _schedule,
    "age": _evaluate_age,
    "labels": _evaluate_labels,
    "slo": _evaluate_slo,
}
