"""The rules of a model as the admin API shows them: what each states, its state, and what it rests on; pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from penstock.core.triggers.conditions import ConditionResult, VersionSnapshot, evaluate
from penstock.core.triggers.rules import RuleLimits, Trigger
from penstock.core.triggers.state import InFlight, RuleMemory, RuleState

Document = dict[str, Any]


def evaluate_rules(
    triggers: Iterable[Trigger], state: RuleState, snapshot: VersionSnapshot
) -> dict[str, ConditionResult]:
    """Return whether the condition of each rule holds now, and the evidence for it."""
    return {
        trigger.name: evaluate(trigger.when, snapshot, state.rules.get(trigger.name, RuleMemory()))
        for trigger in triggers
    }


def rules_document(
    triggers: Sequence[Trigger],
    stated: Sequence[Mapping[str, Any]],
    state: RuleState,
    results: Mapping[str, ConditionResult] | None,
) -> list[Document]:
    """Return the document of each rule. ``stated`` are the rules as the policy has them; ``results`` is None where this
    gateway does not evaluate them."""
    as_stated = {str(item.get("name")): item for item in stated}
    return [
        {
            **_describe_terms(trigger, as_stated.get(trigger.name, {})),
            **_describe_memory(state.rules.get(trigger.name, RuleMemory()), trigger),
            **_describe_result(None if results is None else results.get(trigger.name)),
        }
        for trigger in triggers
    ]


def _describe_terms(trigger: Trigger, stated: Mapping[str, Any]) -> Document:
    return {
        "name": trigger.name,
        "when": stated.get("when"),
        "until": stated.get("until"),
        "sends": trigger.kind.value,
        "sinks": list(trigger.send),
        "for_seconds": trigger.for_s,
        "cooldown_seconds": trigger.cooldown_s,
        "dry_run": trigger.dry_run,
    }


def _describe_memory(memory: RuleMemory, trigger: Trigger) -> Document:
    asked = memory.asked if math.isfinite(memory.asked) and memory.asked > 0 else None
    return {
        "state": memory.state.value,
        "since": memory.since or None,
        "asked": asked,
        "cools_until": None if asked is None else asked + trigger.cooldown_s,
        "times": memory.times,
        "outcome": memory.reported or None,
    }


def _describe_result(result: ConditionResult | None) -> Document:
    return {
        "holds": None if result is None else result.holds,
        "evidence": [] if result is None else [dict(item) for item in result.evidence],
    }


def requests_document(state: RuleState, limits: RuleLimits) -> Document:
    """Return the requests of a model: their times, what limits them, the one under way, and the last one that
    failed."""
    return {
        "requests": [round(at, 3) for at in state.requests],
        "limits": {
            "budget_per_day": limits.budget_per_day,
            "timeout_seconds": limits.timeout_s,
            "quality_veto": limits.quality_veto,
            "escalate_after": limits.escalate_after,
            "approval": limits.approval,
            "auto_rollout": limits.auto_rollout is not None,
        },
        "in_flight": _describe_flight(state.in_flight),
        "failed": _describe_flight(state.failed),
    }


def _describe_flight(flight: InFlight | None) -> Document | None:
    return None if flight is None else {"version": flight.version, "since": flight.at, "event": flight.event}
