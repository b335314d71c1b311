"""Asks webhooks and Prometheus on threads beside the loop of rollouts, so that a slow answer holds up nobody else."""

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from threading import Thread
from typing import Any, TypeVar

from penstock.control.sinks import SinkFault
from penstock.core.errors import Fault
from penstock.engine.threads import BACKGROUND, lower_priority

log = logging.getLogger("penstock.control")

EVERY_S = 2.0
"""Time between two times that the same question is asked."""

MOST_UNDER_WAY = 1000
"""Questions without an answer at one time: 18 of each of 50 rollouts, all of them silent."""

FORGET_S = 300.0
T = TypeVar("T")

Key = tuple[str, ...]
Question = Callable[[], float | None]
"""Blocks, and gives a number or none; raises ``Fault`` or ``SinkFault``."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a question gave: a number, or none and why."""

    value: float | None
    fault: str = ""


@dataclass(slots=True)
class _Asked:
    """A question that was asked: when (seconds of the clock), and its answer once there is one (None: it was read)."""

    at: float
    future: "Future[float | None] | None"
    overdue: bool = False


class ThreadEach(Executor):
    """Runs each thing on a thread of its own: none waits for a silent one, and the process ends without them."""

    def submit(self, work: Callable[..., T], /, *arguments: Any, **named: Any) -> "Future[T]":
        """Start it."""
        future: Future[T] = Future()

        def run() -> None:
            lower_priority(BACKGROUND)
            try:
                future.set_result(work(*arguments, **named))
            except Exception as error:
                future.set_exception(error)

        Thread(target=run, name="question", daemon=True).start()
        return future


class Questions:
    """Each question is asked now and then, and at most once at a time; ``clock`` gives monotonic seconds.

    One thread, the event loop's, may call it. None waits for another; beyond ``MOST_UNDER_WAY`` none is asked.
    """

    def __init__(self, threads: Executor | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._threads = threads or ThreadEach()
        self._clock = clock
        self._asked: dict[Key, _Asked] = {}

    def put(self, key: Key, question: Question, wait_s: float) -> Reply | None:
        """A new answer to a question, each answer once; None while there is none. Asks where it is time to.

        A question without an answer after ``wait_s`` has none; what comes later is dropped.
        """
        now = self._clock()
        asked = self._asked.get(key)
        if asked is None:
            self._forget_old(now)
        if asked is None or (asked.future is None and now - asked.at >= EVERY_S):
            if self._under_way() >= MOST_UNDER_WAY:
                return Reply(None, "too many others have not answered yet")
            asked = self._asked[key] = _Asked(now, self._threads.submit(question))
        return _taken(asked, now, wait_s)

    def _under_way(self) -> int:
        return sum(one.future is not None and not one.future.done() for one in self._asked.values())

    def _forget_old(self, now: float) -> None:
        """Forget questions that nobody has put for a while."""
        self._asked = {key: one for key, one in self._asked.items() if now - one.at < FORGET_S}

    def close(self) -> None:
        """Ask no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _taken(asked: _Asked, now: float, wait_s: float) -> Reply | None:
    if asked.future is None:
        return None
    if asked.future.done():
        future, asked.future = asked.future, None
        return None if asked.overdue else _reply(future)
    if now - asked.at < wait_s or asked.overdue:
        return None
    asked.overdue = True
    return Reply(None, f"it has not answered within {wait_s:g} s")


def _reply(future: "Future[float | None]") -> Reply:
    try:
        value = future.result()
    except (Fault, SinkFault) as fault:
        return Reply(None, str(fault))
    except Exception:
        log.exception("a question of a rollout failed")
        return Reply(None, "it could not be asked")
    return Reply(None if value is None or math.isnan(value) else value)
