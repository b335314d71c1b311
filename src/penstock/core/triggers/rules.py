"""Rules of a policy over time: each waits, asks once, is held back by what holds for all, and is over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from penstock.core.gates import Gates
from penstock.core.triggers.conditions import DAY_S, Condition, Finding, Snapshot, evaluate
from penstock.core.triggers.state import InFlight, Memory, RuleState, State, limit_times

Document = Mapping[str, Any]

SET_BACK_S = 3 * 3600.0
"""As in Vixie cron: where the clock is set back by less, times that were gone through do not come again; beyond that it
was wrong before, and they do."""


class Kind(StrEnum):
    """What a trigger sends."""

    RETRAIN = "retraining.requested.v1"
    QUALITY = "quality.violated.v1"


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

    @property
    def decide_who_answers(self) -> bool:
        """Whether a version that comes of a request answers only once it has been decided on."""
        return self.auto_rollout is not None or self.approval


class Outcome(StrEnum):
    """The outcome of a rule whose condition holds."""

    REQUESTED = "requested"
    DRY_RUN = "dry_run"
    COOLDOWN = "cooldown"
    BUDGET = "budget"
    IN_FLIGHT = "in_flight"
    QUALITY = "quality"
    ESCALATED = "escalated"


@dataclass(frozen=True, slots=True)
class Action:
    """What a rule does now: ask for retraining (or notify), or why it does not; ``started`` names the cause's
    beginning."""

    trigger: Trigger
    outcome: Outcome
    started: float
    times: int
    evidence: tuple[Document, ...]

    @property
    def sends(self) -> bool:
        """Whether an event is sent."""
        return self.outcome in (Outcome.REQUESTED, Outcome.ESCALATED)


def decide(
    triggers: Sequence[Trigger], limits: Limits, state: RuleState, snapshot: Snapshot
) -> tuple[RuleState, Action | None]:
    """The first thing that one of a model's rules does now, at most one; and what is remembered afterwards."""
    state = _landed(limit_times(state, snapshot.now), limits, snapshot)
    rules = dict(state.rules)
    action: Action | None = None
    for trigger in triggers:
        memory = rules.get(trigger.name, Memory())
        if action is not None:
            break
        memory, action = _step(trigger, limits, replace(state, rules=rules), memory, snapshot)
        rules[trigger.name] = memory
    state = replace(state, rules=rules)
    if action is not None and action.outcome is Outcome.REQUESTED and action.trigger.kind is Kind.RETRAIN:
        recent = tuple(at for at in state.requests if snapshot.now - at < DAY_S)
        flight = InFlight(snapshot.version, snapshot.now)
        state = replace(state, requests=(*recent, snapshot.now), in_flight=flight, failed=None)
    return state, action


def _landed(state: RuleState, limits: Limits, snapshot: Snapshot) -> RuleState:
    """A request is over once another version answers in place of the one that asked, or its time has run out.

    One that only stands in, because the one that asked cannot be loaded now, ends nothing.
    """
    flight = state.in_flight
    if flight is None:
        return state
    replaced = flight.version != snapshot.version and snapshot.ready and flight.version not in snapshot.failed
    over = replaced or snapshot.now - flight.at >= limits.timeout_s
    return replace(state, in_flight=None, approved=()) if over else state


def _step(
    trigger: Trigger, limits: Limits, state: RuleState, memory: Memory, snapshot: Snapshot
) -> tuple[Memory, Action | None]:
    if memory.version not in ("", snapshot.version):
        memory = replace(memory, best={})  # nothing falls from what another version reached
    found = evaluate(trigger.when, snapshot, memory)
    over = not found.holds if trigger.until is None else evaluate(trigger.until, snapshot, memory).holds
    memory = replace(
        memory,
        looked=_looked(memory.looked, snapshot.looked),
        version=snapshot.version,
        labels=min(memory.labels, snapshot.labels),  # a successor has learned of fewer anew
        best=_best(trigger, memory, snapshot),
    )
    if memory.state is State.OK:
        if not found.holds:
            return memory, None
        memory = replace(memory, state=State.PENDING, since=snapshot.now, times=0, reported="")
    elif not found.holds if memory.state is State.PENDING else over and not found.holds:
        return replace(memory, state=State.OK, since=0.0, times=0, reported=""), None
    if memory.state is State.PENDING and snapshot.now - memory.since >= trigger.for_s:
        memory = replace(memory, state=State.FIRING)
    if memory.state is not State.FIRING or not found.holds:
        return memory, None
    return _ask(trigger, limits, state, memory, snapshot, found)


def _looked(before: float, now: float) -> float:
    """Up to which time schedules were looked at."""
    return before if now < before <= now + SET_BACK_S else now


def _ask(
    trigger: Trigger, limits: Limits, state: RuleState, memory: Memory, snapshot: Snapshot, found: Finding
) -> tuple[Memory, Action | None]:
    outcome = _outcome(trigger, limits, state, memory, snapshot)
    if outcome is None or (outcome is not Outcome.REQUESTED and memory.reported == outcome):
        return memory, None
    action = Action(trigger, outcome, memory.since, memory.times, found.evidence)
    if outcome in (Outcome.REQUESTED, Outcome.DRY_RUN):
        after = replace(memory, asked=snapshot.now, times=memory.times + 1, reported=outcome, labels=snapshot.labels)
        return after, action
    return replace(memory, reported=outcome), action


def _outcome(trigger: Trigger, limits: Limits, state: RuleState, memory: Memory, snapshot: Snapshot) -> Outcome | None:
    if trigger.kind is Kind.QUALITY:
        waits = memory.times > 0 or snapshot.now - memory.asked < trigger.cooldown_s
        return None if waits else Outcome.REQUESTED
    if limits.quality_veto and _unsound(snapshot):
        return Outcome.QUALITY
    if state.in_flight is not None:
        return Outcome.IN_FLIGHT if not memory.times else None
    if memory.times >= limits.escalate_after:
        return Outcome.ESCALATED
    if snapshot.now - memory.asked < trigger.cooldown_s:
        return Outcome.COOLDOWN if not memory.times else None
    if sum(snapshot.now - at < DAY_S for at in state.requests) >= limits.budget_per_day:
        return Outcome.BUDGET
    return Outcome.DRY_RUN if trigger.dry_run else Outcome.REQUESTED


def _unsound(snapshot: Snapshot) -> bool:
    return bool((snapshot.monitor.get("quality") or {}).get("violated"))


def _best(trigger: Trigger, memory: Memory, snapshot: Snapshot) -> dict[str, float]:
    """The best value so far of each metric that the rule asks whether it has fallen."""
    performance, best = snapshot.monitor.get("performance") or {}, dict(memory.best)
    for leaf in trigger.when.leaves():
        if leaf.word == "performance" and leaf.values["fallen_by"] is not None:
            name = leaf.values["metric"]
            known = (performance.get("estimated" if leaf.values["source"] == "estimated" else "windowed") or {}).get(
                name
            )
            enough = leaf.values["source"] == "estimated" or snapshot.labels >= leaf.values["min_labels"]
            if known is not None and enough:
                best[name] = max(best.get(name, known), known)
    return best
