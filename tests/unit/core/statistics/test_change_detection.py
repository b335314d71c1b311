"""The drift detector: how often it is wrong, how soon it is right, and what the effect sizes say."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from penstock.core.bins import NumericBinFinder, numeric_bins
from penstock.core.statistics import change_detection
from penstock.core.statistics.autocorrelation import variance_inflation
from penstock.core.statistics.change_detection import ChangeDetector, find_allowance
from penstock.core.statistics.distributions import find_shares
from penstock.core.statistics.special_functions import log_gamma_ratio
from tests.budgets import THOROUGH, examples

BUDGET = 100_000
BATCH = 10


class Watched:
    """Features that are watched together, normal in the reference."""

    def __init__(self, features: int, rows: int = 10_000, seed: int = 0) -> None:
        self.generator = np.random.default_rng(seed)
        numbers = self.generator.standard_normal((rows, features))
        self.bins = [numeric_bins(str(index), numbers[:, index]) for index in range(features)]
        self.places = NumericBinFinder(self.bins)
        counts = [self.counts(numbers)[index] for index in range(features)]
        self.panel = ChangeDetector(
            [find_shares(count) for count in counts], [find_allowance(count) for count in counts]
        )

    def counts(self, numbers: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        places = self.places(numbers)
        return [
            np.bincount(places[:, index], minlength=bins.width).astype(float) for index, bins in enumerate(self.bins)
        ]

    def see(self, numbers: NDArray[np.float64], inflation: float = 1.0) -> list[int]:
        self.panel.watch(self.panel.batch(self.counts(numbers)), inflation, 0.0)
        return self.panel.find_alarm(BUDGET)


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
    assert float(np.mean([delay(10, change, seed) for seed in range(examples(12))])) <= within


@pytest.mark.simulation
def test_without_a_change_there_are_fewer_false_alarms_than_allowed() -> None:
    alarms, rows, seeds = 0, 0, 4 if THOROUGH else 1
    for seed in range(seeds):
        watched = Watched(5, seed=seed)
        for _ in range(1500):
            rows += 20
            if watched.see(watched.generator.standard_normal((20, 5))):
                alarms += 1
                watched.panel.restart()
    assert rows == 30_000 * seeds
    assert alarms <= seeds  # of four, one is expected at most; four or more have a probability below two per cent


def test_neighbours_that_are_alike_are_worth_less() -> None:
    assert variance_inflation(0.0) == variance_inflation(-0.5) == 1.0
    assert variance_inflation(0.6) == pytest.approx(4.0)
    assert variance_inflation(1.0) == pytest.approx(99.0)

    def alarms(inflation: float) -> int:
        found = 0
        for seed in range(3 if THOROUGH else 1):
            watched = Watched(1, seed=seed)
            last, generator = 0.0, np.random.default_rng(seed + 100)
            for _ in range(500):
                series = []
                for noise in generator.standard_normal(20):
                    last = 0.9 * last + math.sqrt(1 - 0.81) * noise
                    series.append(last)
                if watched.see(np.array(series)[:, None], inflation):
                    found += 1
                    watched.panel.restart()
        return found

    assert alarms(1.0) > 5
    assert alarms(variance_inflation(0.9)) <= 1


def test_the_statistic_grows_by_one_a_row_on_average() -> None:
    """Its defining property, summed out for one row of two places after a batch."""
    reference = find_shares([70, 30])

    def after(row: NDArray[np.float64] | None) -> float:
        panel = ChangeDetector([reference], [0.0])
        panel.watch(np.array([[3.0, 4.0]]), 1.0, 0.0)
        if row is not None:
            panel.watch(row[None, :], 1.0, 0.0)
        return math.exp(panel.log_m[0])

    mean = sum(share * after(row) for share, row in zip(reference, np.eye(2), strict=True))
    assert mean == pytest.approx(after(None) + 1)


def test_features_of_unlike_widths_do_not_touch_each_other() -> None:
    references = [find_shares([70, 30]), find_shares([5, 4, 3, 2, 1])]
    together = ChangeDetector(references, [0.01, 0.01])
    alone = [ChangeDetector([reference], [0.01]) for reference in references]
    generator = np.random.default_rng(3)
    for now in range(20):
        rows = [generator.multinomial(7, reference) for reference in references]
        together.watch(together.batch(rows), 1.0, float(now))
        for panel, row in zip(alone, rows, strict=True):
            panel.watch(panel.batch([row]), 1.0, float(now))
    assert together.log_m.tolist() == pytest.approx([item.log_m[0] for item in alone])
    assert together.since.tolist() == [item.since[0] for item in alone]
    kept = json.loads(json.dumps(together.export_state()))
    successor = ChangeDetector(references, [0.01, 0.01])
    successor.restore_state(kept)
    last = together.batch([[1, 2], [1, 1, 1, 1, 1]])
    for panel in (together, successor):
        panel.watch(last, 1.0, 99.0)
    assert successor.log_m.tolist() == together.log_m.tolist()
    other = ChangeDetector(references[:1], [0.01])
    other.restore_state(kept)  # of another shape: nothing is taken over
    assert other.log_m.tolist() == [-math.inf]


@given(st.floats(1e-3, 1e6), st.floats(0, 1e6))
def test_ratios_of_gamma_functions(base: float, more: float) -> None:
    expected = math.lgamma(base + more) - math.lgamma(base)
    assert log_gamma_ratio(np.array([base]), np.array([more]))[0] == pytest.approx(expected, rel=1e-9, abs=1e-8)


def test_a_small_reference_is_tolerated_more() -> None:
    assert find_allowance([100] * 10) > find_allowance([1000] * 10) > find_allowance([100_000] * 10)
    assert find_allowance([100_000] * 10) == pytest.approx(change_detection.NEGLIGIBLE, rel=0.01)


def test_it_remembers_since_when() -> None:
    panel = ChangeDetector([find_shares([50, 50])], [0.01])
    for now in range(10):
        panel.watch(np.array([[5.0, 5.0]]), 1.0, float(now))
    before = panel.since[0]
    for now in range(10, 20):
        panel.watch(np.array([[10.0, 0.0]]), 1.0, float(now))
    assert before <= panel.since[0] <= 13
    before = panel.export_state()
    panel.watch(np.zeros((1, 2)), 1.0, 99.0)
    assert panel.export_state() == before


def test_no_features_no_alarm() -> None:
    assert (
        ChangeDetector([], []).find_alarm(BUDGET)
        == ChangeDetector([find_shares([1, 1])], [0.0]).find_alarm(BUDGET)
        == []
    )
