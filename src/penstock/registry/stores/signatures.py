"""Signatures and approvals of versions in the database; each method is one transaction, and blocks."""

import hashlib
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from penstock.core.access.callers import CallerKind
from penstock.core.audit.state_comparison import APPROVAL_FIELDS, SIGNATURE_FIELDS, digest_of_row
from penstock.core.errors import NotFound, Refused, Unauthorised
from penstock.core.model_signing import MOST_BUNDLES
from penstock.registry.db import schema
from penstock.registry.db.rows import read_model, read_model_or_new, read_versions
from penstock.registry.records import Author, Document, ModelRecord, SignatureRecord, VersionRecord, VersionState
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.journal import Journal
from penstock.registry.stores.traffic_gates import TrafficGates, auditing_refusals

MOST_APPROVALS = 64
"""Approvals of one version."""

UNPROVEN = ("", CallerKind.ANONYMOUS, CallerKind.OWNER)
"""Methods by which the name of an actor is not known: anybody on this machine may state any."""


class SignatureStore:
    """Bundles and approvals; a change and its line in the audit are one transaction. ``clock`` gives seconds since the
    epoch.

    Every method raises ``NotReady`` while the database cannot be reached or written.
    """

    def __init__(self, database: Connections, journal: Journal, clock: Callable[[], float]) -> None:
        self._database = database
        self._journal = journal
        self._clock = clock
        self._gates = TrafficGates(database)

    def bundles(self, model: str, version: str) -> list[str]:
        """Return the bundles of a version, which may be yet to be pushed."""
        table = schema.signatures
        query = sa.select(table.c.bundle).where(table.c.model == model, table.c.version == version)
        with self._database.reading() as connection:
            return list(connection.execute(query.order_by(table.c.added_at, table.c.digest)).scalars())

    def add(self, model: str, version: str, bundle: str, signers: Sequence[str], by: Author) -> SignatureRecord:
        """Add a bundle to a version, and return its record; one that is stored stays as it is.

        Raises:
            Refused: the version has as many as it may have.
        """
        digest = f"sha256:{hashlib.sha256(bundle.encode()).hexdigest()}"
        record = SignatureRecord(digest, tuple(signers), self._clock(), by.actor)
        table = schema.signatures
        query = sa.select(table.c.digest).where(table.c.model == model, table.c.version == version)
        with self._database.writing() as connection:
            present = list(connection.execute(query).scalars())
            if digest in present:
                return record
            if len(present) >= MOST_BUNDLES:
                raise Refused(f"version '{version}' of model '{model}' has {MOST_BUNDLES} signatures already")
            values: Document = {
                "model": model,
                "version": version,
                "digest": digest,
                "bundle": bundle,
                "signers": [*signers],
            }
            values |= {"added_at": record.added_at, "added_by": by.actor}
            connection.execute(table.insert().values(**values))
            known = read_versions(connection, model, version)
            record_line = self._journal.record_change if known else self._journal.record_audit
            after = {"digest": digest, "signers": [*signers], "record": digest_of_row(values, SIGNATURE_FIELDS)}
            record_line(connection, model, "signature.add", f"versions/{version}/signatures", by, None, after)
        return record

    def approve(self, model: str, version: str, by: Author) -> VersionRecord:
        """Approve the content of a version, and return the version as it was; a second approval changes nothing.

        Raises:
            NotFound: there is no such version.
            Refused: it is retired, does not pass its other gates, or has as many approvals as it may have.
            Unauthorised: the same actor has pushed it.
        """
        with auditing_refusals(self._database, self._journal, by), self._database.writing() as connection:
            return self._approve(connection, read_model(connection, model), version, by)

    def approve_candidate(self, connection: sa.Connection, model: str, version: str, by: Author) -> None:
        """Approve a version that came of a request for retraining, within a transaction that audits refusals. A version
        of a watched folder has no record, and whoever has pushed a version may let its rollout start where callers are
        not known; this is not an approval then.

        Raises:
            Refused: it is retired, or does not pass its other gates.
            Unauthorised: the same actor, who is known, has pushed it.
        """
        record = read_model_or_new(connection, model)
        if version not in record.versions:
            return
        stored = _require_admitted(record, version)
        self._gates.check_approvable(connection, record, stored)
        if by.actor != stored.created_by or by.method not in UNPROVEN:
            self._approve(connection, record, version, by)

    def _approve(self, connection: sa.Connection, model: ModelRecord, version: str, by: Author) -> VersionRecord:
        stored = _require_admitted(model, version)
        if by.actor == stored.created_by:
            raise Unauthorised(f"'{by.actor}' has pushed version '{version}'; somebody else must approve it")
        self._gates.check_approvable(connection, model, stored)
        if by.actor not in stored.approvers:
            self._insert_approval(connection, stored, by)
        return stored

    def _insert_approval(self, connection: sa.Connection, record: VersionRecord, by: Author) -> None:
        table, model, version = schema.approvals, record.model, record.version
        if len(record.approvals) >= MOST_APPROVALS:
            raise Refused(f"version '{version}' of model '{model}' has {MOST_APPROVALS} approvals already")
        own = (table.c.model == model, table.c.version == version, table.c.actor == by.actor)
        connection.execute(table.delete().where(*own))  # it may be of an earlier content of this name
        values: Document = {"model": model, "version": version, "actor": by.actor, "digest": record.content.digest}
        values |= {"at": self._clock(), "reason": by.reason}
        connection.execute(table.insert().values(**values))
        after = {
            "digest": record.content.digest,
            "approvals": len(record.approvers) + 1,
            "record": digest_of_row(values, APPROVAL_FIELDS),
        }
        self._journal.record_change(connection, model, "version.approve", f"versions/{version}", by, None, after)


def _require_admitted(model: ModelRecord, version: str) -> VersionRecord:
    record = model.versions.get(version)
    if record is None:
        raise NotFound(f"model '{model.name}' has no version '{version}'")
    if record.state is VersionState.RETIRED:
        raise Refused(f"version '{version}' of model '{model.name}' was retired")
    return record
