"""What the rules of a model remember, and its form in the database."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from penstock.core.exams import Exams, decode_exams, encode_exams

Document = Mapping[str, Any]


class RulePhase(StrEnum):
    """What a rule is in."""

    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"


@dataclass(frozen=True, slots=True)
class RuleMemory:
    """What a rule remembers: its state and since when, when it asked last and how often since its cause began, what it
    reported last (so that nothing is reported twice), up to when it looked (by the clock that people read), labels at
    its last request, the best metrics of the version that it saw last, and which that is."""

    state: RulePhase = RulePhase.OK
    since: float = 0.0
    asked: float = -math.inf
    times: int = 0
    reported: str = ""
    looked: float = 0.0
    labels: int = 0
    best: Mapping[str, float] = field(default_factory=dict)
    version: str = ""


@dataclass(frozen=True, slots=True)
class InFlight:
    """A request that is under way: the version that asked, when, and the id of its event."""

    version: str
    at: float
    event: str = ""


@dataclass(frozen=True, slots=True)
class RuleState:
    """What is remembered of a model: each rule's memory, when requests were made, the one that is under way, the
    versions that a person has approved of meanwhile, the candidates that were examined, the last request if its
    training failed, and the candidates of the request that a person has refused, with the reason."""

    rules: Mapping[str, RuleMemory] = field(default_factory=dict)
    requests: tuple[float, ...] = ()
    in_flight: InFlight | None = None
    approved: tuple[str, ...] = ()
    exams: Exams = field(default_factory=Exams)
    failed: InFlight | None = None
    refused: Mapping[str, str] = field(default_factory=dict)


def candidate_version(
    state: "RuleState", answering: str, ready: Mapping[str, float], tried: Collection[str]
) -> str | None:
    """The version that came of the request under way: the newest that is ready, was pushed after it (``ready`` has the
    times), does not answer yet, was not rolled out before and not refused by a person; None while there is none."""
    flight = state.in_flight
    if flight is None:
        return None
    over = {answering, *tried, *state.refused}
    fresh = {item: at for item, at in ready.items() if at >= flight.at and item not in over}
    return max(fresh, key=lambda item: (fresh[item], item), default=None)


SKEW_S = 5.0
"""What two clocks may be apart that both are right."""


def limit_times(state: RuleState, now: float) -> RuleState:
    """The same without times to come: a clock that was set back since wrote them, and they count as now. Else whatever
    waits for a time after them would wait for as long as the clock was set back."""
    limit = now + SKEW_S
    times = (*state.requests, *(at for rule in state.rules.values() for at in (rule.since, rule.asked)))
    flights = (state.in_flight, state.failed)
    if max((*times, *(flight.at for flight in flights if flight is not None)), default=now) <= limit:
        return state

    def past(at: float) -> float:
        return now if at > limit else at

    rules = {name: replace(rule, since=past(rule.since), asked=past(rule.asked)) for name, rule in state.rules.items()}
    in_flight, failed = (None if flight is None else replace(flight, at=past(flight.at)) for flight in flights)
    requests = tuple(past(at) for at in state.requests)
    return replace(state, rules=rules, requests=requests, in_flight=in_flight, failed=failed)


def without_schedule_times(state: RuleState) -> RuleState:
    """The same, but for when its rules looked last."""
    return replace(state, rules={name: replace(rule, looked=0.0) for name, rule in state.rules.items()})


def without_request(values: Document, event: str) -> dict[str, Any] | None:
    """A state (as JSON values) whose request of this event has failed; None where another or none is under way."""
    flight = values.get("in_flight")
    is_of_event = flight is not None and flight[2:] == [event]
    return {**values, "in_flight": None, "approved": [], "refused": {}, "failed": flight} if is_of_event else None


def with_request(values: Document, events: Collection[str]) -> dict[str, Any] | None:
    """A state (as JSON values) whose failed request, of one of these events, is under way again; None where that is
    not so, or another one is."""
    failed = values.get("failed")
    if failed is None or failed[2] not in events or values.get("in_flight") is not None:
        return None
    return {**values, "in_flight": failed, "failed": None}


def encode_rule_state(state: RuleState) -> dict[str, Any]:
    """A state as JSON values."""
    return {
        "rules": {
            name: [
                rule.state.value,
                rule.since,
                max(rule.asked, -1e18),
                rule.times,
                rule.reported,
                rule.looked,
                rule.labels,
                dict(rule.best),
                rule.version,
            ]
            for name, rule in state.rules.items()
        },
        "requests": list(state.requests),
        "in_flight": _encode_flight(state.in_flight),
        "approved": list(state.approved),
        "exams": encode_exams(state.exams),
        "failed": _encode_flight(state.failed),
        "refused": dict(state.refused),
    }


def _encode_flight(flight: InFlight | None) -> list[Any] | None:
    return None if flight is None else [flight.version, flight.at, flight.event]


def _decode_flight(values: Sequence[Any] | None) -> InFlight | None:
    return None if values is None else InFlight(*values)


def decode_rule_state(values: Document) -> RuleState:
    """A state from its JSON values."""
    rules = {
        name: RuleMemory(RulePhase(rule[0]), *rule[1:8], *rule[8:9])  # the version came later than the rest
        for name, rule in values.get("rules", {}).items()
    }
    requests, approved = tuple(values.get("requests", ())), tuple(values.get("approved", ()))
    flight, failed = (_decode_flight(values.get(key)) for key in ("in_flight", "failed"))
    exams, refused = decode_exams(values.get("exams", {})), dict(values.get("refused", {}))
    return RuleState(rules, requests, flight, approved, exams, failed, refused)
