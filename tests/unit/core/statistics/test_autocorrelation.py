"""How many rows in a row are worth one."""

import numpy as np
import pytest

from penstock.core.statistics.autocorrelation import MOST, crossing_inflation, variance_inflation

ROWS, STREAMS = 1000, 1500


def streams(correlation: float) -> np.ndarray:
    """Autoregressions of first order [streams, rows]."""
    noise = np.random.default_rng(1).standard_normal((ROWS, STREAMS))
    found = np.empty_like(noise)
    found[0] = noise[0]
    for row in range(1, ROWS):
        found[row] = correlation * found[row - 1] + (1 - correlation**2) ** 0.5 * noise[row]
    return found.T


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6, 0.9])
def test_means_of_rows_that_follow_each_other_vary_by_as_much_more(correlation: float) -> None:
    found = streams(correlation)
    assert ROWS * found.mean(axis=1).var() == pytest.approx(variance_inflation(correlation), rel=0.15)
    crossings = (found < 0).mean(axis=1)
    assert 4 * ROWS * crossings.var() == pytest.approx(crossing_inflation(correlation), rel=0.15)


def test_both_are_bounded() -> None:
    assert variance_inflation(-1.0) == crossing_inflation(-1.0) == 1.0
    assert variance_inflation(1.0) == variance_inflation(MOST)
    assert crossing_inflation(1.0) == crossing_inflation(MOST)
