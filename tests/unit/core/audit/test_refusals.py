"""Refused requests have a bounded number of entries."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.audit.refusals import MOST_KINDS, WINDOW_S, CountedRefusals, RefusalWindow


def test_the_first_is_recorded_at_once_and_others_together() -> None:
    window = RefusalWindow[str]()
    assert window.add("a", 0.0) == [CountedRefusals("a", 1)]
    assert [window.add("a", 1.0), window.add("a", 2.0, 5)] == [[], []]
    assert window.collect(WINDOW_S - 0.1) == []
    assert window.collect(WINDOW_S) == [CountedRefusals("a", 6)]
    assert window.collect(2 * WINDOW_S) == []
    assert window.add("a", 2 * WINDOW_S) == [CountedRefusals("a", 1)]


def test_a_refusal_after_the_window_brings_what_was_counted() -> None:
    window = RefusalWindow[str]()
    window.add("a", 0.0)
    window.add("a", 1.0)
    assert window.add("b", WINDOW_S) == [CountedRefusals("a", 1), CountedRefusals("b", 1)]


def test_ten_thousand_refusals_have_less_than_a_hundred_entries() -> None:
    window = RefusalWindow[int]()
    entries = [item for number in range(10_000) for item in window.add(number, number / 100)]  # 100 s, each of another
    entries += window.collect(200.0)
    assert len(entries) < 100
    assert sum(item.count for item in entries) == 10_000


@given(st.lists(st.tuples(st.integers(0, 2 * MOST_KINDS), st.floats(0.0, 30.0), st.integers(1, 5)), max_size=100))
def test_no_refusal_is_lost_or_counted_twice(refusals: list[tuple[int, float, int]]) -> None:
    window, now, entries = RefusalWindow[int](), 0.0, list[CountedRefusals[int]]()
    for kind, pause, count in refusals:
        now += pause
        entries += window.add(kind, now, count)
    entries += window.collect(now + WINDOW_S)
    assert sum(item.count for item in entries) == sum(count for *_, count in refusals)
