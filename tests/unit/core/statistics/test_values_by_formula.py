"""Statistics of small inputs against numbers worked out by hand, or by another way to compute them."""

import math

import numpy as np
import pytest

from penstock.core.statistics.autocorrelation import MOST, crossing_inflation, variance_inflation
from penstock.core.statistics.change_detection import ChangeDetector
from penstock.core.statistics.confidence_sequences import Mean, find_confidence_sequence, log_evidence
from penstock.core.statistics.distributions import find_shares, total_variation
from penstock.core.statistics.performance_estimation import CalibrationCurve, calibration_curve, estimate
from penstock.core.statistics.recovery import _log_0f1
from penstock.core.statistics.seasons import (
    FEWEST_CHUNKS,
    HOUR_S,
    MAX_SEASONAL_VARIATION,
    MONDAY_S,
    chunk_places,
    distinguishable_hours,
    hours_of,
    quarter_of,
    seasonal_variation,
    smooth,
)
from penstock.core.statistics.special_functions import chi_square_quantile, log_gamma, log_gamma_ratio


def test_shares_are_never_zero() -> None:
    assert find_shares([0, 3, 1]).tolist() == pytest.approx([0.5 / 5.5, 3.5 / 5.5, 1.5 / 5.5])


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [([1, 1], [3, 1], 0.25), ([1, 0], [0, 9], 1.0), ([0, 0], [1, 1], 0.0), ([1, 1], [0, 0], 0.0), ([2, 2], [1, 1], 0)],
)
def test_total_variation_matches_its_formula(one: list[float], other: list[float], distance: float) -> None:
    assert total_variation(one, other) == pytest.approx(distance)


@pytest.mark.parametrize("x", [1e-6, 0.1, 0.5, 1.0, 2.0, 7.5, 100.0, 1e6])
def test_gamma_functions_match_their_formulas(x: float) -> None:
    assert float(log_gamma(np.array([x]))[0]) == pytest.approx(math.lgamma(x), rel=1e-9, abs=1e-8)
    ratio = log_gamma_ratio(np.array([x]), np.array([2.5]))
    assert float(ratio[0]) == pytest.approx(math.lgamma(x + 2.5) - math.lgamma(x), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 6.635), (2, 9.210), (5, 15.086), (10, 23.209), (100, 135.807)])
def test_quantiles_of_chi_square(degrees: int, quantile: float) -> None:
    assert chi_square_quantile(degrees) == pytest.approx(quantile, rel=0.03)
    assert chi_square_quantile(degrees, 0.0) == pytest.approx(degrees * (1 - 2 / (9 * degrees)) ** 3)
    assert chi_square_quantile(degrees, -30.0) == 0.0


@pytest.mark.parametrize(("correlation", "inflation"), [(0.0, 1.0), (-1.0, 1.0), (0.5, 3.0), (0.98, 99.0), (1.0, 99.0)])
def test_variance_inflation_matches_its_formula(correlation: float, inflation: float) -> None:
    assert variance_inflation(correlation) == pytest.approx(inflation)


def test_crossing_inflation_matches_its_formula() -> None:
    assert crossing_inflation(0.0) == crossing_inflation(-0.5) == 1.0
    expected = 1 + 4 / math.pi * sum(math.asin(0.5**lag) for lag in range(1, 60))
    assert crossing_inflation(0.5) == pytest.approx(expected)
    assert crossing_inflation(1.0) == crossing_inflation(MOST) < variance_inflation(MOST)


def test_means_add_up() -> None:
    mean = Mean().with_values(4, 1.0, 0.5).with_values(4, 3.0, 2.5)
    assert mean == Mean(8, 4.0, 3.0)
    assert [mean.value, mean.variance] == pytest.approx([0.5, 1.25 / 9])
    assert (Mean().value, Mean().variance) == (0.5, 0.25)
    assert Mean(4, 4.0, 4.0).variance == pytest.approx(0.05)


@pytest.mark.parametrize(("count", "total"), [(1, 0.0), (1, 1.0), (20, 5.0), (1000, 1.0), (1000, 999.5), (10, 0.25)])
def test_a_confidence_sequence_ends_where_the_evidence_is_enough(count: int, total: float) -> None:
    found = find_confidence_sequence(Mean(count, total, total), 0.05)
    for edge, end in ((found.low, 0.0), (found.high, 1.0)):
        if 1e-9 < edge < 1 - 1e-9:
            assert log_evidence(count, total, edge) == pytest.approx(math.log(20))
        else:
            assert edge == pytest.approx(end)
    assert found.low <= total / count <= found.high
    wider = find_confidence_sequence(Mean(count, total, total), 0.01)
    assert wider.low <= found.low <= found.high <= wider.high
    mirrored = find_confidence_sequence(Mean(count, count - total, count - total), 0.05)
    assert [mirrored.low, mirrored.high] == pytest.approx([1 - found.high, 1 - found.low])


