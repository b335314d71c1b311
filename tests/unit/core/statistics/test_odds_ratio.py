"""The conditional test of rates: exact in every batch, fast, and as fast where harm begins late."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.statistics.evidence import Evidence
from penstock.core.statistics.odds_ratio import ODDS_RATIOS, _find_gains, rate_rises
from tests.budgets import examples

ALPHA = 0.01


@settings(max_examples=examples(80))
@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 40), st.floats(0.01, 0.9)), min_size=1, max_size=3),
    st.integers(1, 6),
    st.integers(1, 9),
    st.floats(0.01, 0.9),
    st.floats(0.0, 1.0),
    st.integers(0, 2**32 - 1),
)
def test_a_batch_multiplies_the_evidence_by_at_most_one_on_average_where_the_canary_is_not_worse(
    before: list[tuple[int, int, float]], n_a: int, n_b: int, rate: float, better: float, seed: int
) -> None:
    """Summed out over all outcomes of a batch, after others under other rates."""
    generator = np.random.default_rng(seed)
    evidence = Evidence()
    for size_a, size_b, common in before:
        x, y = generator.binomial(size_a, common), generator.binomial(size_b, common)
        evidence = rate_rises(evidence, (x, size_a - x), (y, size_b - y))
    canary, mean = rate * better, 0.0
    for x in range(n_a + 1):
        for y in range(n_b + 1):
            chance = _binomial(n_a, x, canary) * _binomial(n_b, y, rate)
            after = rate_rises(evidence, (x, n_a - x), (y, n_b - y))
            mean += chance * math.exp(after.log_e - evidence.log_e)
    assert mean <= 1 + 1e-9


def _binomial(n: int, x: int, p: float) -> float:
    return math.comb(n, x) * p**x * (1 - p) ** (n - x)


def test_one_failure_by_calls() -> None:
    """One of 5 + 95 requests has failed, of the canary: likelier by odds / mean odds under each ratio."""
    evidence = rate_rises(Evidence(), (1, 4), (0, 95))
    start = math.log(0.6)
    assert [math.exp(bet - start) for bet in evidence.bets] == pytest.approx(
        [ratio / (0.05 * ratio + 0.95) for ratio in ODDS_RATIOS], rel=0.01
    )


def test_batches_of_millions_are_weighed() -> None:
    worse = rate_rises(Evidence(), (400_000, 3_600_000), (300_000, 3_700_000))
    same = rate_rises(Evidence(), (400_000, 3_600_000), (400_000, 3_600_000))
    assert worse.log_e > math.log(1e6) > 0 > same.log_e
    assert all(math.isfinite(bet) for bet in worse.bets + same.bets)


def test_batches_without_a_comparison_change_nothing() -> None:
    for a, b in (((0, 0), (3, 9)), ((3, 9), (0, 0)), ((0, 9), (0, 90)), ((9, 0), (90, 0))):
        assert rate_rises(Evidence(), a, b).log_e == pytest.approx(0.0, abs=1e-9)


def test_what_happened_in_a_gap_is_evidence_at_once() -> None:
    """The first batch that a new leader sees: 215 canary requests that all failed, beside a control that did not."""
    assert rate_rises(Evidence(), (215, 0), (0, 215)).log_e > math.log(1e6)


def delays(p_canary: float, before: int, runs: int, seed: int = 0) -> list[int]:
    """Canary requests until harm is found that begins after ``before`` good ones, in batches of 5 and 95."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(runs):
        evidence, delay = Evidence(), 0
        while evidence.peak < math.log(1 / ALPHA):
            x = generator.binomial(5, p_canary if evidence.n_canary >= before else 0.005)
            y = generator.binomial(95, 0.005)
            delay += 5 if evidence.n_canary >= before else 0
            evidence = rate_rises(evidence, (x, 5 - x), (y, 95 - y))
            assert delay < 20_000
        found.append(delay)
    return found


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("p_canary", "before", "within"), [(0.02, 0, 600), (0.05, 0, 160), (0.02, 20_000, 1600), (0.05, 20_000, 400)]
)
def test_more_errors_are_found_soon_whenever_they_begin(p_canary: float, before: int, within: int) -> None:
    assert float(np.mean(delays(p_canary, before, examples(15 if before else 80)))) <= within


@pytest.mark.parametrize(
    ("canary", "control"),
    [((1, 4), (3, 20)), ((3, 9), (1, 40)), ((0, 12), (5, 15)), ((7, 3), (2, 4)), ((2, 90), (30, 3))],
)
def test_a_bet_is_the_ratio_of_two_probabilities(canary: tuple[int, int], control: tuple[int, int]) -> None:
    """Against Fisher's noncentral hypergeometric distribution, summed out."""
    n_a, n_b, total = sum(canary), sum(control), canary[0] + control[0]
    ways = {x: math.comb(n_a, x) * math.comb(n_b, total - x) for x in range(max(0, total - n_b), min(n_a, total) + 1)}
    gains = [
        canary[0] * math.log(ratio) - math.log(sum(count * ratio**x for x, count in ways.items()) / sum(ways.values()))
        for ratio in ODDS_RATIOS
    ]
    assert _find_gains(np.array(canary, float), np.array(control, float)) == pytest.approx(gains, rel=1e-9, abs=1e-9)
