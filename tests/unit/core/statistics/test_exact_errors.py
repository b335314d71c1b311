"""Watches over errors against their recursions, label by label in plain Python."""

import math

import numpy as np
import pytest

from penstock.core.statistics.calibration import BETS, LEAST, MARGIN, TILTS, Gap, GapRecovery, GapWatch
from penstock.core.statistics.column_state import ColumnPhase
from penstock.core.statistics.error_dependence import (
    BLOCK,
    LAGS,
    SPACINGS,
    ErrorAutocorrelation,
    inflations_of_bets,
)
from penstock.core.statistics.error_rates import MULTIPLES, WEIGHTS, RateWatch
from penstock.core.statistics.error_watch import BASELINE, MOST_WAITED, ErrorWatch


def labels(rows: int, rate: float = 0.2, seed: int = 3) -> list[int]:
    return [int(drawn < rate) for drawn in np.random.default_rng(seed).random(rows)]


def learned(errors: list[int]) -> ErrorAutocorrelation:
    dependence = ErrorAutocorrelation()
    for start in range(0, len(errors), BLOCK):
        dependence.learn(np.array(errors[start : start + BLOCK], np.intp))
    return dependence


def pairs(errors: list[int], lag: int) -> list[list[int]]:
    found = [[0, 0], [0, 0]]
    for before, now in zip(errors, errors[lag:], strict=False):
        found[before][now] += 1
    return found


ERRORS = labels(40 * BLOCK)


def test_pairs_of_labels_are_counted_at_each_lag() -> None:
    dependence = learned(ERRORS)
    assert dependence.counts.tolist() == [pairs(ERRORS, lag) for lag in LAGS]
    (a, b), (c, d) = pairs(ERRORS, 1)
    assert dependence.rate == pytest.approx((b + d + 0.5) / (a + b + c + d + 1))
    for spacing in SPACINGS:
        (a, b), (c, d) = pairs(ERRORS, spacing)
        expected = (d + 0.5) / (c + d + 1) - (b + 0.5) / (a + b + 1)
        assert dependence.correlation(spacing) == pytest.approx(expected)
        block = np.arange(BLOCK)
        before = [ERRORS[at - spacing] if at < spacing else at - spacing for at in range(BLOCK)]
        assert dependence.before(spacing, block).tolist() == before
    fresh = ErrorAutocorrelation()
    assert (fresh.rate, fresh.bursts(), fresh.correlation(1)) == (0.5, 0.0, 0.0)
    assert fresh.before(2, np.arange(BLOCK)).tolist() == [-1, -1, *range(BLOCK - 2)]


def with_correlations(*correlations: float, rows: float = 10_000.0) -> ErrorAutocorrelation:
    """At half errors: as many pairs of each kind as the correlations say."""
    dependence = ErrorAutocorrelation()
    for at, correlation in enumerate([*correlations, *[0.0] * (len(LAGS) - len(correlations))]):
        same, other = rows * (1 + correlation) / 4, rows * (1 - correlation) / 4
        dependence.counts[at] = [[same, other], [other, same]]
    return dependence


@pytest.mark.parametrize(
    ("correlations", "rows", "total"),
    [
        ((), 10_000.0, 0.01),
        ((0.2, 0.02), 10_000.0, 0.21 + (0 * 0.2 + 2 * 0.02) / 2),
        ((0.5, 0.25, 0.0625, 0.02), 10_000.0, 0.51 + 0.25 + (0.25 + 3 * 0.0625) / 2 + (3 * 0.0625 + 5 * 0.02) / 2),
        ((0.95,), 100.0, 0.9),
        ((0.029, 0.5), 10_000.0, 0.039),
        ((0.031, 0.02), 10_000.0, 0.041 + 0.02),
        ((-0.2, 0.5), 10_000.0, 0.01),
    ],
)
def test_the_variance_of_many_labels(correlations: tuple[float, ...], rows: float, total: float) -> None:
    """One and twice the sum of the correlations, along straight lines between the lags, up to the first by chance."""
    assert with_correlations(*correlations, rows=rows).inflation() == pytest.approx(1 + 2 * total)


