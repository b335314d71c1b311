"""Evidence that a change is over: how often it is wrong while the change lasts, and how soon it comes after its end."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from penstock.core.statistics.change_detection import find_allowance
from penstock.core.statistics.distributions import find_shares
from penstock.core.statistics.recovery import (
    FURTHER,
    MOST_STARTS,
    SHORTEST,
    Recoveries,
    Recovery,
    find_recovery_evidence,
)
from tests.budgets import THOROUGH

Floats = NDArray[np.float64]

BUDGET = 100_000.0
ALPHA = 0.05


def distant(generator: np.random.Generator, share: Floats, margin: float) -> Floats:
    """A distribution in a direction by chance, whose squared Hellinger distance from ``share`` is ``margin / 4``."""
    away = generator.standard_normal(len(share)) * np.sqrt(share)
    away -= (away @ np.sqrt(share)) * np.sqrt(share)
    away /= math.sqrt(float(away @ away))
    angle = math.acos(1 - margin / 4)
    moved = (math.cos(angle) * np.sqrt(share) + math.sin(angle) * away) ** 2
    return np.asarray(moved, np.float64)


def greatest(counts: Floats, usual: Floats, margin: float, worth: float) -> Floats:
    """Each stream's greatest evidence over growing counts [looks, streams, places]."""
    streams = counts.shape[1]
    shared = np.tile(find_shares(usual), (streams, 1))
    looks = [
        find_recovery_evidence(item, shared, np.full(streams, margin), np.full(streams, worth))
        for item in np.cumsum(counts, axis=0)
    ]
    return np.asarray(np.max(looks, axis=0), np.float64)


@pytest.mark.parametrize("rows", [100, 1000, 10_000])
@pytest.mark.parametrize("places", [2, 5, 20])
def test_a_change_that_lasts_is_seldom_called_over(places: int, rows: int) -> None:
    """By Ville's inequality the evidence ever reaches ``1 / ALPHA`` in that part of the streams at most."""
    generator, streams, margin = np.random.default_rng(places * rows), 400, 0.02
    usual = np.full(places, rows / places)
    counts = np.stack(
        [generator.multinomial(250, distant(generator, find_shares(usual), margin), size=12) for _ in range(streams)],
        axis=1,
    ).astype(float)
    wrong = float((greatest(counts, usual, margin, rows) >= math.log(1 / ALPHA)).mean())
    assert wrong <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / streams)


def test_a_rare_value_that_stays_more_frequent_is_seldom_called_usual() -> None:
    generator, streams = np.random.default_rng(8), 400
    usual = np.array([5000.0, 5000.0, 0.0])
    counts = generator.multinomial(200, [0.4965, 0.4965, 0.007], size=(30, streams)).astype(float)
    wrong = float((greatest(counts, usual, 0.018, 10_000) >= math.log(1 / ALPHA)).mean())
    assert wrong <= ALPHA
    alike = generator.multinomial(200, find_shares(usual), size=(30, streams)).astype(float)
    assert float((greatest(alike, usual, 0.018, 10_000) >= math.log(1 / ALPHA)).mean()) > 0.9


def run(recovery: Recovery, usual: Floats, share: Floats, rows: int, generator: np.random.Generator) -> int | None:
    """How many rows pass until the change is called over."""
    for seen in range(20, rows + 1, 20):
        recovery.watch(generator.multinomial(20, share), usual, find_allowance(usual) + FURTHER, 1.0)
        if recovery.is_over(BUDGET):
            return seen
    return None


@pytest.mark.simulation
@pytest.mark.parametrize("lasted", [200, 3000, 20_000])
def test_the_end_is_found_however_long_the_change_lasted(lasted: int) -> None:
    usual = np.full(10, 1000.0)
    for seed in range(5 if THOROUGH else 1):
        generator, recovery = np.random.default_rng(seed), Recovery(10)
        changed = distant(generator, find_shares(usual), 0.05)
        assert run(recovery, usual, changed, lasted, generator) is None
        assert run(recovery, usual, find_shares(usual), 4000, generator) is not None


