"""When a model is to be trained again: conditions over what its monitor says, and rules that ask seldom and surely.

Everything here is a function of plain values: a snapshot of what is known, the state a rule was left in, and the time.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from penstock.core.cron import Cron, cron_in
from penstock.core.errors import InvalidInput
from penstock.core.exams import Exams, exams_in, exams_out
from penstock.core.gates import Gates, gates_in

Document = Mapping[str, Any]

SCOPES = ("features", "outputs", "joint", "slices", "any")
QUALITY_WORDS = {
    "missing_ratio_above": "missing",
    "non_finite_ratio_above": "non_finite",
    "out_of_range_ratio_above": "out_of_range",
    "unseen_ratio_above": "unseen",
}
NAME_MOST = 64
DAY_S = 86_400.0
MOST_TRIGGERS = 32
DEEPEST = 8


class Kind(StrEnum):
    """What a trigger sends."""

    RETRAIN = "retraining.requested.v1"
    QUALITY = "quality.violated.v1"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known of the version that answers, at a time (seconds since the epoch).

    ``monitor`` is its document; ``age_s`` how long ago it came; ``labels`` how many were told of it in all.
    """

    model: str
    version: str
    now: float
    monitor: Document
    age_s: float = 0.0

    @property
    def labels(self) -> int:
        """Labels that were joined to its answers."""
        return int((self.monitor.get("performance") or {}).get("labels") or 0)


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a condition holds, and what it rests on."""

    holds: bool
    evidence: tuple[Document, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition: its word, its parameters, and for ``all``, ``any`` and ``not`` the ones below it."""

    word: str
    values: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple["Condition", ...] = ()
    cron: Cron | None = None

    def leaves(self) -> list["Condition"]:
        """The simple conditions that it is made of."""
        return [leaf for part in self.parts for leaf in part.leaves()] if self.parts else [self]


