"""The parts of the watch over errors: sums over starts, pairs of labels, and the spacing that is chosen by them."""

import math

import numpy as np
import pytest

from loadtests.errors import CHAIN, LATENT, Case, draw_errors
from penstock.core.statistics.error_dependence import BLOCK, LAGS, SPACINGS, ErrorAutocorrelation
from penstock.core.statistics.error_rates import MULTIPLES, WEIGHTS, StartSums


def learned(kind: str, rate: float, correlation: float, rows: int) -> ErrorAutocorrelation:
    found = draw_errors(Case(kind, rate, correlation, True), rate, rows, np.random.default_rng(5)).astype(np.intp)
    dependence = ErrorAutocorrelation()
    for block in found[: rows - rows % BLOCK].reshape(-1, BLOCK):
        dependence.learn(block)
    return dependence


@pytest.mark.parametrize("spacing", SPACINGS)
def test_sums_over_starts_are_those_of_the_recursion_in_each_phase(spacing: int) -> None:
    factors = np.random.default_rng(6).lognormal(0, 0.3, (20 * BLOCK, 2))
    sums, expected = StartSums(2, spacing), np.zeros((spacing, 2))
    for at in range(0, len(factors), BLOCK):
        sums.take(at, factors[at : at + BLOCK])
    for index, factor in enumerate(factors):
        expected[index % spacing] = (expected[index % spacing] + 1) * factor
    assert sums.total() == pytest.approx(expected.sum(axis=0))


def test_without_evidence_the_sum_grows_by_one_a_label_whatever_the_spacing() -> None:
    for spacing in SPACINGS:
        sums = StartSums(1, spacing)
        for at in range(0, 50 * BLOCK, BLOCK):
            sums.take(at, np.ones((BLOCK, 1)))
        assert sums.total() == pytest.approx(50 * BLOCK)


def test_the_sum_grows_by_the_share_of_labels_at_which_a_change_may_begin() -> None:
    for spacing in SPACINGS:
        sums = StartSums(1, spacing)
        for at in range(0, 50 * BLOCK, BLOCK):
            sums.take(at, np.ones((BLOCK, 1)), 0.25 if at % (2 * BLOCK) else 0.75)
        assert sums.total() == pytest.approx(25 * BLOCK)


def test_the_weights_of_all_bets_sum_to_one() -> None:
    assert pytest.approx(1.0) == WEIGHTS.sum()
    assert len(WEIGHTS) == len(MULTIPLES)
    assert (WEIGHTS > 0).all()


def test_evidence_goes_on_at_another_spacing() -> None:
    sums = StartSums(2, 4)
    sums.take(0, np.full((BLOCK, 2), 1.5))
    before = sums.total()
    for spacing in (64, 1):
        sums.respace(spacing)
        assert sums.total() == pytest.approx(before)


def test_pairs_are_counted_at_each_lag() -> None:
    labels = (np.random.default_rng(7).random(40 * BLOCK) < 0.3).astype(np.intp)
    dependence = ErrorAutocorrelation()
    for block in labels.reshape(-1, BLOCK):
        dependence.learn(block)
    for index, lag in enumerate(LAGS):
        expected = np.zeros((2, 2))
        np.add.at(expected, (labels[:-lag], labels[lag:]), 1)
        assert dependence.counts[index].tolist() == expected.tolist()


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6, 0.9])
def test_a_chain_needs_no_spacing_however_long_its_bursts(correlation: float) -> None:
    dependence = learned(CHAIN, 0.1, correlation, 40_000)
    spacing, inflation = dependence.spacing()
    assert spacing == 1
    assert inflation < 1.2
    assert dependence.correlation(1) == pytest.approx(correlation, abs=0.03)


def test_longer_memory_than_a_chains_needs_a_spacing() -> None:
    spacing, inflation = learned(LATENT, 0.1, 0.9, 40_000).spacing()
    assert 4 <= spacing <= 32
    assert 1 <= inflation < 1.5
    assert learned(LATENT, 0.1, 0.99, 40_000).spacing()[0] >= 16


def test_runs_of_one_burst_count_once() -> None:
    assert learned(CHAIN, 0.1, 0.0, 2000).bursts() == pytest.approx(180, rel=0.2)
    assert learned(CHAIN, 0.1, 0.9, 2000).bursts() < 20
    assert ErrorAutocorrelation().bursts() == 0
    assert math.isfinite(ErrorAutocorrelation().spacing()[1])
