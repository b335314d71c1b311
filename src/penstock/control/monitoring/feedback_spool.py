"""Hands feedback on answers that this gateway does not remember to the gateway that does, through the database.

What is told of answers at any gateway is durable in the database before it is acknowledged; every gateway looks at it
and takes what belongs to its own answers. Calls that come at the same time are written down together.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from penstock.control.blocking import BlockingPool
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.core.errors import NotReady
from penstock.monitor.answer_segments import MOST_ROWS
from penstock.monitor.told import Told
from penstock.registry.records import Document
from penstock.registry.stores.feedback import (
    MOST_AT_ONCE,
    MOST_BYTES,
    OVERHEAD,
    STAMPED_S,
    FeedbackStore,
    Look,
    Waiting,
)

SETTLED_S = 2.0
"""What came within that time is looked for again: the worker that gave the answer may be about to write it down."""

LOOK_S = 1.0
LOOKS = 20
"""Looks of one step at most."""

THREADS = 2
"""A look does not hold up what is written down."""

MOST_QUEUED = 100_000
"""Answers told of that wait to be written down; of more, callers are asked to come again."""

Join = Callable[[str, Sequence[Told]], Awaitable[list[bool | None]]]
"""Joins what was told of a model: of each whether it belongs to an answer here, None where it could not be written."""


Count = Callable[[str, str, int], None]
"""Counts what was told of a model and will not be joined: the model, what became of it, and how many."""


@dataclass(slots=True)
class _Batch:
    told: list[tuple[str, Document, int]]
    written: "asyncio.Future[None]"


class FeedbackSpool:
    """One gateway's; lives on the event loop. ``name`` names its memory of answers (it blocks), ``join`` uses it;
    ``clock`` is the one that answers are timed by. ``others`` says that another gateway may remember answers."""

    def __init__(
        self, store: FeedbackStore, name: Callable[[], str], join: Join, count: Count, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._name = name
        self._join = join
        self._count = count
        self._clock = clock
        self.pool = BlockingPool("feedback", THREADS)
        self._run = self.pool.call
        self.others = True  # until it is known
        self.task = PeriodicTask("feedback", self.step, LOOK_S, meanwhile="labels that came at other gateways wait")
        self._keyed: KeyedWork[str] = KeyedWork(self.task, "labels that came at other gateways cannot be taken:")
        self._reader = ""
        self._used = 0
        self._passed = 0
        self._stamped: float | None = None
        self._next: _Batch | None = None
        self._writing: asyncio.Task[None] | None = None

    async def put(self, model: str, told: Sequence[Told]) -> int:
        """Let other gateways look for what was told; for how many there was room. They are durable afterwards.

        Raises:
            NotReady: it could not be written down.
        """
        fitting = self._fitting([(model, *_row(one)) for one in told])
        self._count(model, "dropped", len(told) - len(fitting))
        if fitting:
            await self._written(fitting)
        return len(fitting)

    def _fitting(self, rows: list[tuple[str, Document, int]]) -> list[tuple[str, Document, int]]:
        for index, (_, _, size) in enumerate(rows):
            if self._used + size + OVERHEAD > MOST_BYTES:
                return rows[:index]
            self._used += size + OVERHEAD
        return rows

    async def _written(self, rows: list[tuple[str, Document, int]]) -> None:
        if self._next is None:
            self._next = _Batch([], asyncio.get_running_loop().create_future())
        elif len(self._next.told) > MOST_QUEUED:
            raise NotReady("too many labels wait for the registry's database; send them again later")
        batch = self._next
        batch.told += rows
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await asyncio.shield(batch.written)

    async def _write(self) -> None:
        while (batch := self._next) is not None:
            self._next = None
            try:
                for start in range(0, len(batch.told), MOST_AT_ONCE):
                    await self._run(self._store.put, batch.told[start : start + MOST_AT_ONCE])
            except Exception as error:
                batch.written.set_exception(error)
                batch.written.exception()  # whoever asked may have gone
            else:
                batch.written.set_result(None)
        self._writing = None

    async def step(self) -> None:
        """Look at what waits, and take what belongs to this gateway's answers.

        Raises:
            NotReady: the database is away.
            OSError: this gateway's memory has no name yet, and none can be written down.
        """
        self._reader = self._reader or await self._run(self._name)
        for _ in range(LOOKS):
            if not await self._look():
                break

    async def _look(self) -> bool:
        """Look at what waits; whether there is more."""
        look: Look = await self._run(self._store.look, self._reader)
        self.others, self._used = look.others, look.used
        taken, passed = await self._looked_at(look)
        if taken or passed > self._passed or self._stamped is None or look.now - self._stamped > STAMPED_S:
            ended = await self._run(self._store.done, self._reader, passed, taken)
            self._passed, self._stamped = passed, look.now
            for outcome, models in (("unknown", ended.unknown), ("expired", ended.expired)):
                for model, number in models.items():
                    self._count(model, outcome, number)
        return len(look.waiting) == MOST_AT_ONCE and passed >= look.waiting[-1].seq

    async def _looked_at(self, look: Look) -> tuple[list[int], int]:
        """The numbers of what belongs here, and up to which one need not be looked at again."""
        found: dict[int, bool | None] = {}
        came = self._clock()
        for model in self._keyed.due(dict.fromkeys(one.model for one in look.waiting)):
            rows = [one for one in look.waiting if one.model == model]
            told = [_told(one, came - max(0.0, look.now - one.at)) for one in rows]
            with self._keyed.isolated(model):
                found |= zip([one.seq for one in rows], await self._join(model, told), strict=True)
        again = [
            one.seq
            for one in look.waiting
            if found.get(one.seq) is None or (not found[one.seq] and one.at > look.now - SETTLED_S)
        ]
        passed = min(again) - 1 if again else max([self._passed, *found])
        return [seq for seq, joined in found.items() if joined], max(passed, self._passed)


def _row(told: Told) -> tuple[Document, int]:
    """What was told, as JSON values, and their size; of labels no more than rows are remembered."""
    label = told.label[:MOST_ROWS] if isinstance(told.label, list) else told.label
    row = {"id": told.id, "label": label, "reward": told.reward, "at": told.at}
    return row, len(json.dumps(row))


def _told(waiting: Waiting, came_at: float) -> Told:
    """What was told, with the time at which it came, by this machine's clock."""
    return replace(Told(**waiting.told), came_at=came_at)
