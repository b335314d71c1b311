"""The decision of a rollout: from a snapshot to at most one action.

Only this module decides when a canary gets more traffic, or loses it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from penstock.core.rollouts.guards import GuardVerdict
from penstock.core.rollouts.rollout import (
    OPEN,
    Rollout,
    RolloutState,
    advance,
    guard_verdicts,
    is_split_sound,
    requests_needed,
)
from penstock.core.rollouts.waiting import waiting_for


@dataclass(frozen=True, slots=True)
class RolloutSnapshot:
    """The input of a decision: the rollout, the time, whether the canary answers, and since when the workers have the
    present weights (None: not all of them).
    """

    rollout: Rollout
    now: float
    canary_ready: bool = True
    acknowledged: bool = True


class RolloutActionKind(StrEnum):
    """The kinds of actions."""

    ADVANCE = "advance"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    GIVE_UP = "give_up"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class RolloutAction:
    """An action, and its reason."""

    kind: RolloutActionKind
    reason: str


UNREADY_S = 5.0
"""Time after which a canary that cannot answer is rolled back."""


MOST_LOSSES = 3
"""Workers that end with the canary's calls in hand until it is rolled back. One may be an accident of the machine; no
guard can count the calls of a worker that is gone."""


def decide(snapshot: RolloutSnapshot) -> RolloutAction | None:
    """Decide what to do now, None to keep watching.

    Harm comes first, and is acted on as long as the rollout is open: paused, held at its deadline or in conflict, the
    canary still has its weight. Then comes an unsound split, then the deadline; only then a step forward, which takes
    that every guard passes, that the step's gates do, and that every worker has its weights.
    """
    rollout = snapshot.rollout
    if rollout.state not in OPEN:
        return None
    verdicts = guard_verdicts(rollout)
    harm = _harm_action(rollout, verdicts, snapshot.now)
    if harm is not None or rollout.state is RolloutState.PAUSED:
        return harm
    return _hold_action(rollout, snapshot.now) or _forward(snapshot, verdicts)


def _harm_action(rollout: Rollout, verdicts: Mapping[str, GuardVerdict], now: float) -> RolloutAction | None:
    if rollout.unready_since and now - rollout.unready_since >= UNREADY_S:
        return RolloutAction(RolloutActionKind.ROLL_BACK, f"version '{rollout.spec.to}' cannot answer")
    if rollout.losses >= MOST_LOSSES:
        return RolloutAction(
            RolloutActionKind.ROLL_BACK,
            f"{rollout.losses} workers ended while they had calls of version '{rollout.spec.to}' in hand",
        )
    if failed := [name for name, said in verdicts.items() if said is GuardVerdict.FAIL]:
        return RolloutAction(RolloutActionKind.ROLL_BACK, f"the canary is worse than allowed: {', '.join(failed)}")
    return None


def _hold_action(rollout: Rollout, now: float) -> RolloutAction | None:
    if not is_split_sound(rollout):
        return RolloutAction(
            RolloutActionKind.PAUSE, "the canary does not get the share it should; nothing can be concluded from that"
        )
    if rollout.spec.deadline_s and now - rollout.deadline_from >= rollout.spec.deadline_s:
        return _deadline_passed(rollout)
    return None


def _forward(snapshot: RolloutSnapshot, verdicts: Mapping[str, GuardVerdict]) -> RolloutAction | None:
    rollout, spec = snapshot.rollout, snapshot.rollout.spec
    if not snapshot.acknowledged or not snapshot.canary_ready or waiting_for(rollout, verdicts, snapshot.now):
        return None
    if rollout.step + 1 >= len(spec.steps):
        return RolloutAction(RolloutActionKind.PROMOTE, "every guard passes at the last step")
    return RolloutAction(
        RolloutActionKind.ADVANCE, f"every guard passes; on to {spec.weight_at(rollout.step + 1) / 100:g} %"
    )


def _deadline_passed(rollout: Rollout) -> RolloutAction:
    missing = requests_needed(rollout)
    how_many = f"; about {missing} more canary requests are needed" if missing else ""
    kind = RolloutActionKind.GIVE_UP if rollout.spec.on_inconclusive == "abort" else RolloutActionKind.PAUSE
    return RolloutAction(kind, f"not enough evidence at the deadline{how_many}")


def apply_action(rollout: Rollout, action: RolloutAction, now: float) -> Rollout:
    """Return the rollout after an action."""
    if action.kind is RolloutActionKind.ADVANCE:
        return advance(rollout, rollout.step + 1, now, action.reason)
    state = {
        RolloutActionKind.PROMOTE: RolloutState.PROMOTED,
        RolloutActionKind.ROLL_BACK: RolloutState.ROLLED_BACK,
        RolloutActionKind.GIVE_UP: RolloutState.INCONCLUSIVE,
        RolloutActionKind.PAUSE: RolloutState.PAUSED,
    }[action.kind]
    return replace(rollout, state=state, reason=action.reason, stage=rollout.stage + 1, step_at=now)
