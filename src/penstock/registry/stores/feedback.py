"""Feedback that waits in the database for the gateway that gave the answer; each method is one transaction, and blocks.

Gateways read feedback in the order in which it came. A reader is a store of answers: it takes the feedback on its
answers, and records how far it has read. Feedback that all readers have passed belongs to no answer; feedback that none
has taken in time expires.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.registry.db import schema
from penstock.registry.records import Document
from penstock.registry.stores.connections import Connections

WAIT_S = 86_400.0
"""How long feedback waits for its gateway, and how long a gateway that reads none is remembered."""

MOST_BYTES = 64 << 20
"""Budget of all waiting feedback, about 400,000 single labels; a model takes at most as much as it leaves free."""

MOST_AT_ONCE = 5_000
"""Items of feedback that are written or read in one transaction."""

OVERHEAD = 64
"""Bytes that an item takes beside its document."""

STAMPED_S = 60.0
"""Interval at which a reader renews its stamp."""


@dataclass(frozen=True, slots=True)
class WaitingFeedback:
    """One waiting item of feedback on an answer of a model: ``document`` is its JSON value of ``size`` bytes (the
    column is ``told``), ``at`` the time when it came (seconds since the epoch by the database's clock)."""

    seq: int
    model: str
    at: float
    document: Document
    size: int


@dataclass(frozen=True, slots=True)
class FeedbackBatch:
    """The feedback that a reader has not passed yet, at the time ``now``; ``others`` says whether there are other
    readers, and ``used`` has the bytes of all waiting feedback by model."""

    waiting: Sequence[WaitingFeedback]
    others: bool
    used: Counter[str]
    now: float

    @property
    def is_all(self) -> bool:
        """Whether no more feedback waits for this reader."""
        return len(self.waiting) < MOST_AT_ONCE


@dataclass(frozen=True, slots=True)
class FinishedFeedback:
    """Feedback that ended by model: the number that belongs to no remembered answer, and the number that expired."""

    unknown: Counter[str]
    expired: Counter[str]


class FeedbackStore:
    """The waiting feedback of all gateways; ``clock`` gives seconds since the epoch, by default those of the database.
    Every method raises ``NotReady`` while the database cannot be reached or written."""

    def __init__(self, database: Connections, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._now = clock or database.clock.now

    def put(self, feedback: Sequence[tuple[str, Document, int]]) -> None:
        """Store feedback durably: of each item the model, the document and its size in bytes."""
        with self._database.writing() as connection:  # one at a time: numbers become visible in ascending order
            now = self._now()
            rows = [
                {"model": model, "at": now, "told": document, "size": size + OVERHEAD}
                for model, document, size in feedback
            ]
            connection.execute(schema.feedback.insert(), rows)

    def register(self, reader: str) -> None:
        """Make later feedback wait for this reader."""
        with self._database.recording() as connection:
            self._stamp(connection, reader, 0, self._now())

    def has_others(self, reader: str) -> bool:
        """Return whether there are other readers."""
        with self._database.reading() as connection:
            return self._has_others(connection, reader, self._now())

    def read_unpassed(self, reader: str, after: int = 0, without: Collection[str] = ()) -> FeedbackBatch:
        """Return the feedback that this reader has not passed yet, oldest first: with numbers beyond ``after``, and
        ``without`` some models."""
        return self._read(reader, after, schema.feedback.c.model.not_in(sorted(without)))

    def read_unpassed_of(self, reader: str, model: str, after: int) -> FeedbackBatch:
        """Return the feedback on one model that this reader has not passed yet, with numbers beyond ``after``."""
        return self._read(reader, after, schema.feedback.c.model == model)

    def _read(self, reader: str, after: int, which: sa.ColumnElement[bool]) -> FeedbackBatch:
        table, readers = schema.feedback, schema.feedback_readers
        columns = (table.c.seq, table.c.model, table.c.at, table.c.told, table.c.size)
        sizes = sa.select(table.c.model, sa.func.sum(table.c.size)).group_by(table.c.model)
        with self._database.reading() as connection:
            now = self._now()
            passed = connection.execute(sa.select(readers.c.passed).where(readers.c.reader == reader)).scalar() or 0
            fresh = (table.c.seq > max(passed, after), which)
            query = sa.select(*columns).where(*fresh).order_by(table.c.seq).limit(MOST_AT_ONCE)
            waiting = [WaitingFeedback(*row) for row in connection.execute(query)]
            others = self._has_others(connection, reader, now)
            used = Counter({model: int(size) for model, size in connection.execute(sizes)})
        return FeedbackBatch(waiting, others, used, now)

    @staticmethod
    def _has_others(connection: sa.Connection, reader: str, now: float) -> bool:
        readers = schema.feedback_readers
        living = (readers.c.reader != reader, readers.c.at > now - WAIT_S)
        return connection.execute(sa.select(readers.c.reader).where(*living).limit(1)).first() is not None

    def finish(self, reader: str, passed: int, taken: Collection[int]) -> FinishedFeedback:
        """Delete the items with the ``taken`` numbers, record that the reader has passed all up to ``passed``, and
        return the feedback that ended by that."""
        table, readers = schema.feedback, schema.feedback_readers
        with self._database.recording() as connection:
            now = self._now()
            if taken:
                connection.execute(table.delete().where(table.c.seq.in_(sorted(taken))))
            self._stamp(connection, reader, passed, now)
            connection.execute(readers.delete().where(readers.c.at <= now - WAIT_S))
            expired = _remove(connection, table.c.at <= now - WAIT_S)
            all_passed = sa.select(sa.func.min(readers.c.passed)).scalar_subquery()
            unknown = _remove(connection, table.c.seq <= all_passed)
        return FinishedFeedback(unknown, expired)

    def _stamp(self, connection: sa.Connection, reader: str, passed: int, now: float) -> None:
        readers = schema.feedback_readers
        values = {"at": now, "passed": sa.case((readers.c.passed > passed, readers.c.passed), else_=passed)}
        written = connection.execute(readers.update().where(readers.c.reader == reader).values(**values))
        if not written.rowcount:
            connection.execute(readers.insert().values(reader=reader, passed=passed, at=now))


def _remove(connection: sa.Connection, which: sa.ColumnElement[bool]) -> Counter[str]:
    table = schema.feedback
    return Counter(row.model for row in connection.execute(table.delete().where(which).returning(table.c.model)))
