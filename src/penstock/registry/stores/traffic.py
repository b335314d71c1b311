"""Routes, rollouts, experiments and events in the database; each method is one transaction, and blocks.

A change of weights, its line in the audit and its event are written together or not at all.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from penstock.core.audit.state_comparison import digest_of_trial
from penstock.core.errors import Conflict, Refused
from penstock.core.routing import POINTS, RouteSpec, describe_route, encode_stored_route
from penstock.core.version_gates import gaining_versions
from penstock.core.versions import CHAMPION, sort_key
from penstock.registry.db import schema
from penstock.registry.db.lease import LeaderConnections
from penstock.registry.db.rows import read_model_or_new
from penstock.registry.records import AliasRecord, AuditEntry, Author, Document, ModelRecord, VersionState
from penstock.registry.stores.aliases import MOST_BEFORE
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.events import SOURCE, EventStore, TrialEvent, cloud_event, event_id
from penstock.registry.stores.journal import Journal, PassedGates
from penstock.registry.stores.timeline import TimelineStore
from penstock.registry.stores.traffic_gates import TrafficGates, auditing_refusals
from penstock.registry.stores.trial_records import (
    Trial,
    TrialChange,
    decode_trial,
    read_changes,
    read_open_trial,
    read_trial,
    trial_row,
)

__all__ = [
    "EXPERIMENT",
    "ROLLOUT",
    "SOURCE",
    "TrafficStore",
    "Trial",
    "TrialChange",
    "TrialEvent",
    "cloud_event",
    "event_id",
]

ROLLOUT = "rollout"
EXPERIMENT = "experiment"
KEPT = 200
"""Trials of one model, or changes of a trial, that are listed."""


class TrafficStore(EventStore):
    """The records of traffic. Any thread may use it.

    ``clock`` gives seconds since the epoch, by default those of the database; ``now`` gives a steady time for decisions
    that gateways share. Every method raises ``NotReady`` while the database cannot be reached or written.
    """

    def __init__(self, database: Connections, clock: Callable[[], float] | None = None) -> None:
        super().__init__(database, clock or database.clock.stamp)
        self._asked_clock = clock
        self._journal = Journal(self._clock)
        self._gates = TrafficGates(database)
        self.timeline = TimelineStore(database)
        self.now = clock or database.clock.now

    def acquire_leadership(self) -> bool:
        """Return whether this gateway leads the fleet; acquire or renew the lease if that is due."""
        return self._database.acquire_leadership()

    def as_leader(self) -> "TrafficStore":
        """Return a store whose changes raise ``NotLeading`` unless this gateway leads."""
        return TrafficStore(LeaderConnections(self._database), self._asked_clock)

    # Routes.

    def set_route(
        self,
        model: str,
        make: Callable[[ModelRecord], RouteSpec | None],
        by: Author,
        if_revision: int | None = None,
        answers: Callable[[ModelRecord], str | None] = lambda _: None,
    ) -> int:
        """Replace a model's route by the result of ``make`` for the present model, and return the model's revision.

        ``answers`` returns the version that answers now without a route, None where that is not known.

        Raises:
            Conflict: the model is not at ``if_revision``, or a rollout or an experiment has its traffic.
            Refused: the route needs a version that was retired, or that does not pass its gates.
        """
        with auditing_refusals(self._database, self._journal, by), self._database.writing() as connection:
            record = _at_revision(self._with_withheld(connection, read_model_or_new(connection, model)), if_revision)
            if (running := read_open_trial(connection, model)) is not None:
                raise Conflict(f"{running.kind} {running.id} decides the traffic of '{model}'; abort it first")
            route = make(record)
            _refuse_retired(record, route)
            passed = self._gates.check(connection, record, _find_gaining(record, route, answers(record)))
            return self._write_route(connection, record, route, "route.set", by, passed)

    def _write_route(
        self,
        connection: sa.Connection,
        record: ModelRecord,
        route: RouteSpec | None,
        action: str,
        by: Author,
        passed: PassedGates,
    ) -> int:
        self._journal.record_gates(connection, record.name, action, by, passed)
        table = schema.routes
        connection.execute(table.delete().where(table.c.model == record.name))
        if route is not None:
            connection.execute(table.insert().values(model=record.name, document=encode_stored_route(route)))
        before, after = (None if spec is None else describe_route(spec) for spec in (record.route, route))
        return self._journal.record_change(connection, record.name, action, "route", by, before, after)

    # Trials.

    def begin(self, model: str, kind: str, make: Callable[[ModelRecord, str], TrialChange], by: Author) -> Trial:
        """Begin a trial with the change that ``make`` returns for the model and the trial's id, and return the trial.

        Raises:
            Conflict: the model has an open one already.
            Refused: its route needs a version that was retired, or that does not pass its gates.
        """
        with auditing_refusals(self._database, self._journal, by), self._database.writing() as connection:
            record = self._with_withheld(connection, read_model_or_new(connection, model))
            if (running := read_open_trial(connection, model)) is not None:
                raise Conflict(f"{running.kind} {running.id} of '{model}' is not over; abort it first")
            trial_id = uuid.uuid4().hex[:12]
            change = make(record, trial_id)
            _refuse_retired(record, change.route)
            trial = Trial(trial_id, model, kind, change.open, 1, self._now(), by.actor, change.document)
            connection.execute(schema.trials.insert().values(**trial_row(trial)))
            self._apply(connection, record, trial, change, f"{kind}.start", by)
        return trial

    def trials(self, model: str, kind: str) -> list[Trial]:
        """Return the trials of a model, newest first."""
        table = schema.trials
        query = sa.select(table).where(table.c.model == model, table.c.kind == kind).order_by(table.c.created_at.desc())
        with self._database.reading() as connection:
            return [decode_trial(row) for row in connection.execute(query.limit(KEPT))]

    def trial(self, model: str, kind: str, trial_id: str) -> Trial:
        """Return one trial.

        Raises:
            NotFound: there is no such trial.
        """
        with self._database.reading() as connection:
            return read_trial(connection, model, kind, trial_id)

    def trial_changes(self, trial: Trial) -> list[AuditEntry]:
        """Return the newest changes of a trial that the audit has, oldest first."""
        with self._database.reading() as connection:
            return read_changes(connection, trial, KEPT)

    def preview(self, model: str, make: Callable[[ModelRecord, str], TrialChange]) -> TrialChange:
        """Return the change with which a trial would begin, without beginning it.

        Raises:
            Conflict: the model has an open one already.
            Refused: its route needs a version that was retired.
        """
        with self._database.reading() as connection:
            record = self._with_withheld(connection, read_model_or_new(connection, model))
            if (running := read_open_trial(connection, model)) is not None:
                raise Conflict(f"{running.kind} {running.id} of '{model}' is not over; abort it first")
        change = make(record, "")
        _refuse_retired(record, change.route)
        return change

    def open_trials(self) -> list[Trial]:
        """Return all open trials."""
        with self._database.reading() as connection:
            return [
                decode_trial(row) for row in connection.execute(sa.select(schema.trials).where(schema.trials.c.open))
            ]

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
            return read_open_trial(connection, model)

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
            Refused: a version that would gain traffic does not pass its gates.
        """
        with auditing_refusals(self._database, self._journal, by), self._database.writing() as connection:
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
        passed = self._check_gates(connection, record, change)
        if change.champion is not None:
            self._promote_champion(connection, record, *change.champion, by, passed)
        if not change.keep_route:
            self._write_route(connection, record, change.route, action, by, passed)
        after = {**_summarise_trial(trial.document), "open": trial.open, "record": digest_of_trial(trial_row(trial))}
        self._journal.record_change(connection, trial.model, action, f"{trial.kind}s/{trial.id}", by, None, after)
        if change.event is not None:
            self.insert_event(connection, trial.model, change.event)

    def _check_gates(self, connection: sa.Connection, record: ModelRecord, change: TrialChange) -> PassedGates:
        if change.champion is not None and change.route is None:
            return self._gates.check(connection, record, {change.champion[1]})
        gaining = set() if change.keep_route else _find_gaining(record, change.route, change.answers)
        if change.returns:
            return self._gates.note(connection, record, gaining)
        return self._gates.check(connection, record, gaining | ({change.champion[1]} if change.champion else set()))

    def _with_withheld(self, connection: sa.Connection, record: ModelRecord) -> ModelRecord:
        return replace(record, withheld=self._gates.withheld(connection, record))

    def _promote_champion(
        self,
        connection: sa.Connection,
        record: ModelRecord,
        expected: str | None,
        to: str,
        by: Author,
        passed: PassedGates,
    ) -> None:
        present = record.aliases.get(CHAMPION)
        target = None if present is None else present.version
        if target == to:
            return
        if target != expected:
            raise Conflict(f"alias '{CHAMPION}' points to {target or 'nothing'}, not to {expected or 'nothing'}")
        before = (*present.before, present.version)[-MOST_BEFORE:] if present else ()
        after = AliasRecord(CHAMPION, to, before)
        quiet = replace(passed, results=[])  # the route's line has them
        self._journal.move_alias(connection, record.name, present, after, "alias.move", by, quiet)

    def pin_champion(self, connection: sa.Connection, model: str, version: str, by: Author) -> None:
        """Point ``champion`` at the version that answers, unless a route decides or the alias exists: without it the
        next pushed version would answer at once."""
        record = read_model_or_new(connection, model)
        stored = record.versions.get(version)  # versions of a folder are not in the registry
        retired = stored is not None and stored.state is VersionState.RETIRED
        if record.route is None and CHAMPION not in record.aliases and not retired:
            passed = self._gates.note(connection, record, {version})
            self._journal.move_alias(connection, model, None, AliasRecord(CHAMPION, version), "alias.move", by, passed)

    def pin_newest(self, connection: sa.Connection, record: ModelRecord, by: Author) -> None:
        """Point ``champion`` at the newest version that passes, unless a route decides or the alias exists."""
        withheld = self._gates.withheld(connection, record)
        passing = [item.version for item in record.versions.values() if item.state is VersionState.ADMITTED]
        passing = [version for version in passing if version not in withheld]
        if passing:
            self.pin_champion(connection, record.name, max(passing, key=sort_key), by)

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


