"""Experiments: several versions are compared by a reward for each answer; weights are fixed or follow the rewards."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.label_matching import Stratum, describe_delay
from penstock.core.routing import POINTS, parse_route
from penstock.core.stated_numbers import number_fault
from penstock.core.statistics.confidence_sequences import Mean, find_confidence_sequence
from penstock.core.versions import sort_key

ALPHA = 0.05
MIN_WEIGHT = 500
EVERY_S = 10.0
LEAST_REWARDS = 20
"""Minimum rewards of each arm before a bandit changes weights."""

DRAWS = 4000
MOST_STEP = 2000
"""Maximum change of a weight by a bandit at a time."""

Document = Mapping[str, Any]


class WeightMode(StrEnum):
    """Whether the weights are fixed, or follow the rewards."""

    FIXED = "fixed"
    THOMPSON = "thompson"


class ExperimentState(StrEnum):
    """The state of an experiment."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ExperimentSpec:
    """What was asked for: the arms' weights to begin with, the header that makes a unit, and how weights may move.

    A bandit gives no arm less than ``min_weight`` nor more than ``max_weight`` of 10 000, and looks every ``every_s``
    seconds.
    """

    arms: Mapping[str, int]
    sticky: str = ""
    mode: WeightMode = WeightMode.FIXED
    min_weight: int = MIN_WEIGHT
    max_weight: int = POINTS
    every_s: float = EVERY_S
    alpha: float = ALPHA


