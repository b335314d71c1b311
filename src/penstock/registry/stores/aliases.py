"""Aliases in the database: compare-and-set, rollback and removal; each method is one transaction, and blocks."""

from collections.abc import Callable
from dataclasses import replace
from enum import Enum

import sqlalchemy as sa

from penstock.core.errors import Conflict, NotFound, Refused
from penstock.core.versions import CHAMPION
from penstock.registry.db import schema
from penstock.registry.db.rows import read_model_or_new
from penstock.registry.records import AliasMove, AliasRecord, Author, ModelRecord, VersionState
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.journal import Journal, compare_revision
from penstock.registry.stores.traffic_gates import TrafficGates, auditing_refusals

MOST_BEFORE = 100
"""Earlier versions of an alias that are remembered for roll-backs."""


class AnyVersion(Enum):
    """An expectation that allows any version."""

    ANY = "any"


ANY = AnyVersion.ANY
Expected = str | None | AnyVersion
"""The version that an alias is expected to lead to: None for no version yet, ANY for any."""


class AliasStore:
    """The aliases of all models; a change and its line in the audit are one transaction.

    Every method raises ``NotReady`` while the database cannot be reached or written.
    """

    def __init__(self, database: Connections, journal: Journal) -> None:
        self._database = database
        self._journal = journal
        self._gates = TrafficGates(database)

    def move(
        self,
        model: str,
        alias: str,
        version: str,
        by: Author,
        *,
        expected: Expected = ANY,
        if_revision: int | None = None,
        in_registry: bool = True,
        force: bool = False,
    ) -> AliasMove:
        """Move an alias to a version by compare-and-set; ``in_registry`` says that the registry must have the version.

        Raises:
            NotFound: there is no such version.
            Refused: the version was retired, or does not pass its gates; or a route decides which version answers, and
                ``force`` is not set.
            Conflict: the alias does not lead to the expected version, or the model is not at ``if_revision``.
        """
        with auditing_refusals(self._database, self._journal, by), self._database.writing() as connection:
            record = read_model_or_new(connection, model)
            compare_revision(record, if_revision)
            present = record.aliases.get(alias)
            _compare_alias(alias, present, expected)
            overridden = _is_overridden(connection, record, alias, force)
            if in_registry:
                _refuse_retired(record, version)
            if present is not None and present.version == version:
                return AliasMove(record.revision, version, version, overridden)
            before = (*present.before, present.version)[-MOST_BEFORE:] if present else ()
            after, passed = AliasRecord(alias, version, before), self._gates.check(connection, record, {version})
            moved = self._journal.move_alias(connection, model, present, after, "alias.move", by, passed)
            return replace(moved, overridden=overridden)

    def roll_back(
        self,
        model: str,
        alias: str,
        by: Author,
        usable: Callable[[str], bool],
        fallback: str | None = None,
        if_revision: int | None = None,
        force: bool = False,
    ) -> AliasMove:
        """Move an alias to its last earlier version that is usable, or to ``fallback`` if the alias does not exist.

        Raises:
            Refused: the earlier version does not pass its gates; or a route decides which version answers, and
                ``force`` is not set.
            Conflict: there is no earlier version, or the model is not at ``if_revision``.
        """
        with auditing_refusals(self._database, self._journal, by), self._database.writing() as connection:
            record = read_model_or_new(connection, model)
            compare_revision(record, if_revision)
            present = record.aliases.get(alias)
            overridden = _is_overridden(connection, record, alias, force)
            back = _earlier_target(alias, present, usable, fallback)
            if back is None:
                raise Conflict(f"alias '{alias}' of model '{model}' has no earlier version to go back to")
            passed = self._gates.check(connection, record, {back.version})
            moved = self._journal.move_alias(connection, model, present, back, "alias.rollback", by, passed)
            return replace(moved, overridden=overridden)

    def drop(
        self, model: str, alias: str, by: Author, if_revision: int | None = None, force: bool = False
    ) -> AliasMove:
        """Delete an alias.

        Raises:
            NotFound: there is no such alias.
            Refused: a route decides which version answers, and ``force`` is not set.
            Conflict: the model is not at ``if_revision``.
        """
        with self._database.writing() as connection:
            record = read_model_or_new(connection, model)
            compare_revision(record, if_revision)
            present = record.aliases.get(alias)
            if present is None:
                raise NotFound(f"model '{model}' has no alias '{alias}'")
            overridden = _is_overridden(connection, record, alias, force)
            table = schema.aliases
            connection.execute(table.delete().where(table.c.model == model, table.c.alias == alias))
            before = {"version": present.version}
            revision = self._journal.record_change(
                connection, model, "alias.drop", f"aliases/{alias}", by, before, None
            )
            return AliasMove(revision, present.version, None, overridden)


def _refuse_retired(model: ModelRecord, version: str) -> None:
    record = model.versions.get(version)
    if record is None:
        raise NotFound(f"model '{model.name}' has no version '{version}'")
    if record.state is VersionState.RETIRED:
        raise Refused(f"version '{version}' of model '{model.name}' was retired")


def _earlier_target(
    alias: str, present: AliasRecord | None, usable: Callable[[str], bool], fallback: str | None
) -> AliasRecord | None:
    """Return the alias at its last earlier version that is usable, None if there is none."""
    if present is None:
        return None if fallback is None else AliasRecord(alias, fallback)
    earlier = list(present.before)
    while earlier:
        version = earlier.pop()
        if usable(version) and version != present.version:
            return AliasRecord(alias, version, tuple(earlier))
    return None


def _is_overridden(connection: sa.Connection, record: ModelRecord, alias: str, force: bool) -> bool:
    """Return whether a change of an alias has no effect now, because a route decides which version answers.

    Raises:
        Refused: it has no effect, and ``force`` is not set.
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
        f"{whose} of '{record.name}' decides which version answers, so a change of '{CHAMPION}' would change nothing; "
        f"{way}, or force it"
    )


def _compare_alias(alias: str, present: AliasRecord | None, expected: Expected) -> None:
    leads = None if present is None else present.version
    if not isinstance(expected, AnyVersion) and leads != expected:
        raise Conflict(
            f"alias '{alias}' points to {leads or 'nothing yet'}, not {expected or 'nothing'}; read it again"
        )
