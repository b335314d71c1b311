"""Deletes expired rows of the database: each method is one short transaction over at most ``BATCH`` rows, and blocks.

Rows are searched for without a lock first, so that a pass that finds nothing delays nobody.
"""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from penstock.core.versions import VersionKey
from penstock.registry.db import schema
from penstock.registry.db.lease import LeaderConnections
from penstock.registry.records import Author, VersionState
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.journal import Journal
from penstock.registry.stores.outbox import DEAD, PENDING, SENT

BATCH = 500
"""Most rows of one transaction."""

OVER_S = 600.0
"""A request for captured rows expires this long after its deadline."""

USED_S = 3600.0
"""Shortest interval at which the use of a reference is stored."""

HISTORY_S = 2 * 86_400.0
"""Twice the longest window of a burn rate."""

BY = Author("penstock", "its retention time is over")


class RetentionStore:
    """Deletes expired rows; every deletion raises ``NotLeading`` unless this gateway leads.

    ``clock`` gives seconds since the epoch, by default those of the database; all times are of that clock. Each method
    returns the number of deleted rows, and raises ``NotReady`` while the database cannot be reached or written.
    """

    def __init__(self, database: Connections, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._leader = LeaderConnections(database)
        self._journal = Journal(clock or database.clock.stamp)
        self.now = clock or database.clock.now

    def events(self, before: float) -> int:
        """Delete events before a time, except those that are or may become due for delivery."""
        table, outbox = schema.events, schema.outbox
        waits = sa.exists().where(outbox.c.event == table.c.id, outbox.c.state.in_((PENDING, DEAD)))
        return self._delete(table.c.seq, table.c.at < stamp_of(before), ~waits)

    def deliveries(self, before: float) -> int:
        """Delete successful deliveries that were decided before a time."""
        return self._deliveries(SENT, before)

    def dead_deliveries(self, before: float) -> int:
        """Delete dead deliveries that were decided before a time."""
        return self._deliveries(DEAD, before)

    def _deliveries(self, state: str, before: float) -> int:
        table = schema.outbox
        return self._delete(table.c.seq, table.c.state == state, table.c.created < before)

    def trials(self, before: float, most: int) -> int:
        """Delete closed rollouts and experiments that began before a time, and all but the ``most`` newest; the newest
        of a model stays."""
        table = schema.trials
        order = sa.func.row_number().over(
            partition_by=(table.c.model, table.c.kind), order_by=(table.c.created_at.desc(), table.c.id.desc())
        )
        ranked = sa.select(table.c.id, table.c.open, table.c.created_at, order.label("rank")).subquery()
        old = (ranked.c.rank > 1) & (ranked.c.created_at < stamp_of(before))
        over = sa.select(ranked.c.id).where(~ranked.c.open, old | (ranked.c.rank > most))
        return self._delete(table.c.id, ~table.c.open, table.c.id.in_(over))

    def observations(self) -> int:
        """Delete observations of trials that are closed or deleted."""
        table, trials = schema.observations, schema.trials
        opened = sa.exists().where(trials.c.id == table.c.trial, trials.c.open)
        return self._delete(table.c.trial, ~opened)

    def request_histories(self) -> int:
        """Delete request counts that are older than the longest window of a burn rate."""
        table = schema.request_history
        return self._delete(table.c.seq, table.c.at < self.now() - HISTORY_S)

    def leases(self) -> int:
        """Delete expired leases on contents."""
        table = schema.leases
        return self._delete(table.c.id, table.c.until <= self.now())

    def row_requests(self) -> int:
        """Delete requests for captured rows that their gateway has not closed."""
        table = schema.row_requests
        return self._delete(table.c.id, table.c.deadline < self.now() - OVER_S)

    def row_answers(self) -> int:
        """Delete answers to requests for captured rows that are closed."""
        table, requests = schema.row_answers, schema.row_requests
        return self._delete(table.c.request, ~sa.exists().where(requests.c.id == table.c.request))

    def erasures(self, before: float) -> int:
        """Delete erasures that were asked for before a time; a home that has not answered will not."""
        table = schema.erasures
        return self._delete(table.c.id, table.c.at < before)

    def erasure_reports(self) -> int:
        """Delete reports of erasures that are gone."""
        table, erasures = schema.erasure_reports, schema.erasures
        return self._delete(table.c.erasure, ~sa.exists().where(erasures.c.id == table.c.erasure))

    def use_references(self, served: Collection[VersionKey]) -> int:
        """Store that the references of these versions are used now; one without a stored use counts as used now."""
        table, now = schema.references, self.now()
        stale: sa.ColumnElement[bool] = table.c.used_at.is_(None)
        if served:
            own = sa.tuple_(table.c.model, table.c.version).in_(sorted(served)[:BATCH])
            stale |= own & (table.c.used_at < now - USED_S)
        query = sa.select(sa.func.count()).select_from(table).where(stale)
        if not self._read(query)[0][0]:
            return 0
        with self._database.writing() as connection:
            return connection.execute(table.update().where(stale).values(used_at=now)).rowcount

    def references(self, before: float) -> int:
        """Delete references that no gateway has used since a time, unless their version is admitted in the registry."""
        table, versions = schema.references, schema.versions
        admitted = sa.exists().where(
            versions.c.model == table.c.model,
            versions.c.version == table.c.version,
            versions.c["standing"] == VersionState.ADMITTED.value,
        )
        due = (table.c.used_at < before, ~admitted)
        rows = self._read(sa.select(table.c.model, table.c.version, table.c.digest).where(*due).limit(BATCH))
        for model, version, digest in rows:
            with self._leader.writing() as connection:
                item = (table.c.model == model, table.c.version == version)
                if connection.execute(table.delete().where(*item, *due)).rowcount:
                    subject, was = f"versions/{version}/reference", {"digest": digest}
                    self._journal.record_change(connection, model, "reference.forget", subject, BY, was, None)
        return len(rows)

    def retired_versions(self, before: float) -> int:
        """Delete records of versions that were retired before a time; their contents were deleted long before."""
        table = schema.versions
        due = (table.c["standing"] == VersionState.RETIRED.value, table.c.retired_at < before)
        rows = self._read(sa.select(table.c.model, table.c.version, table.c.digest).where(*due).limit(BATCH))
        for model, version, digest in rows:
            with self._leader.writing() as connection:
                item = (table.c.model == model, table.c.version == version)
                if connection.execute(table.delete().where(*item, *due)).rowcount:
                    was = {"digest": digest}
                    self._journal.record_change(
                        connection, model, "version.forget", f"versions/{version}", BY, was, None
                    )
        return len(rows)

    def keys(self, before: float) -> int:
        """Delete API keys that were revoked or have expired before a time."""
        table = schema.keys
        return self._delete(table.c.id, (table.c.revoked < before) | (table.c.expires < before))

    def signatures(self, before: float) -> int:
        """Delete signatures that were added before a time to versions that are not recorded."""
        table = schema.signatures
        due = (table.c.added_at < before, ~self._recorded(table))
        rows = self._read(sa.select(table.c.model, table.c.version, table.c.digest).where(*due).limit(BATCH))
        for model, version, digest in rows:
            with self._leader.writing() as connection:
                item = (table.c.model == model, table.c.version == version, table.c.digest == digest)
                if connection.execute(table.delete().where(*item, *due)).rowcount:
                    subject, was = f"versions/{version}/signatures", {"digest": digest}
                    self._journal.record_audit(connection, model, "signature.forget", subject, BY, was, None)
        return len(rows)

    def approvals(self) -> int:
        """Delete approvals of versions that are no longer recorded."""
        table = schema.approvals
        return self._delete(table.c.actor, ~self._recorded(table))

    @staticmethod
    def _recorded(table: sa.Table) -> sa.ColumnElement[bool]:
        versions = schema.versions
        return sa.exists().where(versions.c.model == table.c.model, versions.c.version == table.c.version)

    def _delete(self, key: sa.Column[Any], *due: sa.ColumnElement[bool]) -> int:
        """Delete the rows of the first ``BATCH`` keys that are due."""
        keys = [row[0] for row in self._read(sa.select(key).where(*due).distinct().order_by(key).limit(BATCH))]
        if not keys:
            return 0
        with self._leader.writing() as connection:
            return connection.execute(key.table.delete().where(key.in_(keys), *due)).rowcount

    def _read(self, query: sa.Select[Any]) -> list[Any]:
        with self._database.reading() as connection:
            return list(connection.execute(query).all())


def stamp_of(at: float) -> str:
    """Return a time (seconds since the epoch) as the tables write it; such texts sort by time."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
