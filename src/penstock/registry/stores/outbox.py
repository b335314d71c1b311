"""What retraining rules remember, and events on their way to sinks: a decision and what is to be sent are one
transaction, so there is never the one without the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from penstock.core.errors import Conflict, NotFound
from penstock.core.triggers.burn_rate import Counts
from penstock.core.triggers.state import with_request, without_request
from penstock.registry.db import schema
from penstock.registry.db.lease import LeaderConnections
from penstock.registry.records import By, Document
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.journal import Journal
from penstock.registry.stores.traffic import Event, TrafficStore, cloud_event, event_id

PENDING, SENT, DEAD = "pending", "sent", "dead"

FIRST_LATE_S, LATE_S = 60.0, 7200.0
"""No delivery is put off for longer, before its first attempt and after one: a clock that was set back since wrote what
lies beyond, and it is due."""


class Superseded(Conflict):
    """Somebody else has written what became of a delivery, or asked for it again: nothing was written."""

    def __init__(self) -> None:
        super().__init__("the delivery has moved on; this attempt at it counts no more")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt at sending one event to one sink; ``event`` is the CloudEvent, ``attempts`` how often it was tried
    before, ``begun`` that this attempt is written down already."""

    seq: int
    model: str
    sink: str
    attempts: int
    created: float
    event: Document
    begun: bool = False


