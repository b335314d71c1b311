"""The rule of joining a queue, as a table and by its properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.labels import Priority
from penstock.core.queueing import (
    PATIENT,
    PATIENT_OF_SHORT,
    WINDOW_NS,
    ConcurrencyLimit,
    class_limits,
    expected_wait_ns,
    misses_deadline,
    next_limit,
    tolerated_ns,
    update_expected_ns,
)


@pytest.mark.parametrize(
    ("before", "threads", "call_ns", "run_ns", "left_ns", "misses"),
    [
        (0, 1, 1e9, 1e9, 1, False),  # a thread is free
        (1, 2, 1e9, 1e9, 1, False),
        (1, 1, 10.0, 10.0, 20, False),
        (1, 1, 10.0, 10.0, 19, True),
        (4, 2, 10.0, 10.0, 30, False),
        (5, 2, 10.0, 10.0, 29, True),
        (8, 1, 10.0, 80.0, 160, False),  # eight calls share a run
        (8, 1, 10.0, 80.0, 159, True),
        (100, 1, 0.0, 0.0, 1, False),  # nothing is known of its runs
    ],
)
def test_calls_that_would_wait_too_long_are_refused(
    before: int, threads: int, call_ns: float, run_ns: float, left_ns: int, misses: bool
) -> None:
    assert misses_deadline(before, threads, call_ns, run_ns, left_ns) == misses


@given(st.integers(0, 1000), st.integers(1, 16), st.floats(0, 1e9), st.integers(0, 10**12))
def test_a_longer_queue_is_never_easier_to_join(before: int, threads: int, run_ns: float, left_ns: int) -> None:
    sooner, later = (misses_deadline(item, threads, run_ns, run_ns, left_ns) for item in (before, before + 1))
    assert later >= sooner
    assert expected_wait_ns(before + 1, threads, run_ns) >= expected_wait_ns(before, threads, run_ns)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=50))
def test_an_expectation_lies_among_what_was_seen(runs: list[int]) -> None:
    expected = 0.0
    for run in runs:
        expected = update_expected_ns(expected, run)
    assert min(runs) - 1 <= expected <= max(runs) + 1


def test_it_follows_a_change() -> None:
    expected = 1_000.0
    for _ in range(30):
        expected = update_expected_ns(expected, 5_000)
    assert expected == pytest.approx(5_000, rel=0.01)


@pytest.mark.parametrize(
    ("in_system", "limit", "priority", "has_capacity"),
    [
        (7, 8.0, Priority.CRITICAL, True),
        (8, 8.0, Priority.CRITICAL, False),
        (7, 8.0, Priority.DEFAULT, True),
        (3, 8.0, Priority.BATCH, True),
        (4, 8.0, Priority.BATCH, False),
        (0, 1.0, Priority.BATCH, True),  # an empty queue takes anybody
    ],
)
def test_admission_depends_on_class_and_capacity(
    in_system: int, limit: float, priority: Priority, has_capacity: bool
) -> None:
    assert (in_system < class_limits(limit)[priority]) == has_capacity


def test_what_is_tolerated() -> None:
    assert tolerated_ns(10.0, 10.0, 1) == 5_000_000
    assert tolerated_ns(1e7, 1e7, 1) == 1.6e8
    assert tolerated_ns(1e7, 1e7, 2) == 9e7
    assert tolerated_ns(1e6, 3.2e7, 1) == 1.28e8  # joint runs


FULL = ConcurrencyLimit(256.0, 3.0, 256.0)


def test_a_queue_that_stands_is_left_alone() -> None:
    limit = FULL
    for inside in [32] * 20:
        limit = next_limit(limit, inside, 0, tolerated=8.0)
    assert limit.value == FULL.value


def test_a_queue_that_only_grows_is_cut_to_what_is_tolerated() -> None:
    limit = FULL
    for inside in (40, 80, 120):
        limit = next_limit(limit, inside, 0, tolerated=8.0)
    assert limit.value == 8.0


def test_callers_who_arrive_together_do_not_count_as_growth() -> None:
    limit = FULL
    for inside in (0, 16, 32, 50, 60, 60):
        limit = next_limit(limit, inside, 0, tolerated=8.0)
    assert limit.value == FULL.value


def test_callers_of_short_runs_may_be_many_and_patient() -> None:
    ways = {}
    for patient in (PATIENT, PATIENT_OF_SHORT):
        limit = ConcurrencyLimit(1000.0, 3.0, 1000.0, patient=patient)
        for inside in (100, 200, 400):
            limit = next_limit(limit, inside, 0, tolerated=8.0)
        ways[patient] = limit.value
    assert ways == {PATIENT: 8.0, PATIENT_OF_SHORT: 1000.0}


def test_refusals_cut_at_once_and_their_end_lets_it_grow_back() -> None:
    limit = next_limit(FULL, 256, 3, tolerated=8.0)
    assert limit.value == 8.0
    windows = 0
    while limit.value < FULL.value:
        limit, windows = next_limit(limit, 2, 0, tolerated=8.0), windows + 1
    assert windows * WINDOW_NS < 2e9  # seconds


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 50), st.floats(0.1, 1000.0)), max_size=50),
    st.floats(1.0, 50.0),
    st.floats(50.0, 500.0),
)
def test_a_limit_stays_in_its_bounds(windows: list[tuple[int, int, float]], least: float, most: float) -> None:
    limit = ConcurrencyLimit(most, least, most)
    for inside, refused, tolerated in windows:
        limit = next_limit(limit, inside, refused, tolerated)
        assert least <= limit.value <= most
