"""How a version is walked to all the traffic: what a rollout is, and the decision from a snapshot to one action."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from typing import Any

from penstock.core.errors import InvalidInput
from penstock.core.guards import (
    MOST_GUARDS,
    Batch,
    GuardSpec,
    GuardState,
    Verdict,
    evidence_out,
    guard_in,
    guard_out,
    needed,
    observe,
    state_in,
    state_out,
    verdict,
)
from penstock.core.routing import POINTS
from penstock.core.sequential import Evidence, ratio_mismatch
from penstock.core.versions import is_version

STEPS = (100, 500, 2500, 5000, 10000)
MIN_STEP_S = 30.0
ALPHA = 0.01
RATIO_ALPHA = 0.001
"""The probability that a sound split is called unsound."""

RATIO_SLACK = 0.002
"""A canary's share may be off by that much before the split is called unsound."""

GUARDS = (GuardSpec("errors", 0.02), GuardSpec("latency", 1.2))
"""What is watched when a rollout names nothing."""

MOST_STEPS = 32
LEAST_REQUESTS = 30
"""Canary requests that have to be seen at each step, whatever is known already."""

UNREADY_S = 5.0
"""A canary that cannot answer for that long is rolled back."""

Document = Mapping[str, Any]


class State(StrEnum):
    """Where a rollout stands."""

    RUNNING = "running"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    INCONCLUSIVE = "inconclusive"


OPEN = (State.RUNNING, State.PAUSED)
"""States that are not the end."""


@dataclass(frozen=True, slots=True)
class RolloutSpec:
    """What was asked for: the versions, the canary's weights step by step, and what has to hold on the way.

    ``shadow`` > 0 mirrors that share (per cent) of the control's requests to the canary before the first step.
    ``deadline_s`` 0 is none.
    """

    to: str
    control: str
    steps: tuple[int, ...] = STEPS
    min_step_s: float = MIN_STEP_S
    alpha: float = ALPHA
    guards: tuple[GuardSpec, ...] = GUARDS
    on_inconclusive: str = "hold"
    deadline_s: float = 0.0
    shadow: float = 0.0
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout as it stands: ``step`` is the place in the steps, -1 while the canary is only mirrored.

    ``stage`` counts the changes of weight, so that counts can be told apart by what they were made under;
    ``requests`` are the canary's at this step. Times are seconds since the epoch; ``unready_since`` is 0 while the
    canary answers.
    """

    spec: RolloutSpec
    state: State = State.RUNNING
    step: int = 0
    stage: int = 1
    began_at: float = 0.0
    step_at: float = 0.0
    guards: tuple[GuardState, ...] = ()
    ratio: Evidence = field(default_factory=Evidence)
    requests: int = 0
    reason: str = ""
    unready_since: float = 0.0

    @property
    def weight(self) -> int:
        """The canary's weight of 10 000."""
        if self.state is State.PROMOTED:
            return POINTS
        if self.state not in OPEN or self.step < 0:
            return 0
        return self.spec.steps[self.step]

    @property
    def mirrored(self) -> float:
        """How much of the control's traffic is mirrored to the canary now, per cent."""
        return self.spec.shadow if self.step < 0 and self.state in OPEN else 0.0

    @property
    def guard_alpha(self) -> float:
        """One guard's part of the budget."""
        return self.spec.alpha / max(1, len(self.spec.guards))


# What is asked for.

_KNOWN = {
    "to",
    "from",
    "steps",
    "min_step_seconds",
    "alpha",
    "guards",
    "on_inconclusive",
    "deadline_seconds",
    "shadow",
    "dry_run",
    "reason",
}


