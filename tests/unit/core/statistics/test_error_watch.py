"""Errors that are watched: what is usual, changes, and their ends; figures are in the simulations of the load tests."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.statistics.column_state import ColumnPhase
from penstock.core.statistics.error_watch import BASELINE, MOST_WAITED, ErrorChange, ErrorWatch
from tests.budgets import examples

BUDGET = 200_000.0


def wrong(rate: float, rows: int, seed: int) -> list[float]:
    found: list[float] = (np.random.default_rng(seed).random(rows) < rate).astype(float).tolist()
    return found


def begins(changes: list[ErrorChange]) -> list[bool]:
    return [change.begins for change in changes]


@given(st.lists(st.integers(1, 130), min_size=1, max_size=40), st.sampled_from([None, (1000, 9000)]))
@settings(max_examples=examples(20), deadline=None)
def test_the_evidence_does_not_depend_on_how_labels_are_batched(
    sizes: list[int], known: tuple[int, int] | None
) -> None:
    errors = wrong(0.1, 500, 1) + wrong(0.4, 300, 2)
    whole, parts = ErrorWatch(known, BUDGET), ErrorWatch(known, BUDGET)
    changes, found, start = whole.take(errors), [], 0
    for size in [*sizes, len(errors)]:
        found += parts.take(errors[start : start + size])
        start += size
    assert found == changes
    assert (parts.evidence(), parts.state, parts.baseline()) == (whole.evidence(), whole.state, whole.baseline())


def test_a_lasting_change_begins_once_and_ends_when_errors_are_back() -> None:
    watch = ErrorWatch(None, BUDGET)
    assert watch.take(wrong(0.1, 3000, 3)) == []
    assert begins(watch.take(wrong(0.2, 20_000, 4))) == [True]
    assert (watch.state, watch.alarms) == (ColumnPhase.DRIFT, 1)
    assert begins(watch.take(wrong(0.1, 6000, 5))) == [False]
    assert watch.state is ColumnPhase.OK
    assert begins(watch.take(wrong(0.2, 2000, 6))) == [True]


def test_a_change_that_is_smaller_is_not_over() -> None:
    watch = ErrorWatch((1000, 9000), BUDGET)
    assert begins(watch.take(wrong(0.4, 500, 7))) == [True]
    assert watch.take(wrong(0.15, 20_000, 8)) == []
    assert watch.state is ColumnPhase.DRIFT


def test_what_came_before_the_alarm_does_not_become_usual() -> None:
    watch = ErrorWatch(None, BUDGET)
    watch.take(wrong(0.1, 2000, 9))
    (found,) = watch.take(wrong(0.4, 600, 10))
    assert found.worse
    assert found.since == pytest.approx(2000, abs=40)
    assert watch.baseline() == pytest.approx(2000, abs=40)
    assert found.log_e >= math.log(BUDGET)


def test_fewer_errors_are_a_change_too() -> None:
    watch = ErrorWatch((3000, 7000), BUDGET)
    (found,) = watch.take(wrong(0.1, 1000, 11))
    assert (found.begins, found.worse) == (True, False)
    assert begins(watch.take(wrong(0.3, 6000, 12))) == [False]


def test_no_errors_are_waited_for_a_while_only() -> None:
    watch = ErrorWatch(None, BUDGET)
    states = []
    for rows in (MOST_WAITED - BASELINE, 2 * BASELINE):
        watch.take([0.0] * rows)
        states.append(watch.state)
    assert states == [ColumnPhase.INSUFFICIENT_DATA, ColumnPhase.OK]
    assert begins(watch.take(wrong(0.5, 600, 13))) == [True]


def test_everything_that_goes_wrong_at_once_is_found_before_it_is_known_how_errors_follow_each_other() -> None:
    watch = ErrorWatch((500, 9500), BUDGET)
    assert begins(watch.take([1.0] * 1000)) == [True]


@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
def test_numbers_are_watched_by_their_quantiles(scale: float) -> None:
    draw = np.random.default_rng(14)
    watch = ErrorWatch(None, BUDGET)
    assert watch.take((scale * draw.exponential(1, 4000)).tolist()) == []
    assert watch.rate is None
    (found,) = watch.take((scale * draw.exponential(1.6, 800)).tolist())
    assert (found.begins, found.worse) == (True, True)
    assert begins(watch.take((scale * draw.exponential(1, 6000)).tolist())) == [False]


@pytest.mark.parametrize("value", [0.0, 1.0, 2.5])
def test_errors_that_are_all_the_same_raise_no_alarm(value: float) -> None:
    watch = ErrorWatch(None, BUDGET)
    assert watch.take([value] * 10_000) == []