def _at_revision(record: ModelRecord, revision: int | None) -> ModelRecord:
    if revision is not None and revision != record.revision:
        raise Conflict(f"model '{record.name}' is at revision {record.revision}, not {revision}; read it again")
    return record


def _find_gaining(record: ModelRecord, route: RouteSpec | None, answers: str | None) -> set[str]:
    """Return the versions that get more traffic by a route, or without one, than now."""
    champion = record.aliases.get(CHAMPION)
    now = answers if champion is None else champion.version
    if route is not None:
        return gaining_versions(record.route, now, route)
    if champion is None or record.route is None or record.route.split.get(champion.version) == POINTS:
        return set()
    return {champion.version}


def _refuse_retired(record: ModelRecord, route: RouteSpec | None) -> None:
    """Refuse a route to versions that were retired since the caller last read the registry; raises ``Refused``."""
    for version in () if route is None else sorted({*route.receivers(), route.stable}):
        stored = record.versions.get(version)
        if stored is not None and stored.state is VersionState.RETIRED:
            raise Refused(f"version '{version}' of model '{record.name}' was retired; choose another one")


def _summarise_trial(document: Mapping[str, Any]) -> Document:
    """Return the part of a trial's document for the audit: its state and the reason, with the evidence."""
    summary = document.get("told")
    return dict(summary) if isinstance(summary, Mapping) else {}
