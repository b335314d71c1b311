"""Threads of a stream: in order, bounded, and ended by the first error."""

from collections.abc import Iterator

import pytest

from penstock.scoring.pipeline import AHEAD, map_in_order


def test_results_are_in_order_and_items_are_bounded() -> None:
    taken, most, done = 0, 0, 0

    def items() -> Iterator[int]:
        nonlocal taken, most
        for number in range(50):
            taken += 1
            most = max(most, taken - done)
            yield number

    found = []
    for result in map_in_order(lambda number: number * 2, items(), 3):
        found.append(result)
        done += 1
    assert found == [2 * number for number in range(50)]
    assert most <= 3 * AHEAD + 1


def test_the_first_error_ends_it() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    with pytest.raises(ValueError, match="three"):
        list(map_in_order(work, iter(range(1000)), 2))


def test_nothing_gives_nothing() -> None:
    assert list(map_in_order(str, [], 2)) == []
