"""Versions, aliases and their audit in the database; each method is one transaction, and blocks.

A change and its line in the audit are one: there is never the one without the other.
"""

import uuid
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from enum import Enum
from typing import Protocol

import sqlalchemy as sa

from penstock.core.errors import Conflict, NotFound, Refused
from penstock.core.versions import CHAMPION
from penstock.registry.db import schema
from penstock.registry.db.lease import LeaseHolder
from penstock.registry.db.rows import read_model, read_model_or_new, read_models, read_versions, version_out
from penstock.registry.db.shared_clock import SharedClock
from penstock.registry.model_settings import settings_out
from penstock.registry.records import (
    AliasRecord,
    AuditEntry,
    By,
    Document,
    ModelRecord,
    ModelSettings,
    Move,
    VersionRecord,
    VersionState,
)
from penstock.registry.stores.journal import Journal
from penstock.registry.stores.trial_versions import needed_by_trials

RETIRED_KEPT_S = 7 * 86_400.0
"""The content of a retired version is kept that long."""

MOST_BEFORE = 100
"""Steps an alias can be led back."""

MOST_AUDIT = 1000


class Unstated(Enum):
    """A compare-and-set that compares nothing."""

    ANY = "any"


ANY = Unstated.ANY
Expected = str | None | Unstated
"""What an alias is expected to lead to: a version, None for nothing yet, ANY for whatever it is."""


class Condemned(Conflict):
    """The same bytes are being deleted at this moment; try again in a moment."""


class Connections(Protocol):
    """Lends connections to one database, and knows the time that those who share it agree on."""

    clock: SharedClock
    lease: LeaseHolder

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """For one consistent look."""

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """For one change."""

    def recording(self) -> AbstractContextManager[sa.Connection]:
        """For a change of rows that no other change rests on."""

    def lead(self) -> bool:
        """Whether this process decides for all."""