@dataclass(frozen=True, slots=True)
class Trigger:
    """A rule of a policy; ``until`` says when it is over, None for as soon as ``when`` no longer holds."""

    name: str
    when: Condition
    send: tuple[str, ...] = ()
    until: Condition | None = None
    for_s: float = 0.0
    cooldown_s: float = 3600.0
    dry_run: bool = False
    kind: Kind = Kind.RETRAIN


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for all of a model's rules together: requests a day, how long one may be under way, whether unsound
    data forbids them, after how many of a rule that did not help a person is asked; and what a rollout of the version
    that comes of a request is begun with (None: a person begins it), once it has passed the ``gates`` and, where
    ``approval`` is asked for, a person has agreed."""

    budget_per_day: int = 24
    timeout_s: float = DAY_S
    quality_veto: bool = True
    escalate_after: int = 3
    auto_rollout: Mapping[str, Any] | None = None
    approval: bool = False
    gates: Gates = field(default_factory=Gates)


def came_of(standing: "RuleState", answering: str, ready: Mapping[str, float], tried: Collection[str]) -> str | None:
    """The version that came of the request under way: the newest that is ready, was pushed after it (``ready`` has the
    times), does not answer yet and was not rolled out before; None while there is none."""
    flight = standing.in_flight
    if flight is None:
        return None
    fresh = {one: at for one, at in ready.items() if at >= flight.at and one != answering and one not in tried}
    return max(fresh, key=lambda one: (fresh[one], one), default=None)


# Conditions.


def evaluate(condition: Condition, snapshot: Snapshot, memory: "Memory") -> Finding:
    """Whether a condition holds now; ``memory`` is what its rule remembers."""
    match condition.word:
        case "all":
            found = [evaluate(part, snapshot, memory) for part in condition.parts]
            return Finding(all(one.holds for one in found), _evidence(found))
        case "any":
            found = [evaluate(part, snapshot, memory) for part in condition.parts]
            return Finding(any(one.holds for one in found), _evidence([one for one in found if one.holds]))
        case "not":
            return Finding(not evaluate(condition.parts[0], snapshot, memory).holds)
        case word:
            return _SIMPLE[word](condition, snapshot, memory)


def _evidence(found: Sequence[Finding]) -> tuple[Document, ...]:
    return tuple(one for part in found for one in part.evidence)


def _drift(condition: Condition, snapshot: Snapshot, _: "Memory") -> Finding:
    scope, monitor = condition.values["scope"], snapshot.monitor
    joint = [monitor["joint"]] if monitor.get("joint") else []
    columns = {
        "features": list(monitor.get("features") or []),
        "outputs": list(monitor.get("outputs") or []),
        "joint": joint,
        "slices": _drifting_slices(monitor),
    }
    looked = [one for part in columns.values() for one in part] if scope == "any" else columns[scope]
    least = condition.values["min_psi"]
    drifting = [one for one in looked if one["state"] == "drift" and one["psi"] >= least]
    told = sorted(drifting, key=lambda one: -float(one["psi"]))[:5]
    evidence = {
        "statistic": "e-SR",
        "scope": scope,
        "value": len(drifting),
        "threshold": condition.values["at_least"],
        "rows_between_false_alarms": monitor.get("rows_between_false_alarms"),
        "features": [
            {key: one.get(key) for key in ("name", "since", "psi", "psi_threshold", "rows", "moved")} for one in told
        ],
    }
    return Finding(len(drifting) >= condition.values["at_least"], (evidence,))


def _drifting_slices(monitor: Document) -> list[Document]:
    return [
        {"name": f"{column['name']} where {key} is {value}", "state": "drift", **column}
        for key, values in (monitor.get("slices") or {}).items()
        for value, told in values.items()
        for column in told["drifting"]
    ]


def _performance(condition: Condition, snapshot: Snapshot, memory: "Memory") -> Finding:
    values, told = condition.values, snapshot.monitor.get("performance") or {}
    estimated = values["source"] == "estimated"
    known = (told.get("estimated") or {}) if estimated else (told.get("windowed") or {})
    value, labels = known.get(values["metric"]), snapshot.labels
    if value is None or (not estimated and labels < values["min_labels"]):
        return Finding(False)
    fallen = None if values["fallen_by"] is None else memory.best.get(values["metric"], value) - value
    holds = (
        (values["below"] is not None and value < values["below"])
        or (values["above"] is not None and value > values["above"])
        or (fallen is not None and fallen >= values["fallen_by"])
    )
    limit = {key: values[key] for key in ("below", "above", "fallen_by") if values[key] is not None}
    source = "estimated" if estimated else "realised"
    evidence = {"statistic": values["metric"], "source": source, "value": value, "threshold": limit, "labels": labels}
    return Finding(holds, (evidence,))


def _concept(condition: Condition, snapshot: Snapshot, _: "Memory") -> Finding:
    told = (snapshot.monitor.get("performance") or {}).get("concept" if condition.values["on"] == "errors" else "gap")
    if not told:
        return Finding(False)
    return Finding(told["state"] == "drift", ({"statistic": f"e-SR on {condition.values['on']}", **told},))


def _quality(condition: Condition, snapshot: Snapshot, _: "Memory") -> Finding:
    quality, found = snapshot.monitor.get("quality") or {}, []
    for word, kind in QUALITY_WORDS.items():
        limit = condition.values[word]
        for one in (snapshot.monitor.get("features") or []) if limit is not None else ():
            number = one.get("infinite" if kind == "non_finite" else kind, 0)
            rows = one.get("rows") or 0
            if rows >= condition.values["min_rows"] and number / rows > limit:
                told = {"statistic": f"{kind} ratio", "feature": one["name"], "value": round(number / rows, 6)}
                found.append({**told, "threshold": limit, "rows": rows})
    if condition.values["violated"]:
        found += [{"statistic": "violated", **one} for one in quality.get("violated") or ()]
    return Finding(bool(found), tuple(found))


def _schedule(condition: Condition, snapshot: Snapshot, memory: "Memory") -> Finding:
    due = condition.cron is not None and condition.cron.due(memory.looked or snapshot.now, snapshot.now)
    return Finding(due, ({"statistic": "schedule", "value": condition.values["cron"]},))


def _age(condition: Condition, snapshot: Snapshot, _: "Memory") -> Finding:
    days = snapshot.age_s / DAY_S
    told = {"statistic": "age in days", "value": round(days, 3), "threshold": condition.values["days"]}
    return Finding(days >= condition.values["days"], (told,))


def _labels(condition: Condition, snapshot: Snapshot, memory: "Memory") -> Finding:
    fresh = snapshot.labels - memory.labels
    told = {"statistic": "new labels", "value": fresh, "threshold": condition.values["new_at_least"]}
    return Finding(fresh >= condition.values["new_at_least"], (told,))


_SIMPLE = {
    "drift": _drift,
    "performance": _performance,
    "concept": _concept,
    "quality": _quality,
    "schedule": _schedule,
    "age": _age,
    "labels": _labels,
}


# Rules.


class State(StrEnum):
    """What a rule is in."""

    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"


class Outcome(StrEnum):
    """What became of a rule that would ask."""

    REQUESTED = "requested"
    DRY_RUN = "dry_run"
    COOLDOWN = "cooldown"
    BUDGET = "budget"
    IN_FLIGHT = "in_flight"
    QUALITY = "quality"
    ESCALATED = "escalated"


@dataclass(frozen=True, slots=True)
class Memory:
    """What a rule remembers: its state and since when, when it asked last and how often since its cause began, what it
    told of last (so that nothing is told twice), when it looked last, labels at its last request, best metrics seen."""

    state: State = State.OK
    since: float = 0.0
    asked: float = -math.inf
    times: int = 0
    told: str = ""
    looked: float = 0.0
    labels: int = 0
    best: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InFlight:
    """A request that is under way: its event's key, the version that asked, and when."""

    version: str
    at: float


