"""Effect sizes by hand: each number of small tables against its formula."""

import math
from dataclasses import astuple

import numpy as np
import pytest

from penstock.core.statistics.effect_sizes import NEGLIGIBLE_PSI, EffectSizes, compare_counts
from penstock.core.statistics.special_functions import chi_square_quantile

REFERENCE = [0.0, 400.0, 300.0, 300.0, 0.0, 0.0]
WINDOW = [0.0, 20.0, 60.0, 20.0, 0.0, 0.0]
EDGES = (0.0, 1.0, 3.0, 4.0)


def smoothed(counts: list[float]) -> list[float]:
    total = sum(counts) + 0.5 * len(counts)
    return [(count + 0.5) / total for count in counts]


def test_no_rows_have_no_effect() -> None:
    empty = EffectSizes(0, 0.0, math.inf, 0.0, 0.0, 0.0, 0.0)
    assert compare_counts(REFERENCE, [0.0] * 6, EDGES, 1.0) == empty
    assert compare_counts([0.0] * 6, WINDOW, EDGES, 1.0) == EffectSizes(100, 0.0, math.inf, 0.0, 0.0, 0.0, 0.0)
    assert empty.within_threshold


def test_each_number_follows_its_formula() -> None:
    r, p = smoothed(REFERENCE), smoothed(WINDOW)
    found = compare_counts(REFERENCE, WINDOW, EDGES, 2.0)
    pairs = list(zip(p, r, strict=True))
    assert found.rows == 100
    assert found.psi == pytest.approx(sum((x - y) * math.log(x / y) for x, y in pairs))
    js = sum(x * math.log(2 * x / (x + y)) + y * math.log(2 * y / (x + y)) for x, y in pairs) / 2
    assert found.js == pytest.approx(math.sqrt(js))
    assert found.hellinger == pytest.approx(math.sqrt(1 - sum(math.sqrt(x * y) for x, y in pairs)))
    steps = np.cumsum(np.subtract(p, r))
    assert found.ks == pytest.approx(np.abs(steps[:5]).max())
    assert found.ks_threshold == pytest.approx(math.sqrt(-math.log(0.005) / 2 * (1 / 100 + 1 / 1000)))
    assert found.psi_threshold == pytest.approx(chi_square_quantile(2) * (1 / 100 + 1 / 1000) + NEGLIGIBLE_PSI)
    assert found.chi_square_threshold == pytest.approx(chi_square_quantile(2))
    assert not found.within_threshold


def test_chi_square_of_two_samples() -> None:
    expected = 0.0
    for x, y in zip(REFERENCE[1:4], WINDOW[1:4], strict=True):
        for seen, share in ((x, 10 / 11), (y, 1 / 11)):
            usual = (x + y) * share
            expected += (seen - usual) ** 2 / usual
    assert compare_counts(REFERENCE, WINDOW).chi_square == pytest.approx(expected)


def test_rare_places_count_as_one() -> None:
    joined = compare_counts([500.0, 500.0, 6.0], [50.0, 50.0, 4.0])
    apart = compare_counts([500.0, 500.0, 3.0, 3.0], [50.0, 50.0, 2.0, 2.0])
    assert joined.chi_square_threshold == pytest.approx(chi_square_quantile(2))
    assert apart.chi_square == pytest.approx(joined.chi_square)
    assert apart.chi_square_threshold == pytest.approx(joined.chi_square_threshold)


def test_a_rare_place_joins_the_least_frequent_other() -> None:
    found = compare_counts([500.0, 400.0, 1.0], [50.0, 40.0, 1.0])
    joined = compare_counts([500.0, 401.0], [50.0, 41.0])
    assert found.chi_square == pytest.approx(joined.chi_square)
    assert found.chi_square_threshold == pytest.approx(joined.chi_square_threshold)


@pytest.mark.parametrize(
    ("edges", "std", "distance"),
    [(EDGES, 1.0, 0.2), (EDGES, 2.0, 0.1), (EDGES, 0.0, 0.0), (EDGES[:1], 1.0, 0.0), ((), 1.0, 0.0)],
)
def test_wasserstein_in_standard_deviations(edges: tuple[float, ...], std: float, distance: float) -> None:
    """Below the edges lie 0, 0.4, 0.7, 1 of the reference and 0, 0.2, 0.8, 1 of the window: differences 0, 0.2, 0.1, 0;
    their means over widths of 1, 2, 1 are 0.1, 0.15, 0.05."""
    found = compare_counts(REFERENCE, WINDOW, edges, std).wasserstein
    assert found == pytest.approx(0.45 / 0.2 * distance)


def test_infinite_and_missing_values_have_no_distance() -> None:
    assert compare_counts(REFERENCE, [0.0, 0.0, 0.0, 0.0, 0.0, 5.0, 5.0, 5.0][:6], EDGES, 1.0).wasserstein == 0.0
    assert compare_counts([0.0] * 5 + [9.0], WINDOW, EDGES, 1.0).wasserstein == 0.0


def test_the_three_places_that_changed_most() -> None:
    r, p = smoothed(REFERENCE), smoothed(WINDOW)
    expected = [(2, p[2] - r[2]), (1, p[1] - r[1]), (3, p[3] - r[3])]
    moved = compare_counts(REFERENCE, WINDOW).moved
    assert [place for place, _ in moved] == [place for place, _ in expected]
    assert [change for _, change in moved] == pytest.approx([change for _, change in expected])


def test_correlation_widens_every_threshold_and_changes_no_size() -> None:
    plain, correlated = (
        compare_counts(REFERENCE, WINDOW, EDGES, 1.0),
        compare_counts(REFERENCE, WINDOW, EDGES, 1.0, 0.5),
    )
    assert correlated.psi_threshold > plain.psi_threshold
    assert correlated.ks_threshold > plain.ks_threshold
    assert correlated.chi_square_threshold > plain.chi_square_threshold
    sizes = [0, 1, 3, 4, 5, 6, 8, 10]
    assert [astuple(correlated)[at] for at in sizes] == [astuple(plain)[at] for at in sizes]
    assert compare_counts(REFERENCE, WINDOW, EDGES, 1.0, -0.5).psi_threshold == pytest.approx(plain.psi_threshold)
