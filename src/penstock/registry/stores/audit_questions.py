"""Questions that the audit answers: is the registry what the audit states, and what served a model at a time, and why.

Both read the database first, and archives only for what is not there.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from penstock.core.audit.explanation import ServingEvidence, explain_serving
from penstock.core.audit.state_comparison import StateFinding, compare_state
from penstock.core.audit.statements import EACH_ACTIONS, VERSION_ACTIONS, Statements
from penstock.core.errors import InvalidInput, unknown_model
from penstock.core.versions import CHAMPION
from penstock.registry.blobs.folder import BlobStore
from penstock.registry.db import schema
from penstock.registry.records import Document
from penstock.registry.stores.archived_audit import ArchivedAudit
from penstock.registry.stores.audited_state import read_audited_state
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.retention import stamp_of

TRIALS = ("rollout", "experiment")
TRIAL_DISTANCE = 3
"""The entry of a trial follows that of its route, with at most two others between them."""


class AuditQuestions:
    """Answers from the audit of one registry. Calls block, and raise ``NotReady`` while the database or the store of
    archives cannot be reached."""

    def __init__(self, database: Connections, blobs: Callable[[], BlobStore]) -> None:
        self._database = database
        self._archived = ArchivedAudit(database, blobs)

    # Is the registry what the audit states?

    def compare_state(self) -> list[StateFinding]:
        """Return where the rows that the audit covers differ from what it last stated about them."""
        statements, complete = Statements(), True
        for archive in self._archived.archives_after(0):
            complete = complete and archive.dropped_at is None
            for line in () if archive.dropped_at is not None else self._archived.lines(archive):
                statements.add(line)
        with self._database.reading() as connection:
            for entry in _last_entries(connection):
                statements.add(entry)
            present = read_audited_state(connection, statements.by_subject)
        return compare_state(statements.by_subject, present, complete, self._database.clock.now())

    # What served, and why?

    def explain(self, model: str, at: float) -> Document:
        """Return which versions of a model served at a time (seconds since the epoch), and by whose change.

        Raises:
            NotFound: the audit has no entry about the model until then.
        """
        stamp = stamp_of(at)
        evidence = self._evidence(model, stamp)
        if evidence == ServingEvidence():
            raise unknown_model(model)
        return explain_serving(model, stamp, evidence)

    def _evidence(self, model: str, stamp: str) -> ServingEvidence:
        subjects = [f"models/{model}/{part}" for part in ("route", f"aliases/{CHAMPION}", "settings", "repository")]
        with self._database.reading() as connection:
            found = {subject: _last_about(connection, subject, stamp) for subject in subjects}
            versions = _version_entries(connection, model, stamp)
            trial = _trial_of(connection, model, found[subjects[0]])
        archived = self._archived_entries(model, stamp)
        entries = {subject: entry or _last_of(archived, subject) for subject, entry in found.items()}
        versions = [entry for entry in archived if entry["action"] in VERSION_ACTIONS] + versions
        route, champion, settings, repository = (entries[subject] for subject in subjects)
        return ServingEvidence(route, champion, settings, repository, trial, tuple(versions))

    def _archived_entries(self, model: str, stamp: str) -> list[Document]:
        """Return the last entry of each action about each subject of a model in kept archives until a time, in their
        order; an archive that begins later is not opened."""
        last: dict[tuple[str, str], Document] = {}
        for archive in self._archived.archives_after(0):
            if archive.first_at <= stamp and archive.dropped_at is None:
                about = (line for line in self._archived.lines(archive) if line["model"] == model)
                last.update({(line["subject"], line["action"]): line for line in about if line["at"] <= stamp})
        return sorted(last.values(), key=lambda line: int(line["seq"]))


def time_of(text: str) -> float:
    """Return a time (ISO 8601, UTC unless it says otherwise) as seconds since the epoch; raises ``InvalidInput``."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput("the time must be in the form of ISO 8601, such as 2026-11-20T10:00:00Z") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _last_entries(connection: sa.Connection) -> list[Mapping[str, Any]]:
    """Return the last entry of each action about each subject, and all of some actions, in their order."""
    table = schema.audit
    last = sa.select(sa.func.max(table.c.seq)).group_by(table.c.subject, table.c.action)
    query = sa.select(table).where(table.c.seq.in_(last) | table.c.action.in_(EACH_ACTIONS)).order_by(table.c.seq)
    return [dict(row) for row in connection.execute(query).mappings()]


def _last_about(connection: sa.Connection, subject: str, stamp: str) -> Document | None:
    """Return the last entry about a subject until a time, by an index alone; the last one is that with the largest
    number, as the clock may have been set back."""
    table = schema.audit
    number = table.c.seq + 0  # without the sum, PostgreSQL looks through all entries from the newest one
    last = sa.select(sa.func.max(number)).where(table.c.subject == subject, table.c.at <= stamp)
    row = connection.execute(sa.select(table).where(table.c.seq == last.scalar_subquery())).mappings().first()
    return None if row is None else dict(row)


def _last_of(entries: Sequence[Document], subject: str) -> Document | None:
    return next((entry for entry in reversed(entries) if entry["subject"] == subject), None)


def _version_entries(connection: sa.Connection, model: str, stamp: str) -> list[Document]:
    table = schema.audit
    where = (table.c.model == model, table.c.action.in_(VERSION_ACTIONS), table.c.at <= stamp)
    rows = connection.execute(sa.select(table).where(*where)).mappings()  # an order would choose the index of models
    return sorted((dict(row) for row in rows), key=lambda entry: int(entry["seq"]))


def _trial_of(connection: sa.Connection, model: str, route: Mapping[str, Any] | None) -> Document | None:
    """Return the entry of the rollout or experiment that set a route: it is written right after it."""
    if route is None or str(route["action"]).partition(".")[0] not in TRIALS:
        return None
    table = schema.audit
    kind, seq = str(route["action"]).partition(".")[0], int(route["seq"])
    where = (table.c.seq.between(seq + 1, seq + TRIAL_DISTANCE), table.c.action == route["action"])
    about = table.c.subject.startswith(f"models/{model}/{kind}s/", autoescape=True)
    row = connection.execute(sa.select(table).where(*where, about).order_by(table.c.seq)).mappings().first()
    return None if row is None else dict(row)
