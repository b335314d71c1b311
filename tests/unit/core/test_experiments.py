"""Experiments: what may be asked for, how a bandit moves weights, and what is reported."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.core.experiments import (
    MOST_STEP,
    Experiment,
    ExperimentState,
    add_rewards,
    bounded_weights,
    decide,
    decode_experiment,
    encode_experiment,
    encode_spec,
    experiment_document,
    limit_change,
    parse_spec,
    start_experiment,
)
from penstock.core.label_matching import Stratum
from penstock.core.routing import POINTS

ASKED = {"arms": {"1": 5000, "2": 5000}, "mode": "thompson", "floor": 500, "every_seconds": 10}


def with_rewards(experiment: Experiment, **means: tuple[int, float]) -> Experiment:
    """Binary rewards: how many, and their mean; arms are named v1, v2, ..."""
    rewards = {name[1:]: (count, count * mean, count * mean) for name, (count, mean) in means.items()}
    return add_rewards(experiment, [Stratum(1, 0, rewards)], {arm: count for arm, (count, _, _) in rewards.items()})


def test_what_is_asked_for_comes_back() -> None:
    spec = parse_spec({**ASKED, "sticky": "header:X-User", "ceiling": 9000, "alpha": 0.1, "reason": "x"})
    assert parse_spec(encode_spec(spec)) == spec
    assert (spec.sticky, spec.min_weight, spec.max_weight, spec.alpha) == ("x-user", 500, 9000, 0.1)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"arms": {"1": 10000}}, "two versions"),
        ({"arms": {"1": 5000, "2": 4000}}, "'arms'"),
        ({"arms": None}, "'arms'"),
        ({"mode": "greedy"}, "'mode'"),
        ({"floor": 0}, "'floor'"),
        ({"floor": 6000}, "'floor'"),
        ({"floor": 1.5}, "'floor'"),
        ({"ceiling": 4000}, "'ceiling'"),
        ({"every_seconds": 0}, "'every_seconds'"),
        ({"alpha": 0.9}, "'alpha'"),
        ({"sticky": "x-user"}, "'sticky'"),
        ({"speed": 1}, "'speed'"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        parse_spec({**ASKED, **change})


def test_a_bandit_moves_towards_the_better_arm_step_by_step_and_leaves_a_minimum() -> None:
    experiment = with_rewards(start_experiment(parse_spec(ASKED), 0.0), v1=(200, 0.2), v2=(200, 0.6))
    weights = decide(experiment, 10.0, seed=1)
    assert weights == {"1": 5000 - MOST_STEP, "2": 5000 + MOST_STEP}
    for turn in range(5):
        moved = decide(Experiment(experiment.spec, weights or {}, rewards=experiment.rewards), 10.0, seed=turn)
        weights = moved or weights
    assert weights == {"1": 500, "2": 9500}


@pytest.mark.parametrize(
    ("experiment", "now"),
    [
        (with_rewards(start_experiment(parse_spec(ASKED), 0.0), v1=(200, 0.2), v2=(200, 0.6)), 9.9),
        (with_rewards(start_experiment(parse_spec(ASKED), 0.0), v1=(200, 0.2), v2=(19, 0.6)), 99.0),
        (
            with_rewards(start_experiment(parse_spec({**ASKED, "mode": "fixed"}), 0.0), v1=(200, 0.2), v2=(200, 0.6)),
            99.0,
        ),
    ],
    ids=["too soon", "too few rewards", "fixed weights"],
)
def test_when_a_bandit_leaves_the_weights(experiment: Experiment, now: float) -> None:
    assert decide(experiment, now, seed=0) is None


def test_equal_arms_stay_near_each_other() -> None:
    weights = decide(with_rewards(start_experiment(parse_spec(ASKED), 0.0), v1=(500, 0.4), v2=(500, 0.4)), 10.0, seed=3)
    assert weights is None or abs(weights["1"] - 5000) < 1000


@given(
    st.dictionaries(st.sampled_from("12345"), st.floats(0, 1), min_size=2, max_size=5),
    st.integers(1, 2000),
    st.integers(5000, POINTS),
)
def test_weights_within_bounds_sum_to_ten_thousand(shares: dict[str, float], least: int, most: int) -> None:
    weights = bounded_weights(shares, least, most)
    assert sum(weights.values()) == POINTS
    assert all(least <= weight <= most for weight in weights.values())


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_a_step_is_never_longer_than_it_may_be(seed: int, arms: int) -> None:
    generator = np.random.default_rng(seed)
    names = [str(number + 1) for number in range(arms)]
    one, other = (
        bounded_weights(dict(zip(names, generator.uniform(size=arms).tolist(), strict=True)), 100, POINTS)
        for _ in range(2)
    )
    moved = limit_change(one, other)
    assert sum(moved.values()) == POINTS
    assert all(weight > 0 for weight in moved.values())
    assert all(abs(moved[name] - one[name]) <= MOST_STEP + arms for name in names)


def test_the_best_arm_is_listed_once_it_is_known() -> None:
    experiment = start_experiment(parse_spec(ASKED), 0.0)
    few = with_rewards(experiment, v1=(50, 0.4), v2=(50, 0.5))
    many = with_rewards(experiment, v1=(5000, 0.4), v2=(5000, 0.5))
    assert experiment_document(few)["best"] is None
    document = experiment_document(many)
    assert document["best"] == "2"
    assert experiment_document(with_rewards(experiment, v1=(5000, 0.5), v2=(5000, 0.4)))["best"] == "1"
    assert document["arms"]["1"]["high"] < document["arms"]["2"]["low"] < 0.5 < document["arms"]["2"]["high"]
    assert document["arms"]["2"]["label_delay_seconds"] == {"median_below": 1.0, "all_below": 1.0}
    assert document["arms"]["2"]["rewards"] == document["arms"]["2"]["requests"] == 5000
    assert experiment_document(experiment)["arms"]["1"] == {
        "weight": 5000,
        "requests": 0,
        "rewards": 0,
        "mean": None,
        "low": 0.0,
        "high": 1.0,
        "label_delay_seconds": None,
    }


def test_an_experiment_outlives_a_restart() -> None:
    experiment = with_rewards(start_experiment(parse_spec(ASKED), 4.0), v1=(50, 0.4), v2=(50, 0.5))
    restored = decode_experiment(json.loads(json.dumps(encode_experiment(experiment))))
    assert restored == experiment
    assert restored.is_open
    assert not Experiment(experiment.spec, {}, ExperimentState.STOPPED).is_open
