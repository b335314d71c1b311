"""Questions to others: asked now and then, each answer taken once, a late one dropped."""

import subprocess
import sys
import threading
from concurrent.futures import Executor, Future
from typing import Any

from penstock.control.delivery.questions import EVERY_S, FORGET_S, MOST_UNDER_WAY, Questions, Reply
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
    questions.put(("new",), lambda: 1.0, 5.0)
    assert list(questions._asked) == [("new",)]


def test_silent_ones_hold_up_no_other() -> None:
    """Each has a real thread; none of those that are silent answers before the end."""
    over, heard = threading.Event(), threading.Event()

    def silent() -> float:
        over.wait(60)
        return 1.0

    def answering() -> float:
        heard.set()
        return 200.0

    questions = Questions()
    for number in range(64):
        questions.put((str(number),), silent, 60.0)
    questions.put(("other",), answering, 60.0)
    assert heard.wait(30)
    over.set()


def test_beyond_a_bound_none_is_asked() -> None:
    clock, never = Clock(), Never()
    questions = Questions(never, clock)
    for number in range(MOST_UNDER_WAY):
        assert questions.put((str(number),), lambda: 1.0, 5.0) is None
    said = questions.put(("one more",), lambda: 1.0, 5.0)
    assert said == Reply(None, "too many others have not answered yet")
    assert len(never.futures) == MOST_UNDER_WAY
    never.futures[0].set_result(1.0)
    assert questions.put(("one more",), lambda: 1.0, 5.0) is None
    assert len(never.futures) == MOST_UNDER_WAY + 1


def test_a_process_ends_though_one_is_silent() -> None:
    """A gateway that stops does not wait for a webhook."""
    program = (
        "import threading\n"
        "from penstock.control.delivery.questions import Questions\n"
        "Questions().put(('a',), threading.Event().wait, 60.0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
