"""A gap between how sure answers are and how often they are right: no alarms by runs of errors, and one end of each."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loadtests.errors import CHAIN, LATENT, Case, draw_errors
from penstock.core.statistics.calibration import BETS, GapWatch
from penstock.core.statistics.column_state import ColumnPhase
from penstock.core.statistics.error_dependence import BLOCK, ErrorAutocorrelation, inflations_of_bets
from tests.budgets import THOROUGH

BUDGET = 200_000.0
TILTS = np.array(BETS)


def in_runs(rate: float, correlation: float, many: int, seed: int, kind: str = CHAIN) -> NDArray[np.float64]:
    return draw_errors(Case(kind, rate, correlation, False), rate, many, np.random.default_rng(seed))


def changes(watch: GapWatch, chance: float, wrong: NDArray[np.float64]) -> list[tuple[int, bool]]:
    """At which answers a gap begins (True) or is over (False)."""
    found = ((at, watch.add(chance, not item)) for at, item in enumerate(wrong.tolist()))
    return [(at, begins) for at, begins in found if begins is not None]


@given(
    st.floats(0.001, 0.6),
    st.floats(0.0, 0.97),
    st.sampled_from([bet for bet in BETS if abs(bet) <= 4]),
)
def test_bets_do_not_win_by_runs_of_errors(rate: float, correlation: float, tilt: float) -> None:
    """The mean of a product of divided factors, along a Markov chain, does not grow: by its matrix's eigenvalues."""
    inflation = (1 + correlation) / (1 - correlation)
    (divisor,) = inflations_of_bets(rate, inflation, np.array([tilt]))
    assert divisor >= 1
    again, anew = rate + correlation * (1 - rate), rate * (1 - correlation)
    factor = math.exp(tilt / divisor)
    matrix = np.array([[1 - anew, anew * factor], [1 - again, again * factor]])
    stated = math.log1p(rate * math.expm1(tilt)) / divisor
    assert math.log(max(abs(np.linalg.eigvals(matrix)))) <= stated + 1e-9


def test_independent_errors_divide_no_bet() -> None:
    assert inflations_of_bets(0.1, 1.0, TILTS) == pytest.approx(np.ones(len(TILTS)), rel=1e-3)


@pytest.mark.parametrize("inflation", [2.0, 5.0, 20.0])
def test_small_bets_are_divided_by_the_inflation_of_the_variance(inflation: float) -> None:
    assert inflations_of_bets(0.2, inflation, np.array([0.01, -0.01])) == pytest.approx(inflation, rel=0.02)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6, 0.9])
def test_the_inflation_of_a_chain_is_measured(correlation: float) -> None:
    dependence = ErrorAutocorrelation()
    for block in in_runs(0.1, correlation, 60_000, 8).astype(np.intp).reshape(-1, BLOCK):
        dependence.learn(block)
    assert dependence.inflation() == pytest.approx((1 + correlation) / (1 - correlation), rel=0.2)
    assert dependence.rate == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize(
    ("kind", "correlation"), [(CHAIN, 0.0), (CHAIN, 0.3), (CHAIN, 0.6), (CHAIN, 0.9), (LATENT, 0.9)]
)
def test_a_calibrated_model_whose_errors_come_in_runs_has_no_gap(kind: str, correlation: float) -> None:
    """Weighed as independent, errors that correlate by 0.3 and more begin some gap in each of these."""
    for seed in range(50, 53 if THOROUGH else 51):
        watch = GapWatch(BUDGET)
        assert changes(watch, 0.9, in_runs(0.1, correlation, 5000, seed, kind)) == []
        assert watch.state.value == ColumnPhase.OK.value


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_a_gap_that_lasts_is_reported_once_and_is_over_by_evidence(correlation: float) -> None:
    watch = GapWatch(BUDGET)
    assert changes(watch, 0.9, in_runs(0.1, correlation, 4000, 60)) == []
    ((at, begins),) = changes(watch, 0.9, in_runs(0.3, correlation, 8000, 61))
    assert begins
    assert at < 1000
    assert watch.state.value == ColumnPhase.DRIFT.value
    ((at, begins),) = changes(watch, 0.9, in_runs(0.1, correlation, 12_000, 62))
    assert not begins
    assert at > 100
    assert watch.state.value == ColumnPhase.OK.value


def test_a_model_that_is_always_wrong_is_found_before_anything_is_known_of_its_errors() -> None:
    ((at, begins),) = changes(GapWatch(BUDGET), 0.9, np.ones(1000))
    assert begins
    assert at < 200
