"""Aliases in the database: compare-and-set, rollback and removal; each method is one transaction, and blocks."""

from collections.abc import Callable
from dataclasses import replace
from enum import Enum

import sqlalchemy as sa

from penstock.core.errors import Conflict, NotFound, Refused
from penstock.core.versions import CHAMPION
from penstock.registry.db import schema
from penstock.registry.db.rows import read_model_or_new
from penstock.registry.records import AliasRecord, By, ModelRecord, Move, VersionState
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.journal import Journal, compare_revision

MOST_BEFORE = 100
"""Steps an alias can be led back."""


class Unstated(Enum):
    """A compare-and-set that compares nothing."""

    ANY = "any"


ANY = Unstated.ANY
Expected = str | None | Unstated
"""What an alias is expected to lead to: a version, None for nothing yet, ANY for whatever it is."""


class AliasStore:
    """The aliases of all models; a change and its line in the audit, which ``journal`` writes, are one transaction.

    Every method raises ``NotReady`` while the database cannot be reached or written.
    """

    def __init__(self, database: Connections, journal: Journal) -> None:
        self._database = database
        self._journal = journal

    def move(
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
            compare_revision(record, if_revision)
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
            compare_revision(record, if_revision)
            present = record.aliases.get(alias)
            overridden = _overridden(connection, record, alias, force)
            back = _way_back(alias, present, usable, fallback)
            if back is None:
                raise Conflict(f"alias '{alias}' of model '{model}' has no earlier version to go back to")
            led = self._journal.lead(connection, model, present, back, "alias.rollback", by)
            return replace(led, overridden=overridden)

    def drop(self, model: str, alias: str, by: By, if_revision: int | None = None, force: bool = False) -> Move:
        """Take an alias away.

        Raises:
            NotFound: no such alias.
            Refused: a route decides who answers, and this is not ``force``d.
            Conflict: the model is not at ``if_revision``.
        """
        with self._database.writing() as connection:
            record = read_model_or_new(connection, model)
            compare_revision(record, if_revision)
            present = record.aliases.get(alias)
            if present is None:
                raise NotFound(f"model '{model}' has no alias '{alias}'")
            overridden = _overridden(connection, record, alias, force)
            table = schema.aliases
            connection.execute(table.delete().where(table.c.model == model, table.c.alias == alias))
            before = {"version": present.version}
            revision = self._journal.changed(connection, model, "alias.drop", f"aliases/{alias}", by, before, None)
            return Move(revision, present.version, None, overridden)


def _refuse_retired(model: ModelRecord, version: str) -> None:
    known = model.versions.get(version)
    if known is None:
        raise NotFound(f"model '{model.name}' has no version '{version}'")
    if known.standing is VersionState.RETIRED:
        raise Refused(f"version '{version}' of model '{model.name}' was retired")


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
