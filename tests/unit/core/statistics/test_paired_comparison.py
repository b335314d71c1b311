"""Paired comparisons: bounds that agree with published and exact ones, and error rates that hold."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.statistics.paired_comparison import jackknife_advantage, rate_advantage, spend_alpha


def rows(both: int, won: int, lost: int, neither: int) -> tuple[list[bool], list[bool], list[int]]:
    candidate = [True] * (both + won) + [False] * (lost + neither)
    other = [True] * both + [False] * won + [True] * lost + [False] * neither
    return candidate, other, list(range(len(candidate)))


def test_the_bound_is_tangos() -> None:
    """Tango (1998), table for 43 pairs with 1 and 8 discordant ones: 90 % interval of -0.163 from -0.283 to -0.050; the
    correction of half a row moves the bound down a little."""
    found = rate_advantage(*rows(34, 0, 7, 2), level=0.05)
    assert found.estimate == pytest.approx(-7 / 43)
    assert found.rows == 7
    assert -0.30 < found.lower < -0.26


@given(st.integers(0, 12), st.integers(0, 12), st.sampled_from([0.05, 0.01, 0.001]))
def test_few_discordant_rows_prove_no_more_than_a_sign_test_does(won: int, lost: int, level: float) -> None:
    found = rate_advantage(*rows(200, won, lost, 20), level=level)
    total = won + lost
    chance = sum(math.comb(total, number) for number in range(won, total + 1)) / 2**total
    middle = chance - math.comb(total, won) / 2**total / 2
    if found.lower >= 0:
        assert middle <= 1.3 * level


@given(st.integers(0, 300), st.integers(0, 300), st.floats(0.0005, 0.4), st.floats(0.0005, 0.4))
def test_the_bound_lies_below_the_estimate_and_falls_with_the_level(
    won: int, lost: int, one: float, other: float
) -> None:
    least, most = sorted((one, other))
    strict, loose = (rate_advantage(*rows(500, won, lost, 50), level=level) for level in (least, most))
    assert -1 <= strict.lower <= loose.lower <= loose.estimate


def test_rows_of_one_request_count_as_one_unit() -> None:
    candidate, other, units = rows(800, 60, 30, 110)
    alone = rate_advantage(candidate, other, units, 0.05)
    together = rate_advantage(candidate, other, [unit // 10 for unit in units], 0.05)
    assert alone.lower > 0 > together.lower


@pytest.mark.parametrize("metric", ["accuracy", "mean square"])
def test_the_jackknife_covers_at_its_level(metric: str) -> None:
    generator, missed = np.random.default_rng(5), 0
    for _ in range(400):
        draws = generator.normal(0.1, 1.0, 400) if metric == "accuracy" else generator.normal(0.0, 1.0, 400) ** 2
        whole = float(draws.mean())
        without = [float(draws[np.arange(400) % 20 != group].mean()) for group in range(20)]
        missed += jackknife_advantage(whole, without, 0.05).lower > (0.1 if metric == "accuracy" else 1.0)
    assert missed / 400 <= 0.08


def test_all_tries_together_spend_alpha() -> None:
    assert sum(spend_alpha(0.1, number) for number in range(1, 100_000)) == pytest.approx(0.1, rel=1e-4)
    assert spend_alpha(0.1, 1) > spend_alpha(0.1, 2) > spend_alpha(0.1, 24) > 0
