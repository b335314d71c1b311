"""Erasures: requests to erase the rows of a subject at every gateway, and what each home has removed.

Each method is one transaction, and blocks. The value that identifies the subject is in the table as long as a gateway
that is away may come back (``retention.erasures_days``); the audit never has it.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.core.erasure import ErasureReport, SubjectKey, decode_report
from penstock.registry.db import schema
from penstock.registry.db.lease import database_now
from penstock.registry.records import Author, Document
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.journal import Journal

ASKED, DONE = "rows.erase", "rows.erased"
"""Actions in the audit: an erasure was asked for; what it removed."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """A request to erase the rows of a subject, of one model or of all (None)."""

    id: str
    model: str | None
    key: SubjectKey


@dataclass(frozen=True, slots=True)
class ErasureState:
    """What each home has removed, by its name, and the homes of living gateways that have not answered, with the
    seconds that they have been silent."""

    reports: Mapping[str, ErasureReport]
    missing: Mapping[str, float]


class ErasureStore:
    """The erasures of all gateways; every method raises ``NotReady`` while the database is away or read-only."""

    def __init__(self, database: Connections) -> None:
        self._database = database
        self._journal = Journal(database.clock.stamp)

    def ask(self, model: str | None, key: SubjectKey, by: Author) -> Erasure:
        """Ask every home for an erasure, and return it."""
        erasure = Erasure(str(uuid.uuid4()), model, key)
        values = {"id": erasure.id, "model": model or "", "column": key.column, "value": key.value}
        with self._database.writing() as connection:
            self._record(connection, ASKED, erasure, by, {"column": key.column})
            connection.execute(schema.erasures.insert().values(**values, at=database_now(connection)))
        return erasure

    def open(self, home: str) -> list[Erasure]:
        """Return the erasures that a home has not answered."""
        table, reports = schema.erasures, schema.erasure_reports
        answered = sa.exists().where(reports.c.erasure == table.c.id, reports.c.home == home)
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(table).where(~answered).order_by(table.c.at, table.c.id)).all()
        return [Erasure(row.id, row.model or None, SubjectKey(row.column, row.value)) for row in rows]

    def answer(self, erasure: str, home: str, report: ErasureReport) -> None:
        """Store what a home has removed."""
        table = schema.erasure_reports
        with self._database.writing() as connection:
            own = (table.c.erasure == erasure, table.c.home == home)
            connection.execute(table.delete().where(*own))
            connection.execute(table.insert().values(erasure=erasure, home=home, report=report.document()))

    def state(self, erasure: str) -> ErasureState:
        """Return the state of an erasure."""
        table, gateways = schema.erasure_reports, schema.gateways
        with self._database.reading() as connection:
            silent = (database_now(connection) - gateways.c.seen).label("silent_s")
            members = connection.execute(sa.select(gateways.c.home, silent)).all()
            rows = connection.execute(sa.select(table).where(table.c.erasure == erasure)).all()
        reports = {row.home: decode_report(row.report) for row in rows}
        missing: dict[str, float] = {}
        for row in members:
            if row.home and row.home not in reports:
                missing[row.home] = min(missing.get(row.home, float("inf")), max(0.0, float(row.silent_s)))
        return ErasureState(reports, missing)

    def finish(self, erasure: Erasure, result: Document, by: Author, *, is_shared: bool) -> None:
        """Write the result into the audit, and delete the request unless other gateways may share the registry."""
        with self._database.writing() as connection:
            self._record(connection, DONE, erasure, by, {"column": erasure.key.column, **result})
            if not is_shared:
                _delete(connection, erasure.id)

    def _record(self, connection: sa.Connection, action: str, erasure: Erasure, by: Author, after: Document) -> None:
        subject = f"erasures/{erasure.id}"
        self._journal.record_audit(connection, erasure.model or "", action, subject, by, None, after)


def _delete(connection: sa.Connection, erasure: str) -> None:
    connection.execute(schema.erasure_reports.delete().where(schema.erasure_reports.c.erasure == erasure))
    connection.execute(schema.erasures.delete().where(schema.erasures.c.id == erasure))
