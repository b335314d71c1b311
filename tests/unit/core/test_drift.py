"""The drift detector: how often it is wrong, how soon it is right, and what the effect sizes say."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from penstock.core import drift
from penstock.core.bins import NumericPlaces, numeric_bins
from penstock.core.drift import Panel, Scores, Standing, State, allowance, judged, log_gamma_ratio, scores, shares

BUDGET = 100_000
BATCH = 10


class Watched:
    """Features that are watched together, normal in the reference."""

    def __init__(self, features: int, rows: int = 10_000, seed: int = 0) -> None:
        self.generator = np.random.default_rng(seed)
        numbers = self.generator.standard_normal((rows, features))
        self.bins = [numeric_bins(str(index), numbers[:, index]) for index in range(features)]
        self.places = NumericPlaces(self.bins)
        counts = [self.counts(numbers)[index] for index in range(features)]
        self.panel = Panel([shares(one) for one in counts], [allowance(one) for one in counts])

    def counts(self, numbers: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        places = self.places(numbers)
        return [
            np.bincount(places[:, index], minlength=bins.width).astype(float) for index, bins in enumerate(self.bins)
        ]

    def see(self, numbers: NDArray[np.float64], thinning: float = 1.0) -> list[int]:
        self.panel.watch(self.panel.batch(self.counts(numbers)), thinning, 0.0)
        return self.panel.alarm(BUDGET)


def delay(features: int, change: str, seed: int) -> int:
    watched = Watched(features, seed=seed)
    for _ in range(20):
        assert not watched.see(watched.generator.standard_normal((BATCH, features)))
    for number in range(1, 200):
        numbers = watched.generator.standard_normal((BATCH, features))
        if change == "shift":
            numbers[:, 0] += 0.5
        elif change == "spread":
            numbers[:, 0] *= 1.5
        else:
            numbers[watched.generator.random(BATCH) < 0.05, 0] = np.nan
        if found := watched.see(numbers):
            assert 0 in found
            return number * BATCH
    raise AssertionError(change)


@pytest.mark.parametrize(("change", "within"), [("shift", 200), ("spread", 200), ("missing", 300)])
def test_a_change_of_one_of_ten_features_is_found_soon(change: str, within: int) -> None:
    assert float(np.mean([delay(10, change, seed) for seed in range(12)])) <= within


def test_without_a_change_there_are_fewer_false_alarms_than_allowed() -> None:
    alarms, rows = 0, 0
    for seed in range(4):
        watched = Watched(5, seed=seed)
        for _ in range(1500):
            rows += 20
            if watched.see(watched.generator.standard_normal((20, 5))):
                alarms += 1
                watched.panel.restart()
    assert rows == 120_000
    assert alarms <= 4  # one is expected at most; four or more have a probability below two per cent


def test_neighbours_that_are_alike_are_worth_less() -> None:
    assert drift.thinning_of(0.0) == drift.thinning_of(-0.5) == 1.0
    assert drift.thinning_of(0.6) == pytest.approx(4.0)
    assert drift.thinning_of(1.0) == pytest.approx(99.0)

    def alarms(thinning: float) -> int:
        found = 0
        for seed in range(3):
            watched = Watched(1, seed=seed)
            last, generator = 0.0, np.random.default_rng(seed + 100)
            for _ in range(500):
                series = []
                for noise in generator.standard_normal(20):
                    last = 0.9 * last + math.sqrt(1 - 0.81) * noise
                    series.append(last)
                if watched.see(np.array(series)[:, None], thinning):
                    found += 1
                    watched.panel.restart()
        return found

    assert alarms(1.0) > 5
    assert alarms(drift.thinning_of(0.9)) <= 1


def test_the_statistic_grows_by_one_a_row_on_average() -> None:
    """Its defining property, summed out for one row of two places after a batch."""
    reference = shares([70, 30])

    def after(row: NDArray[np.float64] | None) -> float:
        panel = Panel([reference], [0.0])
        panel.watch(np.array([[3.0, 4.0]]), 1.0, 0.0)
        if row is not None:
            panel.watch(row[None, :], 1.0, 0.0)
        return math.exp(panel.log_m[0])

    mean = sum(share * after(row) for share, row in zip(reference, np.eye(2), strict=True))
    assert mean == pytest.approx(after(None) + 1)


def test_features_of_unlike_widths_do_not_touch_each_other() -> None:
    references = [shares([70, 30]), shares([5, 4, 3, 2, 1])]
    together = Panel(references, [0.01, 0.01])
    alone = [Panel([one], [0.01]) for one in references]
    generator = np.random.default_rng(3)
    for now in range(20):
        rows = [generator.multinomial(7, one) for one in references]
        together.watch(together.batch(rows), 1.0, float(now))
        for panel, row in zip(alone, rows, strict=True):
            panel.watch(panel.batch([row]), 1.0, float(now))
    assert together.log_m.tolist() == pytest.approx([one.log_m[0] for one in alone])
    assert together.since.tolist() == [one.since[0] for one in alone]
    kept = json.loads(json.dumps(together.kept()))
    successor = Panel(references, [0.01, 0.01])
    successor.take_up(kept)
    last = together.batch([[1, 2], [1, 1, 1, 1, 1]])
    for panel in (together, successor):
        panel.watch(last, 1.0, 99.0)
    assert successor.log_m.tolist() == together.log_m.tolist()
    other = Panel(references[:1], [0.01])
    other.take_up(kept)  # of another shape: nothing is taken over
    assert other.log_m.tolist() == [-math.inf]


@given(st.floats(1e-3, 1e6), st.floats(0, 1e6))
def test_ratios_of_gamma_functions(base: float, more: float) -> None:
    expected = math.lgamma(base + more) - math.lgamma(base)
    assert log_gamma_ratio(np.array([base]), np.array([more]))[0] == pytest.approx(expected, rel=1e-9, abs=1e-8)


def test_a_small_reference_is_forgiven_more() -> None:
    assert allowance([100] * 10) > allowance([1000] * 10) > allowance([100_000] * 10)
    assert allowance([100_000] * 10) == pytest.approx(drift.FLOOR, rel=0.01)


def test_it_remembers_since_when() -> None:
    panel = Panel([shares([50, 50])], [0.01])
    for now in range(10):
        panel.watch(np.array([[5.0, 5.0]]), 1.0, float(now))
    calm = panel.since[0]
    for now in range(10, 20):
        panel.watch(np.array([[10.0, 0.0]]), 1.0, float(now))
    assert calm <= panel.since[0] <= 13
    before = panel.kept()
    panel.watch(np.zeros((1, 2)), 1.0, 99.0)
    assert panel.kept() == before


def test_effect_sizes() -> None:
    same = scores([100] * 10, [50] * 10)
    assert (same.psi, same.js, same.ks, same.hellinger, same.calm) == pytest.approx((0, 0, 0, 0, True), abs=1e-9)
    one, other = [1000, 1000, 0, 0], [0, 0, 1000, 1000]
    far = scores(one, other)
    assert far.js == pytest.approx(math.sqrt(math.log(2)), abs=0.01)
    assert far.ks == pytest.approx(1.0, abs=0.01)
    assert not far.calm
    assert {place for place, _ in far.moved} <= {0, 1, 2, 3}
    assert scores([1, 1], [0, 0]).rows == 0


def test_psi_is_what_its_definition_says_on_large_samples() -> None:
    reference, window = [5000, 3000, 2000], [4000, 3000, 3000]
    p, r = np.array(window) / 10_000, np.array(reference) / 10_000
    assert scores(reference, window).psi == pytest.approx(float(((p - r) * np.log(p / r)).sum()), rel=1e-3)


def test_the_wasserstein_distance_of_a_shift_is_the_shift() -> None:
    generator = np.random.default_rng(2)
    numbers = generator.standard_normal(20_000)
    bins = numeric_bins("x", numbers, most=50)
    reference = np.bincount(NumericPlaces([bins])(numbers[:, None])[:, 0], minlength=bins.width)
    moved = np.bincount(NumericPlaces([bins])((numbers + 0.5)[:, None])[:, 0], minlength=bins.width)
    found = scores(reference.tolist(), moved.tolist(), bins.edges, 1.0)
    assert found.wasserstein == pytest.approx(0.5, abs=0.05)
    assert found.ks == pytest.approx(0.197, abs=0.02)


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 6.635), (5, 15.086), (10, 23.209), (30, 50.892)])
def test_chi_square_quantiles(degrees: int, quantile: float) -> None:
    assert drift.chi_square_quantile(degrees) == pytest.approx(quantile, rel=0.03)


def test_what_is_said() -> None:
    calm = scores([100] * 10, [50] * 10)
    wild = scores([100] * 10, [500, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    few = Scores(5, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    standing = judged(Standing(), 50, few, False, 0.0)
    assert standing.state is State.INSUFFICIENT_DATA
    standing = judged(standing, 100, calm, False, 0.0)
    assert standing.state is State.OK
    standing = judged(standing, 200, wild, True, 7.0)
    assert (standing.state, standing.since) == (State.DRIFT, 7.0)
    for found in (wild, calm, calm, wild, calm, calm):
        standing = judged(standing, 300, found, False, 0.0)
        assert standing.state is State.DRIFT
    assert judged(standing, 300, calm, False, 0.0).state is State.OK
    assert judged(standing, 300, few, False, 0.0).state is State.DRIFT


def test_no_features_no_alarm() -> None:
    assert Panel([], []).alarm(BUDGET) == Panel([shares([1, 1])], [0.0]).alarm(BUDGET) == []
