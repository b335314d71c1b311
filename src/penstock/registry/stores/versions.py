"""Models, their versions and the audit in the database; each method is one transaction, and blocks.

A change and its line in the audit are written together or not at all.
"""

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from penstock.core.access.model_filter import EVERY_MODEL, ModelFilter
from penstock.core.audit.state_comparison import digest_of_version
from penstock.core.errors import Conflict, NotFound
from penstock.registry.db import schema
from penstock.registry.db.model_patterns import match_models
from penstock.registry.db.own_connection import ChangeMark
from penstock.registry.db.rows import encode_version, read_model, read_model_or_new, read_models, read_versions
from penstock.registry.model_settings import encode_settings
from penstock.registry.records import (
    AuditEntry,
    Author,
    Document,
    ModelRecord,
    ModelSettings,
    VersionRecord,
    VersionState,
)
from penstock.registry.stores.aliases import AliasStore
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.contents import ContentStore, refuse_being_deleted
from penstock.registry.stores.journal import Journal, compare_revision
from penstock.registry.stores.signatures import SignatureStore
from penstock.registry.stores.traffic_gates import TrafficGates
from penstock.registry.stores.trial_versions import needed_by_trials

MOST_AUDIT = 1000
MOST_KNOWN = 1000
"""Models in the cache of last read records."""


