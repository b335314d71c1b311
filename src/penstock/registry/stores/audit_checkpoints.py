"""Signed checkpoints of the audit in the database: a process verifies the whole audit once, and then what is added."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from penstock.core.audit.chain import canonical_form, first_link, next_link, origin_of
from penstock.core.audit.merkle import LeafRange, hash_leaf
from penstock.core.audit.notes import Checkpoint, SignedCheckpoint, read_checkpoint
from penstock.core.errors import DataLoss, InvalidInput
from penstock.registry.db import schema
from penstock.registry.db.lease import LeaderConnections
from penstock.registry.db.own_connection import ChangeMark
from penstock.registry.records import Document
from penstock.registry.signing.note_keys import CheckpointKey
from penstock.registry.stores.audit_archive import AuditArchive
from penstock.registry.stores.audit_log import AuditLog
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.outbox import Outbox
from penstock.registry.stores.retention import stamp_of
from penstock.registry.stores.traffic import TrafficStore, TrialEvent

EVENT = "audit.checkpoint.v1"
SUBJECT = "audit"

MOST_WAITING = 60
"""Checkpoints that wait for one sink; the oldest is given up for a new one, which covers it."""

BROKEN = "the audit is not what this gateway has signed before, and no checkpoint is signed; run: penstock audit verify"


class _Head:
    """The end of the audit so far: the last entry's number and hash, and the tree."""

    def __init__(self, seq: int, link: bytes, leaves: LeafRange) -> None:
        self.seq = seq
        self.link = link
        self.leaves = leaves

    def copy(self) -> "_Head":
        """Return a copy that grows by itself."""
        return _Head(self.seq, self.link, self.leaves.copy())

    def add(self, entry: Mapping[str, Any]) -> None:
        """Take the next entry; raises ``DataLoss`` if its hash does not follow."""
        canonical = canonical_form(entry)
        self.link = next_link(self.link, canonical)
        if self.link.hex() != entry["hash"]:
            raise DataLoss(BROKEN, f"entry {entry['seq']} does not follow entry {self.seq}")
        self.seq = int(entry["seq"])
        self.leaves.append(hash_leaf(canonical))

    def skip(self, archive: AuditArchive) -> None:
        """Go on after an archive, by the hashes in its record."""
        chained = archive.chained
        if chained is not None:
            self.leaves.join(chained.leaves(self.leaves.end))
            self.link = bytes.fromhex(chained.link)
        self.seq = archive.last

    def compare(self, signed: Collection[Checkpoint]) -> None:
        """Refuse to continue another history than the one that was signed; raises ``DataLoss``."""
        for checkpoint in signed:
            if self.leaves.end == checkpoint.size and self.leaves.root() != checkpoint.root:
                raise DataLoss(BROKEN, f"the first {checkpoint.size} entries are not those of the last checkpoint")