@pytest.mark.parametrize(
    ("correlations", "spacing"),
    [
        ((), 1),
        ((0.5, 0.25, 0.0625), 1),
        ((0.3, 0.3, 0.3, 0.05), 8),
        ((0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1), 64),
    ],
)
def test_the_spacing_at_which_labels_are_a_chain(correlations: tuple[float, ...], spacing: int) -> None:
    found, inflation = with_correlations(*correlations).spacing()
    assert found == spacing
    assert inflation >= 1.01


def excess(one: float, two: float, four: float, tolerated: float, error: float = 0.01) -> float:
    """The inflation beyond a chain's: two and four times the spacing say how correlations fall."""
    decay = min(0.97, math.sqrt(four / two)) if two > 3 * error else 0.0
    inflation = 1 + 2 * one + 2 * two / (1 - decay)
    return max(0.0, inflation * (1 - one) / (1 + one) - 1 - tolerated * error * math.sqrt(inflation))


def test_what_remains_at_a_spacing_inflates_the_variance() -> None:
    assert with_correlations().spacing()[1] == pytest.approx(1.01)
    chain = with_correlations(0.5, 0.28, 0.08)
    assert chain.spacing()[0] == 1
    assert chain.spacing()[1] == pytest.approx(1 + 3 * excess(0.5, 0.28, 0.08, 1.0) + 0.01)
    assert excess(0.5, 0.28, 0.08, 1.0) > 0.02
    longer = with_correlations(0.3, 0.3, 0.2, 0.05, 0.04, 0.03)
    spacing, inflation = longer.spacing()
    at = SPACINGS.index(spacing)
    one, two, four = (0.3, 0.3, 0.2, 0.05, 0.04, 0.03, 0.0, 0.0, 0.0)[at : at + 3]
    assert spacing > 1
    assert inflation == pytest.approx(min(20.0, 1 + 3 * excess(one, two, four, 0.0) + 0.01))
    assert with_correlations(*[0.3] * 7, 0.9, 0.9).spacing() == (64, 20.0)


@pytest.mark.parametrize(
    ("correlations", "index"),
    [((), 0), ((0.151,), 1), ((0.149,), 0), ((0.5, 0.5, 0.5), 3), ((0.5,) * 9, 8), ((0.5, 0.1, 0.5), 1)],
)
def test_bursts_are_counted_where_labels_have_forgotten_each_other(correlations: tuple[float, ...], index: int) -> None:
    dependence = with_correlations(*correlations)
    assert dependence.bursts() == pytest.approx(dependence.counts[index, 0, 1] / LAGS[index])
    few = with_correlations(0.19, rows=100.0)  # by 100 rows a correlation of 0.2 may be chance
    assert few.bursts() == pytest.approx(few.counts[0, 0, 1])


@pytest.mark.parametrize(("rate", "inflation"), [(0.1, 1.0), (0.1, 3.0), (0.4, 2.0)])
def test_bets_are_divided_by_what_makes_them_fair(rate: float, inflation: float) -> None:
    """The greatest eigenvalue of the tilted chain is that of independent errors."""
    tilts = np.array([-2.0, 0.5, 1.0])
    correlation = (inflation - 1) / (inflation + 1)
    again, anew = rate + correlation * (1 - rate), rate * (1 - correlation)
    for tilt, divisor in zip(tilts.tolist(), inflations_of_bets(rate, inflation, tilts).tolist(), strict=True):
        assert divisor >= 1
        factor = math.exp(tilt / divisor)
        matrix = np.array([[1 - anew, anew * factor], [1 - again, again * factor]])
        growth = divisor * math.log(max(np.linalg.eigvals(matrix).real))
        stated = math.log(1 - rate + rate * math.exp(tilt))
        assert growth <= stated + 1e-9
        assert growth == pytest.approx(stated, abs=2e-3)


# Rates of errors.


