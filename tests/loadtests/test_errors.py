"""Errors that follow each other: no alarms beyond the budget while nothing changes, and more errors are found."""

import numpy as np
import pytest

from loadtests.errors import CASES, CHAIN, CHANGED, GAPS, LATENT, NUMBERS, STEADY, Case, draw_errors, find, run
from penstock.core.statistics import error_rates

QUICK = [case for case in STEADY if case.correlation == 0.9 and case.rate in {0.0, 0.1}]


def test_neighbours_correlate_as_a_case_says() -> None:

    found = draw_errors(Case(CHAIN, 0.1, 0.9, True), 0.1, 100_000, np.random.default_rng(1))
    assert found.mean() == pytest.approx(0.1, abs=0.02)
    assert np.corrcoef(found[1:], found[:-1])[0, 1] == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_errors_that_follow_each_other_raise_no_alarm(case: Case) -> None:
    """Weighed as independent, such errors begin a change in nearly each of these streams."""
    assert find(case, [run(case, seed, stable_labels=6000) for seed in range(5)], 6000).alarms <= 1


@pytest.mark.parametrize("case", CHANGED[:4], ids=lambda case: case.name)
def test_more_errors_are_found(case: Case) -> None:
    found = find(case, [run(case, seed) for seed in range(7)])
    assert found.alarms == 0
    assert found.median is not None
    assert found.median <= case.within


FRESH = range(500_000, 500_040)
"""Seeds by which nothing was chosen."""


def test_twice_as_many_independent_errors_are_found_in_400_labels_nearly_always(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sooner than by bets with equal parts, which find fewer of them in time."""
    delays = [run(CHANGED[0], seed).delay or CHANGED[0].most for seed in FRESH]
    monkeypatch.setattr(error_rates, "WEIGHTS", np.full(len(error_rates.MULTIPLES), 1 / len(error_rates.MULTIPLES)))
    equal = [run(CHANGED[0], seed).delay or CHANGED[0].most for seed in FRESH]
    assert sum(delay <= 400 for delay in delays) >= 36
    assert np.mean(delays) <= 0.95 * np.mean(equal)


@pytest.mark.parametrize("case", [case for case in GAPS if case.after is None], ids=lambda case: case.name)
def test_a_calibrated_model_whose_errors_follow_each_other_has_no_gap(case: Case) -> None:
    """Weighed as independent, such errors begin several gaps in each of these streams."""
    assert find(case, [run(case, seed, stable_labels=4000) for seed in range(5)], 4000).alarms <= 1


def test_all_kinds_are_asked() -> None:
    assert {case.kind for case in CASES} == {CHAIN, LATENT, NUMBERS}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_error_rates_hold(case: Case) -> None:
    found = find(case, [run(case, seed) for seed in range(70_000, 70_200)])
    assert found.holds, found
