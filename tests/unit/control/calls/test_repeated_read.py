"""A repeated read is made only if the database has changed, or may have."""

import asyncio

import pytest

from penstock.control.calls.repeated_read import RepeatedRead, read_always
from penstock.core.errors import NotReady


class Source:
    """A database with one number; ``changes_meanwhile`` are committed while it is read."""

    def __init__(self) -> None:
        self.number = self.mark = self.reads = self.changes_meanwhile = 0
        self.away = False

    async def read(self) -> int:
        self.reads += 1
        if self.away:
            raise NotReady("the database is away")
        number = self.number
        for _ in range(self.changes_meanwhile):
            self.change()
        return number

    def change(self) -> None:
        self.number += 1
        self.mark += 1


@pytest.fixture
def source() -> Source:
    return Source()


def value(read: RepeatedRead[int]) -> int:
    return asyncio.run(read.value())


def test_what_has_not_changed_is_not_read_again(source: Source) -> None:
    read = RepeatedRead(source.read, lambda: source.mark)
    assert [value(read) for _ in range(3)] == [0, 0, 0]
    assert source.reads == 1
    source.change()
    assert [value(read) for _ in range(2)] == [1, 1]
    assert source.reads == 2


def test_a_change_during_the_read_is_read_next(source: Source) -> None:
    read = RepeatedRead(source.read, lambda: source.mark)
    source.changes_meanwhile = 1
    assert value(read) == 0
    source.changes_meanwhile = 0
    assert value(read) == 1


def test_a_database_that_cannot_say_whether_it_has_changed_is_read_each_time(source: Source) -> None:
    read = RepeatedRead(source.read, read_always)
    assert [value(read) for _ in range(3)] == [0, 0, 0]
    assert source.reads == 3


def test_after_a_failure_it_is_read_again(source: Source) -> None:
    read = RepeatedRead(source.read, lambda: source.mark)
    value(read)
    source.away, source.mark = True, 1
    for _ in range(2):
        with pytest.raises(NotReady):
            value(read)
    source.away, source.mark = False, 0
    assert value(read) == 0
    assert source.reads == 4


def test_what_depends_on_the_time_is_forgotten(source: Source) -> None:
    read = RepeatedRead(source.read, lambda: source.mark)
    value(read)
    read.forget()
    value(read)
    assert source.reads == 2


def test_what_was_read_is_current_until_a_change(source: Source) -> None:
    read = RepeatedRead(source.read, lambda: source.mark)
    assert not read.is_current()
    value(read)
    assert read.is_current()
    source.change()
    assert not read.is_current()
    unknown = RepeatedRead(source.read, read_always)
    value(unknown)
    assert not unknown.is_current()