@dataclass(frozen=True, slots=True)
class Experiment:
    """The state of an experiment; ``stage`` counts changes of weight, ``moved_at`` is in seconds since the epoch,
    ``ages`` is the number of rewards of each class of age (see ``label_matching``).
    """

    spec: ExperimentSpec
    weights: Mapping[str, int]
    state: ExperimentState = ExperimentState.RUNNING
    stage: int = 1
    moved_at: float = 0.0
    rewards: Mapping[str, Mean] = field(default_factory=dict)
    requests: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""
    ages: Mapping[int, int] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether it is not over."""
        return self.state is not ExperimentState.STOPPED


_KNOWN = {"arms", "sticky", "mode", "floor", "ceiling", "every_seconds", "alpha", "reason"}


def parse_spec(document: Document) -> ExperimentSpec:
    """Parse the specification from an operator.

    Raises:
        InvalidInput: with every fault of the document.
    """
    faults = [f"'{name}' is not a field of an experiment" for name in sorted(set(document) - _KNOWN)]
    route = None
    try:
        route = parse_route({"split": document.get("arms"), "sticky": document.get("sticky")})
    except InvalidInput as fault:
        faults.append(str(fault).replace("'split'", "'arms'"))
    arms = {} if route is None else route.split
    if route is not None and len(arms) < 2:
        faults.append("'arms' must name two versions or more")
    mode = document.get("mode", WeightMode.FIXED.value)
    if mode not in set(WeightMode):
        faults.append(f"'mode' must be one of {', '.join(WeightMode)}")
    min_weight, max_weight = document.get("floor", MIN_WEIGHT), document.get("ceiling", POINTS)
    sound = all(type(bound) is int for bound in (min_weight, max_weight)) and 0 < min_weight <= max_weight <= POINTS
    if not sound or min_weight * len(arms) > POINTS or (arms and max_weight * len(arms) < POINTS):
        faults.append("'floor' and 'ceiling' must be weights between which all arms together can have 10000")
    every_s, alpha = document.get("every_seconds", EVERY_S), document.get("alpha", ALPHA)
    if problem := number_fault("every_seconds", every_s, 1, 86_400):
        faults.append(problem)
    if type(alpha) not in (int, float) or not 0 < alpha <= 0.5:
        faults.append("'alpha' must be a number above 0, at most 0.5")
    if faults or route is None:
        raise InvalidInput("; ".join(faults))
    return ExperimentSpec(arms, route.sticky, WeightMode(mode), min_weight, max_weight, float(every_s), float(alpha))


def start_experiment(spec: ExperimentSpec, now: float) -> Experiment:
    """Return an experiment at its beginning."""
    return Experiment(spec, dict(spec.arms), moved_at=now)


def add_rewards(experiment: Experiment, strata: Iterable[Stratum], requests: Mapping[str, int]) -> Experiment:
    """Return the experiment with further requests of each arm, and rewards that all arms got at the same age."""
    rewards, counted, ages = dict(experiment.rewards), dict(experiment.requests), dict(experiment.ages)
    for stratum in strata:
        for arm, sums in stratum.sums.items():
            rewards[arm] = rewards.get(arm, Mean()).with_values(*sums)
            ages[stratum.age] = ages.get(stratum.age, 0) + sums[0]
    for arm, count in requests.items():
        counted[arm] = counted.get(arm, 0) + count
    return replace(experiment, rewards=rewards, requests=counted, ages=ages)


def decide(experiment: Experiment, now: float, seed: int) -> dict[str, int] | None:
    """The weights a bandit moves to now, None to leave them; the same seed gives the same weights.

    Thompson sampling: each arm's weight is the probability that its mean reward is the greatest, under the normal
    approximation of each mean's posterior, within the bounds.
    """
    spec = experiment.spec
    if experiment.state is not ExperimentState.RUNNING or spec.mode is not WeightMode.THOMPSON:
        return None
    if now - experiment.moved_at < spec.every_s:
        return None
    means = [experiment.rewards.get(arm, Mean()) for arm in spec.arms]
    if any(mean.count < LEAST_REWARDS for mean in means):
        return None
    generator = np.random.default_rng(seed)
    spreads = np.array([(mean.variance / (mean.count + 1)) ** 0.5 for mean in means])
    draws = generator.standard_normal((DRAWS, len(means))) * spreads + np.array([mean.value for mean in means])
    wins = np.bincount(draws.argmax(axis=1), minlength=len(means)) / DRAWS
    weights = bounded_weights(dict(zip(spec.arms, wins.tolist(), strict=True)), spec.min_weight, spec.max_weight)
    weights = limit_change(experiment.weights, weights)
    return weights if weights != dict(experiment.weights) else None


def bounded_weights(shares: Mapping[str, float], min_weight: int, max_weight: int) -> dict[str, int]:
    """Return whole weights that sum to 10 000, as near the shares as the bounds allow."""
    weights = dict.fromkeys(shares, min_weight)
    free = set(shares)
    left = POINTS - min_weight * len(shares)
    while left > 0 and free:
        total = sum(shares[arm] for arm in free)
        additions = {arm: left * (shares[arm] / total if total else 1 / len(free)) for arm in free}
        full = {arm for arm in free if weights[arm] + additions[arm] >= max_weight}
        if not full:
            for arm, amount in additions.items():
                weights[arm] += int(amount)
            break
        for arm in full:
            left -= max_weight - weights[arm]
            weights[arm] = max_weight
        free -= full
    missing = POINTS - sum(weights.values())
    for arm in sorted(shares, key=lambda item: (-shares[item], sort_key(item))):
        added = min(missing, max_weight - weights[arm])
        weights[arm] += added
        missing -= added
    return weights


def limit_change(present: Mapping[str, int], wanted: Mapping[str, int]) -> dict[str, int]:
    """The wanted weights, or those as far on the way as a step may go."""
    furthest = max(abs(wanted[arm] - present[arm]) for arm in wanted)
    if furthest <= MOST_STEP:
        return dict(wanted)
    moved = {arm: present[arm] + int((wanted[arm] - present[arm]) * MOST_STEP / furthest) for arm in wanted}
    first = min(moved, key=sort_key)
    moved[first] += POINTS - sum(moved.values())
    return moved


def experiment_document(experiment: Experiment) -> dict[str, Any]:
    """What people are shown: each arm with its confidence sequence, and the best arm once it is known to be.

    The sequences hold for all arms and times together with probability 1 - alpha.
    """
    spec = experiment.spec
    alpha = spec.alpha / len(spec.arms)
    arms: dict[str, dict[str, Any]] = {}
    delay = describe_delay(experiment.ages)  # the same for every arm, as rewards count at the same age only
    for arm in spec.arms:
        mean = experiment.rewards.get(arm, Mean())
        interval = find_confidence_sequence(mean, alpha)
        arms[arm] = {
            "weight": experiment.weights[arm],
            "requests": experiment.requests.get(arm, 0),
            "rewards": mean.count,
            "mean": round(mean.value, 6) if mean.count else None,
            "low": round(interval.low, 6),
            "high": round(interval.high, 6),
            "label_delay_seconds": delay,
        }
    best = max(arms, key=lambda arm: arms[arm]["low"])
    is_best = all(arms[best]["low"] > item["high"] for arm, item in arms.items() if arm != best)
    return {
        **encode_spec(spec),
        "state": experiment.state.value,
        "arms": arms,
        "best": best if is_best else None,
        "reason": experiment.reason,
    }


def encode_spec(spec: ExperimentSpec) -> dict[str, Any]:
    """Encode the specification."""
    return {
        "arms": dict(spec.arms),
        "sticky": f"header:{spec.sticky}" if spec.sticky else None,
        "mode": spec.mode.value,
        "floor": spec.min_weight,
        "ceiling": spec.max_weight,
        "every_seconds": spec.every_s,
        "alpha": spec.alpha,
    }


def encode_experiment(experiment: Experiment) -> dict[str, Any]:
    """Encode the experiment for the store."""
    return {
        "spec": encode_spec(experiment.spec),
        "weights": dict(experiment.weights),
        "state": experiment.state.value,
        "stage": experiment.stage,
        "moved_at": experiment.moved_at,
        "rewards": {arm: asdict(mean) for arm, mean in experiment.rewards.items()},
        "requests": dict(experiment.requests),
        "reason": experiment.reason,
        "ages": dict(experiment.ages),
    }


def decode_experiment(values: Document) -> Experiment:
    """Decode an experiment from the store."""
    return Experiment(
        parse_spec(values["spec"]),
        values["weights"],
        ExperimentState(values["state"]),
        values["stage"],
        values["moved_at"],
        {arm: Mean(**mean) for arm, mean in values["rewards"].items()},
        values["requests"],
        values["reason"],
        {int(age): count for age, count in values["ages"].items()},
    )
