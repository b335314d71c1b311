"""Questions to others: asked now and then, each answer taken once, a late one dropped."""

from concurrent.futures import Executor, Future
from typing import Any

from penstock.control.delivery.questions import EVERY_S, FORGET_S, Questions, Reply
from penstock.control.sinks import SinkFault
from penstock.core.errors import NotReady
from tests.unit.control.trials import AtOnce, Clock


class Never(Executor):
    """Takes everything and finishes it when it is told to."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit(self, work: Any, /, *arguments: Any, **named: Any) -> Any:
        self.futures.append(Future())
        return self.futures[-1]


def test_each_answer_is_taken_once_and_asked_for_now_and_then() -> None:
    clock, asked = Clock(), []

    def question() -> float:
        asked.append(clock.now)
        return 200.0

    questions = Questions(AtOnce(), clock)
    assert questions.put(("a",), question, 5.0) == Reply(200.0)
    assert questions.put(("a",), question, 5.0) is None
    clock.now += EVERY_S
    assert questions.put(("a",), question, 5.0) == Reply(200.0)
    assert len(asked) == 2


def test_a_question_without_an_answer_is_asked_once_and_a_late_answer_is_dropped() -> None:
    clock, never = Clock(), Never()
    questions = Questions(never, clock)
    assert questions.put(("a",), lambda: 1.0, 5.0) is None
    clock.now += 5.0
    assert questions.put(("a",), lambda: 1.0, 5.0) == Reply(None, "it has not answered within 5 s")
    clock.now += 60.0
    assert questions.put(("a",), lambda: 1.0, 5.0) is None
    assert len(never.futures) == 1
    never.futures[0].set_result(200.0)
    assert questions.put(("a",), lambda: 1.0, 5.0) is None
    assert questions.put(("a",), lambda: 1.0, 5.0) is None
    assert len(never.futures) == 2


def test_faults_are_said() -> None:
    def failing(error: Exception) -> Any:
        def question() -> float:
            raise error

        return question

    questions = Questions(AtOnce(), Clock())
    assert questions.put(("a",), failing(NotReady("nobody")), 5.0) == Reply(None, "nobody")
    assert questions.put(("b",), failing(SinkFault("refused")), 5.0) == Reply(None, "refused")
    assert questions.put(("c",), failing(KeyError("odd")), 5.0) == Reply(None, "it could not be asked")
    assert questions.put(("d",), lambda: None, 5.0) == Reply(None)


def test_what_nobody_puts_any_more_is_forgotten() -> None:
    clock = Clock()
    questions = Questions(AtOnce(), clock)
    for number in range(100):
        questions.put((str(number),), lambda: 1.0, 5.0)
    clock.now += FORGET_S
    questions.forget_old()
    assert questions._asked == {}