class AuditCheckpoints:
    """Makes and keeps the checkpoints of one registry; ``sinks`` receive each as an event, except those that are
    ``superseded``: they were given up because the sink takes none for long.

    Changes raise ``NotLeading`` unless this gateway leads. Calls block, and raise ``NotReady`` while the database or
    the store of archives cannot be reached.
    """

    def __init__(
        self,
        database: Connections,
        log: AuditLog,
        clock: Callable[[], float] | None = None,
        sinks: Sequence[str] = (),
    ) -> None:
        self._database = database
        self._leader = LeaderConnections(database)
        self._log = log
        self._clock = clock or database.clock.stamp
        traffic = TrafficStore(database, clock)
        self._outbox = Outbox(database, traffic, clock)
        self._sinks = sinks
        self.superseded = 0
        self._head: _Head | None = None

    def change_mark(self) -> ChangeMark | None:
        """Return a mark that is another one after every change of the database; see ``Connections``."""
        return self._database.change_mark()

    def uncovered(self) -> int:
        """Return the number of entries that this process has not verified and covered yet: at first all of them, as
        nothing in the database says reliably what is covered."""
        table, archives = schema.audit, schema.audit_archives
        with self._database.reading() as connection:
            last = connection.execute(sa.select(sa.func.max(table.c.seq))).scalar()
            if last is None:
                last = connection.execute(sa.select(sa.func.max(archives.c.last))).scalar() or 0
        return max(0, int(last) - (self._head.seq if self._head else 0))

    def newest(self) -> str | None:
        """Return the note of the largest checkpoint, None if there is none."""
        table = schema.audit_checkpoints
        with self._database.reading() as connection:
            return connection.execute(sa.select(table.c.note).order_by(table.c.size.desc()).limit(1)).scalar()

    def sign(self, key: CheckpointKey, kept: Checkpoint | None = None) -> SignedCheckpoint | None:
        """Sign and store a checkpoint of all entries, and return it; None if the last one covers them. ``kept`` is the
        last one that the gateway has kept elsewhere.

        Raises:
            DataLoss: the audit differs from the last checkpoint, or its chain is broken; nothing is signed.
        """
        registry_id, stored = self._log.identity(), self._last()
        signed = [checkpoint for checkpoint in (stored, kept) if checkpoint is not None]
        head = self._head.copy() if self._continues() and self._head else _make_first_head(registry_id)
        head.compare(signed)
        self._read_on(head, signed)
        if missing := [checkpoint for checkpoint in signed if checkpoint.size > head.leaves.end]:
            raise DataLoss(BROKEN, f"a checkpoint has {missing[0].size} entries, the audit {head.leaves.end}")
        self._head = head
        if stored is not None and stored.size == head.leaves.end:
            return None
        made = key.sign(Checkpoint(origin_of(registry_id), head.leaves.end, head.leaves.root()))
        self._store(made, head)
        return made

    def _last(self) -> Checkpoint | None:
        table = schema.audit_checkpoints
        newest = sa.select(table.c.size, table.c.note).order_by(table.c.size.desc()).limit(1)
        with self._database.reading() as connection:
            row = connection.execute(newest).first()
        try:
            last = None if row is None else read_checkpoint(row.note).checkpoint
        except InvalidInput:
            raise DataLoss(BROKEN, "the last checkpoint cannot be read") from None
        if row is not None and last is not None and last.size != row.size:
            raise DataLoss(BROKEN, f"the last checkpoint stands for {row.size} entries, but states {last.size}")
        return last

    def _continues(self) -> bool:
        """Whether the audit still has the entry at which this process stopped; raises ``DataLoss`` for another one."""
        if self._head is None or not self._head.seq:
            return False
        table = schema.audit
        with self._database.reading() as connection:
            link = connection.execute(sa.select(table.c.hash).where(table.c.seq == self._head.seq)).scalar()
        if link is not None and link != self._head.link.hex():
            raise DataLoss(BROKEN, f"entry {self._head.seq} was changed")
        return link is not None

    def _read_on(self, head: _Head, signed: Collection[Checkpoint]) -> None:
        for part in self._log.parts(head.seq):
            if isinstance(part, AuditArchive):
                head.skip(part)
                head.compare(signed)
            else:
                for entry in part:
                    head.add(entry)
                    head.compare(signed)

    def _store(self, signed: SignedCheckpoint, head: _Head) -> None:
        values: Document = {
            "size": signed.checkpoint.size,
            "seq": head.seq,
            "at": stamp_of(self._clock()),
            "note": signed.note,
        }
        data = {"origin": signed.checkpoint.origin, "size": signed.checkpoint.size, "note": signed.note}
        event = TrialEvent(EVENT, SUBJECT, f"{signed.checkpoint.origin} {signed.checkpoint.size}", data)
        with self._leader.writing() as connection:
            connection.execute(schema.audit_checkpoints.insert().values(**values))
            self._outbox.insert_event(connection, "", event, self._sinks)
            self.superseded += self._outbox.give_up_oldest(connection, "", self._sinks, MOST_WAITING)


def _make_first_head(registry_id: str) -> _Head:
    return _Head(0, first_link(registry_id), LeafRange())
