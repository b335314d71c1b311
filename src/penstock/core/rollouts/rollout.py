"""The state of a rollout, and its changes by evidence and by actions; every function returns a new value."""

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum

from penstock.core.rollouts.gates import GateAnswer
from penstock.core.rollouts.guard_evidence import EvidenceBatch, GuardState, at_next_step, observe
from penstock.core.rollouts.guards import GuardVerdict, judge_guard, requests_needed_by
from penstock.core.rollouts.pooling import WaitingPairs, flush_counts, pool_counts
from penstock.core.rollouts.spec import RolloutSpec
from penstock.core.routing import POINTS
from penstock.core.statistics.evidence import Evidence
from penstock.core.statistics.one_sample import ratio_mismatch

RATIO_ALPHA = 0.001
"""The probability that a sound split is called unsound."""

RATIO_SLACK = 0.002
"""Tolerated difference of a canary's share before the split is called unsound."""


class RolloutState(StrEnum):
    """The state of a rollout."""

    RUNNING = "running"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    INCONCLUSIVE = "inconclusive"


OPEN = (RolloutState.RUNNING, RolloutState.PAUSED)
"""States that are not final."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout as it stands: ``step`` is the place in the steps, -1 while the canary is only mirrored.

    ``stage`` counts the changes of weight, so that counts of different weights stay apart;
    ``requests`` are the canary's at this step. Times are seconds since the epoch; ``unready_since`` is 0 while the
    canary answers. The deadline counts from ``deadline_from``: the beginning, or the last time it was resumed.
    ``approved_step`` is the step that a person has approved to leave. ``labels`` are those of the canary's answers at
    this step, ``answers`` what its webhooks and queries last said. ``in_place_stage`` is the last stage whose weights
    every worker has had. ``losses`` are the workers that ended while they had the canary's calls in hand. ``waiting``
    are counts that are too few yet to compare the versions by (see ``pooling``).
    """

    spec: RolloutSpec
    state: RolloutState = RolloutState.RUNNING
    step: int = 0
    stage: int = 1
    began_at: float = 0.0
    step_at: float = 0.0
    guards: tuple[GuardState, ...] = ()
    ratio: Evidence = field(default_factory=Evidence)
    requests: int = 0
    reason: str = ""
    unready_since: float = 0.0
    deadline_from: float = 0.0
    approved_step: int | None = None
    labels: int = 0
    answers: tuple[GateAnswer, ...] = ()
    in_place_stage: int = 0
    losses: int = 0
    waiting: WaitingPairs = field(default_factory=dict)

    @property
    def in_place(self) -> bool:
        """Whether every worker has the present weights."""
        return self.in_place_stage == self.stage

    @property
    def weight(self) -> int:
        """Return the canary's weight of 10 000; until promotion, the control keeps its hold-back."""
        if self.state is RolloutState.PROMOTED:
            return POINTS
        if self.state not in OPEN or self.step < 0:
            return 0
        return self.spec.weight_at(self.step)

    @property
    def ended_without_promotion(self) -> bool:
        """Whether the traffic must be restored to the state before the rollout."""
        return self.state in (RolloutState.ROLLED_BACK, RolloutState.INCONCLUSIVE)

    @property
    def mirrored(self) -> float:
        """Return how much of the control's traffic is mirrored to the canary now, in per cent."""
        return self.spec.shadow if self.step < 0 and self.state in OPEN else 0.0

    @property
    def guard_alpha(self) -> float:
        """Return one guard's part of the budget."""
        return self.spec.alpha / max(1, len(self.spec.guards))


def start_rollout(spec: RolloutSpec, now: float) -> Rollout:
    """Return a rollout at its beginning."""
    step = -1 if spec.shadow else 0
    return Rollout(
        spec, step=step, began_at=now, step_at=now, guards=tuple(GuardState() for _ in spec.guards), deadline_from=now
    )


