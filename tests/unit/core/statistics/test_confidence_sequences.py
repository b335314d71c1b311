"""Confidence sequences: coverage at all times, width, and what they are for no values at all."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.statistics.confidence_sequences import Interval, Mean, find_confidence_sequence, log_evidence
from tests.budgets import THOROUGH, examples


@pytest.mark.simulation
def test_a_confidence_sequence_holds_at_all_times() -> None:
    generator = np.random.default_rng(7)
    missed, runs = 0, examples(100)
    looks = range(20, 1001) if THOROUGH else {*range(20, 100), *range(100, 1001, 10)}
    for _ in range(runs):
        mean = Mean()
        for value in generator.binomial(1, 0.3, 1000).tolist():
            mean = mean.with_values(1, value, value * value)
            if mean.count not in looks:
                continue
            interval = find_confidence_sequence(mean, 0.05)
            if not interval.low <= 0.3 <= interval.high:
                missed += 1
                break
    assert missed <= max(1, 0.08 * runs)  # of ten, one at most
    assert find_confidence_sequence(Mean(), 0.05) == Interval(0.0, 1.0)
    wide, narrow = (find_confidence_sequence(Mean(n, 0.3 * n, 0.3 * n), 0.05) for n in (100, 10_000))
    assert narrow.high - narrow.low < (wide.high - wide.low) / 5


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.5])
def test_rare_rewards_are_covered_at_all_times(rate: float) -> None:
    generator = np.random.default_rng(int(1 / rate))
    looks = [*range(1, 200), *range(200, 10_001, 50)]
    missed, runs = 0, examples(200)
    for _ in range(runs):
        sums = np.cumsum(generator.random(10_000) < rate)
        missed += any(log_evidence(n, float(sums[n - 1]), rate) >= math.log(1 / 0.05) for n in looks)
    assert missed <= 0.09 * runs  # 0.05 are allowed on average


@pytest.mark.parametrize("rate", [0.005, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("count", [2000, 10_000, 100_000])
def test_an_interval_is_hardly_wider_than_the_asymptotic_one(rate: float, count: int) -> None:
    total = round(rate * count)
    found = find_confidence_sequence(Mean(count, total, total), 0.05)
    rho = (-2 * math.log(0.05) + math.log(1 - 2 * math.log(0.05))) / 1000
    spread = 2 * (count * rho + 1) / (count * count * rho) * math.log(math.sqrt(count * rho + 1) / 0.05)
    assert found.high - found.low <= 1.25 * 2 * math.sqrt(rate * (1 - rate) * spread)


@given(st.integers(1, 100_000), st.floats(0, 1), st.sampled_from([0.2, 0.05, 0.001]))
def test_an_interval_holds_all_means_that_are_not_excluded(count: int, value: float, alpha: float) -> None:
    total = value * count
    found = find_confidence_sequence(Mean(count, total, total), alpha)
    assert 0 <= found.low <= value + 1e-9
    assert value - 1e-9 <= found.high <= 1
    for mean in np.linspace(0.001, 0.999, 60).tolist():
        if log_evidence(count, total, mean) < math.log(1 / alpha) - 1e-6:
            assert found.low - 1e-9 <= mean <= found.high + 1e-9


def test_values_between_the_ends_are_covered_too() -> None:
    generator = np.random.default_rng(5)
    missed = 0
    for _ in range(100):
        sums = np.cumsum(generator.beta(0.3, 0.7, 2000))
        missed += any(log_evidence(n, float(sums[n - 1]), 0.3) >= math.log(20) for n in range(1, 2001, 7))
    assert missed <= 10
