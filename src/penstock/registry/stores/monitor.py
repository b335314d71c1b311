"""References and policies in the database; each method is one transaction, and blocks."""

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.core.audit.state_comparison import REFERENCE_FIELDS, digest_of_document, digest_of_row
from penstock.core.errors import Conflict, NotFound
from penstock.core.masking import SecretMask
from penstock.registry.db import schema
from penstock.registry.db.lease import LeaderConnections
from penstock.registry.db.own_connection import ChangeMark
from penstock.registry.db.rows import read_model_or_new
from penstock.registry.records import Author, Document, VersionState
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.gathered import GatheredStore, forget
from penstock.registry.stores.journal import Journal
from penstock.registry.stores.traffic import TrafficStore, TrialEvent
from penstock.registry.stores.traffic_gates import GATES

LIVE = "live"


@dataclass(frozen=True, slots=True)
class ReferenceRecord:
    """The reference of a version: its digest and its source."""

    model: str
    version: str
    digest: str
    source: str


class MonitorStore:
    """The records of the monitor; ``clock`` gives seconds since the epoch, by default those of the database. Every
    method raises ``NotReady`` while the database cannot be reached or written."""

    def __init__(self, database: Connections, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._clock = clock or database.clock.stamp
        self._journal = Journal(self._clock)
        self._traffic = TrafficStore(database, clock)
        self._leader = LeaderConnections(database)
        self.gathered = GatheredStore(database, clock)

    def change_mark(self) -> ChangeMark | None:
        """Return a mark that is another one after every change of the database; see ``Connections``."""
        return self._database.change_mark()

    def references(self) -> list[ReferenceRecord]:
        """Return the references of all versions that are not retired; a retired version is never served again."""
        table, versions = schema.references, schema.versions
        retired = sa.exists().where(
            versions.c.model == table.c.model,
            versions.c.version == table.c.version,
            versions.c["standing"] == VersionState.RETIRED.value,
        )
        query = sa.select(table.c.model, table.c.version, table.c.digest, table.c.source).where(~retired)
        with self._database.reading() as connection:
            return [ReferenceRecord(*row) for row in connection.execute(query)]

    def reference(self, model: str, version: str) -> Document | None:
        """Return the reference of a version, None without one."""
        table = schema.references
        query = sa.select(table.c.document).where(table.c.model == model, table.c.version == version)
        with self._database.reading() as connection:
            document: Document | None = connection.execute(query).scalar()
        return document

    def set_reference(self, record: ReferenceRecord, document: Document, by: Author) -> int:
        """Set the reference of a version, and return the model's revision; a live one never replaces another."""
        with self._database.writing() as connection:
            return self._set(connection, record, document, by)

    def set_learned(self, record: ReferenceRecord, document: Document, by: Author) -> int:
        """Set a live reference that was learned from gathered rows, and return the model's revision; raises
        ``NotLeading`` unless this gateway leads."""
        with self._leader.writing() as connection:
            return self._set(connection, record, document, by)

    def _set(self, connection: sa.Connection, record: ReferenceRecord, document: Document, by: Author) -> int:
        table = schema.references
        where = (table.c.model == record.model, table.c.version == record.version)
        forget(connection, (record.model, record.version))
        present = connection.execute(sa.select(table.c.digest, table.c.source).where(*where)).first()
        if present is not None and record.source == LIVE:
            return read_model_or_new(connection, record.model).revision
        connection.execute(table.delete().where(*where))
        values: Document = {"model": record.model, "version": record.version, "digest": record.digest}
        values |= {"source": record.source, "document": document}
        connection.execute(table.insert().values(**values, used_at=self._clock()))
        before = None if present is None else {"digest": present.digest, "source": present.source}
        after = {
            "digest": record.digest,
            "source": record.source,
            "record": digest_of_row(values, REFERENCE_FIELDS),
        }
        subject = f"versions/{record.version}/reference"
        return self._journal.record_change(connection, record.model, "reference.set", subject, by, before, after)

    def drop_reference(self, model: str, version: str, event: TrialEvent, by: Author) -> int:
        """Delete the reference of a version so that another is learned, store the event, and return the model's
        revision.

        Raises:
            NotFound: the version has none.
        """
        table = schema.references
        where = (table.c.model == model, table.c.version == version)
        with self._database.writing() as connection:
            present = connection.execute(sa.select(table.c.digest, table.c.source).where(*where)).first()
            if present is None:
                raise NotFound(
                    f"version '{version[:64]}' of model '{model[:128]}' has no reference; one is being learned"
                )
            connection.execute(table.delete().where(*where))
            forget(connection, (model, version))
            self._traffic.insert_event(connection, model, event)
            before = {"digest": present.digest, "source": present.source}
            subject = f"versions/{version}/reference"
            return self._journal.record_change(connection, model, "reference.relearn", subject, by, before, None)

    def revision(self, model: str) -> int:
        """Return the revision of a model, that of a new one if the registry does not have it."""
        with self._database.reading() as connection:
            return read_model_or_new(connection, model).revision

    def policies(self) -> dict[str, Document]:
        """Return the policies by model."""
        with self._database.reading() as connection:
            return {row.model: row.document for row in connection.execute(sa.select(schema.policies))}

    def set_policy(
        self,
        model: str,
        document: Document,
        by: Author,
        if_revision: int | None = None,
        mask: Callable[[Document], Document] | None = None,
        check: Callable[[Document | None], None] = lambda _: None,
    ) -> int:
        """Replace a model's policy, and return the model's new revision. ``mask`` hides the secrets of a policy from
        the audit; by default so that nobody can compare them. ``check`` raises if the stored policy (None: there is
        none) may not be replaced: another gateway may have set it meanwhile.

        A version that answers as the newest one keeps its traffic where the policy has gates: it becomes the champion.

        Raises:
            Conflict: the model is not at ``if_revision``.
        """
        table = schema.policies
        with self._database.writing() as connection:
            record = read_model_or_new(connection, model)
            if if_revision is not None and if_revision != record.revision:
                raise Conflict(f"model '{model}' is at revision {record.revision}, not {if_revision}; read it again")
            before = connection.execute(sa.select(table.c.document).where(table.c.model == model)).scalar()
            check(before)
            if document.get(GATES):
                self._traffic.pin_newest(connection, record, by)
            connection.execute(table.delete().where(table.c.model == model))
            connection.execute(table.insert().values(model=model, document=document))
            shown = mask or SecretMask().policy
            old = None if before is None else shown(before)
            after = {**shown(document), "record": digest_of_document(document)}
            revision = self._journal.record_change(connection, model, "policy.set", "policy", by, old, after)
            if _capture_of(document) > _capture_of(before or {}):
                self._journal.record_audit(
                    connection, model, "capture.enable", "capture", by, None, document["capture"]
                )
            return revision


def _capture_of(policy: Document) -> float:
    """Return the share of requests that a policy has captured."""
    capture = policy.get("capture")
    share = capture.get("sample", 0.0) if isinstance(capture, dict) else 0.0
    return float(share) if isinstance(share, int | float) else 0.0
