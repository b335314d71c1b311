"""Questions to others: asked now and then, each answer taken once, a late one dropped."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from penstock.control.calls.blocking import BlockingCall, BlockingPool
from penstock.control.delivery.questions import (
    EVERY_S,
    FORGET_S,
    QUERIES,
    THREADS,
    WEBHOOKS,
    GateQueries,
    QueryResult,
    asking_pools,
)
from penstock.control.sinks import SinkFault
from penstock.core.errors import NotReady
from tests.harness import PATIENCE_S
from tests.unit.control.trials import Clock, at_once


class Never:
    """Takes everything and finishes it when it is told to."""

    def __init__(self) -> None:
        self.jobs: list[BlockingCall] = []
        self.abandoned: list[BlockingCall] = []

    def submit(self, work: Callable[[], Any]) -> BlockingCall:
        self.jobs.append(BlockingCall(work, Future()))
        return self.jobs[-1]

    def abandon(self, job: BlockingCall) -> None:
        self.abandoned.append(job)


def test_each_answer_is_taken_once_and_asked_for_now_and_then() -> None:
    clock, asked = Clock(), []

    def question() -> float:
        asked.append(clock.now)
        return 200.0

    questions = at_once(clock)
    assert questions.take_or_start(QUERIES, ("a",), question, 5.0) == QueryResult(200.0)
    assert questions.take_or_start(QUERIES, ("a",), question, 5.0) is None
    clock.now += EVERY_S
    assert questions.take_or_start(QUERIES, ("a",), question, 5.0) == QueryResult(200.0)
    assert len(asked) == 2


def test_a_question_without_an_answer_is_asked_once_and_a_late_answer_is_dropped() -> None:
    clock, never = Clock(), Never()
    questions = GateQueries({QUERIES: never}, clock)
    assert questions.take_or_start(QUERIES, ("a",), lambda: 1.0, 5.0) is None
    clock.now += 5.0
    assert questions.take_or_start(QUERIES, ("a",), lambda: 1.0, 5.0) == QueryResult(
        None, "it has not answered within 5 s"
    )
    clock.now += 60.0
    assert questions.take_or_start(QUERIES, ("a",), lambda: 1.0, 5.0) is None
    assert len(never.jobs) == 1
    assert never.abandoned == never.jobs
    never.jobs[0].future.set_result(200.0)
    assert questions.take_or_start(QUERIES, ("a",), lambda: 1.0, 5.0) is None
    assert questions.take_or_start(QUERIES, ("a",), lambda: 1.0, 5.0) is None
    assert len(never.jobs) == 2


def test_faults_are_said() -> None:
    def failing(error: Exception) -> Any:
        def question() -> float:
            raise error

        return question

    questions = at_once(Clock())
    assert questions.take_or_start(QUERIES, ("a",), failing(NotReady("nobody")), 5.0) == QueryResult(None, "nobody")
    assert questions.take_or_start(QUERIES, ("b",), failing(SinkFault("refused")), 5.0) == QueryResult(None, "refused")
    assert questions.take_or_start(QUERIES, ("c",), failing(KeyError("odd")), 5.0) == QueryResult(
        None, "the query failed"
    )
    assert questions.take_or_start(QUERIES, ("d",), lambda: None, 5.0) == QueryResult(None)


def test_what_nobody_puts_any_more_is_forgotten() -> None:
    clock = Clock()
    questions = at_once(clock)
    for number in range(100):
        questions.take_or_start(QUERIES, (str(number),), lambda: 1.0, 5.0)
    clock.now += FORGET_S
    questions.take_or_start(QUERIES, ("new",), lambda: 1.0, 5.0)
    assert list(questions._asked) == [("new",)]


@pytest.fixture
def pools() -> Iterator[dict[str, BlockingPool]]:
    made = asking_pools()
    yield made
    for pool in made.values():
        pool.close()


def test_silent_ones_hold_up_nobody_of_another_kind(pools: dict[str, BlockingPool]) -> None:
    """Each has a real thread; none of those that are silent answers before the end."""
    over, received = threading.Event(), threading.Event()

    def silent() -> float:
        over.wait(PATIENCE_S)
        return 1.0

    def answering() -> float:
        received.set()
        return 200.0

    questions = GateQueries(pools)
    for number in range(2 * THREADS[QUERIES]):
        questions.take_or_start(QUERIES, (str(number),), silent, 60.0)
    questions.take_or_start(WEBHOOKS, ("other",), answering, 60.0)
    assert received.wait(PATIENCE_S)
    over.set()


def test_one_that_finds_no_thread_in_its_time_is_never_asked() -> None:
    clock, over, pool = Clock(), threading.Event(), BlockingPool("one", 1, "it")
    questions, asked = GateQueries({QUERIES: pool}, clock), []
    questions.take_or_start(QUERIES, ("silent",), lambda: float(over.wait(PATIENCE_S)), 60.0)
    questions.take_or_start(QUERIES, ("other",), lambda: asked.append(1), 5.0)
    clock.now += 5.0
    delayed = questions.take_or_start(QUERIES, ("other",), lambda: asked.append(1), 5.0)
    assert delayed == QueryResult(None, "it has not answered within 5 s")
    over.set()
    pool.close(30.0)
    assert asked == []


def test_beyond_a_bound_none_is_asked() -> None:
    over, pool = threading.Event(), BlockingPool("few", 1, "it", most_waiting=1)
    questions = GateQueries({QUERIES: pool})
    for number in range(2):
        assert questions.take_or_start(QUERIES, (str(number),), lambda: float(over.wait(PATIENCE_S)), 60.0) is None
    said = questions.take_or_start(QUERIES, ("one more",), lambda: 1.0, 60.0)
    assert said == QueryResult(None, "too many calls wait for it; try again later")
    over.set()
    pool.close(30.0)


@pytest.mark.processes
def test_a_process_ends_though_one_is_silent() -> None:
    """A gateway that stops does not wait for a webhook."""
    program = (
        "import threading\n"
        "from penstock.control.delivery.questions import WEBHOOKS, GateQueries, asking_pools\n"
        "GateQueries(asking_pools()).take_or_start(WEBHOOKS, ('a',), threading.Event().wait, 60.0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE_S)
