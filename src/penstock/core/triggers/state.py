"""What the rules of a model remember, and its form in the database."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from penstock.core.exams import Exams, exams_in, exams_out

Document = Mapping[str, Any]


class State(StrEnum):
    """What a rule is in."""

    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"


@dataclass(frozen=True, slots=True)
class Memory:
    """What a rule remembers: its state and since when, when it asked last and how often since its cause began, what it
    told of last (so that nothing is told twice), when it looked last, labels at its last request, the best metrics
    of the version that it saw last, and which that is."""

    state: State = State.OK
    since: float = 0.0
    asked: float = -math.inf
    times: int = 0
    told: str = ""
    looked: float = 0.0
    labels: int = 0
    best: Mapping[str, float] = field(default_factory=dict)
    version: str = ""


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


def came_of(state: "RuleState", answering: str, ready: Mapping[str, float], tried: Collection[str]) -> str | None:
    """The version that came of the request under way: the newest that is ready, was pushed after it (``ready`` has the
    times), does not answer yet and was not rolled out before; None while there is none."""
    flight = state.in_flight
    if flight is None:
        return None
    fresh = {one: at for one, at in ready.items() if at >= flight.at and one != answering and one not in tried}
    return max(fresh, key=lambda one: (fresh[one], one), default=None)


def without_looks(state: RuleState) -> RuleState:
    """The same, but for when its rules looked last."""
    return replace(state, rules={name: replace(one, looked=0.0) for name, one in state.rules.items()})


def rule_state_out(state: RuleState) -> dict[str, Any]:
    """A state as JSON values."""
    flight = state.in_flight
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
                one.version,
            ]
            for name, one in state.rules.items()
        },
        "requests": list(state.requests),
        "in_flight": None if flight is None else [flight.version, flight.at],
        "approved": list(state.approved),
        "exams": exams_out(state.exams),
    }


def rule_state_in(values: Document) -> RuleState:
    """A state from its JSON values."""
    rules = {
        name: Memory(State(one[0]), *one[1:8], *one[8:9])  # the version came later than the rest
        for name, one in values.get("rules", {}).items()
    }
    flight = values.get("in_flight")
    requests, approved = tuple(values.get("requests", ())), tuple(values.get("approved", ()))
    exams = exams_in(values.get("exams", {}))
    return RuleState(rules, requests, None if flight is None else InFlight(*flight), approved, exams)
