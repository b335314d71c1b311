"""A worker's memory budget: what is taken fits, what is given back can be taken again, and trims have a reason."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import OverBudget, TooLarge
from penstock.core.limits import RequestLimits
from penstock.serving.memory_budget import BURST_BYTES, BURST_SHARE, TRIM_BYTES, MemoryBudget


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    budget = MemoryBudget(100)
    assert budget.take(60)
    assert not budget.take(41)
    assert (budget.used, budget.limit) == (60, 100)
    assert budget.take(40)
    assert budget.take(0)
    assert not budget.take(1)
    budget.give_back(100)
    assert budget.used == 0


def test_a_request_that_never_fits_is_refused_at_once() -> None:
    budget = MemoryBudget(100)
    assert budget.take(90)
    for_now, for_good = budget.refusal(100, "try again"), budget.refusal(101, "try again")
    assert (type(for_now), str(for_now)) == (OverBudget, "try again")
    assert type(for_good) is TooLarge
    assert "101 bytes" in str(for_good) and "100 for all" in str(for_good) and "limits.memory_bytes" in str(for_good)


def test_limits_are_at_most_the_available_memory() -> None:
    limits = RequestLimits(max_body_bytes=50, max_output_bytes=200)
    assert limits.within(200) is limits
    bounded = limits.within(40)
    assert (bounded.max_body_bytes, bounded.max_body_setting) == (40, "limits.memory_bytes")
    assert (bounded.max_output_bytes, bounded.max_output_setting) == (40, "limits.memory_bytes")
    assert limits.within(100).max_body_setting == "limits.max_body_bytes"


def test_what_no_caller_waits_for_leaves_them_half() -> None:
    budget = MemoryBudget(100)
    assert budget.take_spare(30)
    assert not budget.take_spare(21)
    assert budget.take_spare(20)
    assert budget.take(50)
    assert not budget.take_spare(1)
    budget.give_back(60)
    assert budget.take_spare(10)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50))))
def test_the_limit_is_never_exceeded_and_used_is_what_is_held(steps: list[tuple[bool, int]]) -> None:
    budget, held = MemoryBudget(100), [0]
    for taking, size in steps:
        if not taking:
            budget.give_back(held.pop() if len(held) > 1 else 0)
        elif budget.take(size):
            held.append(size)
        else:
            assert sum(held) + size > 100
        assert budget.used == sum(held) <= 100


def test_a_trim_is_due_once_a_burst_is_over() -> None:
    budget = MemoryBudget(1 << 30)
    budget.take(TRIM_BYTES)
    assert not budget.trim_due()
    budget.give_back(TRIM_BYTES - 1)
    assert not budget.trim_due()
    budget.note_freed(1)
    assert budget.trim_due()
    assert not budget.trim_due()
    budget.note_freed(TRIM_BYTES)
    assert not budget.trim_due()  # it has only begun
    budget.note_freed(BURST_BYTES)
    assert budget.trim_due()


def test_a_burst_without_end_is_trimmed_now_and_then() -> None:
    budget = MemoryBudget(1 << 30)
    due = []
    for _ in range(3 * BURST_SHARE):
        budget.note_freed(TRIM_BYTES)
        due.append(budget.trim_due())
    assert due == [*[False] * (BURST_SHARE - 1), True] * 3


def test_steady_traffic_does_not_hide_the_end_of_a_burst() -> None:
    budget = MemoryBudget(1 << 30)
    budget.note_freed(BURST_SHARE * TRIM_BYTES)
    assert not budget.trim_due()
    budget.note_freed(TRIM_BYTES)
    assert budget.trim_due()
