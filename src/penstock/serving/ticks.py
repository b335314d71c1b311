"""The requests that one turn of the event loop brings, worked on together at its end.

They go through each stage together, which costs a fifth less than one after the other: the processor's caches keep
the stage, and no socket is read or written in between. Calls of one version share a run where its rows stand alone;
nothing waits for that, and a single caller sees no difference.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from penstock.serving.calls import Call
from penstock.serving.served import Served

log = logging.getLogger("penstock.serving")


class Connection(Protocol):
    """Where requests come from; ``turn`` is what it knows of one of them."""

    def decoded(self, turn: Any) -> Call | None:
        """The call of a complete request, ready to run; None if it was refused. Never raises."""

    def hand_over(self, turn: Any, call: Call) -> None:
        """Have a call run on a thread."""

    def encoded(self, turn: Any, call: Call) -> Any:
        """The answer to a call that has its outputs or its fault; one that cannot be written becomes a fault. Never
        raises."""

    def write(self, turn: Any, call: Call, answer: Any) -> None:
        """Send an answer, now or when it is its turn; it is counted already."""

    def abort(self) -> None:
        """End at once: what was to be answered failed in a way nobody expected."""


class Ticks:
    """One worker's; lives on its event loop. ``count`` counts calls that are about to be answered."""

    def __init__(self, count: Callable[[Sequence[Call]], None]) -> None:
        self._count = count
        self._complete: list[tuple[Connection, Any]] = []

    def enqueue(self, connection: Connection, turn: Any) -> None:
        """Have a complete request worked on at the end of this turn of the loop."""
        if not self._complete:
            asyncio.get_running_loop().call_soon(self._work)
        self._complete.append((connection, turn))

    def _work(self) -> None:
        turns, self._complete = self._complete, []
        over: list[tuple[Connection, Any, Call]] = []
        runs: dict[Served, list[Call]] = {}
        for connection, turn, call in [(one, turn, one.decoded(turn)) for one, turn in turns]:
            if call is None:
                continue
            served = call.served
            if served.here(call):
                runs.setdefault(served, []).append(call)
            elif call.fault is None:
                connection.hand_over(turn, call)
                continue
            over.append((connection, turn, call))
        for served, calls in runs.items():
            served.run_here(calls)
        self._answer(over)

    def answer(self, connection: Connection, turn: Any, call: Call) -> None:
        """Answer a call that came back from a thread."""
        self._answer([(connection, turn, call)])

    def _answer(self, over: "Sequence[tuple[Connection, Any, Call]]") -> None:
        """Encode, count and write: whoever has read an answer finds it counted."""
        answers = [connection.encoded(turn, call) for connection, turn, call in over]
        self._count([call for _, _, call in over])
        for (connection, turn, call), answer in zip(over, answers, strict=True):
            try:
                connection.write(turn, call, answer)
            except Exception as error:  # a bug in one connection must not leave the others without answers
                log.exception("a connection failed and is ended", exc_info=error)
                connection.abort()
