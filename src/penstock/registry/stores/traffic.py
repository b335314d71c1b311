"""Routes, rollouts, experiments and events in the database; each method is one transaction, and blocks.

A change of weights, its line in the audit and its event are written together or not at all.
"""

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from penstock.core.errors import Conflict, NotFound, Refused
from penstock.core.routing import RouteSpec, route_out, stored_out
from penstock.core.versions import CHAMPION
from penstock.registry.db import schema
from penstock.registry.db.lease import LeaderConnections
from penstock.registry.db.rows import read_model_or_new
from penstock.registry.records import AliasRecord, Author, Document, ModelRecord, VersionState
from penstock.registry.stores.aliases import MOST_BEFORE
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.journal import Journal

ROLLOUT = "rollout"
EXPERIMENT = "experiment"
MOST_EVENTS = 1000
KEPT = 200
"""Trials of one model that are listed."""

SAME_FACT_S = 60.0
"""Events of several gateways about the same subject within this time describe one fact."""

SOURCE = "penstock"


@dataclass(frozen=True, slots=True)
class Trial:
    """A stored rollout or experiment; the content of ``document`` belongs to the component that runs it."""

    id: str
    model: str
    kind: str
    open: bool
    revision: int
    created_at: str
    created_by: str
    document: Document


@dataclass(frozen=True, slots=True)
class TrialEvent:
    """An event: ``type`` is the CloudEvent type after ``io.penstock.``, ``data`` is JSON, and events with the same
    subject, type and ``key`` are the same event."""

    type: str
    subject: str
    key: str
    data: Document


@dataclass(frozen=True, slots=True)
class TrialChange:
    """The changes of one step of a trial: its document, the model's route (``keep_route`` leaves it as it is), the
    champion (the expected version and the new one), and an event."""

    document: Document
    open: bool = True
    route: RouteSpec | None = None
    keep_route: bool = False
    champion: tuple[str | None, str] | None = None
    event: TrialEvent | None = None


