"""Performance without labels: right where probabilities are calibrated, and evidence where they are not."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from penstock.core.statistics.calibration import Gap, GapRecovery, calibration_error
from penstock.core.statistics.performance_estimation import calibration_curve, estimate
from penstock.monitor.performance import SHARE
from tests.budgets import THOROUGH, examples

BINS = 50


def binary(rows: int, seed: int, worth: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the second class, and what came true: probabilities are ``worth`` of their logit."""
    generator = np.random.default_rng(seed)
    p = generator.beta(1.5, 2.0, rows)
    true = 1 / (1 + np.exp(-worth * np.log(p / (1 - p))))
    return p, generator.random(rows) < true


def counted(p: np.ndarray) -> list[int]:
    counts: list[int] = np.bincount((p * BINS).astype(int).clip(max=BINS - 1), minlength=BINS).tolist()
    return counts


def test_calibrated_probabilities_show_accuracy_f1_and_area() -> None:
    p, came = binary(200_000, 1)
    found = estimate(2, counted(p), calibration_curve(counted(p)))
    assert found is not None
    right = (p >= 0.5) == came
    assert found.accuracy == pytest.approx(right.mean(), abs=0.005)
    assert found.low < right.mean() < found.high
    hits = ((p >= 0.5) & came).sum()
    assert found.precision == pytest.approx(hits / (p >= 0.5).sum(), abs=0.01)
    assert found.recall == pytest.approx(hits / came.sum(), abs=0.01)
    order = p.argsort().argsort()
    area = (order[came].sum() - came.sum() * (came.sum() - 1) / 2) / (came.sum() * (~came).sum())
    assert found.roc_auc == pytest.approx(area, abs=0.005)
    assert not found.calibrated


def test_labels_of_the_reference_put_overconfident_probabilities_right() -> None:
    p, came = binary(100_000, 2, worth=0.4)
    bins = (p * BINS).astype(int)
    came_true = np.bincount(bins, came, BINS).astype(int).tolist()
    live, truth = binary(20_000, 3, worth=0.4)
    naive, known = (
        estimate(2, counted(live), probabilities)
        for probabilities in (calibration_curve(counted(p)), calibration_curve(counted(p), came_true))
    )
    assert naive is not None
    assert known is not None
    realised = ((live >= 0.5) == truth).mean()
    assert known.calibrated
    assert known.low < realised < known.high
    assert naive.accuracy > realised + 0.03


def test_of_many_classes_accuracy_is_reported() -> None:
    counts = [0] * BINS
    counts[-1], counts[25] = 300, 100
    found = estimate(5, counts, calibration_curve(counts))
    assert found is not None
    assert found.accuracy == pytest.approx((300 * 0.99 + 100 * 0.51) / 400)
    assert (found.f1, found.roc_auc) == (None, None)
    assert estimate(5, [0] * BINS, calibration_curve(counts)) is None


@given(st.lists(st.integers(0, 1000), min_size=BINS, max_size=BINS), st.sampled_from([2, 3]))
def test_estimates_stay_in_their_bounds(counts: list[int], classes: int) -> None:
    found = estimate(classes, counts, calibration_curve(counts))
    if found is None:
        assert not any(counts)
        return
    assert 0 <= found.low <= found.accuracy <= found.high <= 1
    for value in (found.f1, found.precision, found.recall, found.roc_auc):
        assert value is None or 0 <= value <= 1


def rows_until(worth: float, seed: int, budget: float, most: int) -> int | None:
    p, came = binary(most, seed, worth)
    gap = Gap()
    for number, (chance, second) in enumerate(zip(p, came, strict=True), 1):
        gap.add(max(chance, 1 - chance), bool((chance >= 0.5) == second))
        if gap.log_e >= math.log(budget):
            return number
    return None