@dataclass(frozen=True, slots=True)
class RuleState:
    """What is remembered of a model: each rule's memory, when requests were made, the one that is under way, the
    versions that a person has approved of meanwhile, and the candidates that were examined."""

    rules: Mapping[str, Memory] = field(default_factory=dict)
    requests: tuple[float, ...] = ()
    in_flight: InFlight | None = None
    approved: tuple[str, ...] = ()
    exams: Exams = field(default_factory=Exams)


@dataclass(frozen=True, slots=True)
class Action:
    """What a rule does now: ask (or tell), or why it does not; ``started`` names the cause's beginning."""

    trigger: Trigger
    outcome: Outcome
    started: float
    times: int
    evidence: tuple[Document, ...]

    @property
    def sends(self) -> bool:
        """Whether something is to be told."""
        return self.outcome in (Outcome.REQUESTED, Outcome.ESCALATED)


def decide(
    triggers: Sequence[Trigger], limits: Limits, standing: RuleState, snapshot: Snapshot
) -> tuple[RuleState, Action | None]:
    """The first thing that one of a model's rules does now, at most one; and what is remembered afterwards."""
    standing = _landed(standing, limits, snapshot)
    rules = dict(standing.rules)
    action: Action | None = None
    for trigger in triggers:
        memory = rules.get(trigger.name, Memory())
        if action is not None:
            break
        memory, action = _step(trigger, limits, replace(standing, rules=rules), memory, snapshot)
        rules[trigger.name] = memory
    standing = replace(standing, rules=rules)
    if action is not None and action.outcome is Outcome.REQUESTED and action.trigger.kind is Kind.RETRAIN:
        recent = tuple(at for at in standing.requests if snapshot.now - at < DAY_S)
        standing = replace(
            standing, requests=(*recent, snapshot.now), in_flight=InFlight(snapshot.version, snapshot.now)
        )
    return standing, action


def _landed(standing: RuleState, limits: Limits, snapshot: Snapshot) -> RuleState:
    """A request is over once another version answers, or its time has run out."""
    flight = standing.in_flight
    if flight is None:
        return standing
    over = flight.version != snapshot.version or snapshot.now - flight.at >= limits.timeout_s
    return replace(standing, in_flight=None, approved=()) if over else standing


