"""Which contents are needed, leased or pending deletion; each method is one transaction, and blocks.

Garbage collection marks contents before it deletes them. While a content is marked, it can neither be leased nor become
a version.
"""

import uuid
from collections.abc import Callable, Iterable

import sqlalchemy as sa

from penstock.core.errors import Conflict
from penstock.registry.db import schema
from penstock.registry.records import VersionState
from penstock.registry.stores.connections import Connections

RETIRED_KEPT_S = 7 * 86_400.0
"""How long the content of a retired version is kept."""


class BeingDeleted(Conflict):
    """The same content is pending deletion; the caller may try again in a moment."""


class ContentStore:
    """Leases on contents, and their deletion; ``clock`` gives seconds since the epoch.

    Every method raises ``NotReady`` while the database cannot be reached or written.
    """

    def __init__(self, database: Connections, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def lease(self, digest: str, seconds: float) -> str:
        """Protect a content from deletion for a time, and return the id of the lease.

        Raises:
            BeingDeleted: the content is pending deletion.
        """
        lease = str(uuid.uuid4())
        with self._database.writing() as connection:
            refuse_being_deleted(connection, digest)
            values = {"id": lease, "digest": digest, "until": self._clock() + seconds}
            connection.execute(schema.leases.insert().values(**values))
        return lease

    def release(self, lease: str) -> None:
        """End a lease."""
        with self._database.writing() as connection:
            connection.execute(schema.leases.delete().where(schema.leases.c.id == lease))

    def needed(self) -> set[str]:
        """Return the digests of the contents that versions need, and of the archives of the audit."""
        with self._database.reading() as connection:
            return self._needed(connection)

    def mark_for_deletion(self, candidates: Iterable[str]) -> list[str]:
        """Mark the candidates that nobody needs as pending deletion, and return all marked ones, also those that an
        earlier collection has left marked."""
        with self._database.writing() as connection:
            now = self._clock()
            connection.execute(schema.leases.delete().where(schema.leases.c.until <= now))
            leased = set(connection.execute(sa.select(schema.leases.c.digest)).scalars())
            marked = set(connection.execute(sa.select(schema.pending_deletions.c.digest)).scalars())
            unneeded = sorted(set(candidates) - self._needed(connection) - leased - marked)
            if unneeded:
                connection.execute(
                    schema.pending_deletions.insert(), [{"digest": item, "since": now} for item in unneeded]
                )
        return sorted({*unneeded, *marked})

    def finish_deletion(self, digests: Iterable[str]) -> None:
        """Remove the marks of contents that have been deleted."""
        with self._database.writing() as connection:
            table = schema.pending_deletions
            connection.execute(table.delete().where(table.c.digest.in_(list(digests))))

    def _needed(self, connection: sa.Connection) -> set[str]:
        table = schema.versions
        since = self._clock() - RETIRED_KEPT_S
        query = sa.select(table.c.digest).where(
            (table.c["standing"] != VersionState.RETIRED.value) | (table.c.retired_at > since)
        )
        archives = sa.select(schema.audit_archives.c.digest).where(schema.audit_archives.c.dropped_at.is_(None))
        return {*connection.execute(query).scalars(), *connection.execute(archives).scalars()}


def refuse_being_deleted(connection: sa.Connection, digest: str) -> None:
    """Refuse a content that is pending deletion; raises ``BeingDeleted``."""
    table = schema.pending_deletions
    if connection.execute(sa.select(table.c.digest).where(table.c.digest == digest)).first() is not None:
        raise BeingDeleted("the same content is being deleted at this moment; try again")