def test_a_gap_is_found_where_there_is_one_and_seldom_where_not() -> None:
    runs = examples(40)
    assert all((rows_until(0.2, seed, 1000, 5000) or 9999) < 2000 for seed in range(examples(10)))
    assert (
        sum(rows_until(1.0, seed, 10_000, 1000) is not None for seed in range(runs)) <= runs // 4
    )  # a tenth is allowed for


@pytest.mark.parametrize("chance", [0.0, 1e-9, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0])
def test_the_bets_on_a_gap_are_fair(chance: float) -> None:
    """However sure the model is: they win on average what they stake."""
    won = 0.0
    for right, weight in ((True, chance), (False, 1 - chance)):
        gap = Gap()
        gap.add(chance, right)
        won += weight * math.exp(gap.log_e)
    assert won == pytest.approx(1.0)


SURE: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "0.9": lambda _, rows: np.full(rows, 0.9),
    "0.99": lambda _, rows: np.full(rows, 0.99),
    "0.999": lambda _, rows: np.full(rows, 0.999),
    "Beta(50, 0.25)": lambda random, rows: random.beta(50, 0.25, rows),
}
"""Models that are as sure as they may be."""


@pytest.mark.simulation
@pytest.mark.parametrize("name", SURE)
def test_overconfident_models_raise_alarms_as_seldom_as_stated(name: str) -> None:
    """One in 100,000 labels at most: of the nightly run, less than three in 200,000."""
    random, rows = np.random.default_rng(1), 200_000 if THOROUGH else 20_000
    probabilities = SURE[name](random, rows)
    rights = random.random(len(probabilities)) < probabilities
    gap, alarms = Gap(), 0
    for chance, right in zip(probabilities.tolist(), rights.tolist(), strict=True):
        gap.add(chance, right)
        if gap.log_e >= math.log(100_000 / SHARE):
            gap.restart()
            alarms += 1
    assert alarms < 1 + rows / 100_000


@pytest.mark.parametrize(
    ("says", "true", "most"), [(0.99, 0.9, 250), (0.999, 0.99, 2500), (0.9, 0.8, 700), (0.9, 0.97, 900)]
)
def test_an_overconfident_model_is_found_soon(says: float, true: float, most: int) -> None:
    random, found = np.random.default_rng(3), []
    for _ in range(examples(20)):
        gap, rows = Gap(), 0
        while gap.log_e < math.log(100_000 / SHARE):
            gap.add(says, bool(random.random() < true))
            rows += 1
        found.append(rows)
    assert np.mean(found) <= most


def test_the_gap_can_be_restarted() -> None:
    gap = Gap()
    assert gap.log_e == -math.inf
    gap.add(0.9, True)
    assert math.isfinite(gap.log_e)
    gap.restart()
    assert gap.log_e == -math.inf


def test_the_calibration_error() -> None:
    assert calibration_error([], []) is None
    assert calibration_error([0.9] * 10, [True] * 9 + [False]) == pytest.approx(0.0)
    assert calibration_error([0.9] * 10, [True] * 5 + [False] * 5) == pytest.approx(0.4)
    assert calibration_error([1.0, 0.0], [False, True]) == pytest.approx(1.0)


@pytest.mark.parametrize(("tilt", "worse"), [(-1.0, True), (1.0, False)])
def test_a_calibration_gap_is_over_when_accuracy_equals_confidence_and_not_before(tilt: float, worse: bool) -> None:
    generator = np.random.default_rng(40)
    probabilities = generator.beta(4, 2, 20_000)
    shifted = 1 / (1 + (1 - probabilities) / probabilities * math.exp(-tilt))
    found = []
    for truth in (shifted, probabilities):
        recovery, top = GapRecovery(worse), -math.inf
        for chance, right in zip(
            probabilities.tolist(), (generator.random(len(probabilities)) < truth).tolist(), strict=True
        ):
            recovery.add(chance, right)
            top = max(top, recovery.log_e)
        found.append(top)
    assert found[0] < math.log(200_000) < found[1]