def _step(
    trigger: Trigger, limits: Limits, standing: RuleState, memory: Memory, snapshot: Snapshot
) -> tuple[Memory, Action | None]:
    found = evaluate(trigger.when, snapshot, memory)
    over = not found.holds if trigger.until is None else evaluate(trigger.until, snapshot, memory).holds
    memory = replace(
        memory,
        looked=snapshot.now,
        labels=min(memory.labels, snapshot.labels),  # a successor has learned of fewer anew
        best=_best(trigger, memory, snapshot),
    )
    if memory.state is State.OK:
        if not found.holds:
            return memory, None
        memory = replace(memory, state=State.PENDING, since=snapshot.now, times=0, told="")
    elif not found.holds if memory.state is State.PENDING else over and not found.holds:
        return replace(memory, state=State.OK, since=0.0, times=0, told=""), None
    if memory.state is State.PENDING and snapshot.now - memory.since >= trigger.for_s:
        memory = replace(memory, state=State.FIRING)
    if memory.state is not State.FIRING or not found.holds:
        return memory, None
    return _ask(trigger, limits, standing, memory, snapshot, found)


def _ask(
    trigger: Trigger, limits: Limits, standing: RuleState, memory: Memory, snapshot: Snapshot, found: Finding
) -> tuple[Memory, Action | None]:
    outcome = _outcome(trigger, limits, standing, memory, snapshot)
    if outcome is None or (outcome is not Outcome.REQUESTED and memory.told == outcome):
        return memory, None
    action = Action(trigger, outcome, memory.since, memory.times, found.evidence)
    if outcome in (Outcome.REQUESTED, Outcome.DRY_RUN):
        after = replace(memory, asked=snapshot.now, times=memory.times + 1, told=outcome, labels=snapshot.labels)
        return after, action
    return replace(memory, told=outcome), action


def _outcome(
    trigger: Trigger, limits: Limits, standing: RuleState, memory: Memory, snapshot: Snapshot
) -> Outcome | None:
    if trigger.kind is Kind.QUALITY:
        waits = memory.times > 0 or snapshot.now - memory.asked < trigger.cooldown_s
        return None if waits else Outcome.REQUESTED
    if limits.quality_veto and _unsound(snapshot):
        return Outcome.QUALITY
    if standing.in_flight is not None:
        return Outcome.IN_FLIGHT if not memory.times else None
    if memory.times >= limits.escalate_after:
        return Outcome.ESCALATED
    if snapshot.now - memory.asked < trigger.cooldown_s:
        return Outcome.COOLDOWN if not memory.times else None
    if sum(snapshot.now - at < DAY_S for at in standing.requests) >= limits.budget_per_day:
        return Outcome.BUDGET
    return Outcome.DRY_RUN if trigger.dry_run else Outcome.REQUESTED


def _unsound(snapshot: Snapshot) -> bool:
    return bool((snapshot.monitor.get("quality") or {}).get("violated"))


def _best(trigger: Trigger, memory: Memory, snapshot: Snapshot) -> dict[str, float]:
    """The best value so far of each metric that the rule asks whether it has fallen."""
    told, best = snapshot.monitor.get("performance") or {}, dict(memory.best)
    for leaf in trigger.when.leaves():
        if leaf.word == "performance" and leaf.values["fallen_by"] is not None:
            name = leaf.values["metric"]
            known = (told.get("estimated" if leaf.values["source"] == "estimated" else "windowed") or {}).get(name)
            enough = leaf.values["source"] == "estimated" or snapshot.labels >= leaf.values["min_labels"]
            if known is not None and enough:
                best[name] = max(best.get(name, known), known)
    return best


def without_looks(standing: RuleState) -> RuleState:
    """The same, but for when its rules looked last."""
    return replace(standing, rules={name: replace(one, looked=0.0) for name, one in standing.rules.items()})


