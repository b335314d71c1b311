"""Effect sizes: what they are for known changes, and where their thresholds lie."""

import math

import numpy as np
import pytest

from penstock.core.bins import NumericBinFinder, numeric_bins
from penstock.core.statistics.effect_sizes import compare_counts
from penstock.core.statistics.special_functions import chi_square_quantile


def test_effect_sizes_match_their_references() -> None:
    same = compare_counts([100] * 10, [50] * 10)
    assert (same.psi, same.js, same.ks, same.hellinger, same.within_threshold) == pytest.approx(
        (0, 0, 0, 0, True), abs=1e-9
    )
    one, other = [1000, 1000, 0, 0], [0, 0, 1000, 1000]
    far = compare_counts(one, other)
    assert far.js == pytest.approx(math.sqrt(math.log(2)), abs=0.01)
    assert far.ks == pytest.approx(1.0, abs=0.01)
    assert not far.within_threshold
    assert {place for place, _ in far.moved} <= {0, 1, 2, 3}
    assert compare_counts([1, 1], [0, 0]).rows == 0


def test_psi_is_what_its_definition_says_on_large_samples() -> None:
    reference, window = [5000, 3000, 2000], [4000, 3000, 3000]
    p, r = np.array(window) / 10_000, np.array(reference) / 10_000
    assert compare_counts(reference, window).psi == pytest.approx(float(((p - r) * np.log(p / r)).sum()), rel=1e-3)


def test_the_wasserstein_distance_of_a_shift_is_the_shift() -> None:
    generator = np.random.default_rng(2)
    numbers = generator.standard_normal(20_000)
    bins = numeric_bins("x", numbers, most=50)
    reference = np.bincount(NumericBinFinder([bins])(numbers[:, None])[:, 0], minlength=bins.width)
    moved = np.bincount(NumericBinFinder([bins])((numbers + 0.5)[:, None])[:, 0], minlength=bins.width)
    found = compare_counts(reference.tolist(), moved.tolist(), bins.edges, 1.0)
    assert found.wasserstein == pytest.approx(0.5, abs=0.05)
    assert found.ks == pytest.approx(0.197, abs=0.02)


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 6.635), (5, 15.086), (10, 23.209), (30, 50.892)])
def test_chi_square_quantiles(degrees: int, quantile: float) -> None:
    assert chi_square_quantile(degrees) == pytest.approx(quantile, rel=0.03)


def test_a_few_rows_beyond_the_reference_are_no_change() -> None:
    """Where one row of 10,000 lay, three of 1,000 are chance; Pearson's statistic of that place alone would be 27."""
    reference, window = [1, *[1000] * 9, 998, 1], [3, *[100] * 9, 97, 0]
    found = compare_counts(reference, window)
    assert found.chi_square < 2 < found.chi_square_threshold
    assert found.chi_square_threshold == pytest.approx(chi_square_quantile(9), rel=1e-6)


def test_many_rows_in_rare_places_are_a_change() -> None:
    reference, window = [0, *[1000] * 10, 0], [15, *[97] * 10, 15]
    found = compare_counts(reference, window)
    assert found.chi_square > 200 > found.chi_square_threshold


@pytest.mark.parametrize(("reference", "window"), [([3], [2]), ([1, 1], [1, 0]), ([4, 0, 0], [0, 4, 1])])
def test_rows_too_few_for_two_places_say_nothing(reference: list[int], window: list[int]) -> None:
    assert compare_counts(reference, window).chi_square == 0.0
