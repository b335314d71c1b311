"""Which contents are needed, leased or being deleted; each method is one transaction, and blocks.

The garbage collection condemns what it will delete first: while a content is condemned, nobody can lease it or make it
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
"""The content of a retired version is kept that long."""


class Condemned(Conflict):
    """The same bytes are being deleted at this moment; try again in a moment."""


class ContentStore:
    """Leases on contents and their deletion; ``clock`` gives seconds since the epoch.

    Every method raises ``NotReady`` while the database cannot be reached or written.
    """

    def __init__(self, database: Connections, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def lease(self, digest: str, seconds: float) -> str:
        """Keep a content from being deleted for a while; an id to give it back by.

        Raises:
            Condemned: it is being deleted.
        """
        lease = str(uuid.uuid4())
        with self._database.writing() as connection:
            refuse_condemned(connection, digest)
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


def refuse_condemned(connection: sa.Connection, digest: str) -> None:
    """Refuse a content that is being deleted; raises ``Condemned``."""
    table = schema.condemned
    if connection.execute(sa.select(table.c.digest).where(table.c.digest == digest)).first() is not None:
        raise Condemned("the same content is being cleared away at this moment; try again")
