"""Describes the state of a rollout, its next step, and what could stop it, in sentences."""

import math
from collections.abc import Iterator

from penstock.core.rollouts.decision import MOST_LOSSES
from penstock.core.rollouts.guard_evidence import GuardState, harm_now
from penstock.core.rollouts.guard_spec import ABSOLUTE, GuardSpec
from penstock.core.rollouts.guards import PASSES, SUSPICION, GuardVerdict, judge_guard, requests_to_pass
from penstock.core.rollouts.rollout import OPEN, Rollout, RolloutState, guard_verdicts
from penstock.core.rollouts.waiting import required_guards, waiting_beside_guards

UNITS = {"disagreement": "mirrored requests", "performance": "labels"}
"""The unit that a guard counts, if it is not canary requests."""


def describe_progress(rollout: Rollout, now: float) -> list[str]:
    """Where a rollout stands, each guard's evidence, what the next step waits for, and what could stop it.

    The first part says the state and the weight; over rollouts have only that one.
    """
    if rollout.state not in OPEN:
        return [f"{rollout.state.value}: {rollout.reason}"]
    return [_step_text(rollout), *_describe_guards(rollout), _next_text(rollout, now), *_describe_stops(rollout, now)]


def _step_text(rollout: Rollout) -> str:
    if rollout.step < 0:
        position = f"mirroring {rollout.spec.shadow:g} % of the requests to version '{rollout.spec.to}'"
    elif rollout.in_place:
        position = f"at {rollout.weight / 100:g} %"
    else:
        position = f"{rollout.weight / 100:g} % begins as soon as every worker has the weights"
    return position if rollout.state is RolloutState.RUNNING else f"paused {position} ({rollout.reason})"


def _describe_guards(rollout: Rollout) -> Iterator[str]:
    needed = required_guards(rollout, guard_verdicts(rollout))
    for guard, state in zip(rollout.spec.guards, rollout.guards, strict=True):
        if guard.name in needed or (rollout.step >= 0 and guard.metric in ABSOLUTE):
            yield f"{guard.name}: {_describe_guard(rollout, guard, state)}"


def _describe_guard(rollout: Rollout, guard: GuardSpec, state: GuardState) -> str:
    said = judge_guard(guard, state, rollout.guard_alpha)
    if said is GuardVerdict.FAIL:
        return "harm"
    if guard.metric == "promql":
        return _query(state)
    share = max(0.0, harm_now(guard, state)) / math.log(1 / rollout.guard_alpha)
    if harm_now(guard, state) >= SUSPICION:
        return f"signs of harm, {share * 100:.0f} % of the evidence that rolls it back"
    if said is GuardVerdict.PASS:
        return "passes"
    if guard.metric in ABSOLUTE:
        return "no sign of harm"
    more, unit = requests_to_pass(state), UNITS.get(guard.metric, "canary requests")
    if more is None:
        return f"no sign of harm, too early to say how many more {unit} it needs"
    return f"no sign of harm, needs about {round_count(more)} more {unit}"


def _query(state: GuardState) -> str:
    if state.value is None:
        return "no answer yet"
    within = "within" if state.streak > 0 else "out of"
    return f"{within} its bounds {min(abs(state.streak), PASSES)} of {PASSES} times in a row"


def round_count(count: int) -> int:
    """Return a count rounded to two digits, because more digits are not known."""
    digits = len(str(count)) - 2
    return count if digits <= 0 else round(count, -digits)


def _next_text(rollout: Rollout, now: float) -> str:
    step = rollout.step + 1
    follows = f"{rollout.spec.weight_at(step) / 100:g} %" if step < len(rollout.spec.steps) else "promotion"
    waits = waiting_beside_guards(rollout, now)
    if rollout.state is RolloutState.PAUSED:
        waits.insert(0, "a person to resume it")
    verdicts = guard_verdicts(rollout)
    if any(verdicts[name] is not GuardVerdict.PASS for name in required_guards(rollout, verdicts)):
        waits.append("every guard to pass")
    return f"next {follows}, waits for {', '.join(waits)}" if waits else f"next {follows}, waits for nothing"


def _describe_stops(rollout: Rollout, now: float) -> Iterator[str]:
    names = [guard.name for guard in rollout.spec.guards]
    yield f"harm in {' or '.join(names)} rolls it back at once"
    if rollout.losses:
        yield f"workers that ended with its calls in hand: {rollout.losses}; at {MOST_LOSSES} it is rolled back"
    left = rollout.spec.deadline_s - (now - rollout.deadline_from)
    if rollout.spec.deadline_s and rollout.state is RolloutState.RUNNING:
        what = "is given up" if rollout.spec.on_inconclusive == "abort" else "is paused"
        yield f"without enough evidence it {what} in {max(0.0, left):.0f} s"
