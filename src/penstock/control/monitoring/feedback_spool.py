"""Hands feedback on answers that this gateway does not remember to the gateway that does, through the database.

What is told of answers at any gateway is durable in the database before it is acknowledged; every gateway looks at it
and takes what belongs to its own answers. Calls that come at the same time are written down together.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from penstock.control.calls.blocking import BlockingPool
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.core.errors import NotReady
from penstock.monitor.answer_segments import MOST_ROWS
from penstock.monitor.feedback import Feedback
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

Join = Callable[[str, Sequence[Feedback]], Awaitable[list[bool | None]]]
"""Joins what was told of a model: of each whether it belongs to an answer here, None where it could not be written."""


Count = Callable[[str, str, int], None]
"""Counts what was told of a model and will not be joined: the model, what became of it, and how many."""


@dataclass(slots=True)
class _Batch:
    told: list[tuple[str, Document, int]]
    written: "asyncio.Future[None]"


class Positions:
    """Up to which numbers a reader has looked: ``ahead`` for most models, and those behind it that are ``held`` since
    their labels cannot be taken."""

    def __init__(self) -> None:
        self.ahead = 0
        self.held: dict[str, int] = {}

    @property
    def passed(self) -> int:
        """Up to which one need not look again at any."""
        return min([self.ahead, *self.held.values()])

    def hold(self, model: str, passed: int) -> None:
        """Go on without a model; it has passed only so many."""
        self.held.setdefault(model, passed)

    def catch_up(self, model: str, passed: int, is_all: bool) -> None:
        """A held model has passed so many; where that ``is_all`` that there is, it goes on with the others."""
        self.held[model] = max(passed, self.held[model])
        if is_all:
            del self.held[model]


class FeedbackSpool:
    """One gateway's; lives on the event loop. ``name`` names its memory of answers (it blocks), ``join`` uses it;
    ``clock`` is the one that answers are timed by. ``others`` says that another gateway may remember answers, as far as
    the last look tells."""

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
        self._used: Counter[str] = Counter()
        self._positions = Positions()
        self._passed = 0
        self._stamped: float | None = None
        self._next: _Batch | None = None
        self._writing: asyncio.Task[None] | None = None

    async def register(self) -> None:
        """Let labels wait for this gateway from now on: before it gives the first answer.

        Raises:
            NotReady: the database is away.
            OSError: this gateway's memory has no name yet, and none can be written down.
        """
        await self._run(self._store.register, await self._named())

    async def has_others(self) -> bool:
        """Whether another gateway may remember answers, one that began a moment ago included."""
        if not self.others:
            with suppress(NotReady):
                return bool(await self._run(self._store.has_others, await self._named()))
        return True  # also where nobody can be asked

    async def _named(self) -> str:
        self._reader = self._reader or await self._run(self._name)
        return self._reader

    async def put(self, model: str, told: Sequence[Feedback]) -> int:
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
        """Those that there is room for: what models take is never more than they leave free, so none fills it all."""
        for index, (model, _, size) in enumerate(rows):
            if self._used[model] + self._used.total() + size + OVERHEAD > MOST_BYTES:
                return rows[:index]
            self._used[model] += size + OVERHEAD
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
        reader = await self._named()
        looks = [partial(self._look_again, reader, model) for model in self._keyed.due(self._positions.held)]
        for look in (*looks, partial(self._look, reader)):
            for _ in range(LOOKS):
                if await look():
                    break

    async def _look(self, reader: str) -> bool:
        """Look at what waits of all models but those that are held; whether that was all."""
        positions = self._positions
        look: Look = await self._run(self._store.look, reader, positions.ahead, set(positions.held))
        self.others, self._used = look.others, look.used
        found: dict[int, bool | None] = {}
        for model in dict.fromkeys(one.model for one in look.waiting):
            rows = [one for one in look.waiting if one.model == model]
            joined = await self._joined(model, rows, look.now)
            if None in joined.values():
                positions.hold(model, rows[0].seq - 1)
            found |= {seq: bool(one) for seq, one in joined.items()}  # what failed is its model's to look at again
        before = positions.ahead
        positions.ahead = _passed(look, found, before)
        await self._done(reader, look, found)
        return look.is_all or positions.ahead == before

    async def _look_again(self, reader: str, model: str) -> bool:
        """Look at what waits of a model whose labels could not be taken; whether no more of it can be for now."""
        positions = self._positions
        before = positions.held[model]
        look: Look = await self._run(self._store.look_of, reader, model, before)
        found = await self._joined(model, look.waiting, look.now)
        passed = _passed(look, found, before)
        over = look.is_all and (not look.waiting or passed >= look.waiting[-1].seq)
        positions.catch_up(model, passed, over)
        await self._done(reader, look, found)
        return over or passed == before

    async def _joined(self, model: str, rows: Sequence[Waiting], now: float) -> dict[int, bool | None]:
        """By number, whether each belongs to an answer here; None where that could not be found out or written."""
        came = self._clock()
        told = {one.seq: _told(one, came - max(0.0, now - one.at)) for one in rows}
        known = {seq: one for seq, one in told.items() if one is not None}
        joined: list[bool | None] = [None] * len(known)
        with self._keyed.isolated(model):
            joined = await self._join(model, list(known.values()))
        return {**dict.fromkeys(told, False), **dict(zip(known, joined, strict=True))}

    async def _done(self, reader: str, look: Look, found: Mapping[int, bool | None]) -> None:
        """Take away what was joined, and say how far this gateway has looked."""
        taken, passed = [seq for seq, joined in found.items() if joined], self._positions.passed
        if taken or passed > self._passed or self._stamped is None or look.now - self._stamped > STAMPED_S:
            ended = await self._run(self._store.done, reader, passed, taken)
            self._passed, self._stamped = passed, look.now
            for outcome, models in (("unknown", ended.unknown), ("expired", ended.expired)):
                for model, number in models.items():
                    self._count(model, outcome, number)


def _passed(look: Look, found: Mapping[int, bool | None], before: int) -> int:
    """Up to which number one need not look again: what is not found yet may be about to be written down."""
    again = [
        one.seq
        for one in look.waiting
        if found[one.seq] is None or (not found[one.seq] and one.at > look.now - SETTLED_S)
    ]
    return max(before, min(again) - 1 if again else max(found, default=before))


def _row(told: Feedback) -> tuple[Document, int]:
    """What was told, as JSON values, and their size; of labels no more than rows are remembered."""
    label = told.label[:MOST_ROWS] if isinstance(told.label, list) else told.label
    row = {"id": told.id, "label": label, "reward": told.reward, "at": told.at}
    return row, len(json.dumps(row))


def _told(waiting: Waiting, came_at: float) -> Feedback | None:
    """What was told, with the time at which it came, by this machine's clock; None of another release's form, which
    waits for a gateway that knows it."""
    try:
        known = isinstance(waiting.told["id"], str) and isinstance(waiting.told.get("at", 0), int | float)
        return replace(Feedback(**waiting.told), came_at=came_at) if known else None
    except (AttributeError, KeyError, TypeError):
        return None