def test_without_values_anything_may_be() -> None:
    found = find_confidence_sequence(Mean(), 0.05)
    assert (found.low, found.high) == (0.0, 1.0)
    assert (find_confidence_sequence(Mean(5, 0.0), 0.05).low, find_confidence_sequence(Mean(5, 5.0), 0.05).high) == (
        0.0,
        1.0,
    )


def test_evidence_is_the_beta_binomial_ratio() -> None:
    """Of one value of 1 against m: the mixture's mean is m, so the ratio is m / m = 1; of two, it is above."""
    assert log_evidence(1, 1.0, 0.25) == pytest.approx(0.0)
    assert log_evidence(1, 0.0, 0.25) == pytest.approx(0.0)
    both = 12.5 / 50 * 13.5 / 51
    assert log_evidence(2, 2.0, 0.25) == pytest.approx(math.log(both / 0.0625))
    one = 12.5 / 50 * 37.5 / 51
    assert log_evidence(2, 1.0, 0.25) == pytest.approx(math.log(one / 0.1875))


def test_a_calibration_curve() -> None:
    plain = calibration_curve([10, 0])
    assert (plain.middles.tolist(), plain.probabilities.tolist()) == ([0.25, 0.75], [0.25, 0.75])
    assert (plain.errors.tolist(), plain.calibrated) == ([0.0, 0.0], False)
    known = calibration_curve([100, 0], [50, 0])
    shrinkage = (50 - 100 * known.probabilities[0]) / (known.probabilities[0] - 0.25)
    assert shrinkage > 0
    assert known.probabilities[1] == pytest.approx(0.75)
    assert known.errors[0] == pytest.approx(
        math.sqrt(known.probabilities[0] * (1 - known.probabilities[0]) / (100 + shrinkage))
    )
    assert known.errors[1] == pytest.approx(math.sqrt(0.75 * 0.25 / shrinkage))
    assert known.calibrated


def curve(*probabilities: float, error: float = 0.0) -> CalibrationCurve:
    middles = (np.arange(len(probabilities)) + 0.5) / len(probabilities)
    return CalibrationCurve(middles, np.array(probabilities), np.full(len(probabilities), error), calibrated=True)


def test_the_performance_of_two_classes() -> None:
    found = estimate(2, [60, 40], curve(0.1, 0.75, error=0.02))
    assert found is not None
    spread = math.sqrt(60 * 0.09 + 40 * 0.1875 + (60 * 0.02) ** 2 + (40 * 0.02) ** 2) / 100
    assert (found.rows, found.calibrated) == (100, True)
    assert [found.accuracy, found.low, found.high] == pytest.approx([0.84, 0.84 - 3 * spread, 0.84 + 3 * spread])
    assert [found.precision, found.recall] == pytest.approx([0.75, 30 / 36])
    assert found.f1 == pytest.approx(60 / 76)
    assert found.roc_auc == pytest.approx((6 * 27 + 30 * (54 + 5)) / (36 * 64))


def test_the_performance_of_more_classes_is_the_accuracy() -> None:
    found = estimate(3, [60, 40], curve(0.1, 0.75))
    assert found is not None
    assert found.accuracy == pytest.approx(0.36)
    assert (found.f1, found.precision, found.recall, found.roc_auc) == (None, None, None, None)


def test_performance_at_its_ends() -> None:
    assert estimate(2, [0, 0], curve(0.1, 0.75)) is None
    sure = estimate(2, [5, 5], curve(0.0, 1.0, error=0.5))
    assert sure is not None
    assert (sure.accuracy, sure.high, sure.roc_auc) == (1.0, 1.0, 1.0)
    assert sure.low == pytest.approx(1 - 3 * math.sqrt(2 * 2.5**2) / 10) or sure.low == 0.0
    none = estimate(2, [5, 0], curve(0.0, 1.0))
    assert none is not None
    assert (none.f1, none.precision, none.recall, none.roc_auc) == (None, None, None, None)