def gain(tilt: float, chance: float, wrong: int) -> float:
    return tilt * wrong - math.log(1 - chance + chance * math.exp(tilt))


def probabilities(rate: float, correlation: float, before: list[int | None]) -> list[float]:
    least = -0.99 * min(rate / (1 - rate), (1 - rate) / rate)
    held = max(least, correlation)
    after = {0: rate * (1 - held), 1: rate + held * (1 - rate), None: rate}
    return [min(1 - 1e-6, max(1e-6, after[label])) for label in before]


def test_evidence_of_a_change_of_the_rate() -> None:
    """Of labels 64 apart, as before it is known how errors follow each other: 64 phases, each a chain."""
    watch, seen = RateWatch((5, 95)), list[int]()
    sums = np.zeros((64, len(MULTIPLES)))
    risen, since = [0.0] * len(MULTIPLES), [(0, 0, 0)] * len(MULTIPLES)
    for at in range(0, 24 * BLOCK, BLOCK):
        block = ERRORS[at : at + BLOCK]
        rate = (5 + sum(seen) + 0.5) / (100 + len(seen) + 1)
        assert watch.rate == pytest.approx(rate)
        assert watch.usual() == (5 + sum(seen), 100 + len(seen))
        smallest = min(1.0, math.sqrt(2 * 0.0072 / (rate * (1 - rate))))
        assert watch.smallest() == pytest.approx(smallest)
        (a, b), (c, d) = pairs(seen, 64)
        correlation = min(0.3, (d + 0.5) / (c + d + 1) - (b + 0.5) / (a + b + 1))
        before = [seen[at + i - 64] if at + i >= 64 else None for i in range(BLOCK)]
        watch.watch(np.array(block, np.intp), 0.5)
        for bet, multiple in enumerate(MULTIPLES):
            if risen[bet] <= 0:
                since[bet] = (at, len(seen), sum(seen))
            for i, chance in enumerate(probabilities(rate, correlation, before)):
                more = gain(multiple * smallest, chance, block[i]) / 1.25
                sums[(at + i) % 64, bet] = (sums[(at + i) % 64, bet] + 0.5) * math.exp(more)
                risen[bet] += more / 64
            risen[bet] = max(0.0, risen[bet])
        seen += block
        top = max(range(len(MULTIPLES)), key=risen.__getitem__)
        assert watch.top() == (since[top][0] + BLOCK // 2, MULTIPLES[top] > 0)
        assert watch.evidence() == pytest.approx(float(sums.sum(axis=0) @ WEIGHTS))
    top = max(range(len(MULTIPLES)), key=risen.__getitem__)
    watch.begin(worse=True)
    assert (watch.rows, watch.wrong) == since[top][1:]
    watch.restart()
    assert watch.evidence() == 0.0
    watch.watch(np.array(ERRORS[:BLOCK], np.intp))
    assert watch.top()[0] == 24 * BLOCK + BLOCK // 2, "evidence began anew"


@pytest.mark.parametrize("worse", [True, False])
@pytest.mark.parametrize("known", [(5, 95), (0, 3)])
def test_evidence_that_a_change_of_the_rate_is_over(worse: bool, known: tuple[int, int]) -> None:
    watch = RateWatch(known)
    watch.begin(worse)
    rate, expected = (known[0] + 0.5) / (sum(known) + 1), 0.0
    smallest = min(1.0, math.sqrt(2 * 0.0072 / (rate * (1 - rate))))
    error = 1 / math.sqrt(max(1.0, sum(known) / 1.25) * rate * (1 - rate))
    tilt = (0.6 * smallest + min(error, smallest)) * (1 if worse else -1)
    correlation = min(0.3, 0.0)
    for at in range(0, 4 * BLOCK, BLOCK):
        block = ERRORS[at : at + BLOCK]
        watch.watch_recovery(np.array(block, np.intp))
        for i, chance in enumerate(probabilities(rate, correlation, [None] * BLOCK)):
            expected += math.exp(-gain(tilt, chance, block[i]) / 1.25)
    assert watch.recovered() == pytest.approx(expected), "each phase has had one label"
    assert watch.usual() == (known[0], sum(known)), "labels of a change are not usual"
    watch.begin(worse)
    assert watch.recovered() == 0.0


def test_dependence_is_measured_by_enough_runs_and_again_after_a_quarter_more() -> None:
    watch = RateWatch((0, 0))
    assert (watch.spacing, watch.inflation) == (64, 1.25)
    dependence, first = ErrorAutocorrelation(), 0.0
    for start in range(0, len(ERRORS), BLOCK):
        block = np.array(ERRORS[start : start + BLOCK], np.intp)
        known = watch.bursts() >= 16
        before = (watch.spacing, watch.inflation)
        assert watch.bursts() == dependence.bursts()
        watch.measure()
        if not known:
            assert (watch.spacing, watch.inflation) == before == (64, 1.25)
        elif before == (64, 1.25):
            assert (watch.spacing, watch.inflation) == dependence.spacing()
            first = watch.rows
        elif watch.rows < first * 1.25:
            assert (watch.spacing, watch.inflation) == before
        watch.learn(block)
        dependence.learn(block)
    assert watch.inflation < 1.25


@pytest.mark.parametrize("known", [True, False])
def test_a_suspicion_stops_the_measuring(known: bool) -> None:
    watch = RateWatch((10, 990) if known else (0, 0))
    for start in range(0, 640, BLOCK):
        watch.learn(np.array(([0] * 7 + [1]) * 2 if not known else ERRORS[start : start + BLOCK], np.intp))
    for _ in range(60):
        watch.watch(np.ones(BLOCK, np.intp))
    watch.measure()
    assert watch.spacing == 64


# All errors of a version.


def test_errors_are_watched_by_what_is_known_of_them() -> None:
    watch = ErrorWatch((5, 95), 1000.0)
    assert (watch.baseline(), watch.spacing(), watch.evidence()) == (100, 64, 0.0)
    assert watch.rate is not None
    unknown = ErrorWatch(None, 1000.0)
    assert (unknown.baseline(), unknown.spacing(), unknown.evidence(), unknown.rate) == (0, 0, 0.0, None)
    assert unknown.take([0.0, 1.0] * ((BASELINE - 2) // 2)) == []
    assert unknown.baseline() == 0
    unknown.take([0.0, 1.0])
    assert unknown.baseline() == BASELINE
    assert unknown.rate is not None
    assert unknown.rate.usual() == (BASELINE / 2, BASELINE)
    numbers = ErrorWatch(None, 1000.0)
    numbers.take([float(at % 100) for at in range(BASELINE)])
    assert numbers.rate is None
    assert numbers.baseline() == BASELINE
    edges = np.quantile([at % 100 for at in range(BASELINE)], (0.5, 0.8, 0.95))
    numbers.take([float(edges[1]) + 0.5] * BLOCK)
    assert numbers.state is ColumnPhase.INSUFFICIENT_DATA or numbers.alarms == 0


@pytest.mark.parametrize(("rows", "state"), [(MOST_WAITED - BLOCK, "INSUFFICIENT_DATA"), (MOST_WAITED, "OK")])
def test_so_many_labels_without_an_error_are_enough(rows: int, state: str) -> None:
    watch = ErrorWatch((1, 10**7), 1e9)
    watch.take([0.0] * rows)
    assert watch.state is ColumnPhase[state]


# How sure answers were.


def log_factor(tilt: float, chance: float, right: bool) -> float:
    return (tilt if right else 0.0) - math.log(1 - chance + chance * math.exp(tilt))


ANSWERS = [(0.9, True), (0.2, True), (0.7, False), (0.99, False), (0.5, True)]


@pytest.mark.parametrize("begun", [1.0, 0.25])
def test_evidence_of_a_gap_is_the_mean_over_bets(begun: float) -> None:
    gap, sums = Gap(), [0.0] * len(TILTS)
    inflations = [1.0, 2.0, 3.0, 1.5, 1.0]
    assert gap.log_e == -math.inf
    for chance, right in ANSWERS:
        gap.add(chance, right, begun, inflations)
        sums = [
            (item + begun) * math.exp(log_factor(tilt, chance, right) / inflation)
            for item, tilt, inflation in zip(sums, TILTS, inflations, strict=True)
        ]
        assert math.exp(gap.log_e) == pytest.approx(sum(sums) / len(sums))
        assert gap.is_worse is (TILTS[sums.index(max(sums))] < 0)
    plain, other = Gap(), Gap()
    plain.add(0.9, True)
    other.add(0.9, True, 1.0, [1.0] * len(TILTS))
    assert plain.log_e == other.log_e
    gap.restart()
    assert gap.log_e == -math.inf


@pytest.mark.parametrize("worse", [True, False])
def test_evidence_of_the_end_of_a_gap(worse: bool) -> None:
    recovery, total = GapRecovery(worse), 0.0
    for chance, right in ANSWERS:
        recovery.add(chance, right, 2.0)
        total = (total + 1) * math.exp(-log_factor(-MARGIN if worse else MARGIN, chance, right) / 2)
        assert math.exp(recovery.log_e) == pytest.approx(total)
    once, plain = GapRecovery(worse), GapRecovery(worse)
    once.add(0.9, True, 1.0)
    plain.add(0.9, True)
    assert once.log_e == plain.log_e


def test_large_sums_go_on_without_overflow() -> None:
    gap, expected = Gap(), 0.0
    for _ in range(400):
        gap.add(0.01, True)
    for _ in range(400):
        expected = (math.log1p(math.exp(expected)) if expected < 300 else expected) + log_factor(2.0, 0.01, True)
    assert gap.log_e == pytest.approx(expected - math.log(5), rel=1e-3)


def divisors(errors: list[int]) -> list[float]:
    dependence = learned(errors)
    inflation = 1 + 1.5 * (dependence.inflation() - 1)
    if dependence.bursts() < 16:
        inflation = max(inflation, 19.0)
    found: list[float] = inflations_of_bets(dependence.rate, inflation, -np.array(BETS)).tolist()
    return found


def test_a_gap_is_weighed_by_how_errors_follow_each_other() -> None:
    """It is measured with each block of which a tenth more answers are known."""
    watch, gap, inflations, measured_at = GapWatch(1e12), Gap(), divisors([]), 0.0
    for at, error in enumerate(ERRORS, 1):
        chance = 0.8 if at % 3 else 0.7
        assert watch.add(chance, not error, 0.5) is None
        gap.add(chance, not error, 0.5, inflations[:-2])
        assert watch.log_e == pytest.approx(gap.log_e)
        assert watch.state is (ColumnPhase.OK if at >= LEAST else ColumnPhase.INSUFFICIENT_DATA)
        if at % BLOCK == 0 and at >= measured_at:
            measured_at, inflations = at * 1.1, divisors(ERRORS[:at])


def test_a_gap_begins_at_its_budget_and_is_over_by_as_much() -> None:
    """The budget is what eight wrong answers come to."""
    gap, inflations = Gap(), divisors([])
    for _ in range(8):
        gap.add(0.9, False, 1.0, inflations[:-2])
    budget = math.exp(gap.log_e - 1e-9)
    watch, recovery = GapWatch(budget), GapRecovery(worse=True)
    assert [watch.add(0.9, False) for _ in range(8)] == [None] * 7 + [True]
    assert watch.state is ColumnPhase.DRIFT
    assert GapWatch(budget * 1.001).add(0.9, False) is None
    for _ in range(7):
        change = watch.add(0.9, True)
        recovery.add(0.9, True, max(inflations[-2:]))
        assert (change is False) is (recovery.log_e >= math.log(budget))
        if change is False:
            break
        assert watch.log_e == pytest.approx(gap.log_e), "as it was when the gap began"
    else:
        assert next(at for at in range(20_000) if watch.add(0.9, at % 10 != 0) is False) > 0
    assert (watch.state, watch.log_e) == (ColumnPhase.OK, -math.inf)