def spec_in(document: Document, control: str | None) -> RolloutSpec:
    """What an operator asks for; ``control`` is who answers now and stands in for 'from'.

    Raises:
        InvalidInput: with every fault of the document.
    """
    faults = [f"'{name}' is no part of a rollout" for name in sorted(set(document) - _KNOWN)]
    to, source = document.get("to"), document.get("from") or control
    if not isinstance(to, str) or not is_version(to):
        faults.append("'to' must be a version")
    if not isinstance(source, str) or not is_version(source):
        faults.append("'from' must be a version")
    elif source == to:
        faults.append(f"version '{to}' answers already")
    steps = _steps(document.get("steps", list(STEPS)), faults)
    min_step_s = _number(document, "min_step_seconds", MIN_STEP_S, 0, 30 * 86_400, faults)
    alpha = _number(document, "alpha", ALPHA, 1e-9, 0.5, faults)
    deadline_s = _number(document, "deadline_seconds", 0.0, 0, 365 * 86_400, faults)
    guards = _guards(document.get("guards"), faults)
    usual = 100.0 if any(guard.metric == "disagreement" for guard in guards) else 0.0
    shadow = _number(document, "shadow", usual, 0, 100, faults)
    if usual and not shadow:
        faults.append("'shadow': the guard 'disagreement' needs mirrored requests")
    policy, dry_run = document.get("on_inconclusive", "hold"), document.get("dry_run", False)
    if policy not in ("hold", "abort"):
        faults.append("'on_inconclusive' is 'hold' or 'abort'")
    if not isinstance(dry_run, bool):
        faults.append("'dry_run' is true or false")
    if faults:
        raise InvalidInput("; ".join(faults))
    return RolloutSpec(
        str(to), str(source), steps, min_step_s, alpha, guards, str(policy), deadline_s, shadow, bool(dry_run)
    )


def _steps(stated: Any, faults: list[str]) -> tuple[int, ...]:
    sound = (
        isinstance(stated, list)
        and 0 < len(stated) <= MOST_STEPS
        and all(type(step) is int and 0 < step <= POINTS for step in stated)
        and all(one < other for one, other in pairwise(stated))
    )
    if not sound:
        faults.append(f"'steps' are growing weights from 1 to {POINTS}")
        return ()
    return tuple(stated)


def _number(document: Document, name: str, usual: float, least: float, most: float, faults: list[str]) -> float:
    value = document.get(name, usual)
    if value is None:
        value = usual
    if type(value) not in (int, float) or not least <= value <= most:
        faults.append(f"'{name}' is a number from {least:g} to {most:g}")
        return usual
    return float(value)


def _guards(stated: Any, faults: list[str]) -> tuple[GuardSpec, ...]:
    if stated is None:
        return GUARDS
    if not isinstance(stated, list) or not 0 < len(stated) <= MOST_GUARDS:
        faults.append(f"'guards' is a list of 1 to {MOST_GUARDS}")
        return ()
    guards = []
    for one in stated:
        try:
            guards.append(guard_in(one))
        except InvalidInput as fault:
            faults.append(str(fault))
    if len({guard.name for guard in guards}) < len(guards):
        faults.append("'guards' names each metric once")
    return tuple(guards)


def begun(spec: RolloutSpec, now: float) -> Rollout:
    """A rollout at its beginning."""
    step = -1 if spec.shadow else 0
    return Rollout(spec, step=step, began_at=now, step_at=now, guards=tuple(GuardState() for _ in spec.guards))


# What is seen.


def seen(rollout: Rollout, batch: Batch, requests: tuple[int, int], sticky: bool) -> Rollout:
    """The rollout with one more batch of evidence; ``requests`` are the canary's and the control's of this batch.

    A sticky split is by user, not by request, so requests do not tell whether it is sound.
    """
    pairs = zip(rollout.spec.guards, rollout.guards, strict=True)
    ratio, weight = rollout.ratio, rollout.weight
    if 0 < weight < POINTS and not sticky:
        ratio = ratio_mismatch(ratio, *requests, weight / POINTS)
    guards = tuple(observe(guard, state, batch) for guard, state in pairs)
    return replace(rollout, guards=guards, ratio=ratio, requests=rollout.requests + requests[0])