class Store:
    """The registry's records; ``clock`` gives seconds since the epoch, by default the database's.

    Every method raises ``NotReady`` while the database cannot be reached or written.
    """

    def __init__(self, database: Connections, clock: Callable[[], float] | None = None) -> None:
        self.connections = self._database = database
        self._clock = clock or database.clock.stamp
        self._journal = Journal(self._clock)

    # Questions.

    def identity(self) -> str:
        """Whose registry this is, the same for everybody who uses it."""
        with self._database.reading() as connection:
            return str(connection.execute(sa.select(schema.registry.c.id)).scalar_one())

    def revision(self) -> int:
        """A number that grows by every change of any model."""
        with self._database.reading() as connection:
            return int(connection.execute(sa.select(schema.registry.c.revision)).scalar_one())

    def models(self) -> list[ModelRecord]:
        """Every model, as of one moment; those that cannot be read have a ``problem``."""
        with self._database.reading() as connection:
            return read_models(connection)

    def model(self, name: str) -> ModelRecord:
        """One model.

        Raises:
            NotFound: no such model.
            NotReady: it cannot be read.
        """
        with self._database.reading() as connection:
            return read_model(connection, name)

    def audit(self, model: str | None = None, after: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """At most ``limit`` changes in the order they were made: the first after a sequence number, or the newest."""
        table = schema.audit
        query = sa.select(table).limit(min(limit, MOST_AUDIT))
        if after is None:
            query = query.order_by(table.c.seq.desc())
        else:
            query = query.where(table.c.seq > after).order_by(table.c.seq)
        if model is not None:
            query = query.where(table.c.model == model)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            AuditEntry(row.seq, row.at, row.actor, row.action, row.subject, row.reason, row.before, row.after)
            for row in sorted(rows, key=lambda row: row.seq)
        ]

    # Versions.

    def add_version(self, record: VersionRecord, by: By, if_revision: int | None = None) -> VersionRecord:
        """Make a version known; the same content again changes nothing and gives the version there is.

        Raises:
            Conflict: the version exists with another content, was retired, or the model is not at ``if_revision``.
            Condemned: its content is being deleted.
        """
        with self._database.writing() as connection:
            existing = read_versions(connection, record.model, record.version)
            if existing:
                return _same(existing[0], record)
            _compare_revision(read_model_or_new(connection, record.model), if_revision)
            _refuse_condemned(connection, record.content.digest)
            connection.execute(schema.versions.insert().values(**version_out(record)))
            after = {"digest": record.content.digest, "metadata": record.metadata}
            subject = f"versions/{record.version}"
            self._journal.changed(connection, record.model, "version.add", subject, by, None, after)
        return record

    def retire(self, model: str, version: str, by: By, if_revision: int | None = None, force: bool = False) -> int:
        """Take a version out of service for good; the model's new revision.

        Raises:
            NotFound: no such version.
            Conflict: an alias stands on it, the route needs it, a rollout or experiment that is open does and this is
                not ``force``d, or the model is not at ``if_revision``.
        """
        with self._database.writing() as connection:
            record = read_model(connection, model)
            _compare_revision(record, if_revision)
            known = record.versions.get(version)
            if known is None:
                raise NotFound(f"model '{model}' has no version '{version}'")
            if known.standing is VersionState.RETIRED:
                return record.revision
            _refuse_needed(record, version)
            if not force and (needs := needed_by_trials(connection, model).get(version)):
                raise Conflict(f"{needs}; end it first, or force this")
            table = schema.versions
            connection.execute(
                table.update()
                .where(table.c.model == model, table.c.version == version)
                .values(standing=VersionState.RETIRED.value, retired_at=self._clock())
            )
            before, after = {"standing": known.standing.value}, {"standing": VersionState.RETIRED.value}
            return self._journal.changed(connection, model, "version.retire", f"versions/{version}", by, before, after)

    def configure(self, model: str, settings: ModelSettings, by: By, if_revision: int | None = None) -> int:
        """Change how a model's versions come and go; the model's new revision.

        Raises:
            Conflict: the model is not at ``if_revision``.
        """
        with self._database.writing() as connection:
            record = read_model_or_new(connection, model)
            _compare_revision(record, if_revision)
            before, after = settings_out(record.settings), settings_out(settings)
            _write_settings(connection, model, after)
            return self._journal.changed(connection, model, "model.configure", "settings", by, before, after)

    # Aliases.

    def move_alias(
        self,
        model: str,
        alias: str,
        version: str,
        by: By,
        *,
        expected: Expected = ANY,
        if_revision: int | None = None,
        in_registry: bool = True,
        force: bool = False,
    ) -> Move:
        """Lead an alias to a version by compare-and-set; ``in_registry`` says that the version has to be known here.

        Raises:
            NotFound: no such version.
            Refused: the version was retired; or a route decides who answers, and the move is not ``force``d.
            Conflict: the alias leads elsewhere than expected, or the model is not at ``if_revision``.
        """
        with self._database.writing() as connection:
            record = read_model_or_new(connection, model)
            _compare_revision(record, if_revision)
            present = record.aliases.get(alias)
            _compare_alias(alias, present, expected)
            overridden = _overridden(connection, record, alias, force)
            if in_registry:
                _refuse_retired(record, version)
            if present is not None and present.version == version:
                return Move(record.revision, version, version, overridden)
            before = (*present.before, present.version)[-MOST_BEFORE:] if present else ()
            led = self._journal.lead(connection, model, present, AliasRecord(alias, version, before), "alias.move", by)
            return replace(led, overridden=overridden)

    def roll_back(
        self,
        model: str,
        alias: str,
        by: By,
        usable: Callable[[str], bool],
        fallback: str | None = None,
        if_revision: int | None = None,
        force: bool = False,
    ) -> Move:
        """Lead an alias one step back, past versions that are not usable; where there is none yet, to ``fallback``.

        Raises:
            Refused: a route decides who answers, and the move is not ``force``d.
            Conflict: there is nothing to go back to, or the model is not at ``if_revision``.
        """
        with self._database.writing() as connection:
            record = read_model_or_new(connection, model)
            _compare_revision(record, if_revision)
            present = record.aliases.get(alias)
            overridden = _overridden(connection, record, alias, force)
            back = _way_back(alias, present, usable, fallback)
            if back is None:
                raise Conflict(f"alias '{alias}' of model '{model}' has no earlier version to go back to")
            led = self._journal.lead(connection, model, present, back, "alias.rollback", by)
            return replace(led, overridden=overridden)

    def drop_alias(self, model: str, alias: str, by: By, if_revision: int | None = None, force: bool = False) -> Move:
        """Take an alias away.

        Raises:
            NotFound: no such alias.
            Refused: a route decides who answers, and this is not ``force``d.
            Conflict: the model is not at ``if_revision``.
        """
        with self._database.writing() as connection:
            record = read_model_or_new(connection, model)
            _compare_revision(record, if_revision)
            present = record.aliases.get(alias)
            if present is None:
                raise NotFound(f"model '{model}' has no alias '{alias}'")
            overridden = _overridden(connection, record, alias, force)
            table = schema.aliases
            connection.execute(table.delete().where(table.c.model == model, table.c.alias == alias))
            before = {"version": present.version}
            revision = self._journal.changed(connection, model, "alias.drop", f"aliases/{alias}", by, before, None)
            return Move(revision, present.version, None, overridden)

    # Contents.

    def lease(self, digest: str, seconds: float) -> str:
        """Keep a content from being deleted for a while; an id to give it back by.

        Raises:
            Condemned: it is being deleted.
        """
        lease = str(uuid.uuid4())
        with self._database.writing() as connection:
            _refuse_condemned(connection, digest)
            values = {"id": lease, "digest": digest, "until": self._clock() + seconds}
            connection.execute(schema.leases.insert().values(**values))
        return lease

    def release(self, lease: str) -> None:
        """Give a lease back."""
        with self._database.writing() as connection:
            connection.execute(schema.leases.delete().where(schema.leases.c.id == lease))

    def needed(self) -> set[str]:
        """Digests of the contents that versions still need, and of the archives of the audit."""
        with self._database.reading() as connection:
            return self._needed(connection)

    def condemn(self, candidates: Iterable[str]) -> list[str]:
        """Mark those of the candidates that nobody needs as being deleted; they, and those somebody left marked."""
        with self._database.writing() as connection:
            now = self._clock()
            connection.execute(schema.leases.delete().where(schema.leases.c.until <= now))
            leased = set(connection.execute(sa.select(schema.leases.c.digest)).scalars())
            marked = set(connection.execute(sa.select(schema.condemned.c.digest)).scalars())
            doomed = sorted(set(candidates) - self._needed(connection) - leased - marked)
            if doomed:
                connection.execute(schema.condemned.insert(), [{"digest": one, "since": now} for one in doomed])
        return sorted({*doomed, *marked})

    def buried(self, digests: Iterable[str]) -> None:
        """Say that condemned contents are gone."""
        with self._database.writing() as connection:
            table = schema.condemned
            connection.execute(table.delete().where(table.c.digest.in_(list(digests))))

    def _needed(self, connection: sa.Connection) -> set[str]:
        table = schema.versions
        since = self._clock() - RETIRED_KEPT_S
        query = sa.select(table.c.digest).where(
            (table.c.standing != VersionState.RETIRED.value) | (table.c.retired_at > since)
        )
        archives = sa.select(schema.audit_archives.c.digest).where(schema.audit_archives.c.dropped_at.is_(None))
        return {*connection.execute(query).scalars(), *connection.execute(archives).scalars()}

    def note(self, model: str, action: str, subject: str, by: By, after: Document) -> None:
        """Write a line into the audit about something that changed nothing."""
        with self._database.writing() as connection:
            self._journal.audit(connection, model, action, subject, by, None, after)