def add_batch(rollout: Rollout, batch: EvidenceBatch, requests: tuple[int, int], sticky: bool) -> Rollout:
    """Return the rollout with one more batch of evidence; ``requests`` are the canary's and the control's of this
    batch.

    A sticky split is by user, not by request, so the numbers of requests do not show whether it is sound, and a unit's
    failures count once by each gateway. Few counts wait for more of them.
    """
    ratio, weight = rollout.ratio, rollout.weight
    if 0 < weight < POINTS and not sticky:
        ratio = ratio_mismatch(ratio, *requests, weight / POINTS)
    labels = rollout.labels + int(sum(sum(item.canary) for item in batch.labelled))
    closed, waiting = pool_counts(rollout.waiting, batch, weight)
    guards, count = _observe(rollout, closed), rollout.requests + requests[0]
    return replace(rollout, guards=guards, ratio=ratio, requests=count, labels=labels, waiting=waiting)


def _observe(rollout: Rollout, batch: EvidenceBatch) -> tuple[GuardState, ...]:
    """Return the evidence of the guards after a batch."""
    exposure = rollout.spec.exposure_after(rollout.step)
    pairs = zip(rollout.spec.guards, rollout.guards, strict=True)
    return tuple(observe(guard, state, batch, exposure) for guard, state in pairs)


def is_split_sound(rollout: Rollout) -> bool:
    """Whether the observed split matches the weights, as far as the evidence shows."""
    if rollout.ratio.peak < math.log(1 / RATIO_ALPHA):
        return True
    canary, control = rollout.ratio.n_canary, rollout.ratio.n_control
    return abs(canary / (canary + control) - rollout.weight / POINTS) <= RATIO_SLACK


def advance(rollout: Rollout, step: int, now: float, reason: str) -> Rollout:
    """Return the rollout at another step; at each step, the tests of the split and of the canary's health restart."""
    pairs = zip(rollout.spec.guards, _observe(rollout, flush_counts(rollout.waiting)), strict=True)
    return replace(
        rollout,
        guards=tuple(at_next_step(guard, state) for guard, state in pairs),
        step=step,
        stage=rollout.stage + 1,
        step_at=now,
        reason=reason,
        ratio=Evidence(),
        requests=0,
        labels=0,
        answers=(),
        unready_since=0.0,
        waiting={},
    )


def resume(rollout: Rollout, now: float, reason: str) -> Rollout:
    """Return a resumed rollout at its step, with a new deadline of full length."""
    return replace(advance(replace(rollout, state=RolloutState.RUNNING), rollout.step, now, reason), deadline_from=now)


def note_ready(rollout: Rollout, ready: bool, now: float) -> Rollout:
    """Return the rollout with whether its canary answers."""
    if ready:
        return replace(rollout, unready_since=0.0) if rollout.unready_since else rollout
    return rollout if rollout.unready_since else replace(rollout, unready_since=now)


def note_in_place(rollout: Rollout, acknowledged: bool) -> Rollout:
    """Return the rollout with whether every worker has its weights."""
    return replace(rollout, in_place_stage=rollout.stage) if acknowledged else rollout


def note_losses(rollout: Rollout, losses: int) -> Rollout:
    """Return the rollout with the number of workers that ended with its canary's calls in flight; it never
    decreases.
    """
    return replace(rollout, losses=max(rollout.losses, losses))


def guard_verdicts(rollout: Rollout) -> dict[str, GuardVerdict]:
    """Return each guard's verdict, by name."""
    pairs = zip(rollout.spec.guards, rollout.guards, strict=True)
    return {guard.name: judge_guard(guard, state, rollout.guard_alpha) for guard, state in pairs}


def requests_needed(rollout: Rollout) -> int | None:
    """Return how many more canary requests the slowest guard needs, None if unknown."""
    pairs = zip(rollout.spec.guards, rollout.guards, strict=True)
    needed = [requests_needed_by(guard, state, rollout.guard_alpha) for guard, state in pairs]
    return max((item for item in needed if item is not None), default=None)


def seconds_needed(rollout: Rollout, now: float) -> float | None:
    """Return the seconds until those requests at the rate of this step, None if unknown."""
    missing, lasted = requests_needed(rollout), now - rollout.step_at
    if missing is None or rollout.requests == 0 or lasted <= 0:
        return None
    return missing / (rollout.requests / lasted)
