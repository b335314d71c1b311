"""Two-sample tests: their formulas, their errors, and how fast they find things."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.statistics.evidence import Evidence
from penstock.core.statistics.two_sample import (
    add_difference_batch,
    add_excess_batch,
    fit_isotonic,
    rate_below,
    rate_exceeds,
)
from tests.budgets import examples

rates = st.floats(0.001, 0.999)


@settings(deadline=None, max_examples=examples(60))
@given(
    st.lists(st.floats(0.01, 1.0), min_size=2, max_size=5),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 30)), min_size=2, max_size=3),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_a_batch_is_worth_one_on_average_when_nothing_differs(
    weights: list[float], sizes: list[tuple[int, int]], ordered: bool, seed: int
) -> None:
    """The definition of an e-value, summed out exactly for a last batch of one canary and one control request."""
    generator = np.random.default_rng(seed)
    truth = np.array(weights) / sum(weights)
    evidence = Evidence()
    take = add_excess_batch if ordered else add_difference_batch
    for n_a, n_b in sizes:
        evidence = take(evidence, generator.multinomial(n_a, truth), generator.multinomial(n_b, truth))
    eye = np.eye(len(truth))
    mean = sum(
        truth[i] * truth[j] * math.exp(take(evidence, eye[i], eye[j]).log_e - evidence.log_e)
        for i in range(len(truth))
        for j in range(len(truth))
    )
    assert mean <= 1 + 1e-9


@settings(deadline=None, max_examples=examples(60))
@given(rates, rates, st.floats(0.0, 0.2), st.booleans(), st.integers(0, 2**32 - 1))
def test_rates_are_worth_at_most_one_anywhere_in_the_null(
    p_control: float, p_canary: float, margin: float, above: bool, seed: int
) -> None:
    if above:
        p_canary = min(p_canary, p_control + margin, 1.0)
    else:
        p_canary = max(p_canary, min(p_control + margin, 1.0))
        if p_canary < p_control + margin:
            return  # no rate is that high
    take = rate_exceeds if above else rate_below
    generator = np.random.default_rng(seed)
    evidence = Evidence()
    for _ in range(3):
        a, b = generator.binomial(10, p_canary), generator.binomial(40, p_control)
        evidence = take(evidence, (a, 10 - a), (b, 40 - b), margin)
    outcomes = {(1, 0): (p_canary, p_control), (0, 1): (1 - p_canary, 1 - p_control)}
    mean = sum(
        p_a * p_b * math.exp(take(evidence, a, b, margin).log_e - evidence.log_e)
        for a, (p_a, _) in outcomes.items()
        for b, (_, p_b) in outcomes.items()
    )
    assert mean <= 1 + 1e-9


@given(st.lists(st.floats(0, 10), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_isotonic_keeps_the_mean_and_never_falls(values: list[float], seed: int) -> None:
    weights = np.random.default_rng(seed).uniform(0.1, 1.0, len(values))
    found = fit_isotonic(np.array(values), weights)
    assert len(found) == len(values)
    assert (np.diff(found) >= -1e-9).all()
    assert found @ weights == pytest.approx(np.array(values) @ weights, abs=1e-9)


def stopping(
    p_control: float, p_canary: float, runs: int, most: int, seed: int = 0, alpha: float = 0.01
) -> list[int | None]:
    """Canary requests until each run rejects, in batches of 5 and 95; None for one that never does."""
    generator = np.random.default_rng(seed)
    found: list[int | None] = []
    for _ in range(runs):
        evidence, at = Evidence(), None
        bad_a, bad_b = generator.binomial(5, p_canary, most // 5), generator.binomial(95, p_control, most // 5)
        for index, (a, b) in enumerate(zip(bad_a.tolist(), bad_b.tolist(), strict=True)):
            evidence = rate_exceeds(evidence, (a, 5 - a), (b, 95 - b), 0.0)
            if evidence.log_e >= math.log(1 / alpha):
                at = (index + 1) * 5
                break
        found.append(at)
    return found


@pytest.mark.simulation
@pytest.mark.parametrize(("p_canary", "within"), [(0.02, 600), (0.05, 160)])
def test_more_errors_are_found_soon(p_canary: float, within: int) -> None:
    found = stopping(0.005, p_canary, runs=examples(150), most=6000)
    assert None not in found
    assert float(np.mean([at for at in found if at])) <= within


@pytest.mark.simulation
def test_equal_and_better_canaries_are_left_alone() -> None:
    assert sum(at is not None for at in stopping(0.005, 0.005, runs=examples(40), most=4_000, seed=1)) <= 2
    assert sum(at is not None for at in stopping(0.02, 0.005, runs=examples(20), most=2_000, seed=2)) == 0


def test_a_canary_that_has_moved_down_gives_no_evidence_of_harm() -> None:
    generator = np.random.default_rng(3)
    evidence = Evidence()
    for _ in range(400):
        a = np.bincount(np.minimum(generator.poisson(4, 5), 19), minlength=20)
        b = np.bincount(np.minimum(generator.poisson(6, 95), 19), minlength=20)
        evidence = add_excess_batch(evidence, a, b)
    assert evidence.peak < math.log(100)
    assert evidence.n_canary == 2000


def test_slower_is_found_and_any_difference_too() -> None:
    generator = np.random.default_rng(4)
    slower, other = Evidence(), Evidence()
    for _ in range(400):
        a = np.bincount(np.minimum(generator.poisson(8, 5), 19), minlength=20)
        b = np.bincount(np.minimum(generator.poisson(6, 95), 19), minlength=20)
        slower, other = add_excess_batch(slower, a, b), add_difference_batch(other, b[::-1], a[::-1])
    assert slower.log_e > math.log(1e6)
    assert other.log_e > math.log(1e6)