def _same(existing: VersionRecord, record: VersionRecord) -> VersionRecord:
    named = f"version '{record.version}' of model '{record.model}'"
    if existing.standing is VersionState.RETIRED:
        raise Conflict(f"{named} was retired; its name stays taken")
    if existing.content.digest != record.content.digest:
        raise Conflict(f"{named} exists with another content; push it under a new version")
    return existing


def _refuse_condemned(connection: sa.Connection, digest: str) -> None:
    table = schema.condemned
    if connection.execute(sa.select(table.c.digest).where(table.c.digest == digest)).first() is not None:
        raise Condemned("the same content is being cleared away at this moment; try again")


def _refuse_needed(record: ModelRecord, version: str) -> None:
    if names := [alias.alias for alias in record.aliases.values() if alias.version == version]:
        raise Conflict(f"alias '{names[0]}' stands on version '{version}'; move it first")
    if record.route is not None and version in {*record.route.receivers(), record.route.stable}:
        raise Conflict(f"the route of '{record.name}' sends requests to version '{version}'; change it first")


def _refuse_retired(model: ModelRecord, version: str) -> None:
    known = model.versions.get(version)
    if known is None:
        raise NotFound(f"model '{model.name}' has no version '{version}'")
    if known.standing is VersionState.RETIRED:
        raise Refused(f"version '{version}' of model '{model.name}' was retired")


def _compare_revision(model: ModelRecord, expected: int | None) -> None:
    if expected is not None and expected != model.revision:
        raise Conflict(f"model '{model.name}' is at revision {model.revision}, not {expected}; look again")


def _way_back(
    alias: str, present: AliasRecord | None, usable: Callable[[str], bool], fallback: str | None
) -> AliasRecord | None:
    """An alias one step back, past versions that are not usable; None where there is no way."""
    if present is None:
        return None if fallback is None else AliasRecord(alias, fallback)
    way = list(present.before)
    while way:
        version = way.pop()
        if usable(version) and version != present.version:
            return AliasRecord(alias, version, tuple(way))
    return None


def _overridden(connection: sa.Connection, record: ModelRecord, alias: str, force: bool) -> bool:
    """Whether a change of an alias changes nothing now, because a route decides who answers; that takes ``force``.

    Raises:
        Refused: it would change nothing, and is not forced.
    """
    if alias != CHAMPION or record.route is None:
        return False
    if force:
        return True
    table = schema.trials
    query = sa.select(table.c.kind, table.c.id).where(table.c.model == record.name, table.c.open)
    trial = connection.execute(query).first()
    whose, way = "the route", "drop or change the route first"
    if trial is not None:
        whose, way = f"{trial.kind} {trial.id}", f"end the {trial.kind} first"
    raise Refused(
        f"{whose} of '{record.name}' decides who answers, so a change of '{CHAMPION}' would change nothing; "
        f"{way}, or force it"
    )


def _compare_alias(alias: str, present: AliasRecord | None, expected: Expected) -> None:
    leads = None if present is None else present.version
    if not isinstance(expected, Unstated) and leads != expected:
        raise Conflict(f"alias '{alias}' leads to {leads or 'nothing yet'}, not {expected or 'nothing'}; look again")


def _write_settings(connection: sa.Connection, model: str, settings: Document) -> None:
    table = schema.models
    changed = connection.execute(table.update().where(table.c.name == model).values(settings=settings))
    if not changed.rowcount:
        connection.execute(table.insert().values(name=model, revision=0, settings=settings))
