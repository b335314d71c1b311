"""Events in the database; each method is one transaction, and blocks."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from penstock.core.access.model_filter import EVERY_MODEL, ModelFilter
from penstock.registry.db import schema
from penstock.registry.db.model_patterns import match_models
from penstock.registry.db.own_connection import ChangeMark
from penstock.registry.records import Document
from penstock.registry.stores.connections import Connections

MOST_EVENTS = 1000
SAME_FACT_S = 60.0
"""Events of several gateways about the same subject within this time describe one fact."""

SOURCE = "penstock"


@dataclass(frozen=True, slots=True)
class TrialEvent:
    """An event: ``type`` is the CloudEvent type after ``io.penstock.``, ``data`` is JSON, and events with the same
    subject, type and ``key`` are the same event."""

    type: str
    subject: str
    key: str
    data: Document


class EventStore:
    """The events of all models; ``clock`` gives seconds since the epoch."""

    def __init__(self, database: Connections, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def change_mark(self) -> ChangeMark | None:
        """Return a mark that is another one after every change of the database; see ``Connections``."""
        return self._database.change_mark()

    def insert_event(self, connection: sa.Connection, model: str, event: TrialEvent) -> None:
        """Store an event within a transaction; an event that is stored already is left as it is."""
        digest = event_id(event)
        table = schema.events
        if connection.execute(sa.select(table.c.seq).where(table.c.id == digest)).first() is None:
            values = {"id": digest, "at": self._now(), "type": event.type, "model": model}
            connection.execute(table.insert().values(**values, subject=event.subject, data=event.data))

    def emit(self, model: str, event: TrialEvent) -> None:
        """Store an event that belongs to no other change."""
        with self._database.writing() as connection:
            self.insert_event(connection, model, event)

    def emit_once(self, model: str, event: TrialEvent) -> None:
        """Store an event that several gateways may report: once for all of them, and again after ``SAME_FACT_S`` at the
        earliest. The event's key is replaced, because the fact is identified by the event before it."""
        table = schema.events
        last = sa.select(table.c.seq, table.c.at).order_by(table.c.seq.desc()).limit(1)
        same = (table.c.model == model, table.c.type == event.type, table.c.subject == event.subject)
        with self._database.writing() as connection:
            before = connection.execute(last.where(*same)).first()
            # The absolute value, because the clock may have been set back since.
            if before is None or abs(self._clock() - datetime.fromisoformat(before.at).timestamp()) >= SAME_FACT_S:
                self.insert_event(connection, model, replace(event, key=f"after {0 if before is None else before.seq}"))

    def events(
        self, model: str | None = None, after: int | None = None, limit: int = 100, visible: ModelFilter = EVERY_MODEL
    ) -> list[Document]:
        """Return at most ``limit`` events of visible models in order: the first after a sequence number, or the newest.

        Each is a CloudEvent (specification 1.0, JSON form) with its ``sequence``.
        """
        table = schema.events
        query = sa.select(table).where(match_models(table.c.model, visible)).limit(min(limit, MOST_EVENTS))
        query = query.order_by(table.c.seq.desc()) if after is None else query.where(table.c.seq > after)
        if after is not None:
            query = query.order_by(table.c.seq)
        if model is not None:
            query = query.where(table.c.model == model)
        with self._database.reading() as connection:
            rows = sorted(connection.execute(query).all(), key=lambda row: row.seq)
        return [cloud_event(row, row.seq) for row in rows]

    def newest_events(self) -> list[Document]:
        """Return the newest event of each model, in order."""
        table = schema.events
        newest = sa.select(sa.func.max(table.c.seq)).group_by(table.c.model)
        query = sa.select(table).where(table.c.seq.in_(newest)).order_by(table.c.seq)
        with self._database.reading() as connection:
            return [cloud_event(row, row.seq) for row in connection.execute(query)]

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")


def event_id(event: TrialEvent) -> str:
    """Return the id of an event, a digest of its subject, type and key, so that a repeated event is recognised."""
    return hashlib.sha256("\0".join((SOURCE, event.subject, event.type, event.key)).encode()).hexdigest()


def cloud_event(row: Any, sequence: int) -> Document:
    """Return a row of the events as a CloudEvent."""
    return {
        "specversion": "1.0",
        "id": row.id,
        "source": SOURCE,
        "type": f"io.penstock.{row.type}",
        "subject": row.subject,
        "time": row.at,
        "datacontenttype": "application/json",
        "sequence": sequence,
        "data": row.data,
    }
