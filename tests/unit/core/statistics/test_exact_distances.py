"""Distances, bounds and detectors against their formulas, worked out in plain Python at a few points."""

import json
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pytest

from penstock.core.statistics.calibration import calibration_error
from penstock.core.statistics.change_detection import (
    DAY_S,
    DECAYS,
    PRIOR,
    ChangeDetector,
    find_allowance,
    onset_probability,
    sampling_error,
)
from penstock.core.statistics.distributions import Counts, find_shares
from penstock.core.statistics.effect_sizes import compare_counts
from penstock.core.statistics.evidence import Evidence
from penstock.core.statistics.paired_comparison import jackknife_advantage, rate_advantage, spend_alpha
from penstock.core.statistics.recovery import SHORTEST, Recoveries, Recovery, find_recovery_evidence
from penstock.core.statistics.seasons import (
    HOUR_S,
    MONDAY_S,
    SeasonalProfile,
    distinguishable_hours,
    quarter_of,
    smooth,
)
from penstock.core.statistics.special_functions import chi_square_quantile
from penstock.core.statistics.total_variation import distance_below

# Paired comparisons.


def score(won: int, lost: int, rows: int, difference: float) -> float:
    """Tango's statistic, with the greatest likelihood under the difference found by halving its derivative."""
    low, high = max(0.0, -difference), (1 - difference) / 2
    for _ in range(200):
        share = (low + high) / 2
        same = rows - won - lost
        slope = -2 * same / (1 - 2 * share - difference) if same else 0.0
        slope += (won / (share + difference) if won else 0.0) + (lost / share if lost else 0.0)
        low, high = (share, high) if slope > 0 else (low, share)
    variance = rows * (2 * low + difference - difference**2)
    return (won - lost - rows * difference - 0.5) / math.sqrt(variance)


def answers(both: int, won: int, lost: int, neither: int) -> tuple[list[bool], list[bool]]:
    candidate = [True] * (both + won) + [False] * (lost + neither)
    return candidate, [True] * both + [False] * won + [True] * lost + [False] * neither


@pytest.mark.parametrize("level", [0.05, 0.001, 0.4])
@pytest.mark.parametrize(
    "counts", [(34, 0, 7, 2), (50, 20, 5, 25), (10, 3, 3, 4), (0, 15, 0, 5), (5, 0, 0, 5), (0, 9, 1, 0)]
)
def test_a_bound_of_rates_is_where_the_score_is_the_quantile(counts: tuple[int, int, int, int], level: float) -> None:
    _, won, lost, _ = counts
    found = rate_advantage(*answers(*counts), range(sum(counts)), level)
    assert (found.estimate, found.rows, found.level) == ((won - lost) / sum(counts), won + lost, level)
    z = NormalDist().inv_cdf(1 - level)
    assert found.lower <= found.estimate
    if won + lost:
        assert score(won, lost, sum(counts), found.lower) == pytest.approx(z, abs=1e-5)


def test_the_bound_of_who_always_loses_is_the_end_of_the_range() -> None:
    found = rate_advantage([False] * 20, [True] * 20, range(20), 0.05)
    assert (found.estimate, found.lower, found.rows) == (-1.0, -1.0, 20)