class Outbox:
    """The records of retraining; ``clock`` gives seconds since the epoch, by default the database's.
    Raises ``NotReady`` as the registry does.

    What became of a delivery is written for one attempt: unless the delivery still waits at that attempt, nothing is,
    and ``Superseded`` is raised. The term alone does not tell: a gateway may lose it and lead again in a later one.
    """

    def __init__(self, database: Connections, traffic: TrafficStore, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._traffic = traffic
        self._asked_clock = clock
        self._clock = clock or database.clock.now
        self._journal = Journal(clock or database.clock.stamp)

    def lead(self) -> bool:
        """Whether this gateway is the one that decides and sends for all."""
        return self._traffic.lead()

    @property
    def term(self) -> int | None:
        """The term in which this gateway leads, as far as it knows; None if it does not."""
        return self._database.lease.term

    def as_leader(self) -> "Outbox":
        """The same for what only the gateway that leads may write: its changes raise ``NotLeading`` elsewhere."""
        return Outbox(LeaderConnections(self._database), self._traffic.as_leader(), self._asked_clock)

    def standing(self, model: str) -> tuple[Document, int]:
        """What a model's rules remember, and the revision it is at (0: nothing yet)."""
        table = schema.standings
        with self._database.reading() as connection:
            row = connection.execute(sa.select(table).where(table.c.model == model)).first()
        return ({}, 0) if row is None else (row.document, row.revision)

    def commit(
        self,
        model: str,
        revision: int,
        document: Document,
        event: Event | None = None,
        sinks: Sequence[str] = (),
        by: By | None = None,
        action: str = "retraining.request",
        pin: str | None = None,
    ) -> int:
        """Write down what the rules remember now, and with it an event for some sinks; the new revision. With ``by`` it
        is an ``action`` of the audit; with ``pin`` that version goes on answering until something else is decided.

        Raises:
            Conflict: somebody else has decided meanwhile.
        """
        table = schema.standings
        with self._database.writing() as connection:
            if revision:
                where = (table.c.model == model, table.c.revision == revision)
                done = connection.execute(table.update().where(*where).values(document=document, revision=revision + 1))
                if not done.rowcount:
                    raise Conflict("the rules of the model have moved on")
            else:
                if connection.execute(sa.select(table.c.model).where(table.c.model == model)).first() is not None:
                    raise Conflict("the rules of the model have moved on")
                connection.execute(table.insert().values(model=model, document=document, revision=1))
            if event is not None:
                self._traffic.emit(connection, model, event)
                self._address(connection, model, event_id(event), sinks)
                if by is not None:
                    after = {"event": event_id(event), "type": event.type}
                    self._journal.changed(connection, model, action, "retraining", by, None, after)
                    if pin is not None:
                        self._traffic.pin_champion(connection, model, pin, by)
        return revision + 1

    def requests_over_time(self, key: tuple[str, str], slow_ms: float) -> list[Counts]:
        """What was counted of a version's requests, oldest first; ``slow_ms`` says what was counted as slow."""
        table = schema.request_history
        columns = (table.c.at, table.c.requests, table.c.failed, table.c.slow)
        mine = (table.c.model == key[0], table.c.version == key[1], table.c.slow_ms == slow_ms)
        with self._database.reading() as connection:
            return [Counts(*row) for row in connection.execute(sa.select(*columns).where(*mine).order_by(table.c.seq))]

    def note_requests(self, key: tuple[str, str], slow_ms: float, counts: Counts, kept_s: float) -> None:
        """Write down what was counted of a version's requests; older ones than ``kept_s``, and those of other versions
        of the model, go."""
        with self._database.recording() as connection:
            table = schema.request_history
            over = (table.c.version != key[1]) | (table.c.slow_ms != slow_ms)
            over |= (table.c.at < counts.at - kept_s) | (table.c.at > counts.at)  # by a clock that was set back
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

    def tell(self, model: str, event: Event) -> None:
        """Write down an event that no decision made; the same one twice is one."""
        self._traffic.tell(model, event)

    def due(self, after: Delivery | None = None) -> list[Delivery]:
        """What is to be sent now: of each model and sink the oldest, once its time has come; or only of those of the
        one that it comes ``after``."""
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
        first = (table.c.attempts == 0) & (table.c.error == "") & (table.c.due > now + FIRST_LATE_S)
        return (table.c.due <= now) | first | (table.c.due > now + LATE_S)

    def sent(self, delivery: Delivery) -> None:
        """A sink has it; raises ``Superseded``."""
        self._update(delivery, state=SENT, attempts=delivery.attempts + 1, error="")

    def failed(self, delivery: Delivery, due: float, error: str) -> None:
        """A sink does not have it; it is tried again at ``due``. Raises ``Superseded``."""
        self._update(delivery, due=due, attempts=delivery.attempts + 1, error=error)

    def begin(self, delivery: Delivery) -> Delivery:
        """The attempt as it is once it is written down that a sink is about to get the event: whoever finds it
        unfinished later knows that the sink may have it. Raises ``Superseded``."""
        self._update(delivery, attempts=delivery.attempts + 1)
        return replace(delivery, begun=True)

    def put_off(self, delivery: Delivery, due: float, error: str) -> None:
        """It is tried again at ``due`` as if this attempt was not made: nothing was sent. Raises ``Superseded``."""
        self._update(delivery, due=due, attempts=delivery.attempts, error=error)

    def given_up(self, delivery: Delivery, error: str, event: Event, others: Sequence[str] | None = None) -> None:
        """It is not tried again unless somebody asks for it, which an event tells. What it asked for is over, unless
        one of the ``others`` may still bring it (None: it goes on). Raises ``Superseded``."""
        with self._database.writing() as connection:
            self._set(connection, delivery, state=DEAD, attempts=delivery.attempts + 1, error=error)
            self._traffic.emit(connection, delivery.model, event)
            if others is not None and not self._may_bring(connection, delivery, others):
                self._end_request(connection, delivery)

    @staticmethod
    def _may_bring(connection: sa.Connection, delivery: Delivery, sinks: Sequence[str]) -> bool:
        """Whether one of the sinks has the same event, or will."""
        table = schema.outbox
        same = (table.c.event == delivery.event["id"], table.c.sink.in_(sinks), table.c.state != DEAD)
        return connection.execute(sa.select(table.c.seq).where(*same)).first() is not None

    def _end_request(self, connection: sa.Connection, delivery: Delivery) -> None:
        event = str(delivery.event["id"])
        self._change_standing(connection, delivery.model, lambda kept: without_request(kept, event))

    @staticmethod
    def _change_standing(connection: sa.Connection, model: str, change: Callable[[Document], Document | None]) -> None:
        """Have what a model's rules remember changed, where there is something to change (None: nothing)."""
        table = schema.standings
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

    def replay(self, model: str, by: By) -> int:
        """Try again what was given up, and now what waits for its next attempt; how many deliveries.

        Raises:
            NotFound: nothing of the model was given up or waits.
        """
        table, now = schema.outbox, self._clock()
        waits = (table.c.state == DEAD) | ((table.c.state == PENDING) & (table.c.due > now))
        with self._database.writing() as connection:
            values = {"state": PENDING, "attempts": 0, "due": now, "error": ""}
            dead = sa.select(table.c.event).where(table.c.model == model, table.c.state == DEAD)
            events = set(connection.execute(dead).scalars())
            number = connection.execute(table.update().where(table.c.model == model, waits).values(**values)).rowcount
            if not number:
                raise NotFound(f"nothing of model '{model}' was given up or waits")
            self._change_standing(connection, model, lambda kept: with_request(kept, events))
            self._journal.changed(connection, model, "outbox.replay", "outbox", by, None, {"deliveries": number})
        return number

    def deliveries(self, model: str, limit: int = 100) -> list[Document]:
        """A model's newest deliveries, newest first."""
        table = schema.outbox
        query = sa.select(table).where(table.c.model == model).order_by(table.c.seq.desc()).limit(limit)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            {"event": row.event, "sink": row.sink, "state": row.state, "attempts": row.attempts, "error": row.error}
            for row in rows
        ]

    def pending(self) -> dict[str, tuple[int, float]]:
        """Of each model how many deliveries wait, and when the oldest was decided."""
        table = schema.outbox
        query = sa.select(table.c.model, sa.func.count(), sa.func.min(table.c.created)).where(table.c.state == PENDING)
        with self._database.reading() as connection:
            return {row[0]: (row[1], row[2]) for row in connection.execute(query.group_by(table.c.model))}