class VersionStore:
    """The registry's records; ``clock`` gives seconds since the epoch, by default those of the database. Any thread may
    use it.

    Every method raises ``NotReady`` while the database cannot be reached or written.
    """

    def __init__(self, database: Connections, clock: Callable[[], float] | None = None) -> None:
        self.connections = self._database = database
        self._clock = clock or database.clock.stamp
        self._journal = Journal(self._clock)
        self._gates = TrafficGates(database)
        self._known: dict[str, ModelRecord] = {}
        self.aliases = AliasStore(database, self._journal)
        self.contents = ContentStore(database, self._clock)
        self.signatures = SignatureStore(database, self._journal, self._clock)

    # Reads.

    def identity(self) -> str:
        """Return the id of the registry, the same for all its users."""
        with self._database.reading() as connection:
            return str(connection.execute(sa.select(schema.registry.c.id)).scalar_one())

    def change_mark(self) -> ChangeMark | None:
        """Return a mark that is another one after every change of the database; see ``Connections``."""
        return self._database.change_mark()

    def revision(self) -> int:
        """Return a number that grows by every change of any model."""
        with self._database.reading() as connection:
            return int(connection.execute(sa.select(schema.registry.c.revision)).scalar_one())

    def models(self) -> list[ModelRecord]:
        """Return every model as of one moment; a model that cannot be read has a ``problem``."""
        with self._database.reading() as connection:
            return self._gates.mark_withheld(connection, read_models(connection))

    def model(self, name: str) -> ModelRecord:
        """Return one model.

        Raises:
            NotFound: there is no such model.
            NotReady: it cannot be read.
        """
        with self._database.reading() as connection:
            record = read_model(connection, name, self._known.get(name))
        self._remember(record)
        return record

    def gate_results(self, model: str, version: str) -> list[Document]:
        """Return the result of every gate of a version as JSON values; raises ``NotFound``."""
        record = self.model(model)
        if version not in record.versions:
            raise NotFound(f"model '{model}' has no version '{version}'")
        return self._gates.results(record, version)

    def find_version(self, model: str, version: str) -> VersionRecord | None:
        """Return a version without its signatures and approvals, None if there is no such version."""
        with self._database.reading() as connection:
            return next(iter(read_versions(connection, model, version)), None)

    def _remember(self, record: ModelRecord) -> None:
        """Cache a model, so that it is read once for each of its revisions: rules read it every second."""
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[record.name] = record

    def audit(
        self,
        model: str | None = None,
        after: int | None = None,
        limit: int = 100,
        visible: ModelFilter = EVERY_MODEL,
    ) -> list[AuditEntry]:
        """Return at most ``limit`` changes of visible models in their order: the first after a sequence number, or the
        newest."""
        table = schema.audit
        query = sa.select(table).where(match_models(table.c.model, visible)).limit(min(limit, MOST_AUDIT))
        if after is None:
            query = query.order_by(table.c.seq.desc())
        else:
            query = query.where(table.c.seq > after).order_by(table.c.seq)
        if model is not None:
            query = query.where(table.c.model == model)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [_read_entry(row._mapping) for row in sorted(rows, key=lambda row: row.seq)]  # noqa: SLF001 - its public name

    # Versions.

    def add_version(self, record: VersionRecord, by: Author, if_revision: int | None = None) -> VersionRecord:
        """Add a version, and return it; if it exists with the same content, return the existing one.

        Raises:
            Conflict: the version exists with another content, was retired, or the model is not at ``if_revision``.
            Condemned: its content is being deleted.
        """
        with self._database.writing() as connection:
            existing = read_versions(connection, record.model, record.version)
            if existing:
                return _existing_if_same(existing[0], record)
            compare_revision(read_model_or_new(connection, record.model), if_revision)
            refuse_being_deleted(connection, record.content.digest)
            row = encode_version(record)
            connection.execute(schema.versions.insert().values(**row))
            after = {
                "digest": record.content.digest,
                "metadata": record.metadata,
                "record": digest_of_version(row),
            }
            subject = f"versions/{record.version}"
            self._journal.record_change(connection, record.model, "version.add", subject, by, None, after)
        return record

    def retire(self, model: str, version: str, by: Author, if_revision: int | None = None, force: bool = False) -> int:
        """Retire a version for good, and return the model's new revision.

        Raises:
            NotFound: there is no such version. Conflict: an alias or the route needs it, an open rollout or experiment
            does and ``force`` is not set, or the
                model is not at ``if_revision``.
        """
        with self._database.writing() as connection:
            record = read_model(connection, model)
            compare_revision(record, if_revision)
            stored = record.versions.get(version)
            if stored is None:
                raise NotFound(f"model '{model}' has no version '{version}'")
            if stored.state is VersionState.RETIRED:
                return record.revision
            _refuse_needed(record, version)
            if not force and (needs := needed_by_trials(connection, model).get(version)):
                raise Conflict(f"{needs}; end it first, or force this")
            table = schema.versions
            connection.execute(
                table.update()
                .where(table.c.model == model, table.c.version == version)
                .values({"standing": VersionState.RETIRED.value, "retired_at": self._clock()})
            )
            before, after = {"standing": stored.state.value}, {"standing": VersionState.RETIRED.value}
            return self._journal.record_change(
                connection, model, "version.retire", f"versions/{version}", by, before, after
            )

    def configure(self, model: str, settings: ModelSettings, by: Author, if_revision: int | None = None) -> int:
        """Replace a model's settings, and return the model's new revision.

        Raises:
            Conflict: the model is not at ``if_revision``.
        """
        with self._database.writing() as connection:
            record = read_model_or_new(connection, model)
            compare_revision(record, if_revision)
            before, after = encode_settings(record.settings), encode_settings(settings)
            _write_settings(connection, model, after)
            return self._journal.record_change(connection, model, "model.configure", "settings", by, before, after)

    def note(self, model: str, action: str, subject: str, by: Author, after: Document) -> None:
        """Add a line to the audit about an action that changed nothing of a model."""
        self.record_event(action, subject, by, model, after)

    def record_event(
        self, action: str, subject: str, by: Author, model: str = "", after: Document | None = None
    ) -> None:
        """Add a line to the audit about something that changes no row, such as an export or a refusal; it is durable
        when this returns.

        Raises:
            NotReady: it cannot be written; what it is about must not happen then.
        """
        with self._database.writing() as connection:
            self._journal.record_audit(connection, model, action, subject, by, None, after)


def _read_entry(row: Mapping[Any, Any]) -> AuditEntry:
    return AuditEntry(**{name: value for name, value in row.items() if name != "model"})


def _existing_if_same(existing: VersionRecord, record: VersionRecord) -> VersionRecord:
    subject = f"version '{record.version}' of model '{record.model}'"
    if existing.state is VersionState.RETIRED:
        raise Conflict(f"{subject} was retired; its name stays taken")
    if existing.content.digest != record.content.digest:
        raise Conflict(f"{subject} exists with another content; push it under a new version")
    return existing


def _refuse_needed(record: ModelRecord, version: str) -> None:
    if names := [alias.alias for alias in record.aliases.values() if alias.version == version]:
        raise Conflict(f"alias '{names[0]}' stands on version '{version}'; move it first")
    if record.route is not None and version in {*record.route.receivers(), record.route.stable}:
        raise Conflict(f"the route of '{record.name}' sends requests to version '{version}'; change it first")


def _write_settings(connection: sa.Connection, model: str, settings: Document) -> None:
    table = schema.models
    changed = connection.execute(table.update().where(table.c.name == model).values(settings=settings))
    if not changed.rowcount:
        connection.execute(table.insert().values(name=model, revision=0, settings=settings))
