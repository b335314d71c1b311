"""How many values in a row are worth one."""

import numpy as np
import pytest

from penstock.core.statistics.autocorrelation import MOST, measured_inflation, variance_inflation


def follow(correlation: float, rows: int, seed: int) -> list[float]:
    """An autoregression of first order."""
    last, found = 0.0, []
    for noise in np.random.default_rng(seed).standard_normal(rows):
        last = correlation * last + (1 - correlation**2) ** 0.5 * noise
        found.append(last)
    return found


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6, 0.9])
def test_it_is_measured_as_it_is_of_an_autoregression(correlation: float) -> None:
    found = np.mean([measured_inflation(follow(correlation, 5000, seed)) for seed in range(10)])
    assert found == pytest.approx(variance_inflation(correlation), rel=0.15)


def test_it_is_measured_where_values_repeat_for_long() -> None:
    """Blocks of 20 equal values are worth one each, which their first autocorrelation (0.95) alone does not say."""
    values = np.repeat(np.random.default_rng(3).standard_normal(400), 20)
    assert measured_inflation(values) == pytest.approx(20, rel=0.3)


def test_caution_counts_what_is_measured_for_more() -> None:
    values = follow(0.6, 5000, 1)
    assert measured_inflation(values, 1.5) == pytest.approx(1 + 1.5 * (measured_inflation(values) - 1))


@pytest.mark.parametrize("values", [[], [1.0], [2.0] * 50, list(range(1000))])
def test_it_is_bounded(values: list[float]) -> None:
    assert 1.0 <= measured_inflation(values) <= variance_inflation(MOST) + 1e-9
