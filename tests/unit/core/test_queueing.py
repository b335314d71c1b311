"""The rule of joining a queue, as a table and by its properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.queueing import comes_too_late, expected_wait_ns, smoothed


@pytest.mark.parametrize(
    ("before", "threads", "run_ns", "left_ns", "late"),
    [
        (0, 1, 1e9, 1, False),  # a thread is free
        (1, 2, 1e9, 1, False),
        (1, 1, 10.0, 20, False),
        (1, 1, 10.0, 19, True),
        (4, 2, 10.0, 30, False),
        (5, 2, 10.0, 29, True),
        (100, 1, 0.0, 1, False),  # nothing is known of its runs
    ],
)
def test_who_comes_too_late(before: int, threads: int, run_ns: float, left_ns: int, late: bool) -> None:
    assert comes_too_late(before, threads, run_ns, left_ns) == late


@given(st.integers(0, 1000), st.integers(1, 16), st.floats(0, 1e9), st.integers(0, 10**12))
def test_a_longer_queue_is_never_easier_to_join(before: int, threads: int, run_ns: float, left_ns: int) -> None:
    assert comes_too_late(before + 1, threads, run_ns, left_ns) >= comes_too_late(before, threads, run_ns, left_ns)
    assert expected_wait_ns(before + 1, threads, run_ns) >= expected_wait_ns(before, threads, run_ns)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=50))
def test_an_expectation_lies_among_what_was_seen(runs: list[int]) -> None:
    expected = 0.0
    for run in runs:
        expected = smoothed(expected, run)
    assert min(runs) - 1 <= expected <= max(runs) + 1


def test_it_follows_a_change() -> None:
    expected = 1_000.0
    for _ in range(30):
        expected = smoothed(expected, 5_000)
    assert expected == pytest.approx(5_000, rel=0.01)