def standing_out(standing: RuleState) -> dict[str, Any]:
    """A standing as JSON values."""
    flight = standing.in_flight
    return {
        "rules": {
            name: [
                one.state.value,
                one.since,
                max(one.asked, -1e18),
                one.times,
                one.told,
                one.looked,
                one.labels,
                dict(one.best),
            ]
            for name, one in standing.rules.items()
        },
        "requests": list(standing.requests),
        "in_flight": None if flight is None else [flight.version, flight.at],
        "approved": list(standing.approved),
        "exams": exams_out(standing.exams),
    }


def standing_in(values: Document) -> RuleState:
    """A standing from its JSON values."""
    rules = {
        name: Memory(State(one[0]), one[1], one[2], one[3], one[4], one[5], one[6], one[7])
        for name, one in values.get("rules", {}).items()
    }
    flight = values.get("in_flight")
    requests, approved = tuple(values.get("requests", ())), tuple(values.get("approved", ()))
    exams = exams_in(values.get("exams", {}))
    return RuleState(rules, requests, None if flight is None else InFlight(*flight), approved, exams)


# What people write.


def triggers_in(stated: Any, sinks: Sequence[str], faults: list[str]) -> tuple[Trigger, ...]:
    """The triggers of a policy; every fault is added to ``faults`` with the path of what is wrong."""
    if not isinstance(stated, list) or len(stated) > MOST_TRIGGERS:
        faults.append(f"'triggers' is a list of at most {MOST_TRIGGERS}")
        return ()
    found = [one for index, each in enumerate(stated) if (one := _trigger(each, f"triggers[{index}]", sinks, faults))]
    names = [one.name for one in found]
    faults += [f"two triggers are called '{name}'" for name in sorted({one for one in names if names.count(one) > 1})]
    return tuple(found)


_TRIGGER_WORDS = {"name", "when", "until", "for_seconds", "cooldown_seconds", "send", "dry_run"}


def _trigger(stated: Any, path: str, sinks: Sequence[str], faults: list[str]) -> Trigger | None:
    if not isinstance(stated, dict):
        faults.append(f"'{path}' is an object")
        return None
    before = len(faults)
    faults += [f"'{path}.{word}' is no part of a trigger" for word in sorted(set(stated) - _TRIGGER_WORDS)]
    name, send = stated.get("name"), stated.get("send", [])
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MOST or not name.isprintable():
        faults.append(f"'{path}.name' is a text of at most {NAME_MOST} characters")
    if not isinstance(send, list) or not all(isinstance(one, str) for one in send):
        faults.append(f"'{path}.send' is a list of sinks")
        send = []
    faults += [f"'{path}.send' names no sink of this policy: '{one}'" for one in send if one not in sinks]
    when = condition_in(stated.get("when"), f"{path}.when", faults)
    until = condition_in(stated["until"], f"{path}.until", faults) if "until" in stated else None
    for_s = _number(stated, "for_seconds", path, 0.0, faults, most=30 * DAY_S)
    cooldown = _number(stated, "cooldown_seconds", path, 3600.0, faults, most=365 * DAY_S)
    if type(stated.get("dry_run", False)) is not bool:
        faults.append(f"'{path}.dry_run' is true or false")
    if len(faults) > before or when is None or for_s is None or cooldown is None:
        return None
    only_quality = all(leaf.word == "quality" for leaf in when.leaves())
    kind = Kind.QUALITY if only_quality else Kind.RETRAIN
    return Trigger(str(name), when, tuple(send), until, for_s, cooldown, bool(stated.get("dry_run", False)), kind)


def condition_in(stated: Any, path: str, faults: list[str], depth: int = 0) -> Condition | None:
    """A condition from what an operator wrote; None, and faults, where it is none."""
    if not isinstance(stated, dict) or len(stated) != 1 or depth > DEEPEST:
        words = ", ".join(("all", "any", "not", *_SIMPLE))
        faults.append(f"'{path}' is an object with one of {words}")
        return None
    word, values = next(iter(stated.items()))
    if word in ("all", "any"):
        if not isinstance(values, list) or not values:
            faults.append(f"'{path}.{word}' is a list of conditions")
            return None
        parts = [condition_in(one, f"{path}.{word}[{index}]", faults, depth + 1) for index, one in enumerate(values)]
        return Condition(word, parts=tuple(one for one in parts if one is not None)) if None not in parts else None
    if word == "not":
        part = condition_in(values, f"{path}.not", faults, depth + 1)
        return None if part is None else Condition("not", parts=(part,))
    if word not in _SIMPLE:
        faults.append(f"'{path}.{word}' is no condition")
        return None
    return _simple_in(word, values, f"{path}.{word}", faults)


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
    "quality": {**dict.fromkeys(QUALITY_WORDS), "violated": False, "min_rows": 100},
    "age": {"days": None},
    "labels": {"new_at_least": None},
}
_CHOICES = {"scope": SCOPES, "source": ("realised", "estimated"), "on": ("errors", "gap")}
_TEXTS = {"metric"}


