"""Feedback that waits in the database for the gateway that gave the answer; each method is one transaction, and blocks.

Gateways read it in the order in which it came. A reader is a memory of answers: it takes what belongs to it, and says
how far it has looked. What all of them have passed belongs to no answer; what none has taken in time expires.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.registry.db import schema
from penstock.registry.records import Document
from penstock.registry.stores.connections import Connections

WAIT_S = 86_400.0
"""Feedback waits that long for its gateway, and a gateway that looked at none for as long is forgotten."""

MOST_BYTES = 64 << 20
"""Room for all that waits, about 400,000 single labels; a model takes no more of it than it leaves free."""

MOST_AT_ONCE = 5_000
"""Answers that are told of and looked at in one transaction."""

OVERHEAD = 64
"""Bytes that one takes beside what was told."""

STAMPED_S = 60.0
"""A reader says that often that it lives."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What was told of an answer of a model: ``told`` is JSON of ``size`` bytes, ``at`` the time at which it came
    (seconds since the epoch, the database's)."""

    seq: int
    model: str
    at: float
    told: Document
    size: int


@dataclass(frozen=True, slots=True)
class Look:
    """What a reader has not passed yet, at the time ``now``; ``others`` says that there are other readers, ``used`` how
    many bytes all that waits takes, by model."""

    waiting: Sequence[Waiting]
    others: bool
    used: Counter[str]
    now: float

    @property
    def is_all(self) -> bool:
        """Whether nothing more waits."""
        return len(self.waiting) < MOST_AT_ONCE


@dataclass(frozen=True, slots=True)
class Ended:
    """Feedback of each model that belongs to no answer that any reader remembers, or that ``expired``."""

    unknown: Counter[str]
    expired: Counter[str]


class FeedbackStore:
    """What waits, of all gateways; raises ``NotReady`` as the registry does. ``clock`` gives seconds since the epoch,
    by default the database's."""

    def __init__(self, database: Connections, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._now = clock or database.clock.now

    def put(self, told: Sequence[tuple[str, Document, int]]) -> None:
        """Let what was told wait: the model, JSON values, and their size in bytes. It is durable afterwards."""
        with self._database.writing() as connection:  # one at a time: numbers are visible in ascending order
            now = self._now()
            rows = [{"model": model, "at": now, "told": one, "size": size + OVERHEAD} for model, one, size in told]
            connection.execute(schema.feedback.insert(), rows)

    def register(self, reader: str) -> None:
        """Let what is told wait for this reader from now on."""
        with self._database.recording() as connection:
            self._stamp(connection, reader, 0, self._now())

    def has_others(self, reader: str) -> bool:
        """Whether there are other readers."""
        with self._database.reading() as connection:
            return self._has_others(connection, reader, self._now())

    def look(self, reader: str, after: int = 0, without: Collection[str] = ()) -> Look:
        """What this reader has not passed yet, oldest first: beyond the number ``after``, of all but some models."""
        return self._look(reader, after, schema.feedback.c.model.not_in(sorted(without)))

    def look_of(self, reader: str, model: str, after: int) -> Look:
        """The same of one model."""
        return self._look(reader, after, schema.feedback.c.model == model)

    def _look(self, reader: str, after: int, which: sa.ColumnElement[bool]) -> Look:
        table, readers = schema.feedback, schema.feedback_readers
        columns = [table.c[name] for name in Waiting.__slots__]
        sizes = sa.select(table.c.model, sa.func.sum(table.c.size)).group_by(table.c.model)
        with self._database.reading() as connection:
            now = self._now()
            passed = connection.execute(sa.select(readers.c.passed).where(readers.c.reader == reader)).scalar() or 0
            fresh = (table.c.seq > max(passed, after), which)
            query = sa.select(*columns).where(*fresh).order_by(table.c.seq).limit(MOST_AT_ONCE)
            waiting = [Waiting(*row) for row in connection.execute(query)]
            others = self._has_others(connection, reader, now)
            used = Counter({model: int(size) for model, size in connection.execute(sizes)})
        return Look(waiting, others, used, now)

    @staticmethod
    def _has_others(connection: sa.Connection, reader: str, now: float) -> bool:
        readers = schema.feedback_readers
        living = (readers.c.reader != reader, readers.c.at > now - WAIT_S)
        return connection.execute(sa.select(readers.c.reader).where(*living).limit(1)).first() is not None

    def done(self, reader: str, passed: int, taken: Collection[int]) -> Ended:
        """Take these numbers away, for good; the reader need not see any up to ``passed`` again. What ended by that."""
        table, readers = schema.feedback, schema.feedback_readers
        with self._database.recording() as connection:
            now = self._now()
            if taken:
                connection.execute(table.delete().where(table.c.seq.in_(sorted(taken))))
            self._stamp(connection, reader, passed, now)
            connection.execute(readers.delete().where(readers.c.at <= now - WAIT_S))
            expired = _removed(connection, table.c.at <= now - WAIT_S)
            all_passed = sa.select(sa.func.min(readers.c.passed)).scalar_subquery()
            unknown = _removed(connection, table.c.seq <= all_passed)
        return Ended(unknown, expired)

    def _stamp(self, connection: sa.Connection, reader: str, passed: int, now: float) -> None:
        readers = schema.feedback_readers
        values = {"at": now, "passed": sa.case((readers.c.passed > passed, readers.c.passed), else_=passed)}
        written = connection.execute(readers.update().where(readers.c.reader == reader).values(**values))
        if not written.rowcount:
            connection.execute(readers.insert().values(reader=reader, passed=passed, at=now))


def _removed(connection: sa.Connection, which: sa.ColumnElement[bool]) -> Counter[str]:
    table = schema.feedback
    return Counter(row.model for row in connection.execute(table.delete().where(which).returning(table.c.model)))
