"""Triggers and limits as operators write them; every fault is named with the path of what is wrong."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from penstock.core.errors import InvalidInput
from penstock.core.gates import parse_gates
from penstock.core.stated_numbers import number_fault
from penstock.core.triggers.conditions import DAY_S, QUALITY_LIMITS, SIMPLE, Condition, Schedule
from penstock.core.triggers.rules import RuleLimits, Trigger, TriggerKind

Document = Mapping[str, Any]

ScheduleParser = Callable[[str], Schedule]
"""Reads a schedule from its text; raises ``InvalidInput``."""

NAME_MOST = 64
MOST_TRIGGERS = 32
DEEPEST = 8
SHORTEST_S = 60
SCOPES = ("features", "outputs", "joint", "slices", "any")


def parse_triggers(
    stated: Any, sinks: Collection[str] | None, faults: list[str], parse_schedule: ScheduleParser
) -> tuple[Trigger, ...]:
    """The triggers of a policy; every fault is added to ``faults`` with the path of what is wrong. ``sinks`` are the
    names that may stand in ``send``; None allows any."""
    if not isinstance(stated, list) or len(stated) > MOST_TRIGGERS:
        faults.append(f"'triggers' must be a list of at most {MOST_TRIGGERS}")
        return ()
    triggers = [
        item
        for index, each in enumerate(stated)
        if (item := _parse_trigger(each, f"triggers[{index}]", sinks, faults, parse_schedule))
    ]
    names = [item.name for item in triggers]
    faults += [
        f"two triggers are called '{name}'" for name in sorted({item for item in names if names.count(item) > 1})
    ]
    return tuple(triggers)


_TRIGGER_FIELDS = {"name", "when", "until", "for_seconds", "cooldown_seconds", "send", "dry_run"}


def _parse_trigger(
    stated: Any, path: str, sinks: Collection[str] | None, faults: list[str], parse_schedule: ScheduleParser
) -> Trigger | None:
    if not isinstance(stated, dict):
        faults.append(f"'{path}' must be an object")
        return None
    before = len(faults)
    faults += [f"'{path}.{word}' is not a field of a trigger" for word in sorted(set(stated) - _TRIGGER_FIELDS)]
    name, send = stated.get("name"), stated.get("send", [])
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MOST or not name.isprintable():
        faults.append(f"'{path}.name' must be a text of at most {NAME_MOST} characters")
    if not isinstance(send, list) or not all(isinstance(item, str) for item in send):
        faults.append(f"'{path}.send' must be a list of sinks")
        send = []
    if sinks is not None:
        faults += [
            f"'{path}.send' names no sink of this policy or of the configuration: '{item}'"
            for item in send
            if item not in sinks
        ]
    when = parse_condition(stated.get("when"), f"{path}.when", faults, parse_schedule)
    until = parse_condition(stated["until"], f"{path}.until", faults, parse_schedule) if "until" in stated else None
    for_s = _parse_number(stated, "for_seconds", path, 0.0, faults, most=30 * DAY_S)
    cooldown = _parse_number(stated, "cooldown_seconds", path, 3600.0, faults, most=365 * DAY_S)
    if type(stated.get("dry_run", False)) is not bool:
        faults.append(f"'{path}.dry_run' must be true or false")
    if len(faults) > before or when is None or for_s is None or cooldown is None:
        return None
    only_quality = all(leaf.word == "quality" for leaf in when.leaves())
    kind = TriggerKind.QUALITY if only_quality else TriggerKind.RETRAIN
    return Trigger(str(name), when, tuple(send), until, for_s, cooldown, bool(stated.get("dry_run", False)), kind)


def parse_condition(
    stated: Any, path: str, faults: list[str], parse_schedule: ScheduleParser, depth: int = 0
) -> Condition | None:
    """A condition from what an operator wrote; None, and faults, where it is none."""
    if not isinstance(stated, dict) or len(stated) != 1 or depth > DEEPEST:
        kinds = ", ".join(("all", "any", "not", *SIMPLE))
        faults.append(f"'{path}' must be an object with one of {kinds}")
        return None
    word, values = next(iter(stated.items()))
    if word in ("all", "any"):
        if not isinstance(values, list) or not values:
            faults.append(f"'{path}.{word}' must be a list of conditions")
            return None
        parts = [
            parse_condition(value, f"{path}.{word}[{index}]", faults, parse_schedule, depth + 1)
            for index, value in enumerate(values)
        ]
        return Condition(word, parts=tuple(item for item in parts if item is not None)) if None not in parts else None
    if word == "not":
        part = parse_condition(values, f"{path}.not", faults, parse_schedule, depth + 1)
        return None if part is None else Condition("not", parts=(part,))
    if word not in SIMPLE:
        faults.append(f"'{path}.{word}' is not a condition")
        return None
    if word == "schedule":
        return _parse_schedule(values, f"{path}.{word}", faults, parse_schedule)
    return _parse_simple(word, values, f"{path}.{word}", faults)


_DEFAULTS: dict[str, dict[str, Any]] = {
    "drift": {"scope": "features", "at_least": 1, "min_psi": 0.0},
    "performance": {
        "metric": None,
        "below": None,
        "above": None,
        "fallen_by": None,
        "min_labels": 100,
        "source": "realised",
    },
    "concept": {"on": "errors"},
    "quality": {**dict.fromkeys(QUALITY_LIMITS), "violated": False, "min_rows": 100},
    "age": {"days": None},
    "labels": {"new_at_least": None},
    "slo": {
        "objective": "any",
        "long_seconds": 3600.0,
        "short_seconds": 300.0,
        "burn_rate": 14.4,
        "min_requests": 100,
    },
}
_CHOICES = {
    "scope": SCOPES,
    "source": ("realised", "estimated"),
    "on": ("errors", "gap"),
    "objective": ("any", "error_ratio", "latency_p99_ms"),
}
_TEXTS = {"metric"}


def _parse_schedule(values: Any, path: str, faults: list[str], parse_schedule: ScheduleParser) -> Condition | None:
    try:
        return Condition(
            "schedule", {"cron": values}, schedule=parse_schedule(values if isinstance(values, str) else "")
        )
    except InvalidInput as fault:
        faults.append(f"'{path}': {fault}")
        return None


def _parse_simple(word: str, values: Any, path: str, faults: list[str]) -> Condition | None:
    defaults = _DEFAULTS[word]
    if not isinstance(values, dict):
        faults.append(f"'{path}' must be an object")
        return None
    before = len(faults)
    for key in sorted(set(values) & set(defaults)):
        _check(key, values[key], defaults[key], f"{path}.{key}", faults)
    whole = {**defaults, **{key: value for key, value in values.items() if key in defaults}}
    if len(faults) == before:  # values of other types cannot be compared
        faults += _missing_fields(word, whole, path)
    faults += [f"'{path}.{key}' is not a setting" for key in sorted(set(values) - set(defaults))]
    return Condition(word, whole) if len(faults) == before else None


def _check(key: str, value: Any, default: Any, path: str, faults: list[str]) -> None:
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            faults.append(f"'{path}' must be one of {', '.join(_CHOICES[key])}")
    elif key in _TEXTS:
        if not isinstance(value, str):
            faults.append(f"'{path}' must be a text")
    elif isinstance(default, bool):
        if type(value) is not bool:
            faults.append(f"'{path}' must be true or false")
    elif type(value) not in (int, float) or not math.isfinite(value):
        faults.append(f"'{path}' must be a number")


def _missing_fields(word: str, values: Document, path: str) -> list[str]:
    match word:
        case "performance":
            lacks = [] if values["metric"] else [f"'{path}.metric' names a metric"]
            limits = [values[key] for key in ("below", "above", "fallen_by")]
            return lacks + (
                [] if any(limit is not None for limit in limits) else [f"'{path}' needs below, above or fallen_by"]
            )
        case "quality":
            stated = values["violated"] or any(values[key] is not None for key in QUALITY_LIMITS)
            return [] if stated else [f"'{path}' needs one of {', '.join((*QUALITY_LIMITS, 'violated'))}"]
        case "age" | "labels":
            key = "days" if word == "age" else "new_at_least"
            return [] if values[key] is not None else [f"'{path}.{key}' must be a number"]
        case "slo":
            sound = SHORTEST_S <= values["short_seconds"] < values["long_seconds"] <= DAY_S
            faults = [] if sound else [f"'{path}' needs {SHORTEST_S} <= short_seconds < long_seconds <= {DAY_S:g}"]
            return faults + ([] if values["burn_rate"] > 0 else [f"'{path}.burn_rate' must be a number above 0"])
    return []


def _parse_number(
    stated: Document, word: str, path: str, default: float, faults: list[str], most: float
) -> float | None:
    value = stated.get(word, default)
    if fault := number_fault(f"{path}.{word}", value, 0, most):
        faults.append(fault)
        return None
    return float(value)


_LIMITS = {
    "budget_per_day": ("budget_per_day", 0, 1000, True),
    "timeout_seconds": ("timeout_s", 1, 90 * DAY_S, False),
    "quality_veto": ("quality_veto", None, None, None),
    "approval": ("approval", None, None, None),
    "escalate_after": ("escalate_after", 1, 1000, True),
}
_ROLLOUT = {"to", "from"}
"""The settings of a rollout that the rules set themselves."""


def parse_limits(stated: Any, faults: list[str]) -> RuleLimits:
    """What holds for all of a model's rules; faults are added to ``faults``."""
    if not isinstance(stated, dict):
        faults.append("'retraining' must be an object")
        return RuleLimits()
    faults += [
        f"'retraining.{word}' is not a setting" for word in sorted(set(stated) - {*_LIMITS, "auto_rollout", "gates"})
    ]
    values: dict[str, Any] = {}
    values["gates"] = parse_gates(stated.get("gates", {}), "retraining.gates", faults)
    rollout = stated.get("auto_rollout", False)
    if not isinstance(rollout, dict | bool) or (isinstance(rollout, dict) and set(rollout) & _ROLLOUT):
        faults.append("'retraining.auto_rollout' is true, false or a rollout's settings without 'to' and 'from'")
    elif rollout is not False:
        values["auto_rollout"] = {} if rollout is True else dict(rollout)
    for word, (name, least, most, whole) in _LIMITS.items():
        if word not in stated:
            continue
        value = stated[word]
        if least is None or most is None:
            if type(value) is not bool:
                faults.append(f"'retraining.{word}' must be true or false")
        elif fault := number_fault(f"retraining.{word}", value, least, most, whole=bool(whole)):
            faults.append(fault)
        values[name] = value
    return RuleLimits(**values) if not faults else RuleLimits()