def test_rows_of_a_request_inflate_the_variance_of_a_rate() -> None:
    """Both win in whole requests: the sums of a request's deviations against those of single rows."""
    candidate, champion = answers(40, 12, 4, 4)
    units = [index // 4 for index in range(60)]
    differences = np.array(candidate, float) - np.array(champion, float)
    apart = differences - differences.mean()
    inflation = sum(apart[4 * unit : 4 * unit + 4].sum() ** 2 for unit in range(15)) / (apart**2).sum()
    assert inflation > 2
    found = rate_advantage(candidate, champion, units, 0.05)
    assert score(12, 4, 60, found.lower) == pytest.approx(NormalDist().inv_cdf(0.95) * math.sqrt(inflation), abs=1e-5)
    spread_out = rate_advantage(candidate, champion, [index % 15 for index in range(60)], 0.05)
    assert spread_out == rate_advantage(candidate, champion, range(60), 0.05), "never below that of single rows"


def student_tail(t: float, degrees: int) -> float:
    """``P(T <= t)`` for an even number of degrees, in closed form."""
    angle, term, total = math.atan(t / math.sqrt(degrees)), 1.0, 1.0
    for k in range(1, degrees // 2):
        term *= (2 * k - 1) / (2 * k) * math.cos(angle) ** 2
        total += term
    return 0.5 + math.sin(angle) / 2 * total


@pytest.mark.parametrize("level", [0.25, 0.05, 0.01])
def test_a_jackknife_s_bound_is_students(level: float) -> None:
    """The quantile is off by the first term that its expansion leaves out (Abramowitz and Stegun 26.7.5)."""
    degrees = 40
    without = [0.5 + 0.01 * math.sin(3 * group) for group in range(degrees + 1)]
    mean = math.fsum(without) / len(without)
    error = math.sqrt(degrees / (degrees + 1) * math.fsum((item - mean) ** 2 for item in without))
    found = jackknife_advantage(0.75, without, level)
    assert (found.estimate, found.level, found.rows) == (0.75, level, None)
    quantile = (0.75 - found.lower) / error
    z = NormalDist().inv_cdf(1 - level)
    omitted = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    low, high = 0.0, 20.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if student_tail(middle, degrees) < 1 - level else (low, middle)
    assert (low - quantile) * degrees**4 == pytest.approx(omitted, rel=0.2, abs=0.02)


def test_the_parts_of_alpha() -> None:
    assert [spend_alpha(0.1, tries) for tries in (1, 2, 5)] == pytest.approx(
        [0.6 / math.pi**2, 0.6 / (4 * math.pi**2), 0.6 / (25 * math.pi**2)]
    )


# Total variation.


def test_the_distance_of_outputs_is_a_half_normal_mixture() -> None:
    one = distance_below(Evidence(), (6.0, 3.0, 1.0), (30.0, 10.0, 0.0), 0.4)
    assert (one.canary, one.control) == ((6.0, 3.0, 1.0), (7.5, 2.5, 0.0))
    variance = 10 * (1 + 10 / 40) / 4
    assert one.variance == variance

    def mixture(ahead: float, variance: float) -> float:
        z = ahead / math.sqrt(variance + 50)
        return math.log(2 * math.sqrt(50 / (variance + 50)) * math.exp(z * z / 2) * NormalDist().cdf(z))

    assert one.log_e == pytest.approx(mixture(0.4 * 10 - 1.5, variance))
    two = distance_below(one, (5.0, 5.0, 10.0), (4.0, 4.0, 2.0), 0.4)
    assert two.control == pytest.approx((15.5, 10.5, 4.0))
    assert two.variance == variance + 20 * (1 + 2) / 4
    assert two.log_e == pytest.approx(mixture(0.4 * 30 - 7.0, two.variance))
    assert two.peak == max(one.peak, two.log_e)
    far = distance_below(Evidence(), (0.0, 9e6), (9e6, 0.0), 0.1)
    assert far.log_e < -1e6 or math.isfinite(far.log_e)
    for lacking in (((0, 0), (1, 1)), ((1, 1), (0, 0))):
        assert distance_below(one, *lacking, 0.4) is one


# Effect sizes.


def test_effect_sizes_of_ordered_places_leave_out_missing_numbers() -> None:
    """Two edges have three places; more of them hold what is missing or no number."""
    reference, window = [50, 30, 20, 100], [20, 30, 50, 0]
    found = compare_counts(reference, window, (0.0, 1.0), 2.0)
    r = [(count + 0.5) / 202 for count in reference]
    p = [(count + 0.5) / 102 for count in window]
    steps = np.cumsum(np.subtract(p, r))
    assert found.ks == pytest.approx(np.abs(steps[:3]).max())
    assert compare_counts(reference, window).ks == pytest.approx(np.abs(steps).max())
    assert found.wasserstein == pytest.approx((abs(0.5 - 0.2) + abs(0.8 - 0.5)) / 2 / 2)
    assert [place for place, _ in found.moved] == [3, 2, 1]
    assert [change for _, change in found.moved] == pytest.approx([p[3] - r[3], p[2] - r[2], p[1] - r[1]])


@pytest.mark.parametrize(
    ("reference", "window", "degrees"),
    [
        ([9, 9, 0, 0], [9, 9, 0, 0], 1),
        ([9, 9, 0], [9, 0, 9], 2),
        ([9, 0, 1], [0, 9, 0], 2),
        ([1, 9, 0], [0, 9, 1], 2),
        ([9], [9], 1),
        ([9, 9], [9, 0], 1),
    ],
)
def test_places_in_use_are_what_either_has(reference: list[int], window: list[int], degrees: int) -> None:
    rows = 1 / sum(window) + 1 / sum(reference)
    assert compare_counts(reference, window).psi_threshold == pytest.approx(chi_square_quantile(degrees) * rows + 0.02)


def test_thresholds_widen_with_correlation_place_by_place() -> None:
    """The k-th place has the inflation of ``correlation^k``; Satterthwaite's multiple of a chi-square variable."""
    variances = [(1 + c) / (1 - c) / 60 + 1 / 90 for c in (0.5, 0.25, 0.125)]
    total, squares = sum(variances), sum(v * v for v in variances)
    quantile = chi_square_quantile(total**2 / squares) * squares / total
    found = compare_counts([30, 30, 15, 15], [15, 15, 15, 15], correlation=0.5)
    assert found.psi_threshold == pytest.approx(quantile + 0.02)
    assert found.chi_square_threshold == pytest.approx(quantile / (1 / 60 + 1 / 90))
    assert compare_counts([30, 30], [15, 15], correlation=-0.5) == compare_counts([30, 30], [15, 15])


@pytest.mark.parametrize(
    ("reference", "window", "joined"),
    [
        ([95, 95, 10], [45, 45, 10], ([95, 95, 10], [45, 45, 10])),  # 6.7 are expected in the last: it is not rare
        ([90, 90, 10], [45, 45, 5], ([90, 90, 10], [45, 45, 5])),  # 5.17
        ([95, 95, 5], [40, 45, 5], ([95, 95, 5], [40, 45, 5])),  # 3.2, but 5 were seen: rare places of their own
        ([91, 95, 4], [41, 55, 4], ([95, 95], [45, 55])),  # 2.7, and nowhere 5: joined with the next
        ([60, 40, 0, 0], [30, 20, 0, 0], ([60, 40], [30, 20])),
        ([60, 40, 1, 0], [30, 20, 0, 1], ([60, 42 - 1], [30, 21])),
    ],
)
def test_places_of_chi_square(reference: list[int], window: list[int], joined: tuple[list[int], list[int]]) -> None:
    found = compare_counts(reference, window)
    samples = np.array(joined, float)
    usual = np.outer(samples.sum(axis=1), samples.sum(axis=0)) / samples.sum()
    assert found.chi_square == pytest.approx(float(((samples - usual) ** 2 / usual).sum()), abs=1e-9)
    assert found.chi_square_threshold == pytest.approx(chi_square_quantile(samples.shape[1] - 1))


def test_a_calibration_error_is_by_bins_of_equal_width() -> None:
    sure, right = [0.05, 0.95, 0.95, 0.91, 1.0, 0.42, 0.5], [False, True, False, True, True, True, True]
    gaps = [0.05, abs(0.95 + 0.95 + 0.91 + 1.0 - 3), 1 - 0.42, 1 - 0.5]
    assert calibration_error(sure, right) == pytest.approx(sum(gaps) / 7)
    assert calibration_error(sure, right, 1) == pytest.approx(abs(sum(sure) - 5) / 7)
    assert calibration_error(sure, right, 2) == pytest.approx((abs(0.05 + 0.42 - 1) + abs(sum(sure) - 0.47 - 4)) / 7)
    assert calibration_error([0.05], [True]) == pytest.approx(0.95), "bins above the last answer are empty"
    assert calibration_error([], []) is None


# The detector of changes.

REFERENCES = [np.array([0.25, 0.75]), np.array([0.5, 0.3, 0.2])]


def log_rising(base: float, more: float) -> float:
    return math.lgamma(base + more) - math.lgamma(base)


def gain(recent: Sequence[float], counts: Sequence[float], reference: Sequence[float], allowed: float) -> float:
    """The Dirichlet mixture's likelihood of the counts over the reference's, less what is allowed."""
    expected = [PRIOR * share + seen for share, seen in zip(reference, recent, strict=True)]
    rows = sum(counts)
    likelihood = sum(map(log_rising, expected, counts)) - log_rising(sum(expected), rows)
    return likelihood - sum(c * math.log(s) for c, s in zip(counts, reference, strict=True)) - allowed * rows


@pytest.mark.parametrize("inflation", [1.0, 2.0])
@pytest.mark.parametrize("begun", [1.0, 0.25])
def test_evidence_of_a_change_is_the_sum_over_its_starts(inflation: float, begun: float) -> None:
    detector = ChangeDetector(REFERENCES, [0.0, 0.01])
    batches = [[[1, 9], [2, 3, 5]], [[0, 0], [9, 1, 0]], [[8, 2], [1, 0, 9]]]
    logs = [[-math.inf] * 2 for _ in DECAYS]
    recent = [[[0.0] * 2, [0.0] * 3] for _ in DECAYS]
    risen, since = [[0.0] * 2 for _ in DECAYS], [[0.0] * 2 for _ in DECAYS]
    for now, batch in enumerate(batches, 1):
        detector.watch(detector.batch(batch), inflation, float(now), begun)
        for bet, decay in enumerate(DECAYS):
            for at, counts in enumerate(batch):
                if not sum(counts):
                    continue
                worth = [count / inflation for count in counts]
                more = gain(recent[bet][at], worth, REFERENCES[at].tolist(), (0.0, 0.01)[at])
                logs[bet][at] = float(np.logaddexp(logs[bet][at], math.log(sum(counts) * begun))) + more
                since[bet][at] = float(now) if risen[bet][at] <= 0 else since[bet][at]
                risen[bet][at] = max(0.0, risen[bet][at] + more)
                kept = decay ** sum(worth)
                share = (1 - kept) / ((1 - decay) * sum(worth))
                recent[bet][at] = [old * kept + new * share for old, new in zip(recent[bet][at], worth, strict=True)]
    state = json.loads(json.dumps(detector.export_state()))
    assert np.array(state["log_m"]) == pytest.approx(np.array(logs), abs=1e-6)
    assert np.array(state["risen"]) == pytest.approx(np.array(risen), abs=1e-6)
    assert state["since"] == since
    assert state["recent"][1][1] == pytest.approx(recent[1][1])
    assert state["recent"][0][0] == pytest.approx([*recent[0][0], 0.0])
    assert detector.recent.tolist() == state["recent"][0]
    assert detector.log_m.tolist() == pytest.approx(
        [math.log((math.exp(x) + math.exp(y)) / 2) for x, y in zip(*logs, strict=True)], abs=1e-6
    )
    best = [max(range(2), key=lambda bet, at=at: logs[bet][at]) for at in range(2)]  # type: ignore[misc]
    assert detector.since.tolist() == [since[bet][at] for at, bet in enumerate(best)]


def test_a_share_of_rows_begins_changes_from_the_first_batch_on() -> None:
    one = ChangeDetector(REFERENCES[:1], [0.0])
    one.watch(one.batch([[5, 5]]), 1.0, 1.0)
    assert np.isfinite(one.log_m).all()
    other = ChangeDetector(REFERENCES[:1], [0.0])
    other.watch(other.batch([[5, 5]]), 1.0, 1.0, 1.0)
    assert one.log_m.tolist() == other.log_m.tolist()


def test_a_detector_takes_over_no_evidence_of_other_shapes() -> None:
    detector = ChangeDetector(REFERENCES, [0.0, 0.0])
    detector.watch(detector.batch([[5, 5], [1, 1, 1]]), 1.0, 4.0)
    saved = detector.export_state()
    fresh = ChangeDetector(REFERENCES, [0.0, 0.0])
    untouched = fresh.export_state()
    assert set(np.array(untouched["log_m"]).ravel()) == {-1e9}
    narrow = [[row[:2] for row in rows] for rows in saved["recent"]]
    for other in ({**saved, "recent": narrow}, {**saved, "log_m": saved["log_m"][:1]}):
        fresh.restore_state(other)
        assert fresh.export_state() == untouched
    fresh.restore_state(
        {**saved, "log_m": [[-1e9, -1e8], [1, -99999999]], "since": [[1, 2], [3, 4]], "risen": [[1, 2], [3, 4]]}
    )
    assert np.isneginf(np.array(fresh.log_m))[1] == np.False_
    assert fresh.export_state()["log_m"] == [[-1e9, -1e9], [1.0, -99999999.0]]
    fresh.watch(fresh.batch([[5, 5], [1, 1, 1]]), 1.0, 4.5)
    assert fresh.export_state()["since"] == [[1.0, 2.0], [3.0, 4.0]]


def test_alarms_are_held_against_the_mean_of_all_features() -> None:
    detector = ChangeDetector(REFERENCES, [0.0, 0.0])
    assert detector.find_alarm(1.0) == []

    def at(*logs: float) -> ChangeDetector:
        detector.restore_state({**detector.export_state(), "log_m": [list(logs), list(logs)]})
        return detector

    assert at(math.log(20), -1e9).find_alarm(10 - 1e-6) == [0]
    assert at(math.log(20), -1e9).find_alarm(10 + 1e-6) == []
    assert at(math.log(20), math.log(5)).find_alarm(12) == [0]
    assert at(math.log(20), math.log(12) + 1e-9).find_alarm(12) == [0, 1]


def test_distances_of_windows_are_those_of_effect_sizes() -> None:
    """The detector's references have half a row more in each place already."""
    counts = [[49.5, 149.5], [99.5, 59.5, 39.5]]
    references = [np.array(item) + 0.5 for item in counts]
    detector = ChangeDetector([item / item.sum() for item in references], [0.0, 0.0])
    windows = [[30, 10], [1, 2, 37]]
    psi, js = detector.distances(detector.batch(windows))
    found = [compare_counts(counts[at], windows[at]) for at in range(2)]
    assert psi == pytest.approx([item.psi for item in found])
    assert js == pytest.approx([item.js for item in found])
    none = detector.distances(detector.batch([[0, 0], [0, 1, 0]]))
    assert none[0][0] == none[1][0] == 0.0
    assert none[0][1] > 0 < none[1][1]


def test_chances_that_a_change_begins() -> None:
    assert onset_probability(100, DAY_S / 4, 1000.0, 0.2) == pytest.approx(0.2 / 4 * 1000 / 100)
    assert onset_probability(0, DAY_S, 1.0, 0.5) == onset_probability(1, DAY_S, 1.0, 0.5) == 0.5
    assert onset_probability(2, DAY_S, 1.0, 0.5) == 0.25
    assert onset_probability(100, -5.0, 1000.0, 0.2) == 1e-12
    assert onset_probability(1, DAY_S, 1e9, 5.0) == onset_probability(100, 0.0, 1.0, 0.0) == 1.0


@pytest.mark.parametrize(
    ("counts", "columns"), [([300, 500, 200], 1), ([300, 500, 0, 200], 10), ([3, 2], 1), ([0, 0], 1)]
)
def test_what_a_reference_may_be_off(counts: list[int], columns: int) -> None:
    rows, used = max(1, sum(counts)), max(1, sum(count > 0 for count in counts))
    z = NormalDist().inv_cdf(1 - 0.01 / columns)
    expected = (1 + min(0.65, 6 * used / rows)) * chi_square_quantile(used, z) / rows
    assert sampling_error(counts, columns) == pytest.approx(expected)
    assert find_allowance(counts, columns) == pytest.approx(0.004 + expected)
    assert sampling_error(counts) == sampling_error(counts, 1) == sampling_error(counts, 0)


# Evidence that a change is over.


def noncentral(value: float, degrees: int, off: float) -> float:
    """The density of a noncentral chi-square variable, as a Poisson mixture."""
    total = 0.0
    for k in range(400):
        poisson = math.exp(-off / 2 + k * math.log(off / 2) - math.lgamma(k + 1)) if off else float(k == 0)
        half = degrees / 2 + k
        total += poisson * math.exp((half - 1) * math.log(value) - value / 2 - half * math.log(2) - math.lgamma(half))
    return total


@pytest.mark.parametrize("margin", [0.01, 0.05])
@pytest.mark.parametrize("counts", [[40.0, 35.0, 45.0], [70.0, 20.0, 30.0], [38.0, 40.0, 42.0]])
def test_evidence_of_an_end_is_the_ratio_of_two_densities(counts: list[float], margin: float) -> None:
    rows, worth, share = sum(counts), 500.0, [0.3, 0.3, 0.4]
    distance = 4 * rows * sum((math.sqrt(c / rows) - math.sqrt(s)) ** 2 for c, s in zip(counts, share, strict=True))
    spread = 1 + rows / worth
    near = noncentral(distance / spread, 2, 0.0) / spread
    expected = math.log(near / noncentral(distance, 2, 2 * rows * margin))
    found = find_recovery_evidence(np.array([counts]), 7 * np.array([share]), np.array([margin]), np.array([worth]))
    assert found.tolist() == pytest.approx([expected], abs=1e-6)


def rare_evidence(own: float, rows: float, share: float, margin: float, worth: float) -> float:
    """Beta-binomial around the share over the greatest likelihood at its ceiling or above."""
    prior, others = share * worth, (1 - share) * worth
    near = log_rising(prior, own) + log_rising(others, rows - own) - log_rising(prior + others, rows)
    low, high = share, 1 - 1e-12
    for _ in range(200):
        middle = (low + high) / 2
        apart = middle * math.log(middle / share) + (1 - middle) * math.log((1 - middle) / (1 - share))
        low, high = (middle, high) if apart < margin else (low, middle)
    most = max(own / rows, high)
    return near - (own * math.log(most) if own else 0.0) - ((rows - own) * math.log(1 - most) if rows > own else 0.0)


@pytest.mark.parametrize("own", [0.0, 3.0, 30.0])
def test_rare_places_are_tested_alone(own: float) -> None:
    """Nearly everything lies in the one place that is not rare, so the distance says nothing and rare places decide."""
    share = [0.98, 0.015, 0.005]
    counts = [400.0 - own, 0.0, own]
    expected = min(rare_evidence(counts[at], 400.0, share[at], 0.02, 900.0) for at in (1, 2))
    found = find_recovery_evidence(np.array([counts]), np.array([share]), np.array([0.02]), np.array([900.0]))[0]
    rest = find_recovery_evidence(
        np.array([[400.0 - own, own]]), np.array([[0.98, 0.02]]), np.array([0.02]), np.array([900.0])
    )[0]
    assert found == pytest.approx(min(expected, rest), abs=1e-5)
    assert expected == pytest.approx(found, abs=1e-5) or rest < expected


def test_evidence_of_many_tests_is_that_of_each() -> None:
    counts = np.array([[40.0, 35.0, 2.0], [70.0, 20.0, 0.0]])
    usual = np.array([[50.0, 49.0, 1.0], [60.0, 20.0, 20.0]])
    margins, worth = np.array([0.01, 0.03]), np.array([500.0, 800.0])
    together = find_recovery_evidence(counts, usual, margins, worth)
    alone = [
        find_recovery_evidence(counts[at : at + 1], usual[at : at + 1], margins[at : at + 1], worth[at : at + 1])[0]
        for at in (0, 1)
    ]
    assert together.tolist() == pytest.approx(alone, abs=1e-9)


def test_starts_gather_counts_and_what_was_usual_of_them() -> None:
    recovery = Recovery(2)
    recovery.watch([60, 20], [90, 30], 0.02, 2.0)
    recovery.watch([60, 60], [10, 10], 0.04, 1.0)
    recovery.watch([0, 0], [10, 10], 0.04, 1.0)
    usual = 40 * np.array([90.5, 30.5]) / 121 + 120 * np.array([0.5, 0.5])
    assert SHORTEST == 100
    saved = recovery.export_state()
    assert saved["counts"] == [[90.0, 70.0]]
    assert saved["usual"][0] == pytest.approx(usual.tolist())
    assert [item[0] for item in saved["sums"]] == pytest.approx([40 * 0.02 + 120 * 0.04, 40 * 120 + 120 * 20])
    expected = find_recovery_evidence(
        np.array([[90.0, 70.0]]), usual[None, :], np.array([5.6 / 160]), np.array([7200 / 160])
    )[0]
    assert recovery.log_e == pytest.approx(expected)
    recovery.watch([30, 10], [0, 0], 0.02, 1.0)
    assert recovery.export_state()["counts"] == [[120.0, 80.0], [30.0, 10.0]]
    assert recovery.export_state()["sums"][1][1] == 40.0, "a reference is worth one row at least"
    assert recovery.is_over(100 * math.exp(recovery.log_e) - 1e-6) or recovery.log_e < 0
    assert not recovery.is_over(100 * math.exp(recovery.log_e) * 1.001 + 101)


@pytest.mark.parametrize(("rows", "starts"), [(99, 1), (100, 2), (101, 2)])
def test_evidence_starts_again_after_so_many_rows(rows: int, starts: int) -> None:
    recovery = Recovery(2)
    recovery.watch([50, rows - 50], [5000, 5000], 0.02, 1.0)
    recovery.watch([1, 1], [5000, 5000], 0.02, 1.0)
    assert len(recovery.export_state()["counts"]) == starts
    assert math.isfinite(recovery.log_e) is (rows >= 100)


def test_a_recovery_of_other_columns_is_not_taken_over() -> None:
    recoveries = Recoveries()
    usual = [np.array([500.0, 500]), np.array([900.0, 100])]
    recoveries.find_recovered([0, 1], [], [[50, 50], [90, 10]], usual, [0.01, 0.01], 1.0, 1e5)
    saved = recoveries.export_state()
    assert set(saved) == {"0", "1"}
    fewer = Recoveries()
    fewer.restore_state(saved, [2])
    assert fewer.export_state() == {"0": saved["0"]}
    assert recoveries.export_state()["0"]["sums"][0] == pytest.approx([100 * 0.018])
    recoveries.find_recovered([0, 1], [1], [[50, 50], [90, 10]], usual, [0.01, 0.01], 1.0, 1e5)
    assert set(recoveries.export_state()) == {"0"}


# Seasons.


@pytest.mark.parametrize(("at", "quarter"), [(0, 0), (899, 0), (899.5, 0), (900, 1), (4499, 4), (24 * 3600 - 1, 95)])
def test_quarters_of_a_day(at: float, quarter: int) -> None:
    assert quarter_of(MONDAY_S + at, 24) == quarter


def test_hours_with_a_single_row_are_seen_and_those_without_are_not() -> None:
    times = np.repeat(MONDAY_S + HOUR_S * np.arange(24.0), 20)
    one_row = np.concatenate([times[20:], times[:1]])
    assert distinguishable_hours(one_row) == 24
    assert distinguishable_hours(times[20:]) == 0
    assert distinguishable_hours(np.zeros(0)) == 0


HOURS = np.tile(np.array([60, 40]), (24, 1))
HOURS[3], HOURS[12:] = (10, 90), (20, 80)


def usual(rows: Counts, quarter: int) -> Counts:
    """Between the middles of two hours: a quarter's middle lies 1/8, 3/8, 5/8 or 7/8 on the way."""
    hour, step = divmod(quarter - 2, 4)
    share = (2 * step + 1) / 8
    return np.asarray((1 - share) * rows[hour % 24] + share * rows[(hour + 1) % 24], float)


@pytest.mark.parametrize("quarter", [0, 1, 2, 3, 4, 11, 14, 50, 93, 94, 95])
def test_what_is_usual_goes_over_from_hour_to_hour(quarter: int) -> None:
    profile, smoothed = SeasonalProfile(HOURS), smooth(HOURS.astype(float))
    assert profile.counts(quarter).tolist() == pytest.approx(usual(smoothed, quarter).tolist())
    parts = np.array([find_shares(item) for item in smoothed])
    hour, now = (quarter - 2) // 4, usual(parts, quarter)
    around = [parts[(hour + step) % 24] for step in (-1, 0, 1, 2)]
    expected = max(math.log(float((item * item / now).sum())) for item in around)
    assert profile.divergence_nearby(quarter) == pytest.approx(expected)
