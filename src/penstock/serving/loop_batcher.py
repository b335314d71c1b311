"""The requests that one turn of the event loop brings, worked on together at its end.

They go through each stage together, which costs a fifth less than one after the other: the processor's caches keep
the stage, and no socket is read or written in between. Calls of one version share a run where its rows stand alone;
nothing waits for that, and a single caller sees no difference.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic_ns, sleep
from typing import Any, Final, Protocol

from penstock.core.errors import Overloaded
from penstock.serving.infer_call import InferCall
from penstock.serving.loaded_version import LoadedVersion

log = logging.getLogger("penstock.serving")

HEAVY: Final = 1 << 19
"""Bytes of tensors that go through the stages together; what is more is worked on in the next turn."""

SLICE_NS: Final = 2_000_000
"""What the calls of one version may take of a turn of the loop."""

REST_S: Final = 0.00025
NEAR_NS: Final = 1_000_000
"""While calls are refused, and one soon after the other, the loop rests after each turn: refusals come in bunches then,
which costs the runs that share the cores half as much."""


class Connection(Protocol):
    """Where requests come from; ``turn`` is what it knows of one of them."""

    def decode(self, turn: Any) -> InferCall | None:
        """The call of a complete request, ready to run; None if it was refused. Never raises."""

    def enqueue(self, turn: Any, call: InferCall) -> None:
        """Have a call run on a thread."""

    def encode(self, turn: Any, call: InferCall) -> Any:
        """The answer to a call that has its outputs or its fault; one that cannot be written becomes a fault. Never
        raises."""

    def write(self, turn: Any, call: InferCall, answer: Any) -> None:
        """Send an answer, now or when it is its turn; it is counted already."""

    def abort(self) -> None:
        """End at once: what was to be answered failed in a way nobody expected."""


Entry = tuple[Connection, Any, InferCall]


class LoopBatcher:
    """One worker's; lives on its event loop. ``count`` counts calls that are about to be answered.

    A version whose calls take longer than ``SLICE_NS`` goes on in the next turn, so that those of others, and what has
    come meanwhile, need not wait for all of them.
    """

    def __init__(self, count: Callable[[Sequence[InferCall]], None]) -> None:
        self._count = count
        self._complete: list[tuple[Connection, Any]] = []
        self._back: list[Entry] = []
        self._waiting: dict[LoadedVersion, list[Entry]] = {}
        self._held: set[LoadedVersion] = set()  # versions with calls that wait for another turn
        self._awaited = False
        self._refused = 0
        self._refused_ns = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def enqueue(self, connection: Connection, turn: Any) -> None:
        """Have a complete request worked on at the end of this turn of the loop."""
        self._complete.append((connection, turn))
        if not self._awaited:
            self._await_end()

    def finish(self, connection: Connection, turn: Any, call: InferCall) -> None:
        """Answer a call that came back from a thread, with the others that did in this turn."""
        self._back.append((connection, turn, call))
        if not self._awaited:
            self._await_end()

    def _await_end(self) -> None:
        self._awaited = True
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # asked once: each question is a system call
        self._loop.call_soon(self._work)

    def _work(self) -> None:
        self._awaited = False
        back, self._back = self._back, []
        if self._complete:
            back += self._decode()
        if back:
            self._answer(back)
        if self._waiting:
            self._run()
        if (self._waiting or self._complete) and not self._awaited:
            self._await_end()
        elif self._refused and self._loop is not None:
            self._loop.call_soon(self._rest)  # once what was answered in this turn is written

    def refused(self) -> None:
        """A call was refused because there are too many."""
        self._refused += 1

    def _rest(self) -> None:
        """Leave the processor to runs for a moment if calls are refused one after the other."""
        if not self._refused:
            return
        self._refused = 0
        now = monotonic_ns()
        if now - self._refused_ns < NEAR_NS:
            sleep(REST_S)
        self._refused_ns = now

    def _decode(self) -> list[Entry]:
        """Make calls of what has come, as far as their tensors stay in the processor's caches together; those that are
        over already."""
        turns, self._complete = self._complete, []
        over: list[Entry] = []
        waiting = self._waiting
        weight = 0
        for place, (connection, turn) in enumerate(turns):
            if weight > HEAVY:
                self._complete = turns[place:] + self._complete
                break
            call = connection.decode(turn)
            if call is None:
                continue
            if call.packed is None:
                weight += sum([tensor.data.nbytes for tensor in call.tensors])
            loaded = call.loaded
            if loaded.prepare_inline(call):
                waiting.setdefault(loaded, []).append((connection, turn, call))
            elif call.fault is None:
                connection.enqueue(turn, call)
            else:
                over.append((connection, turn, call))
        return over

    def _run(self) -> None:
        """Run what belongs here, versions with few calls first."""
        waiting, self._waiting = self._waiting, {}
        some = list(waiting.items())
        if len(some) > 1:
            some.sort(key=lambda item: len(item[1]))
        for loaded, entries in some:
            left = loaded.run_inline([call for _, _, call in entries], monotonic_ns() + SLICE_NS)
            if left:
                later = set(left)
                if loaded not in self._held:
                    self._held.add(loaded)
                    loaded.hold()
                self._waiting[loaded] = [entry for entry in entries if entry[2] in later]
                entries = [entry for entry in entries if entry[2] not in later]  # noqa: PLW2901 - the others
            elif loaded in self._held:
                self._held.remove(loaded)
                loaded.release()
            self._answer(entries)

    def _answer(self, over: Sequence[Entry]) -> None:
        """Encode, count and write: whoever has read an answer finds it counted."""
        answers = [connection.encode(turn, call) for connection, turn, call in over]
        self._count([call for _, _, call in over])
        for (connection, turn, call), answer in zip(over, answers, strict=True):
            if call.fault is not None and call.fault.kind == Overloaded.kind:
                self._refused += 1
            try:
                connection.write(turn, call, answer)
            except Exception as error:  # a bug in one connection must not leave the others without answers
                log.exception("a connection failed and is ended", exc_info=error)
                connection.abort()