def sound(rollout: Rollout) -> bool:
    """Whether the split was what it should have been, as far as the evidence goes."""
    if rollout.ratio.peak < math.log(1 / RATIO_ALPHA):
        return True
    canary, control = rollout.ratio.n_canary, rollout.ratio.n_control
    return abs(canary / (canary + control) - rollout.weight / POINTS) <= RATIO_SLACK


# What is decided.


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a decision depends on: the rollout, the time, whether the canary answers, and since when the workers have
    the present weights (None: not all of them)."""

    rollout: Rollout
    now: float
    canary_ready: bool = True
    acknowledged: bool = True


class Kind(StrEnum):
    """What is to be done."""

    ADVANCE = "advance"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    GIVE_UP = "give_up"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do, and why."""

    kind: Kind
    reason: str


def decide(snapshot: Snapshot) -> Action | None:
    """The one thing to do now, None to go on watching.

    Harm comes first, then an unsound split, then the deadline; only then a step forward, which takes that every guard
    passes, that the step has lasted and has seen requests, and that every worker has its weights.
    """
    rollout, now = snapshot.rollout, snapshot.now
    if rollout.state is not State.RUNNING:
        return None
    verdicts = guard_verdicts(rollout)
    if rollout.unready_since and now - rollout.unready_since >= UNREADY_S:
        return Action(Kind.ROLL_BACK, f"version '{rollout.spec.to}' cannot answer")
    if failed := [name for name, said in verdicts.items() if said is Verdict.FAIL]:
        return Action(Kind.ROLL_BACK, f"the canary is worse than the control: {', '.join(failed)}")
    if not sound(rollout):
        return Action(Kind.PAUSE, "the canary does not get the share it should; nothing can be concluded from that")
    if _over(rollout, now):
        return _late(rollout)
    if not snapshot.acknowledged or not snapshot.canary_ready or now - rollout.step_at < rollout.spec.min_step_s:
        return None
    if not _passed(rollout, verdicts) or (rollout.step >= 0 and rollout.requests < LEAST_REQUESTS):
        return None
    if rollout.step + 1 >= len(rollout.spec.steps):
        return Action(Kind.PROMOTE, "every guard passes at the last step")
    following = rollout.spec.steps[rollout.step + 1]
    return Action(Kind.ADVANCE, f"every guard passes; on to {following / 100:g} %")


def _passed(rollout: Rollout, verdicts: Mapping[str, Verdict]) -> bool:
    """In the shadow stage only what can be said without callers has to pass; on all the traffic, what has passed."""
    early = {"disagreement"}
    asked = early & verdicts.keys() if rollout.step < 0 else verdicts.keys()
    return all(verdicts[name] is Verdict.PASS for name in asked)


def _over(rollout: Rollout, now: float) -> bool:
    return bool(rollout.spec.deadline_s) and now - rollout.began_at >= rollout.spec.deadline_s


def _late(rollout: Rollout) -> Action:
    missing = more_needed(rollout)
    how_many = f"; about {missing} more canary requests are needed" if missing else ""
    kind = Kind.GIVE_UP if rollout.spec.on_inconclusive == "abort" else Kind.PAUSE
    return Action(kind, f"not enough evidence at the deadline{how_many}")


def done(rollout: Rollout, action: Action, now: float) -> Rollout:
    """The rollout after an action."""
    if action.kind is Kind.ADVANCE:
        return advanced(rollout, rollout.step + 1, now, action.reason)
    state = {
        Kind.PROMOTE: State.PROMOTED,
        Kind.ROLL_BACK: State.ROLLED_BACK,
        Kind.GIVE_UP: State.INCONCLUSIVE,
        Kind.PAUSE: State.PAUSED,
    }[action.kind]
    return replace(rollout, state=state, reason=action.reason, stage=rollout.stage + 1, step_at=now)