class TrafficStore:
    """The records of traffic. Any thread may use it.

    ``clock`` gives seconds since the epoch, by default those of the database; ``now`` gives a steady time for decisions
    that gateways share. Every method raises ``NotReady`` while the database cannot be reached or written.
    """

    def __init__(self, database: Connections, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._asked_clock = clock
        self._clock = clock or database.clock.stamp
        self._journal = Journal(self._clock)
        self.now = clock or database.clock.now

    def acquire_leadership(self) -> bool:
        """Return whether this gateway leads the fleet; acquire or renew the lease if that is due."""
        return self._database.acquire_leadership()

    def as_leader(self) -> "TrafficStore":
        """Return a store whose changes raise ``NotLeading`` unless this gateway leads."""
        return TrafficStore(LeaderConnections(self._database), self._asked_clock)

    # Routes.

    def set_route(
        self, model: str, make: Callable[[ModelRecord], RouteSpec | None], by: Author, if_revision: int | None = None
    ) -> int:
        """Replace a model's route by the result of ``make`` for the present model, and return the model's revision.

        Raises:
            Conflict: the model is not at ``if_revision``, or a rollout or an experiment has its traffic.
            Refused: the route needs a version that was retired.
        """
        with self._database.writing() as connection:
            record = _at(read_model_or_new(connection, model), if_revision)
            if (running := _open_trial(connection, model)) is not None:
                raise Conflict(f"{running.kind} {running.id} decides the traffic of '{model}'; abort it first")
            route = make(record)
            _refuse_retired(record, route)
            return self._write_route(connection, record, route, "route.set", by)

    def _write_route(
        self, connection: sa.Connection, record: ModelRecord, route: RouteSpec | None, action: str, by: Author
    ) -> int:
        table = schema.routes
        connection.execute(table.delete().where(table.c.model == record.name))
        if route is not None:
            connection.execute(table.insert().values(model=record.name, document=stored_out(route)))
        before, after = (None if spec is None else route_out(spec) for spec in (record.route, route))
        return self._journal.record_change(connection, record.name, action, "route", by, before, after)

    # Trials.

    def begin(self, model: str, kind: str, make: Callable[[ModelRecord, str], TrialChange], by: Author) -> Trial:
        """Begin a trial with the change that ``make`` returns for the model and the trial's id, and return the trial.

        Raises:
            Conflict: the model has an open one already.
            Refused: its route needs a version that was retired.
        """
        with self._database.writing() as connection:
            record = read_model_or_new(connection, model)
            if (running := _open_trial(connection, model)) is not None:
                raise Conflict(f"{running.kind} {running.id} of '{model}' is not over; abort it first")
            trial_id = uuid.uuid4().hex[:12]
            change = make(record, trial_id)
            _refuse_retired(record, change.route)
            trial = Trial(trial_id, model, kind, change.open, 1, self._now(), by.actor, change.document)
            connection.execute(schema.trials.insert().values(**_row(trial)))
            self._apply(connection, record, trial, change, f"{kind}.start", by)
        return trial

    def trials(self, model: str, kind: str) -> list[Trial]:
        """Return the trials of a model, newest first."""
        table = schema.trials
        query = sa.select(table).where(table.c.model == model, table.c.kind == kind).order_by(table.c.created_at.desc())
        with self._database.reading() as connection:
            return [_trial(row) for row in connection.execute(query.limit(KEPT))]

    def trial(self, model: str, kind: str, trial_id: str) -> Trial:
        """Return one trial.

        Raises:
            NotFound: there is no such trial.
        """
        with self._database.reading() as connection:
            return _find(connection, model, kind, trial_id)

    def open_trials(self) -> list[Trial]:
        """Return all open trials."""
        with self._database.reading() as connection:
            return [_trial(row) for row in connection.execute(sa.select(schema.trials).where(schema.trials.c.open))]

    def newest(self, kind: str) -> dict[str, tuple[str, int]]:
        """Return the id and the revision of the newest trial of each model."""
        table = schema.trials
        query = sa.select(table.c.model, table.c.id, table.c.revision).where(table.c.kind == kind)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(table.c.created_at, table.c.id)).all()
        return {row.model: (row.id, row.revision) for row in rows}

    def rollout_targets(self, model: str) -> set[str]:
        """Return the versions that were canaries of a model's rollouts; reads no other part of their documents."""
        table = schema.trials
        target = table.c.document["rollout", "spec", "to"].as_string()
        query = sa.select(target).where(table.c.model == model, table.c.kind == ROLLOUT).distinct()
        with self._database.reading() as connection:
            return {to for to in connection.execute(query).scalars() if to is not None}

    def open_trial(self, model: str) -> Trial | None:
        """Return the open trial of a model, None without one."""
        with self._database.reading() as connection:
            return _open_trial(connection, model)

    def keep(self, trial: Trial, document: Document) -> Trial:
        """Store a trial's document without any other change, and return the trial at its new revision.

        Raises:
            Conflict: the trial is at another revision.
        """
        with self._database.writing() as connection:
            return self._write(connection, trial, document, trial.open)

    def change(self, trial: Trial, make: Callable[[ModelRecord], TrialChange], action: str, by: Author) -> Trial:
        """Take a step of a trial: make all its changes or none, and return the trial at its new revision.

        Raises:
            Conflict: the trial is at another revision, or the champion is not the expected version.
        """
        with self._database.writing() as connection:
            record = read_model_or_new(connection, trial.model)
            change = make(record)
            written = self._write(connection, trial, change.document, change.open)
            self._apply(connection, record, written, change, f"{trial.kind}.{action}", by)
            if not change.open:
                table = schema.observations
                connection.execute(table.delete().where(table.c.trial == trial.id))
        return written

    def _write(self, connection: sa.Connection, trial: Trial, document: Document, is_open: bool) -> Trial:
        table = schema.trials
        written = connection.execute(
            table.update()
            .where(table.c.id == trial.id, table.c.revision == trial.revision)
            .values(document=document, open=is_open, revision=trial.revision + 1)
        )
        if not written.rowcount:
            raise Conflict(f"{trial.kind} {trial.id} has changed; read it again")
        return Trial(
            trial.id,
            trial.model,
            trial.kind,
            is_open,
            trial.revision + 1,
            trial.created_at,
            trial.created_by,
            document,
        )

    def _apply(
        self, connection: sa.Connection, record: ModelRecord, trial: Trial, change: TrialChange, action: str, by: Author
    ) -> None:
        if change.champion is not None:
            self._promote_champion(connection, record, *change.champion, by)
        if not change.keep_route:
            self._write_route(connection, record, change.route, action, by)
        self._journal.record_change(
            connection, trial.model, action, f"{trial.kind}s/{trial.id}", by, None, _summary(trial.document)
        )
        if change.event is not None:
            self.insert_event(connection, trial.model, change.event)

    def _promote_champion(
        self, connection: sa.Connection, record: ModelRecord, expected: str | None, to: str, by: Author
    ) -> None:
        present = record.aliases.get(CHAMPION)
        target = None if present is None else present.version
        if target == to:
            return
        if target != expected:
            raise Conflict(f"alias '{CHAMPION}' points to {target or 'nothing'}, not to {expected or 'nothing'}")
        before = (*present.before, present.version)[-MOST_BEFORE:] if present else ()
        self._journal.move_alias(connection, record.name, present, AliasRecord(CHAMPION, to, before), "alias.move", by)

    def pin_champion(self, connection: sa.Connection, model: str, version: str, by: Author) -> None:
        """Point ``champion`` at the version that answers, unless a route decides or the alias exists: without it the
        next pushed version would answer at once."""
        record = read_model_or_new(connection, model)
        stored = record.versions.get(version)  # versions of a folder are not in the registry
        retired = stored is not None and stored.state is VersionState.RETIRED
        if record.route is None and CHAMPION not in record.aliases and not retired:
            self._journal.move_alias(connection, model, None, AliasRecord(CHAMPION, version), "alias.move", by)

    # Observations of gateways.

    def observe(self, trial_id: str, gateway: str, document: Document) -> None:
        """Replace the counts of a gateway for a trial."""
        table = schema.observations
        key = (table.c.trial == trial_id, table.c.gateway == gateway)
        with self._database.writing() as connection:
            changed = connection.execute(table.update().where(*key).values(document=document))
            if not changed.rowcount:
                connection.execute(table.insert().values(trial=trial_id, gateway=gateway, document=document))

    def observations(self, trial_id: str) -> dict[str, Document]:
        """Return the counts of each gateway for a trial."""
        table = schema.observations
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(table).where(table.c.trial == trial_id))
            return {row.gateway: row.document for row in rows}

    # Events.

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

    def events(self, model: str | None = None, after: int | None = None, limit: int = 100) -> list[Document]:
        """Return at most ``limit`` events in their order: the first after a sequence number, or the newest.

        Each is a CloudEvent (specification 1.0, JSON form) with its ``sequence``.
        """
        table = schema.events
        query = sa.select(table).limit(min(limit, MOST_EVENTS))
        query = query.order_by(table.c.seq.desc()) if after is None else query.where(table.c.seq > after)
        if after is not None:
            query = query.order_by(table.c.seq)
        if model is not None:
            query = query.where(table.c.model == model)
        with self._database.reading() as connection:
            rows = sorted(connection.execute(query).all(), key=lambda row: row.seq)
        return [cloud_event(row, row.seq) for row in rows]

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")


