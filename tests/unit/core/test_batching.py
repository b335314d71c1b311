"""Plans of joint runs, and what they are made by: every call is in one run, in order, within the bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.batching import MOST_ROWS, Cost, fitted, plan

CALLS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 70)), max_size=60)


@given(CALLS, st.integers(1, 64))
def test_every_call_is_in_one_run_in_order_and_within_the_bound(calls: list[tuple[str, int]], most: int) -> None:
    keys, rows = [key for key, _ in calls], [number for _, number in calls]
    runs = plan(keys, rows, most)
    assert sorted(place for run in runs for place in run) == list(range(len(calls)))
    for run in runs:
        assert run == sorted(run)
        assert len({keys[place] for place in run}) == 1
        assert len(run) == 1 or sum(rows[place] for place in run) <= most
        assert len(run) == 1 or all(rows[place] for place in run)


@given(CALLS)
def test_calls_of_a_row_fill_runs(calls: list[tuple[str, int]]) -> None:
    keys = [key for key, _ in calls]
    runs = plan(keys, [1] * len(calls), 8)
    for key in set(keys):
        assert sum(keys[run[0]] == key for run in runs) == -(-keys.count(key) // 8)


@pytest.mark.parametrize(
    ("cost", "budget", "most"),
    [
        (fitted(8, 10_000, 17_000), 500_000, MOST_ROWS),
        (fitted(8, 10_000, 80_000), 50_000, 5),
        (fitted(8, 100_000, 100_000), 50_000, MOST_ROWS),
        (fitted(2, 100_000, 90_000), 50_000, MOST_ROWS),
        (Cost(1000, 100_000), 50_000, 1),
    ],
)
def test_the_bound_of_a_cost(cost: Cost, budget: float, most: int) -> None:
    assert cost.most_rows(budget) == most


def test_a_cost_is_fitted_to_two_runs() -> None:
    found = fitted(8, 20_000, 55_000)
    assert found.base_ns + found.row_ns == pytest.approx(20_000)
    assert found.base_ns + 8 * found.row_ns == pytest.approx(55_000)