def test_hours_begin_on_monday() -> None:
    times = np.array([MONDAY_S, MONDAY_S - 1, MONDAY_S + HOUR_S, MONDAY_S + 7 * 86_400.0])
    assert hours_of(times, 168).tolist() == [0, 167, 1, 0]
    assert hours_of(times, 24).tolist() == [0, 23, 1, 0]
    assert [quarter_of(at, 168) for at in (MONDAY_S, MONDAY_S + 899, MONDAY_S + 900, MONDAY_S - 1)] == [0, 0, 1, 671]
    assert quarter_of(MONDAY_S + 86_400, 24) == 0


@pytest.mark.parametrize(
    ("hours", "rows", "expected"), [(168, 50, 168), (168, 49, 24), (24, 10, 24), (24, 9, 0), (23, 100, 0), (0, 0, 0)]
)
def test_hours_are_distinguished_by_enough_rows(hours: int, rows: int, expected: int) -> None:
    assert distinguishable_hours(np.repeat(MONDAY_S + HOUR_S * np.arange(hours), rows)) == expected


def test_smoothing_is_by_the_hours_around() -> None:
    counts = np.zeros((6, 2))
    counts[:, 0], counts[2, 1] = 9.0, 9.0
    found = smooth(counts, (0.5, 1.0, 0.5))
    rows = [9, 9, 18, 9, 9, 9]
    for hour in range(6):
        around = [(0.5, hour - 1), (1.0, hour), (0.5, (hour + 1) % 6)]
        scale = sum(w * rows[at] for w, at in around) / sum(w * w * rows[at] for w, at in around)
        assert found[hour].tolist() == pytest.approx(
            [scale * sum(w * counts[at, c] for w, at in around) for c in (0, 1)]
        )


def test_seasons_are_what_chunks_differ_by() -> None:
    few = np.array([[100.0, 0.0], [0.0, 100.0]] * 2)
    assert len(few) < FEWEST_CHUNKS
    assert seasonal_variation(few) == 0.0
    assert seasonal_variation(np.vstack([few, few])) == MAX_SEASONAL_VARIATION
    assert seasonal_variation(np.full((8, 2), 50.0)) == 0.0
    assert seasonal_variation(np.array([[100.0, 0.0]] * 8)) == 0.0
    assert seasonal_variation(np.vstack([few, few, [[0.0, 0.0]]])) == 0.0
    mild = np.array([[600.0, 400.0], [400.0, 600.0]] * 4)
    assert seasonal_variation(mild) == pytest.approx(math.log((0.36 + 0.16) / 0.5), rel=1e-3)


def test_chunks_are_of_equal_size() -> None:
    places = np.repeat(np.array([0, 1, 2], np.intp), 250)
    assert chunk_places(places, 4).tolist() == [[250, 0, 0, 0], [0, 250, 0, 0], [0, 0, 250, 0]]
    assert chunk_places(places[:249], 4).shape == (0, 4)
    assert chunk_places(places[:499], 2).tolist() == [[250, 249]]


def detector() -> ChangeDetector:
    return ChangeDetector([np.array([0.25, 0.75]), np.array([0.5, 0.25, 0.25])], [0.0, 0.01])


def test_a_detector_goes_on_after_a_restart() -> None:
    one, other = detector(), detector()
    one.watch(one.batch([[5, 5], [1, 2, 7]]), 1.0, 3.0)
    other.restore_state(one.export_state())
    for panel in (one, other):
        panel.watch(panel.batch([[0, 4], [0, 0, 0]]), 1.5, 9.0)
    assert other.export_state() == one.export_state()
    assert other.log_m.tolist() == one.log_m.tolist()
    assert other.since.tolist() == one.since.tolist()
    fresh = detector()
    fresh.restore_state(detector().export_state())
    assert np.isneginf(fresh.log_m).all()
    saved = one.export_state()
    for name in ("log_m", "recent"):
        fresh.restore_state({**saved, name: [[0.0]]})
        assert np.isneginf(fresh.log_m).all()
        assert fresh.recent.tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize(("b", "z"), [(0.5, 0.0), (0.5, 2.0), (3.0, 40.0), (1.5, 1000.0), (20.0, 0.25)])
def test_the_limit_function_is_its_series(b: float, z: float) -> None:
    terms = [k * math.log(z) - math.lgamma(k + 1) - math.lgamma(b + k) + math.lgamma(b) for k in range(200) if z]
    expected = math.log(math.fsum(map(math.exp, terms))) if z else 0.0
    assert float(_log_0f1(np.array([b]), np.array([z]))[0]) == pytest.approx(expected, abs=1e-7)
