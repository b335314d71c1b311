"""The outbox: the state of retraining rules, and events on their way to sinks. A decision and its event are written in
one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from penstock.core.errors import Conflict, NotFound
from penstock.core.triggers.burn_rate import RequestCounts
from penstock.core.triggers.state import with_request, without_request
from penstock.registry.db import schema
from penstock.registry.db.lease import LeaderConnections
from penstock.registry.db.own_connection import ChangeMark
from penstock.registry.db.rows import read_model_or_new
from penstock.registry.records import Author, Document
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.journal import Journal
from penstock.registry.stores.signatures import SignatureStore
from penstock.registry.stores.traffic import TrafficStore, TrialEvent, cloud_event, event_id
from penstock.registry.stores.traffic_gates import TrafficGates, auditing_refusals

PENDING, SENT, DEAD = "pending", "sent", "dead"

SUPERSEDED = "too many wait for this sink, and a newer one replaces it"

MOST_FIRST_DELAY_S, MOST_DELAY_S = 60.0, 7200.0
"""A delivery is due at the latest this long from now, before its first attempt and after one: a later time was written
before the clock was set back."""


class Superseded(Conflict):
    """Another attempt has changed the delivery, or it was replayed: nothing was written."""

    def __init__(self) -> None:
        super().__init__("another attempt has changed the delivery; the result of this attempt is ignored")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to deliver one event to one sink: ``event`` is the CloudEvent, ``attempts`` the number of earlier
    attempts, ``created`` the time of the decision (seconds since the epoch), and ``begun`` says that this attempt is
    stored already."""

    seq: int
    model: str
    sink: str
    attempts: int
    created: float
    event: Document
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's decision about a candidate: the revision that it was made for, the state of the rules after it, its
    event, and its action in the audit."""

    revision: int
    document: Document
    event: TrialEvent
    action: str


class Outbox:
    """The records of retraining; ``clock`` gives seconds since the epoch, by default those of the database.

    The result of a delivery is stored for one attempt. If the delivery no longer waits at that attempt, nothing is
    written and ``Superseded`` is raised; the term does not suffice, because a gateway may lose the lease and lead
    again. Every method raises ``NotReady`` while the database cannot be reached or written.
    """

    def __init__(self, database: Connections, traffic: TrafficStore, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._traffic = traffic
        self._asked_clock = clock
        self._clock = clock or database.clock.now
        self._journal = Journal(clock or database.clock.stamp)

    def change_mark(self) -> ChangeMark | None:
        """Return a mark that is another one after every change of the database; see ``Connections``."""
        return self._database.change_mark()

    def acquire_leadership(self) -> bool:
        """Return whether this gateway leads the fleet; acquire or renew the lease if that is due."""
        return self._traffic.acquire_leadership()

    def gate_refusal(self, model: str, version: str) -> str:
        """Return why a version may not gain traffic now, "" if it may; nothing is added to the audit."""
        with self._database.reading() as connection:
            record = read_model_or_new(connection, model)
            return TrafficGates(self._database).refusal(connection, record, version)

    def approve_version(self, model: str, version: str, by: Author, decision: Decision | None = None) -> None:
        """Approve a candidate, and store the decision to roll it out, both or neither; None: that is stored already.

        Raises:
            Refused, Unauthorised: see ``SignatureStore.approve_candidate``. Conflict: as ``commit``.
        """
        signatures = SignatureStore(self._database, self._journal, self._clock)
        with auditing_refusals(self._database, self._journal, by), self._database.writing() as connection:
            signatures.approve_candidate(connection, model, version, by)
            if decision is not None:
                self._write_state(connection, model, decision.revision, decision.document)
                self._insert_decided(connection, model, decision.event, by, decision.action)

    @property
    def term(self) -> int | None:
        """The term in which this gateway leads, by its last look at the lease; None if it does not lead."""
        return self._database.lease.term

    def as_leader(self) -> "Outbox":
        """Return an outbox whose changes raise ``NotLeading`` unless this gateway leads."""
        return Outbox(LeaderConnections(self._database), self._traffic.as_leader(), self._asked_clock)

    def rule_state(self, model: str) -> tuple[Document, int]:
        """Return the state of a model's rules and its revision (0: no state yet)."""
        table = schema.rule_states
        with self._database.reading() as connection:
            row = connection.execute(sa.select(table).where(table.c.model == model)).first()
        return ({}, 0) if row is None else (row.document, row.revision)

    def commit(
        self,
        model: str,
        revision: int,
        document: Document,
        event: TrialEvent | None = None,
        sinks: Sequence[str] = (),
        by: Author | None = None,
        action: str = "retraining.request",
        pin: str | None = None,
    ) -> int:
        """Store the state of a model's rules, with an event for some sinks, and return the new revision.

        With ``by`` the audit gets a line for the ``action``; with ``pin`` that version keeps answering until another
        decision.

        Raises:
            Conflict: the state is at another revision.
        """
        with self._database.writing() as connection:
            self._write_state(connection, model, revision, document)
            if event is not None:
                self._insert_decided(connection, model, event, by, action, sinks)
                if by is not None and pin is not None:
                    self._traffic.pin_champion(connection, model, pin, by)
        return revision + 1

    @staticmethod
    def _write_state(connection: sa.Connection, model: str, revision: int, document: Document) -> None:
        """Write the state of a model's rules, if it is at a revision; raises ``Conflict``."""
        table = schema.rule_states
        known = connection.execute(sa.select(table.c.revision).where(table.c.model == model)).scalar()
        if (known or 0) != revision:
            raise Conflict(f"the state of the rules of model '{model}' has changed; read it again")
        values = {"document": document, "revision": revision + 1}
        if known is None:
            connection.execute(table.insert().values(model=model, **values))
        else:
            connection.execute(table.update().where(table.c.model == model).values(**values))

    def _insert_decided(
        self,
        connection: sa.Connection,
        model: str,
        event: TrialEvent,
        by: Author | None,
        action: str,
        sinks: Sequence[str] = (),
    ) -> None:
        """Store the event of a decision for some sinks; with ``by``, also its line in the audit."""
        self.insert_event(connection, model, event, sinks)
        if by is not None:
            after = {"event": event_id(event), "type": event.type}
            self._journal.record_change(connection, model, action, "retraining", by, None, after)

    def requests_over_time(self, key: tuple[str, str], slow_ms: float) -> list[RequestCounts]:
        """Return the history of a version's request counts, oldest first; ``slow_ms`` is the limit of slow requests."""
        table = schema.request_history
        columns = (table.c.at, table.c.requests, table.c.failed, table.c.slow)
        own = (table.c.model == key[0], table.c.version == key[1], table.c.slow_ms == slow_ms)
        with self._database.reading() as connection:
            return [
                RequestCounts(*row) for row in connection.execute(sa.select(*columns).where(*own).order_by(table.c.seq))
            ]

    def note_requests(self, key: tuple[str, str], slow_ms: float, counts: RequestCounts, kept_s: float) -> None:
        """Add request counts of a version to its history; counts older than ``kept_s`` and those of the model's other
        versions are deleted."""
        with self._database.recording() as connection:
            table = schema.request_history
            over = (table.c.version != key[1]) | (table.c.slow_ms != slow_ms)
            over |= (table.c.at < counts.at - kept_s) | (table.c.at > counts.at)  # later: the clock was set back
            connection.execute(table.delete().where(table.c.model == key[0], over))
            values = {"model": key[0], "version": key[1], "slow_ms": slow_ms, "at": counts.at}
            counted = {"requests": counts.requests, "failed": counts.failed, "slow": counts.slow}
            connection.execute(table.insert().values(**values, **counted))

    def _address(self, connection: sa.Connection, model: str, event: str, sinks: Sequence[str]) -> None:
        table, now = schema.outbox, self._clock()
        for sink in sinks:
            where = (table.c.event == event, table.c.sink == sink)
            if connection.execute(sa.select(table.c.seq).where(*where)).first() is None:
                values = {"event": event, "model": model, "sink": sink, "state": PENDING}
                connection.execute(table.insert().values(**values, attempts=0, created=now, due=now, error=""))

    def insert_event(self, connection: sa.Connection, model: str, event: TrialEvent, sinks: Sequence[str]) -> None:
        """Store an event for some sinks within a transaction."""
        self._traffic.insert_event(connection, model, event)
        self._address(connection, model, event_id(event), sinks)

    @staticmethod
    def give_up_oldest(connection: sa.Connection, model: str, sinks: Sequence[str], most: int) -> int:
        """Give up the deliveries of a model that wait for one of these sinks, except its ``most`` newest; return how
        many, within a transaction."""
        table, given_up = schema.outbox, 0
        for sink in sinks:
            waits = (table.c.model == model, table.c.sink == sink, table.c.state == PENDING)
            newest = sa.select(table.c.seq).where(*waits).order_by(table.c.seq.desc()).limit(most)
            kept = list(connection.execute(newest).scalars())
            if len(kept) == most:
                values = {"state": DEAD, "error": SUPERSEDED}
                older = table.update().where(*waits, table.c.seq < kept[-1])
                given_up += connection.execute(older.values(**values)).rowcount
        return given_up

    def emit(self, model: str, event: TrialEvent) -> None:
        """Store an event that belongs to no decision; an event that is stored already is left as it is."""
        self._traffic.emit(model, event)

    def due(self, after: Delivery | None = None) -> list[Delivery]:
        """Return the deliveries that are due: of each model and sink the oldest one. With ``after`` only the next one
        of the same model and sink."""
        table, events = schema.outbox, schema.events
        same = () if after is None else (table.c.model == after.model, table.c.sink == after.sink)
        first = (
            sa.select(sa.func.min(table.c.seq))
            .where(table.c.state == PENDING, *same)
            .group_by(table.c.model, table.c.sink)
            .scalar_subquery()
        )
        query = (
            sa.select(table, events.c.id, events.c.at, events.c.type, events.c.subject, events.c.data)
            .add_columns(events.c.seq.label("event_seq"))
            .join(events, events.c.id == table.c.event)
            .where(table.c.seq.in_(first), self._is_due())
            .order_by(table.c.seq)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            Delivery(row.seq, row.model, row.sink, row.attempts, row.created, cloud_event(row, row.event_seq))
            for row in rows
        ]

    def _is_due(self) -> sa.ColumnElement[bool]:
        table, now = schema.outbox, self._clock()
        first = (table.c.attempts == 0) & (table.c.error == "") & (table.c.due > now + MOST_FIRST_DELAY_S)
        return (table.c.due <= now) | first | (table.c.due > now + MOST_DELAY_S)

    def mark_sent(self, delivery: Delivery) -> None:
        """Store that the sink has accepted the event; raises ``Superseded``."""
        self._update(delivery, state=SENT, attempts=delivery.attempts + 1, error="")

    def mark_failed(self, delivery: Delivery, due: float, error: str) -> None:
        """Store that the attempt has failed; it is repeated at ``due`` (seconds since the epoch). Raises
        ``Superseded``."""
        self._update(delivery, due=due, attempts=delivery.attempts + 1, error=error)

    def begin(self, delivery: Delivery) -> Delivery:
        """Store that the attempt begins, and return the begun attempt. A gateway that finds it unfinished later knows
        that the sink may have the event. Raises ``Superseded``."""
        self._update(delivery, attempts=delivery.attempts + 1)
        return replace(delivery, begun=True)

    def put_off(self, delivery: Delivery, due: float, error: str) -> None:
        """Postpone the delivery to ``due`` (seconds since the epoch) without counting the attempt, because nothing was
        sent. Raises ``Superseded``."""
        self._update(delivery, due=due, attempts=delivery.attempts, error=error)

    def mark_dead(self, delivery: Delivery, error: str, event: TrialEvent, others: Sequence[str] | None = None) -> None:
        """Store that the delivery is dead, with an ``event`` that says so; it is repeated only on ``replay``.

        The request of the delivery ends, unless one of the ``others`` (sinks) has the event or may still get it (None:
        the request stays open). Raises ``Superseded``.
        """
        with self._database.writing() as connection:
            self._set(connection, delivery, state=DEAD, attempts=delivery.attempts + 1, error=error)
            self._traffic.insert_event(connection, delivery.model, event)
            if others is not None and not self._may_bring(connection, delivery, others):
                self._end_request(connection, delivery)

    @staticmethod
    def _may_bring(connection: sa.Connection, delivery: Delivery, sinks: Sequence[str]) -> bool:
        """Return whether one of the sinks has the same event or may still get it."""
        table = schema.outbox
        same = (table.c.event == delivery.event["id"], table.c.sink.in_(sinks), table.c.state != DEAD)
        return connection.execute(sa.select(table.c.seq).where(*same)).first() is not None

    def _end_request(self, connection: sa.Connection, delivery: Delivery) -> None:
        event = str(delivery.event["id"])
        self._change_rule_state(connection, delivery.model, lambda state: without_request(state, event))

    @staticmethod
    def _change_rule_state(
        connection: sa.Connection, model: str, change: Callable[[Document], Document | None]
    ) -> None:
        """Change the state of a model's rules, unless ``change`` returns None."""
        table = schema.rule_states
        row = connection.execute(sa.select(table).where(table.c.model == model)).first()
        after = None if row is None else change(row.document)
        if row is not None and after is not None:
            values = {"document": after, "revision": row.revision + 1}
            connection.execute(table.update().where(table.c.model == model).values(**values))

    def _update(self, delivery: Delivery, **values: object) -> None:
        with self._database.writing() as connection:
            self._set(connection, delivery, **values)

    @staticmethod
    def _set(connection: sa.Connection, delivery: Delivery, **values: object) -> None:
        table, attempts = schema.outbox, delivery.attempts + delivery.begun
        here = (table.c.seq == delivery.seq, table.c.state == PENDING, table.c.attempts == attempts)
        if not connection.execute(table.update().where(*here).values(**values)).rowcount:
            raise Superseded

    def replay(self, model: str, by: Author, event: str | None = None, sink: str | None = None) -> int:
        """Make dead and waiting deliveries due now, by default all of the model's or else those of an event or to a
        sink, and return how many.

        Raises:
            NotFound: the model has none.
        """
        table, now = schema.outbox, self._clock()
        waits = (table.c.state == DEAD) | ((table.c.state == PENDING) & (table.c.due > now))
        if event is not None:
            waits &= table.c.event == event
        if sink is not None:
            waits &= table.c.sink == sink
        with self._database.writing() as connection:
            values = {"state": PENDING, "attempts": 0, "due": now, "error": ""}
            dead = sa.select(table.c.event).where(table.c.model == model, table.c.state == DEAD, waits)
            events = set(connection.execute(dead).scalars())
            number = connection.execute(table.update().where(table.c.model == model, waits).values(**values)).rowcount
            if not number:
                raise NotFound(f"model '{model}' has no dead or waiting deliveries")
            self._change_rule_state(connection, model, lambda state: with_request(state, events))
            self._journal.record_change(connection, model, "outbox.replay", "outbox", by, None, {"deliveries": number})
        return number

    def deliveries(self, model: str, limit: int = 100) -> list[Document]:
        """Return the newest deliveries of a model, newest first; ``created`` and ``due`` are seconds since the epoch,
        and ``type`` and ``sequence`` are those of the event, None after its retention."""
        table, events = schema.outbox, schema.events
        query = sa.select(table, events.c.type, events.c.seq.label("sequence"))
        query = query.outerjoin(events, events.c.id == table.c.event).where(table.c.model == model)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(table.c.seq.desc()).limit(limit)).all()
        return [_delivery_document(row) for row in rows]

    def pending(self) -> dict[str, tuple[int, float]]:
        """Return by model how many deliveries wait, and when the oldest was decided (seconds since the epoch)."""
        table = schema.outbox
        query = sa.select(table.c.model, sa.func.count(), sa.func.min(table.c.created)).where(table.c.state == PENDING)
        with self._database.reading() as connection:
            return {row[0]: (row[1], row[2]) for row in connection.execute(query.group_by(table.c.model))}


def _delivery_document(row: Any) -> Document:
    names = ("event", "sink", "state", "attempts", "error", "created", "sequence")
    due = row.due if row.state == PENDING else None
    kind = None if row.type is None else f"io.penstock.{row.type}"
    return {**{name: getattr(row, name) for name in names}, "due": due, "type": kind}
