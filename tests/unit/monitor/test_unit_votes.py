"""Votes of units: bounded for each, over all workers, anew under other weights, and never by name."""

from array import array

import pytest

from penstock.monitor.unit_votes import COUNTS, JUDGED, MOST_A_MINUTE, PLACES, UnitVotes

TAG, PLACE = 7, 1234


class Minute:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


class Workers:
    """Some workers of one gateway, with their tables."""

    def __init__(self, many: int = 1) -> None:
        self.minute = Minute()
        tables = [memoryview(array("I", bytes(4 * PLACES))) for _ in range(many)]
        self.tables = tables
        self.votes = [UnitVotes(own, [other for other in tables if other is not own], self.minute) for own in tables]
        for vote in self.votes:
            vote.live = frozenset({TAG, TAG + 1})

    def answered(self, times: int, tag: int = TAG, place: int = PLACE) -> list[int]:
        return [self.votes[number % len(self.votes)].answer(tag, place) for number in range(times)]


@pytest.mark.parametrize("many", [1, 2, 5])
def test_a_unit_counts_so_often_a_minute_whichever_worker_it_comes_by(many: int) -> None:
    workers = Workers(many)
    said = workers.answered(100)
    assert sum(item & COUNTS for item in said) == MOST_A_MINUTE
    assert [bool(item & JUDGED) for item in said].count(True) == 1
    workers.minute.now += 1
    said = workers.answered(100)
    assert sum(item & COUNTS for item in said) == MOST_A_MINUTE
    assert not any(item & JUDGED for item in said)


@pytest.mark.parametrize("many", [1, 2, 5])
def test_ten_thousand_failures_of_a_unit_are_one(many: int) -> None:
    workers = Workers(many)
    failed = [workers.votes[number % many].failure(TAG, PLACE) for number in range(10_000)]
    assert sum(failed) == 1
    workers.minute.now += 5
    assert not workers.votes[-1].failure(TAG, PLACE)
    workers.answered(3)
    assert not workers.votes[0].failure(TAG, PLACE)
    assert workers.votes[0].failure(TAG, PLACE + 1)


def test_other_weights_give_every_unit_its_votes_anew() -> None:
    workers = Workers(2)
    workers.answered(50)
    assert workers.votes[0].failure(TAG, PLACE)
    for vote in workers.votes:
        vote.live = frozenset({9})
    assert workers.answered(1, tag=9) == [COUNTS | JUDGED]
    assert workers.votes[1].failure(9, PLACE)


def test_a_round_that_is_not_open_takes_no_vote_and_costs_none() -> None:
    workers = Workers(2)
    for vote in workers.votes:
        vote.live = frozenset()
    assert workers.answered(50) == [0] * 50
    assert not workers.votes[0].failure(TAG, PLACE)
    assert not any(any(table) for table in workers.tables)
    for vote in workers.votes:
        vote.live = frozenset({TAG})
    assert workers.answered(1) == [COUNTS | JUDGED]
    assert workers.votes[0].failure(TAG, PLACE)


def test_a_place_that_another_model_holds_gives_no_vote() -> None:
    workers = Workers()
    assert workers.answered(1) == [COUNTS | JUDGED]
    assert workers.answered(1, tag=TAG + 1) == [0]
    assert not workers.votes[0].failure(TAG + 1, PLACE)
    assert workers.answered(1) == [COUNTS]


def test_units_do_not_touch_each_other() -> None:
    workers = Workers()
    for place in (0, 1, PLACES - 1):
        assert workers.answered(1, place=place) == [COUNTS | JUDGED]
        assert workers.votes[0].failure(TAG, place)
    assert sum(bool(word) for word in workers.tables[0]) == 3
