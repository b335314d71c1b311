"""Moves old entries of the audit from the database into archives: files of compressed JSON lines among the blobs.

An archive is durable before its entries are deleted, and the database refuses to delete entries that no archive record
covers. The record stays for good, with the digest of the file.
"""

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.core.audit.chain import canonical_form
from penstock.core.audit.merkle import LeafRange, hash_leaf
from penstock.core.audit.verification import DROP_ACTION, ArchivedRange
from penstock.registry.blobs.folder import BlobStore, IncomingFile
from penstock.registry.db import schema
from penstock.registry.db.lease import LeaderConnections
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.journal import Journal
from penstock.registry.stores.retention import BATCH, BY, stamp_of

ENTRIES = 10_000
"""Most entries of one archive."""

PATIENCE_S = 7 * 86_400.0
"""An archive is written when it is full, or when its oldest entry has been due for this long."""


@dataclass(frozen=True, slots=True)
class AuditArchive:
    """One archive: the sequence numbers and times of its first and last entry, its file's digest and bytes, and when
    the file was dropped (seconds since the epoch, None if it is kept).

    ``link`` is the hash of the last entry ("": the entries are older than the hash chain), ``nodes`` are the hashes of
    the range in the Merkle tree (hexadecimal): with them the audit stays verifiable without the file.
    """

    first: int
    last: int
    first_at: str
    last_at: str
    entries: int
    digest: str
    size: int
    dropped_at: float | None
    link: str = ""
    nodes: Sequence[str] = ()

    @property
    def chained(self) -> ArchivedRange | None:
        """The archive as a part of the chain, None if its entries are older."""
        return ArchivedRange(self.first, self.last, self.entries, self.link, tuple(self.nodes)) if self.link else None

    @property
    def name(self) -> str:
        """Its name: the numbers of its first and last entry."""
        return f"{self.first}-{self.last}"


class AuditArchives:
    """Writes and drops the archives of one registry's audit; raises ``NotLeading`` unless this gateway leads.

    ``incoming`` is a folder on the file system of local blobs; ``clock`` gives seconds since the epoch, by default
    those of the database. Calls block, and raise ``NotReady`` while the database or the blobs cannot be reached or
    written.
    """

    def __init__(
        self,
        database: Connections,
        blobs: Callable[[], BlobStore],
        incoming: Path,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._database = database
        self._leader = LeaderConnections(database)
        self._blobs = blobs
        self._incoming = incoming
        self._clock = clock or database.clock.now
        self._journal = Journal(clock or database.clock.stamp)

    def archive(self, before: float) -> int:
        """Move at most ``ENTRIES`` entries from before a time into an archive, if there are enough, and return how many
        were moved."""
        rows = self._due(before)
        if not rows or (len(rows) < ENTRIES and rows[0].at >= stamp_of(before - PATIENCE_S)):
            return 0
        packed = pack_lines([dict(row._mapping) for row in rows])  # noqa: SLF001 - its public name
        with IncomingFile(self._incoming, len(packed)) as incoming:
            incoming.write(packed)
            incoming.close()
            self._blobs().keep(incoming.path, incoming.digest)
            digest = incoming.digest
        first, last = rows[0], rows[-1]
        nodes = [node.hex() for node in self._leaves(rows).hashes]
        made = AuditArchive(
            first.seq, last.seq, first.at, last.at, len(rows), digest, len(packed), None, last.hash, nodes
        )
        self._replace(made)
        return len(rows)

    def _leaves(self, rows: Sequence[Any]) -> LeafRange:
        """Return the range of these entries in the Merkle tree."""
        table = schema.audit_archives
        query = sa.select(sa.func.coalesce(sa.func.sum(table.c.entries), 0)).where(table.c.link != "")
        with self._database.reading() as connection:
            begin = int(connection.execute(query).scalar_one())
        leaves = LeafRange(begin, begin)
        for row in rows:
            leaves.append(hash_leaf(canonical_form(row._mapping)))  # noqa: SLF001 - its public name
        return leaves

    def _due(self, before: float) -> list[Any]:
        table = schema.audit
        query = sa.select(table).order_by(table.c.seq).limit(ENTRIES)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        old = [row.at < stamp_of(before) for row in rows]
        return list(rows[: old.index(False)] if False in old else rows)

    def _replace(self, made: AuditArchive) -> None:
        """Store the record of an archive and delete its entries, in one transaction."""
        table, audit = schema.audit_archives, schema.audit
        with self._leader.writing() as connection:
            connection.execute(table.insert().values(**asdict(made)))
            connection.execute(audit.delete().where(audit.c.seq.between(made.first, made.last)))

    def drop(self, before: float) -> int:
        """Mark the files of archives whose last entry is from before a time as dropped, and return how many; their
        records stay."""
        table = schema.audit_archives
        due = (table.c.dropped_at.is_(None), table.c.last_at < stamp_of(before))
        with self._leader.writing() as connection:
            last = connection.execute(sa.select(sa.func.max(table.c.last)).where(*due)).scalar()
            number = connection.execute(table.update().where(*due).values(dropped_at=self._clock())).rowcount
            if number:
                after = {"archives": number, "before": stamp_of(before), "last": last}
                self._journal.record_audit(connection, "", DROP_ACTION, "audit", BY, None, after)
        return number

    def delete_checkpoints(self, before: float) -> int:
        """Delete checkpoints from before a time, except the largest, and return how many."""
        table = schema.audit_checkpoints
        largest = sa.select(sa.func.max(table.c.size)).scalar_subquery()
        due = (table.c.at < stamp_of(before), table.c.size < largest)
        with self._database.reading() as connection:
            sizes = list(connection.execute(sa.select(table.c.size).where(*due).limit(BATCH)).scalars())
        if not sizes:
            return 0
        with self._leader.writing() as connection:
            return connection.execute(table.delete().where(table.c.size.in_(sizes))).rowcount


def pack_lines(entries: list[dict[str, Any]]) -> bytes:
    """Return entries as compressed JSON lines; the same entries give the same bytes."""
    lines = "".join(json.dumps(entry, ensure_ascii=False, sort_keys=True) + "\n" for entry in entries)
    return gzip.compress(lines.encode(), mtime=0)