def advanced(rollout: Rollout, step: int, now: float, reason: str) -> Rollout:
    """The rollout at another step; the split's soundness is judged anew at each."""
    return replace(
        rollout,
        step=step,
        stage=rollout.stage + 1,
        step_at=now,
        reason=reason,
        ratio=Evidence(),
        requests=0,
        unready_since=0.0,
    )


def noted_ready(rollout: Rollout, ready: bool, now: float) -> Rollout:
    """The rollout with what is known of whether its canary answers."""
    if ready:
        return replace(rollout, unready_since=0.0) if rollout.unready_since else rollout
    return rollout if rollout.unready_since else replace(rollout, unready_since=now)


def guard_verdicts(rollout: Rollout) -> dict[str, Verdict]:
    """Each guard's verdict, by its name."""
    pairs = zip(rollout.spec.guards, rollout.guards, strict=True)
    return {guard.name: verdict(guard, state, rollout.guard_alpha) for guard, state in pairs}


def more_needed(rollout: Rollout) -> int | None:
    """How many more canary requests the slowest guard will take, None if nobody can say."""
    pairs = zip(rollout.spec.guards, rollout.guards, strict=True)
    found = [needed(guard, state, rollout.guard_alpha) for guard, state in pairs]
    return max((one for one in found if one is not None), default=None)


def seconds_needed(rollout: Rollout, now: float) -> float | None:
    """How long those will take at the rate at which they came at this step, None if nobody can say."""
    missing, lasted = more_needed(rollout), now - rollout.step_at
    if missing is None or rollout.requests == 0 or lasted <= 0:
        return None
    return missing / (rollout.requests / lasted)


# As JSON.


def spec_out(spec: RolloutSpec) -> dict[str, Any]:
    """What was asked for."""
    return {
        "to": spec.to,
        "from": spec.control,
        "steps": list(spec.steps),
        "min_step_seconds": spec.min_step_s,
        "alpha": spec.alpha,
        "guards": [guard_out(guard) for guard in spec.guards],
        "on_inconclusive": spec.on_inconclusive,
        "deadline_seconds": spec.deadline_s or None,
        "shadow": spec.shadow,
        "dry_run": spec.dry_run,
    }


def shown(rollout: Rollout) -> dict[str, Any]:
    """What people are shown."""
    pairs = zip(rollout.spec.guards, rollout.guards, strict=True)
    return {
        **spec_out(rollout.spec),
        "state": rollout.state.value,
        "step": rollout.step,
        "weight": rollout.weight,
        "evidence": {guard.name: evidence_out(guard, state, rollout.guard_alpha) for guard, state in pairs},
        "sample_ratio": {
            "verdict": "sound" if sound(rollout) else "mismatch",
            "log_e": round(rollout.ratio.log_e, 4),
            "n_canary": rollout.ratio.n_canary,
            "n_control": rollout.ratio.n_control,
        },
        "needed": more_needed(rollout),
        "reason": rollout.reason,
    }


def rollout_out(rollout: Rollout) -> dict[str, Any]:
    """Everything that has to be kept."""
    return {
        "spec": spec_out(rollout.spec),
        "state": rollout.state.value,
        "step": rollout.step,
        "stage": rollout.stage,
        "began_at": rollout.began_at,
        "step_at": rollout.step_at,
        "guards": [state_out(state) for state in rollout.guards],
        "ratio": asdict(rollout.ratio),
        "requests": rollout.requests,
        "reason": rollout.reason,
        "unready_since": rollout.unready_since,
    }


def rollout_in(values: Document) -> Rollout:
    """A rollout from what was kept."""
    ratio = values["ratio"]
    return Rollout(
        spec_in(values["spec"], None),
        State(values["state"]),
        values["step"],
        values["stage"],
        values["began_at"],
        values["step_at"],
        tuple(state_in(state) for state in values["guards"]),
        Evidence(tuple(ratio["canary"]), tuple(ratio["control"]), ratio["log_e"], ratio["peak"], tuple(ratio["bets"])),
        values["requests"],
        values["reason"],
        values["unready_since"],
    )