def event_id(event: TrialEvent) -> str:
    """Return the id of an event, a digest of its subject, type and key, so that a repeated event is recognised."""
    return hashlib.sha256("\0".join((SOURCE, event.subject, event.type, event.key)).encode()).hexdigest()


def _at(record: ModelRecord, revision: int | None) -> ModelRecord:
    if revision is not None and revision != record.revision:
        raise Conflict(f"model '{record.name}' is at revision {record.revision}, not {revision}; read it again")
    return record


def _refuse_retired(record: ModelRecord, route: RouteSpec | None) -> None:
    """Refuse a route to versions that were retired since the caller last read the registry; raises ``Refused``."""
    for version in () if route is None else sorted({*route.receivers(), route.stable}):
        stored = record.versions.get(version)
        if stored is not None and stored.state is VersionState.RETIRED:
            raise Refused(f"version '{version}' of model '{record.name}' was retired; choose another one")


def _open_trial(connection: sa.Connection, model: str) -> Trial | None:
    table = schema.trials
    row = connection.execute(sa.select(table).where(table.c.model == model, table.c.open)).first()
    return None if row is None else _trial(row)


def _find(connection: sa.Connection, model: str, kind: str, trial_id: str) -> Trial:
    table = schema.trials
    where = (table.c.id == trial_id, table.c.model == model, table.c.kind == kind)
    row = connection.execute(sa.select(table).where(*where)).first()
    if row is None:
        raise NotFound(f"model '{model}' has no {kind} '{trial_id[:64]}'")
    return _trial(row)


def _row(trial: Trial) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in Trial.__slots__}


def _trial(row: Any) -> Trial:
    return Trial(
        row.id, row.model, row.kind, bool(row.open), row.revision, row.created_at, row.created_by, row.document
    )


def _summary(document: Mapping[str, Any]) -> Document:
    """Return the part of a trial's document for the audit: its state and the reason, with the evidence."""
    summary = document.get("told")
    return dict(summary) if isinstance(summary, Mapping) else {}


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