def _simple_in(word: str, values: Any, path: str, faults: list[str]) -> Condition | None:
    if word == "schedule":
        try:
            return Condition(word, {"cron": values}, cron=cron_in(values if isinstance(values, str) else ""))
        except InvalidInput as fault:
            faults.append(f"'{path}': {fault}")
            return None
    defaults = _DEFAULTS[word]
    if not isinstance(values, dict):
        faults.append(f"'{path}' is an object")
        return None
    before = len(faults)
    faults += [f"'{path}.{key}' is no setting" for key in sorted(set(values) - set(defaults))]
    for key in sorted(set(values) & set(defaults)):
        _check(key, values[key], defaults[key], f"{path}.{key}", faults)
    whole = {**defaults, **{key: value for key, value in values.items() if key in defaults}}
    faults += _lacking(word, whole, path)
    return Condition(word, whole) if len(faults) == before else None


def _check(key: str, value: Any, default: Any, path: str, faults: list[str]) -> None:
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            faults.append(f"'{path}' is one of {', '.join(_CHOICES[key])}")
    elif key in _TEXTS:
        if not isinstance(value, str):
            faults.append(f"'{path}' is a text")
    elif isinstance(default, bool):
        if type(value) is not bool:
            faults.append(f"'{path}' is true or false")
    elif type(value) not in (int, float) or not math.isfinite(value):
        faults.append(f"'{path}' is a number")


def _lacking(word: str, values: Document, path: str) -> list[str]:
    match word:
        case "performance":
            lacks = [] if values["metric"] else [f"'{path}.metric' names a metric"]
            limits = [values[key] for key in ("below", "above", "fallen_by")]
            return lacks + (
                [] if any(one is not None for one in limits) else [f"'{path}' needs below, above or fallen_by"]
            )
        case "quality":
            stated = values["violated"] or any(values[key] is not None for key in QUALITY_WORDS)
            return [] if stated else [f"'{path}' needs one of {', '.join((*QUALITY_WORDS, 'violated'))}"]
        case "age" | "labels":
            key = "days" if word == "age" else "new_at_least"
            return [] if values[key] is not None else [f"'{path}.{key}' is a number"]
    return []


def _number(stated: Document, word: str, path: str, default: float, faults: list[str], most: float) -> float | None:
    value = stated.get(word, default)
    if type(value) not in (int, float) or not 0 <= value <= most:
        faults.append(f"'{path}.{word}' is a number from 0 to {most:g}")
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
"""What a rollout is told by the rules themselves."""


def limits_in(stated: Any, faults: list[str]) -> Limits:
    """What holds for all of a model's rules; faults are added to ``faults``."""
    if not isinstance(stated, dict):
        faults.append("'retraining' is an object")
        return Limits()
    faults += [
        f"'retraining.{word}' is no setting" for word in sorted(set(stated) - {*_LIMITS, "auto_rollout", "gates"})
    ]
    values: dict[str, Any] = {}
    values["gates"] = gates_in(stated.get("gates", {}), "retraining.gates", faults)
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
                faults.append(f"'retraining.{word}' is true or false")
        elif type(value) not in ((int,) if whole else (int, float)) or not least <= value <= most:
            faults.append(f"'retraining.{word}' is a number from {least:g} to {most:g}")
        values[name] = value
    return Limits(**values) if not faults else Limits()
