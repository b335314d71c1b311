"""The accounts of one connection's answers: what is admitted, what waits, and that every byte is given back once."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.api.grpc.http2.answer_memory import (
    MAX_MOVING_BYTES,
    MAX_STALLED_BYTES,
    RESERVED_SHARE,
    SHARE,
    SMALL_BYTES,
    SPARE_BYTES,
    AnswerMemory,
)
from penstock.api.grpc.http2.request_head import Http2RequestHead
from penstock.api.grpc.http2.stream import Http2Stream, StreamIo
from penstock.serving.memory_budget import MemoryBudget
from tests.plain import NeedsPlain

MIB = 1 << 20
HEAD = Http2RequestHead(b"POST", "/a", ())


class Waiter(NeedsPlain, Http2Stream):
    """A stream that remembers that its answer was admitted."""

    __slots__ = ("admitted",)

    def __init__(self, number: int) -> None:
        super().__init__(StreamIo(), number, HEAD, 65_535, 0)
        self.admitted = 0

    def on_admitted(self) -> None:
        self.admitted += 1


def waiters(count: int) -> list[Waiter]:
    return [Waiter(2 * index + 1) for index in range(count)]


def accounts(limit: int = 1024 * MIB) -> tuple[MemoryBudget, AnswerMemory]:
    memory = MemoryBudget(limit)
    return memory, AnswerMemory(memory)


def test_answers_are_admitted_up_to_the_limit_and_then_in_order_as_others_leave() -> None:
    _, answers = accounts()
    first, second, third, fourth = waiters(4)
    assert answers.admit(first, MAX_MOVING_BYTES - MIB)
    assert answers.admit(second, MIB)
    assert not answers.admit(third, 2 * MIB)
    assert not answers.admit(fourth, MIB)
    answers.release(second)
    assert (third.admitted, fourth.admitted) == (0, 0)  # the fourth would fit, but is not the next
    answers.release(first)
    assert (third.admitted, fourth.admitted) == (1, 1)


def test_a_single_answer_may_be_larger_than_the_limit() -> None:
    _, answers = accounts()
    huge, other = waiters(2)
    assert answers.admit(huge, 2 * MAX_MOVING_BYTES)
    assert not answers.admit(other, SMALL_BYTES + 1)
    assert answers.is_waiting(other)


def test_small_answers_wait_for_nothing() -> None:
    _, answers = accounts()
    huge, waiting, small = waiters(3)
    assert answers.admit(huge, 2 * MAX_MOVING_BYTES)
    assert not answers.admit(waiting, MIB)
    assert answers.admit(small, SMALL_BYTES)


def test_the_limit_is_a_share_of_a_small_worker_s_memory() -> None:
    _, answers = accounts(8 * MIB)
    first, second = waiters(2)
    assert answers.admit(first, 8 * MIB // SHARE)
    assert not answers.admit(second, MIB)


def test_a_paused_reader_holds_back_nobody_until_it_goes_on() -> None:
    _, answers = accounts()
    paused, other, third = waiters(3)
    assert answers.admit(paused, MAX_MOVING_BYTES)
    answers.stall(paused)
    answers.stall(paused)
    assert answers.admit(other, MAX_MOVING_BYTES)
    answers.resume(paused)
    answers.resume(paused)
    assert not answers.admit(third, MIB)
    answers.release(paused)
    answers.release(other)
    assert third.admitted == 1


def test_the_youngest_paused_readers_go_once_these_hold_too_much() -> None:
    _, answers = accounts()
    streams = waiters(4)
    for stream in streams:
        assert answers.reserve(stream, MAX_STALLED_BYTES // 3)
        answers.stall(stream)
    assert answers.youngest_over_limit() is streams[3]
    answers.release(streams[3])
    assert answers.youngest_over_limit() is None


def test_memory_is_taken_as_an_answer_grows_and_given_back_once() -> None:
    memory, answers = accounts()
    (one,) = waiters(1)
    assert answers.admit(one, MIB)
    assert memory.used == 0  # it is not made yet
    assert answers.reserve(one, 2 * MIB)
    assert answers.reserve(one, MIB)
    assert memory.used == 2 * MIB
    assert answers.reserve(one, 3 * MIB)
    assert memory.used == 3 * MIB
    answers.release(one)
    answers.release(one)
    assert memory.used == 0


def test_answers_of_one_connection_leave_memory_to_others() -> None:
    memory, answers = accounts(100 * MIB)
    first, second, third = waiters(3)
    assert answers.reserve(first, 30 * MIB)
    assert not answers.reserve(second, 30 * MIB)
    assert answers.reserve(third, 20 * MIB)
    assert memory.used == 100 * MIB // RESERVED_SHARE
    assert second.reserved_bytes == 0


def test_a_single_answer_may_take_all_that_is_left_and_no_more() -> None:
    memory, answers = accounts(100 * MIB)
    assert memory.take(20 * MIB)
    (one,) = waiters(1)
    assert not answers.reserve(one, 81 * MIB)
    assert answers.reserve(one, 80 * MIB)


def test_a_client_that_takes_all_that_is_ready_waits_for_no_slow_run() -> None:
    _, answers = accounts()
    slow, second, third, fourth = waiters(4)
    assert answers.admit(slow, MAX_MOVING_BYTES)
    for member in (second, third, fourth):
        assert not answers.admit(member, MAX_MOVING_BYTES // 2)
    answers.admit_waiting()
    assert second.admitted == 0
    answers.admit_regardless()
    assert [member.admitted for member in (second, third, fourth)] == [1, 1, 0]


def test_a_small_answer_needs_no_memory_where_there_is_none() -> None:
    memory, answers = accounts(MIB)
    assert memory.take(MIB)
    small, large = waiters(2)
    assert answers.reserve(small, SPARE_BYTES)
    assert not answers.reserve(large, SPARE_BYTES + 1)
    assert not answers.reserve(small, SPARE_BYTES + 1)
    answers.release(small)
    assert memory.used == MIB


@pytest.mark.parametrize("end", ["expired", "released", "no more"])
def test_what_waits_is_admitted_once_or_never(end: str) -> None:
    _, answers = accounts()
    first, waiting = waiters(2)
    assert answers.admit(first, MAX_MOVING_BYTES)
    assert not answers.admit(waiting, MAX_MOVING_BYTES)
    if end == "expired":
        assert answers.admit_expired(waiting)
        assert not answers.admit_expired(waiting)
    elif end == "released":
        answers.release(waiting)
    else:
        answers.admit_no_more()
    assert not answers.is_waiting(waiting)
    answers.release(first)
    assert waiting.admitted == (end == "expired")


class Accounts(RuleBasedStateMachine):
    """Any order of events: what is taken is what streams hold, and whatever waits has a reason to."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.answers = accounts(64 * MIB)
        self.idle = waiters(8)
        self.busy: list[Waiter] = []
        self.stalled: set[int] = set()

    @precondition(lambda self: self.idle)
    @rule(size=st.integers(1, 24 * MIB))
    def ask(self, size: int) -> None:
        one = self.idle.pop()
        if not self.answers.admit(one, size):
            assert self.answers.is_waiting(one)
        self.busy.append(one)

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), size=st.integers(1, 24 * MIB))
    def make(self, data: st.DataObject, size: int) -> None:
        one = data.draw(st.sampled_from(self.busy))
        if not self.answers.is_waiting(one):
            before = self.memory.used
            assert self.answers.reserve(one, size) or self.memory.used == before

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), event=st.sampled_from(["stall", "resume"]))
    def read(self, data: st.DataObject, event: str) -> None:
        one = data.draw(st.sampled_from(self.busy))
        if event == "stall":
            self.answers.stall(one)
            self.stalled.add(one.id)
        else:
            self.answers.resume(one)
            self.stalled.discard(one.id)

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.busy))
        self.answers.release(one)
        self.busy.remove(one)
        self.idle.append(one)
        self.stalled.discard(one.id)

    @rule()
    def sweep(self) -> None:
        self.answers.admit_waiting()

    @invariant()
    def every_byte_is_somebody_s(self) -> None:
        assert self.memory.used == sum(item.reserved_bytes for item in self.busy) <= self.memory.limit
        assert all(item.reserved_bytes == item.answer_bytes == 0 for item in self.idle)

    def teardown(self) -> None:
        for item in self.busy:
            self.answers.release(item)
        assert self.memory.used == 0
        fresh = Waiter(99)
        assert self.answers.admit(fresh, 1024 * MIB)  # nothing is left on any account


TestAccounts = Accounts.TestCase