def test_what_is_usual_may_change_with_the_hour() -> None:
    """Rows of two kinds by turns, against what is usual of each: the same as rows of one kind."""
    generator, recovery = np.random.default_rng(4), Recovery(4)
    kinds = np.array([[4000.0, 3000, 2000, 1000], [1000.0, 2000, 3000, 4000]])
    for turn in range(200):
        usual = kinds[turn // 10 % 2]
        recovery.watch(generator.multinomial(20, find_shares(usual)), usual, 0.018, 1.0)
    assert recovery.is_over(BUDGET)
    wrong = Recovery(4)
    for turn in range(200):
        wrong.watch(generator.multinomial(20, find_shares(kinds[0])), kinds[turn // 10 % 2], 0.018, 1.0)
    assert not wrong.is_over(BUDGET)


def test_rows_that_are_worth_less_take_as_many_more() -> None:
    usual, found = np.full(10, 1000.0), []
    for inflation in (1.0, 4.0):
        generator, recovery = np.random.default_rng(6), Recovery(10)
        for _ in range(60):
            recovery.watch(generator.multinomial(20, find_shares(usual)) * inflation, usual, 0.02, inflation)
        found.append(recovery.log_e)
    assert found[0] == pytest.approx(found[1])


@given(st.lists(st.integers(0, 400), min_size=1, max_size=60))
def test_few_starts_are_kept_and_a_successor_goes_on(batches: list[int]) -> None:
    usual, generator, recovery = np.array([600.0, 400, 0]), np.random.default_rng(1), Recovery(3)
    for rows in batches:
        recovery.watch(generator.multinomial(rows, [0.6, 0.4, 0.0]), usual, 0.02, 1.0)
    kept = json.loads(json.dumps(recovery.export_state()))
    assert len(kept["counts"]) <= MOST_STARTS
    successor = Recovery(3)
    successor.restore_state(kept)
    for item in (recovery, successor):
        item.watch([1500, 1000, 0], usual, 0.02, 1.0)
    assert successor.log_e == pytest.approx(recovery.log_e)
    other = Recovery(5)
    other.restore_state(kept)  # of other places: nothing is taken over
    assert other.export_state()["counts"] == []


def test_nothing_is_over_before_there_are_enough_rows() -> None:
    recovery = Recovery(2)
    recovery.watch([0, 0], [5, 5], 0.5, 1.0)
    recovery.watch([40, 40], [5000, 5000], 5.0, 1.0)
    assert sum(map(sum, recovery.export_state()["counts"])) < SHORTEST
    assert not recovery.is_over(SHORTEST)


def test_a_column_of_one_value_recovers_when_others_have_gone() -> None:
    recovery = Recovery(2)
    for _ in range(100):
        recovery.watch([20, 0], [10_000, 0], 0.018, 1.0)
    assert recovery.is_over(BUDGET)


def test_of_many_columns_those_that_changed_are_tested() -> None:
    usual, rows = [np.array([500.0, 500]), np.array([900.0, 100])], [np.array([100.0, 100]), np.array([180.0, 20])]
    recoveries, over = Recoveries(), set()
    for look in range(200):
        over = recoveries.find_recovered([1], [1] if look < 100 else [], rows, usual, [0.01, 0.01], 1.0, BUDGET)
        if over:
            break
    assert over == {1}
    assert look > 100
    successor = Recoveries()
    successor.restore_state(json.loads(json.dumps(recoveries.export_state())), [2, 2])
    assert successor.find_recovered([1], [], rows, usual, [0.01, 0.01], 1.0, BUDGET) == {1}
    assert successor.find_recovered([], [], rows, usual, [0.01, 0.01], 1.0, BUDGET) == set()
