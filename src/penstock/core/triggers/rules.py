"""Rules of a policy over time: each waits, asks once, is held back by what holds for all, and is over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from penstock.core.gates import Gates
from penstock.core.triggers.conditions import DAY_S, Condition, ConditionResult, VersionSnapshot, evaluate
from penstock.core.triggers.state import InFlight, RuleMemory, RulePhase, RuleState, limit_times

Document = Mapping[str, Any]

SET_BACK_S = 3 * 3600.0
"""As in Vixie cron: where the clock is set back by less, times that were gone through do not come again; beyond that it
was wrong before, and they do."""


class TriggerKind(StrEnum):
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
    kind: TriggerKind = TriggerKind.RETRAIN


@dataclass(frozen=True, slots=True)
class RuleLimits:
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


class RuleOutcome(StrEnum):
    """The outcome of a rule whose condition holds."""

    REQUESTED = "requested"
    DRY_RUN = "dry_run"
    COOLDOWN = "cooldown"
    BUDGET = "budget"
    IN_FLIGHT = "in_flight"
    QUALITY = "quality"
    ESCALATED = "escalated"


@dataclass(frozen=True, slots=True)
class RuleAction:
    """What a rule does now: ask for retraining (or notify), or why it does not; ``started`` names the cause's
    beginning."""

    trigger: Trigger
    outcome: RuleOutcome
    started: float
    times: int
    evidence: tuple[Document, ...]

    @property
    def sends(self) -> bool:
        """Whether an event is sent."""
        return self.outcome in (RuleOutcome.REQUESTED, RuleOutcome.ESCALATED)


def decide(
    triggers: Sequence[Trigger], limits: RuleLimits, state: RuleState, snapshot: VersionSnapshot
) -> tuple[RuleState, RuleAction | None]:
    """The first thing that one of a model's rules does now, at most one; and what is remembered afterwards."""
    state = _close_landed(limit_times(state, snapshot.now), limits, snapshot)
    rules = dict(state.rules)
    action: RuleAction | None = None
    for trigger in triggers:
        memory = rules.get(trigger.name, RuleMemory())
        if action is not None:
            break
        memory, action = _step(trigger, limits, replace(state, rules=rules), memory, snapshot)
        rules[trigger.name] = memory
    state = replace(state, rules=rules)
    if action is not None and action.outcome is RuleOutcome.REQUESTED and action.trigger.kind is TriggerKind.RETRAIN:
        recent = tuple(at for at in state.requests if snapshot.now - at < DAY_S)
        flight = InFlight(snapshot.version, snapshot.now)
        state = replace(state, requests=(*recent, snapshot.now), in_flight=flight, failed=None)
    return state, action


def _close_landed(state: RuleState, limits: RuleLimits, snapshot: VersionSnapshot) -> RuleState:
    """A request is over once another version answers in place of the one that asked, or its time has run out.

    One that only stands in, because the one that asked cannot be loaded now, ends nothing.
    """
    flight = state.in_flight
    if flight is None:
        return state
    replaced = flight.version != snapshot.version and snapshot.ready and flight.version not in snapshot.failed
    over = replaced or snapshot.now - flight.at >= limits.timeout_s
    return replace(state, in_flight=None, approved=(), refused={}) if over else state


def _step(
    trigger: Trigger, limits: RuleLimits, state: RuleState, memory: RuleMemory, snapshot: VersionSnapshot
) -> tuple[RuleMemory, RuleAction | None]:
    if memory.version not in ("", snapshot.version):
        memory = replace(memory, best={})  # nothing falls from what another version reached
    result = evaluate(trigger.when, snapshot, memory)
    over = not result.holds if trigger.until is None else evaluate(trigger.until, snapshot, memory).holds
    memory = replace(
        memory,
        looked=_looked_until(memory.looked, snapshot.schedule_time),
        version=snapshot.version,
        labels=min(memory.labels, snapshot.labels),  # a successor has learned of fewer anew
        best=_best_values(trigger, memory, snapshot),
    )
    if memory.state is RulePhase.OK:
        if not result.holds:
            return memory, None
        memory = replace(memory, state=RulePhase.PENDING, since=snapshot.now, times=0, reported="")
    elif not result.holds if memory.state is RulePhase.PENDING else over and not result.holds:
        return replace(memory, state=RulePhase.OK, since=0.0, times=0, reported=""), None
    if memory.state is RulePhase.PENDING and snapshot.now - memory.since >= trigger.for_s:
        memory = replace(memory, state=RulePhase.FIRING)
    if memory.state is not RulePhase.FIRING or not result.holds:
        return memory, None
    return _ask(trigger, limits, state, memory, snapshot, result)


def _looked_until(before: float, now: float) -> float:
    """Up to which time schedules were looked at."""
    return before if now < before <= now + SET_BACK_S else now


def _ask(
    trigger: Trigger,
    limits: RuleLimits,
    state: RuleState,
    memory: RuleMemory,
    snapshot: VersionSnapshot,
    result: ConditionResult,
) -> tuple[RuleMemory, RuleAction | None]:
    outcome = _decide_rule(trigger, limits, state, memory, snapshot)
    if outcome is None or (outcome is not RuleOutcome.REQUESTED and memory.reported == outcome):
        return memory, None
    action = RuleAction(trigger, outcome, memory.since, memory.times, result.evidence)
    if outcome in (RuleOutcome.REQUESTED, RuleOutcome.DRY_RUN):
        after = replace(memory, asked=snapshot.now, times=memory.times + 1, reported=outcome, labels=snapshot.labels)
        return after, action
    return replace(memory, reported=outcome), action


def _decide_rule(
    trigger: Trigger, limits: RuleLimits, state: RuleState, memory: RuleMemory, snapshot: VersionSnapshot
) -> RuleOutcome | None:
    if trigger.kind is TriggerKind.QUALITY:
        waits = memory.times > 0 or snapshot.now - memory.asked < trigger.cooldown_s
        return None if waits else RuleOutcome.REQUESTED
    if limits.quality_veto and _is_unsound(snapshot):
        return RuleOutcome.QUALITY
    if state.in_flight is not None:
        return RuleOutcome.IN_FLIGHT if not memory.times else None
    if memory.times >= limits.escalate_after:
        return RuleOutcome.ESCALATED
    if snapshot.now - memory.asked < trigger.cooldown_s:
        return RuleOutcome.COOLDOWN if not memory.times else None
    if sum(snapshot.now - at < DAY_S for at in state.requests) >= limits.budget_per_day:
        return RuleOutcome.BUDGET
    return RuleOutcome.DRY_RUN if trigger.dry_run else RuleOutcome.REQUESTED


def _is_unsound(snapshot: VersionSnapshot) -> bool:
    return bool((snapshot.monitor.get("quality") or {}).get("violated"))


def _best_values(trigger: Trigger, memory: RuleMemory, snapshot: VersionSnapshot) -> dict[str, float]:
    """The best value so far of each metric that the rule asks whether it has fallen."""
    performance, best = snapshot.monitor.get("performance") or {}, dict(memory.best)
    for leaf in trigger.when.leaves():
        if leaf.word == "performance" and leaf.values["fallen_by"] is not None:
            name = leaf.values["metric"]
            value = (performance.get("estimated" if leaf.values["source"] == "estimated" else "windowed") or {}).get(
                name
            )
            enough = leaf.values["source"] == "estimated" or snapshot.labels >= leaf.values["min_labels"]
            if value is not None and enough:
                best[name] = max(best.get(name, value), value)
    return best
