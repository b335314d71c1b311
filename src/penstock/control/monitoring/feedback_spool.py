"""Passes feedback without a local answer to the gateway that gave the answer, through the database.

Feedback is durable in the database before it is acknowledged. Every gateway reads the waiting feedback and joins the
items that belong to its own answers. Concurrent calls are written in one transaction.
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
    FeedbackBatch,
    FeedbackStore,
    WaitingFeedback,
)

SETTLED_S = 2.0
"""Feedback younger than this is looked for again: the worker that gave the answer may be about to write it."""

LOOK_S = 1.0
LOOKS = 20
"""The most reads of one step."""

THREADS = 2
"""A read does not delay a write."""

MOST_QUEUED = 100_000
"""The most feedback items that wait for a write; further callers are asked to retry."""

Join = Callable[[str, Sequence[Feedback]], Awaitable[list[bool | None]]]
"""Joins feedback on a model; for each item whether it belongs to an answer here, None if it could not be stored."""


Count = Callable[[str, str, int], None]
"""Counts feedback on a model that will not be joined: the model, the outcome, and the number of items."""


@dataclass(slots=True)
class _WrittenBatch:
    rows: list[tuple[str, Document, int]]
    written: "asyncio.Future[None]"


class ReadPositions:
    """The sequence numbers up to which a reader has read: ``ahead`` for most models, and ``held`` for the models behind
    it, whose labels cannot be joined."""

    def __init__(self) -> None:
        self.ahead = 0
        self.held: dict[str, int] = {}

    @property
    def passed(self) -> int:
        """The number up to which all models have been read."""
        return min([self.ahead, *self.held.values()])

    def hold(self, model: str, passed: int) -> None:
        """Continue without a model, which stays at ``passed``."""
        self.held.setdefault(model, passed)

    def catch_up(self, model: str, passed: int, is_all: bool) -> None:
        """Move a held model to ``passed``; if that ``is_all`` of its feedback, it rejoins the others."""
        self.held[model] = max(passed, self.held[model])
        if is_all:
            del self.held[model]


class FeedbackSpool:
    """The spool of one gateway, for one event loop. ``name`` returns the name of its answer store (it blocks); ``join``
    joins with that store; ``clock`` is the clock of the answers. ``others`` is true while another gateway may have
    answers, by the last read."""

    def __init__(
        self, store: FeedbackStore, name: Callable[[], str], join: Join, count: Count, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._name = name
        self._join_local = join
        self._count = count
        self._clock = clock
        self.pool = BlockingPool("feedback", THREADS)
        self._run = self.pool.call
        self.others = True  # until it is known
        self.task = PeriodicTask("feedback", self.step, LOOK_S, meanwhile="labels from other gateways wait")
        self._keyed: KeyedWork[str] = KeyedWork(self.task, "cannot join labels from other gateways:")
        self._reader = ""
        self._used: Counter[str] = Counter()
        self._positions = ReadPositions()
        self._passed = 0
        self._stamped: float | None = None
        self._next: _WrittenBatch | None = None
        self._writing: asyncio.Task[None] | None = None

    async def register(self) -> None:
        """Register this gateway as a reader of feedback, before it gives its first answer.

        Raises:
            NotReady: the database is unreachable.
            OSError: the answer store has no name yet, and none can be written.
        """
        await self._run(self._store.register, await self._reader_name())

    async def has_others(self) -> bool:
        """Whether another gateway may have answers, including one that has just started."""
        if not self.others:
            with suppress(NotReady):
                return bool(await self._run(self._store.has_others, await self._reader_name()))
        return True  # also while the database is unreachable

    async def _reader_name(self) -> str:
        self._reader = self._reader or await self._run(self._name)
        return self._reader

    async def put(self, model: str, feedback: Sequence[Feedback]) -> int:
        """Store feedback for other gateways, and return how many items fit; they are durable afterwards.

        Raises:
            NotReady: the feedback could not be stored.
        """
        fitting = self._fit([(model, *_to_row(item)) for item in feedback])
        self._count(model, "dropped", len(feedback) - len(fitting))
        if fitting:
            await self._write(fitting)
        return len(fitting)

    def _fit(self, rows: list[tuple[str, Document, int]]) -> list[tuple[str, Document, int]]:
        """The rows that fit: a model never uses more than the free space, so no model fills all of it."""
        for index, (model, _, size) in enumerate(rows):
            if self._used[model] + self._used.total() + size + OVERHEAD > MOST_BYTES:
                return rows[:index]
            self._used[model] += size + OVERHEAD
        return rows

    async def _write(self, rows: list[tuple[str, Document, int]]) -> None:
        if self._next is None:
            self._next = _WrittenBatch([], asyncio.get_running_loop().create_future())
        elif len(self._next.rows) > MOST_QUEUED:
            raise NotReady("too many labels wait for the registry's database; send them again later")
        batch = self._next
        batch.rows += rows
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_queued())
        await asyncio.shield(batch.written)

    async def _write_queued(self) -> None:
        while (batch := self._next) is not None:
            self._next = None
            try:
                for start in range(0, len(batch.rows), MOST_AT_ONCE):
                    await self._run(self._store.put, batch.rows[start : start + MOST_AT_ONCE])
            except Exception as error:
                batch.written.set_exception(error)
                batch.written.exception()  # the caller may have gone
            else:
                batch.written.set_result(None)
        self._writing = None

    async def step(self) -> None:
        """Read the waiting feedback, and join what belongs to this gateway's answers.

        Raises:
            NotReady: the database is unreachable.
            OSError: the answer store has no name yet, and none can be written.
        """
        reader = await self._reader_name()
        looks = [partial(self._read_held, reader, model) for model in self._keyed.due(self._positions.held)]
        for look in (*looks, partial(self._read_new, reader)):
            for _ in range(LOOKS):
                if await look():
                    break

    async def _read_new(self, reader: str) -> bool:
        """Read the waiting feedback of all models that are not held, and return whether that was all."""
        positions = self._positions
        look: FeedbackBatch = await self._run(self._store.read_unpassed, reader, positions.ahead, set(positions.held))
        self.others, self._used = look.others, look.used
        joined_by_seq: dict[int, bool | None] = {}
        for model in dict.fromkeys(item.model for item in look.waiting):
            rows = [item for item in look.waiting if item.model == model]
            joined = await self._join(model, rows, look.now)
            if None in joined.values():
                positions.hold(model, rows[0].seq - 1)
            joined_by_seq |= {seq: bool(item) for seq, item in joined.items()}  # a held model reads its failures again
        before = positions.ahead
        positions.ahead = _next_position(look, joined_by_seq, before)
        await self._finish(reader, look, joined_by_seq)
        return look.is_all or positions.ahead == before

    async def _read_held(self, reader: str, model: str) -> bool:
        """Read the waiting feedback of a held model, and return whether no more can be joined for now."""
        positions = self._positions
        before = positions.held[model]
        look: FeedbackBatch = await self._run(self._store.read_unpassed_of, reader, model, before)
        joined_by_seq = await self._join(model, look.waiting, look.now)
        passed = _next_position(look, joined_by_seq, before)
        over = look.is_all and (not look.waiting or passed >= look.waiting[-1].seq)
        positions.catch_up(model, passed, over)
        await self._finish(reader, look, joined_by_seq)
        return over or passed == before

    async def _join(self, model: str, rows: Sequence[WaitingFeedback], now: float) -> dict[int, bool | None]:
        """By sequence number, whether each item belongs to an answer here; None if unknown or not stored."""
        came = self._clock()
        read = {row.seq: _to_feedback(row, came - max(0.0, now - row.at)) for row in rows}
        messages = {seq: item for seq, item in read.items() if item is not None}
        joined: list[bool | None] = [None] * len(messages)
        with self._keyed.isolated(model):
            joined = await self._join_local(model, list(messages.values()))
        return {**dict.fromkeys(read, False), **dict(zip(messages, joined, strict=True))}

    async def _finish(self, reader: str, look: FeedbackBatch, joined_by_seq: Mapping[int, bool | None]) -> None:
        """Remove joined feedback, and store how far this gateway has read."""
        taken, passed = [seq for seq, joined in joined_by_seq.items() if joined], self._positions.passed
        if taken or passed > self._passed or self._stamped is None or look.now - self._stamped > STAMPED_S:
            ended = await self._run(self._store.finish, reader, passed, taken)
            self._passed, self._stamped = passed, look.now
            for outcome, models in (("unknown", ended.unknown), ("expired", ended.expired)):
                for model, number in models.items():
                    self._count(model, outcome, number)


def _next_position(look: FeedbackBatch, joined_by_seq: Mapping[int, bool | None], before: int) -> int:
    """The number up to which nothing is read again: an answer not joined_by_seq yet may be about to be written."""
    again = [
        item.seq
        for item in look.waiting
        if joined_by_seq[item.seq] is None or (not joined_by_seq[item.seq] and item.at > look.now - SETTLED_S)
    ]
    return max(before, min(again) - 1 if again else max(joined_by_seq, default=before))


def _to_row(item: Feedback) -> tuple[Document, int]:
    """Feedback as JSON values, with their size in bytes; at most as many labels as an answer has stored rows."""
    label = item.label[:MOST_ROWS] if isinstance(item.label, list) else item.label
    row = {"id": item.id, "label": label, "reward": item.reward, "at": item.at}
    return row, len(json.dumps(row))


def _to_feedback(waiting: WaitingFeedback, came_at: float) -> Feedback | None:
    """Feedback with its time of arrival by this machine's clock; None if its format is that of another release, and it
    waits for a gateway that can read it."""
    try:
        is_valid = isinstance(waiting.document["id"], str) and isinstance(waiting.document.get("at", 0), int | float)
        return replace(Feedback(**waiting.document), came_at=came_at) if is_valid else None
    except (AttributeError, KeyError, TypeError):
        return None
