"""Lists what the next step of a rollout waits for, as texts."""

import math
from collections.abc import Mapping

from penstock.core.rollouts.gates import Gate
from penstock.core.rollouts.guard_spec import ABSOLUTE
from penstock.core.rollouts.guards import GuardVerdict
from penstock.core.rollouts.rollout import Rollout


def waiting_for(rollout: Rollout, verdicts: Mapping[str, GuardVerdict], now: float) -> list[str]:
    """Return what the next step of an open rollout waits for; nothing when it may begin."""
    guards = [f"guard '{name}' to pass" for name in _undecided_guards(rollout, verdicts)]
    return [*_missing_time(rollout, now), *guards, *_missing_counts(rollout), *_describe_outside(rollout)]


def waiting_inside(rollout: Rollout, verdicts: Mapping[str, GuardVerdict], now: float) -> bool:
    """Whether it waits for more than webhooks and queries; these are asked when nothing else is missing, so that a step
    is taken on fresh answers."""
    return bool(_missing_time(rollout, now) or _undecided_guards(rollout, verdicts) or _missing_counts(rollout))


def waiting_beside_guards(rollout: Rollout, now: float) -> list[str]:
    """Return the list without the guards."""
    return [*_missing_time(rollout, now), *_missing_counts(rollout), *_describe_outside(rollout)]


def required_guards(rollout: Rollout, names: Mapping[str, GuardVerdict]) -> list[str]:
    """Return the guards that must pass: in the shadow stage those that need no callers; absolute limits only
    find harm.
    """
    if rollout.step < 0:
        return [name for name in names if name == "disagreement"]
    return [name for name in names if name not in ABSOLUTE]


def _undecided_guards(rollout: Rollout, verdicts: Mapping[str, GuardVerdict]) -> list[str]:
    return [name for name in required_guards(rollout, verdicts) if verdicts[name] is not GuardVerdict.PASS]


def _missing_time(rollout: Rollout, now: float) -> list[str]:
    seconds = rollout.spec.min_step_s - (now - rollout.step_at)
    return [f"{math.ceil(seconds)} s more at this step"] if seconds > 0 else []


def _missing_counts(rollout: Rollout) -> list[str]:
    if rollout.step < 0:
        return []
    step, waits = rollout.spec.steps[rollout.step], []
    if rollout.requests < step.min_requests:
        waits.append(f"{step.min_requests - rollout.requests} more canary requests at this step")
    if rollout.labels < step.min_labels:
        waits.append(f"{step.min_labels - rollout.labels} more labels of the canary's answers at this step")
    if step.approval and rollout.approved_step != rollout.step:
        waits.append("a person's approval")
    return waits


def _describe_outside(rollout: Rollout) -> list[str]:
    """Return the webhooks and queries that have not passed, each with its last answer."""
    if rollout.step < 0:
        return []
    return [text for gate in rollout.spec.steps[rollout.step].gates if (text := _gate_text(rollout, gate))]


def _gate_text(rollout: Rollout, gate: Gate) -> str:
    answer = next((item for item in rollout.answers if item.gate == gate.name), None)
    if answer is not None and answer.passed:
        return ""
    return f"{gate.name} {gate.condition} ({'not asked yet' if answer is None else answer.said})"
