"""Plans of joint runs, and what they are made by: every call is in one run, in order, within the bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.batching import MOST_ROWS, BatchRules, RunCost, batch_rules, fit_cost, next_run, plan_runs

CALLS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 70)), max_size=60)


@given(CALLS, st.integers(1, 64))
def test_every_call_is_in_one_run_in_order_and_within_the_bound(calls: list[tuple[str, int]], most: int) -> None:
    keys, rows = [key for key, _ in calls], [number for _, number in calls]
    runs = plan_runs(keys, rows, most)
    assert sorted(place for run in runs for place in run) == list(range(len(calls)))
    for run in runs:
        assert run == sorted(run)
        assert len({keys[place] for place in run}) == 1
        assert len(run) == 1 or sum(rows[place] for place in run) <= most
        assert len(run) == 1 or all(rows[place] for place in run)


@given(CALLS)
def test_calls_of_a_row_fill_runs(calls: list[tuple[str, int]]) -> None:
    keys = [key for key, _ in calls]
    runs = plan_runs(keys, [1] * len(calls), 8)
    for key in set(keys):
        assert sum(keys[run[0]] == key for run in runs) == -(-keys.count(key) // 8)


@pytest.mark.parametrize(
    ("cost", "budget", "most"),
    [
        (fit_cost(8, 10_000, 17_000), 500_000, MOST_ROWS),
        (fit_cost(8, 10_000, 80_000), 50_000, 5),
        (fit_cost(8, 100_000, 100_000), 50_000, MOST_ROWS),
        (fit_cost(2, 100_000, 90_000), 50_000, MOST_ROWS),
        (RunCost(1000, 100_000), 50_000, 1),
    ],
)
def test_the_bound_of_a_cost(cost: RunCost, budget: float, most: int) -> None:
    assert cost.most_rows(budget) == most


def test_a_cost_is_fitted_to_two_runs() -> None:
    found = fit_cost(8, 20_000, 55_000)
    assert found.base_ns + found.row_ns == pytest.approx(20_000)
    assert found.base_ns + 8 * found.row_ns == pytest.approx(55_000)


CHEAP, EVEN = RunCost(100_000.0, 1_000.0), RunCost(1_000.0, 100_000.0)


@pytest.mark.parametrize(
    ("cost", "stated", "preferred", "delay_ns", "promised_ns", "made"),
    [
        (None, 8, (4,), 10, 0, BatchRules()),  # it is not known whether its rows are independent
        (CHEAP, 0, (), 0, 0, BatchRules(MOST_ROWS)),
        (CHEAP, 8, (), 0, 0, BatchRules(8)),
        (RunCost(100_000.0, 100_000.0), 0, (), 0, 0, BatchRules(34)),
        (EVEN, 0, (), 0, 0, BatchRules(1)),  # a row costs what it costs
        (EVEN, 8, (4,), 0, 0, BatchRules(8, (4,))),  # asked for all the same
        (EVEN, 8, (), 500, 0, BatchRules(8, (), 500)),
        (EVEN, 8, (4, 8), 0, 900_000, BatchRules(4, (4,))),  # eight rows would take more than half of what is promised
        (CHEAP, 128, (128,), 0, 1_000_000, BatchRules(128, (128,))),
    ],
)
def test_what_runs_are_made_of(
    cost: RunCost | None, stated: int, preferred: tuple[int, ...], delay_ns: int, promised_ns: int, made: BatchRules
) -> None:
    assert batch_rules(cost, stated, preferred, delay_ns, promised_ns) == made


@pytest.mark.parametrize(
    ("queue", "of", "now", "does"),
    [
        ("a1", BatchRules(8), 10, ([0], 0)),
        ("a1 a1 a1", BatchRules(8), 10, ([0, 1, 2], 0)),
        ("a1 a1 a1", BatchRules(2), 10, ([0, 1], 0)),
        ("a1 b1 a1", BatchRules(8), 10, ([0, 2], 0)),
        ("a3 a6 a1", BatchRules(8), 10, ([0, 2], 0)),  # who does not fit waits for the next run
        ("a9 a1", BatchRules(8), 10, ([0], 0)),
        ("a0 a1", BatchRules(8), 10, ([0], 0)),
        ("a1 a1", BatchRules(1), 10, ([0], 0)),
        ("a1 a1 a1 a1 a1", BatchRules(8, (2, 4)), 10, ([0, 1, 2, 3], 0)),
        ("a1 a1 a1", BatchRules(8, (4,)), 10, ([0, 1, 2], 0)),  # not to be had, and nothing waits
        ("a1 a1 a1", BatchRules(8, (4,), 100), 50, ([], 110)),
        ("a1 a1 a1", BatchRules(8, (4,), 100), 110, ([0, 1, 2], 0)),
        ("a1 a1 a1 a1", BatchRules(8, (4,), 100), 50, ([0, 1, 2, 3], 0)),
        ("a1 a1", BatchRules(8, (), 100), 50, ([], 110)),
        ("a4 a4", BatchRules(8, (), 100), 50, ([0, 1], 0)),  # full
        ("a9", BatchRules(8, (), 100), 50, ([0], 0)),  # nobody could join it
        ("a0", BatchRules(8, (), 100), 50, ([0], 0)),
        ("a4", BatchRules(8, (4,), 100), 50, ([0], 0)),
        # as Triton documents it: at least the largest preferred size runs at once
        ("a7", BatchRules(8, (2, 6), 100), 50, ([0], 0)),
        ("a6", BatchRules(8, (2, 6), 100), 50, ([0], 0)),
        ("a8", BatchRules(8, (2, 6), 100), 50, ([0], 0)),
        ("a5", BatchRules(8, (2, 6), 100), 50, ([], 110)),
        ("a9", BatchRules(8, (2, 6), 100), 50, ([0], 0)),
        # what is queued runs when the next would not fit the largest preferred size
        ("a3 a7", BatchRules(8, (2, 6), 100), 50, ([0], 0)),
        ("a3 a4", BatchRules(8, (2, 6), 100), 50, ([0], 0)),
        ("a1 a3 a3", BatchRules(8, (6,), 100), 50, ([0, 1], 0)),
        ("a3 a2", BatchRules(8, (2, 6), 100), 50, ([], 110)),
        ("a3 a3", BatchRules(8, (2, 6), 100), 50, ([0, 1], 0)),
        ("a1 a1 a4 a5", BatchRules(8, (2, 6), 100), 50, ([0, 1, 2], 0)),
        ("a1 a1 a5", BatchRules(8, (2, 6), 100), 50, ([0, 1], 0)),
        ("a3 b1", BatchRules(8, (2, 6), 100), 50, ([0], 0)),  # the next cannot join at all
        ("a6 a6", BatchRules(8, (), 100), 50, ([0], 0)),  # nor here, without preferred sizes
        # who has waited long enough takes all that fit
        ("a1 a1 a1", BatchRules(8, (2, 6), 100), 110, ([0, 1, 2], 0)),
        ("a3 a4", BatchRules(8, (2, 6), 100), 110, ([0, 1], 0)),
    ],
)
def test_what_a_free_thread_does(queue: str, of: BatchRules, now: int, does: tuple[list[int], int]) -> None:
    calls = queue.split()
    assert next_run([call[0] for call in calls], [int(call[1:]) for call in calls], 10, of, now) == does


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20)), min_size=1, max_size=40),
    st.integers(1, 16),
    st.sets(st.integers(1, 16), max_size=3),
    st.integers(0, 5),
    st.integers(0, 10),
)
def test_a_run_has_the_first_and_only_compatible_requests_and_stays_in_bounds(
    queue: list[tuple[str, int]], most: int, preferred: set[int], delay: int, now: int
) -> None:
    keys, rows = [key for key, _ in queue], [number for _, number in queue]
    of = BatchRules(most, tuple(sorted(size for size in preferred if size <= most)), delay)
    places, until = next_run(keys, rows, 3, of, now)
    if not places:
        assert now < until == 3 + delay
        return
    assert places[0] == 0
    assert places == sorted(set(places))
    assert {keys[place] for place in places} == {keys[0]}
    assert len(places) == 1 or sum(rows[place] for place in places) <= most
