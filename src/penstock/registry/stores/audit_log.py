"""The whole audit in its order, from archives and from the database: verified, proven, exported.

Each batch is one short read. Entries that are archived meanwhile are read from their archive.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from penstock.core.audit.chain import canonical_form, origin_of
from penstock.core.audit.merkle import ProofBuilder, Subtree, hash_leaf
from penstock.core.audit.notes import InclusionProof, PublicKey, SignedCheckpoint, is_signed, read_checkpoint
from penstock.core.audit.verification import AuditFinding, AuditVerification, AuditVerifier, KeptCheckpoint
from penstock.core.errors import DataLoss, InvalidInput, NotFound
from penstock.registry.blobs.folder import BlobStore
from penstock.registry.db import schema
from penstock.registry.records import Document
from penstock.registry.signing.note_keys import is_valid
from penstock.registry.stores.archived_audit import ArchivedAudit
from penstock.registry.stores.audit_archive import AuditArchive
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.journal import read_last_link

BATCH = 2000
"""Entries of one read."""

DATABASE = "the database"

OnProgress = Callable[[int, int], None]
"""Called with the entries done, and all of them."""


@dataclass(frozen=True, slots=True)
class OutsideCheckpoint:
    """A checkpoint that is not from the database, and where it is kept."""

    signed: SignedCheckpoint
    source: str


class AuditLog:
    """The audit of one registry. Calls block; every method raises ``NotReady`` while the database or the store of
    archives cannot be reached."""

    def __init__(self, database: Connections, blobs: Callable[[], BlobStore]) -> None:
        self._database = database
        self._archived = ArchivedAudit(database, blobs)

    def identity(self) -> str:
        """Return the id of the registry."""
        with self._database.reading() as connection:
            return str(connection.execute(sa.select(schema.registry.c.id)).scalar_one())

    # Reads.

    def last_seq(self) -> int:
        """Return the number of the newest entry, 0 without one."""
        with self._database.reading() as connection:
            return read_last_link(connection)[0]

    def parts(self, after: int = 0) -> Iterator[AuditArchive | list[Document]]:
        """Yield the archives and then batches of entries that follow a sequence number."""
        last = after
        while True:
            for archive in self._archived.archives_after(last):
                yield archive
                last = archive.last
            rows = self._batch(last)
            if rows is None:
                continue
            if not rows:
                return
            yield rows
            last = int(rows[-1]["seq"])

    def _batch(self, last: int) -> list[Document] | None:
        """Return the next entries, None if some were archived meanwhile."""
        table, archives = schema.audit, schema.audit_archives
        with self._database.reading() as connection:
            newest = connection.execute(sa.select(sa.func.max(archives.c.first))).scalar()
            if newest is not None and newest > last:
                return None
            query = sa.select(table).where(table.c.seq > last).order_by(table.c.seq).limit(BATCH)
            return [dict(row) for row in connection.execute(query).mappings()]

    def entries(self, after: int = 0) -> Iterator[Document]:
        """Yield all entries in their order; those of dropped archives are left out."""
        for part in self.parts(after):
            if not isinstance(part, AuditArchive):
                yield from part
            elif part.dropped_at is None:
                yield from (line for line in self._archived.lines(part) if line["seq"] > after)

    def is_complete(self) -> bool:
        """Whether every entry can still be read: no archive was dropped."""
        table = schema.audit_archives
        with self._database.reading() as connection:
            return connection.execute(sa.select(table.c.first).where(table.c.dropped_at.is_not(None))).first() is None

    def checkpoints(self) -> list[tuple[int, str]]:
        """Return the signed notes in the database with their sizes, smallest first."""
        table = schema.audit_checkpoints
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(table.c.size, table.c.note).order_by(table.c.size)).all()
        return [(row.size, row.note) for row in rows]

    def newest_checkpoint(self) -> SignedCheckpoint:
        """Return the largest checkpoint; raises ``NotFound`` if there is none yet."""
        notes = self.checkpoints()
        if not notes:
            raise NotFound("the audit has no checkpoint yet; a running gateway signs one within a minute of a change")
        return read_checkpoint(notes[-1][1])

    # Verification.

    def verify(
        self,
        keys: Sequence[PublicKey],
        outside: Iterable[OutsideCheckpoint] = (),
        on_progress: OnProgress = lambda *_: None,
    ) -> AuditVerification:
        """Verify all entries and checkpoints, and return the result; ``keys`` are those that may sign."""
        registry_id, total = self.identity(), self._count()
        kept, findings = _prove_checkpoints(origin_of(registry_id), keys, self.checkpoints(), outside)
        verifier = AuditVerifier(registry_id, kept)
        for part in self.parts():
            if isinstance(part, AuditArchive):
                self._verify_archive(verifier, part)
            else:
                for entry in part:
                    verifier.add_entry(entry)
            on_progress(verifier.index, max(total, verifier.index))
        result = verifier.result()
        every = sorted([*result.findings, *findings], key=lambda finding: finding.seq)
        return AuditVerification(
            result.entries,
            result.last,
            result.link,
            result.root,
            result.covered,
            result.checkpoints,
            result.unread,
            tuple(every),
        )

    def _count(self) -> int:
        table, archives = schema.audit, schema.audit_archives
        archived = sa.select(sa.func.coalesce(sa.func.sum(archives.c.entries), 0)).where(archives.c.link != "")
        with self._database.reading() as connection:
            live = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            return int(live) + int(connection.execute(archived).scalar_one())

    def _verify_archive(self, verifier: AuditVerifier, archive: AuditArchive) -> None:
        chained, begin = archive.chained, verifier.index
        if chained is None:
            verifier.start_after(archive.last)  # its entries are older than the chain
        elif archive.dropped_at is not None:
            verifier.drop_archive(chained, archive.last_at)
        else:
            try:
                for entry in self._archived.lines(archive):
                    verifier.add_entry(entry)
                verifier.end_archive(chained, begin)
            except (DataLoss, ValueError, KeyError) as fault:
                verifier.report_unreadable(archive.first, f"archive {archive.name} cannot be read: {fault}")
                if verifier.index == begin:
                    verifier.skip_archive(chained)

    # Proofs.

    def prove(self, seq: int) -> InclusionProof:
        """Return the proof that an entry is in the tree of the newest checkpoint.

        Raises:
            NotFound: there is no such entry, its archive was dropped, or no checkpoint covers it yet.
            DataLoss: the audit does not have the root that the checkpoint states.
        """
        signed = self.newest_checkpoint()
        entry, index = self._locate(seq)
        size = signed.checkpoint.size
        if index >= size:
            raise NotFound(f"no checkpoint covers entry {seq} yet; a running gateway signs one within a minute")
        builder = ProofBuilder(index, size)
        for subtree, digest in self._subtrees(index, size):
            builder.add(subtree, digest)
        proof = InclusionProof(canonical_form(entry), index, tuple(builder.proof()), signed)
        if not proof.is_consistent:
            raise DataLoss(f"entry {seq} is not what the newest checkpoint has signed; run: penstock audit verify")
        return proof

    def _locate(self, seq: int) -> tuple[Document, int]:
        """Return an entry, and the index of its leaf."""
        index = 0
        for archive in self._archived.archives_after(0):
            if seq <= archive.last:
                return self._locate_in(archive, seq, index)
            index += archive.entries if archive.link else 0
        table = schema.audit
        before = sa.select(sa.func.count()).select_from(table).where(table.c.seq < seq)
        with self._database.reading() as connection:
            row = connection.execute(sa.select(table).where(table.c.seq == seq)).mappings().first()
            index += int(connection.execute(before).scalar_one())
        if row is None:
            raise NotFound(f"the audit has no entry {seq}")
        return dict(row), index

    def _locate_in(self, archive: AuditArchive, seq: int, begin: int) -> tuple[Document, int]:
        lines = enumerate(self._archived.lines(archive)) if archive.link else iter(())
        for position, line in lines:
            if line["seq"] == seq:
                return line, begin + position
        raise NotFound(f"the audit has no entry {seq}, or it is older than the hash chain")

    def _subtrees(self, index: int, size: int) -> Iterator[tuple[Subtree, bytes]]:
        """Yield the hashes of all leaves in order: archives by their subtrees, except those that a proof divides."""
        begin = 0
        for part in self.parts():
            entries: Iterable[Mapping[str, Any]]
            if isinstance(part, AuditArchive):
                chained = part.chained
                end = begin + (0 if chained is None else chained.entries)
                if chained is None:
                    continue
                if not begin <= index < end and not begin < size < end:
                    yield from chained.leaves(begin).nodes
                    begin = end
                    continue
                entries = self._archived.lines(part)
            else:
                entries = part
            for entry in entries:
                yield (0, begin), hash_leaf(canonical_form(entry))
                begin += 1


def _prove_checkpoints(
    origin: str, keys: Sequence[PublicKey], stored: Iterable[tuple[int, str]], outside: Iterable[OutsideCheckpoint]
) -> tuple[list[KeptCheckpoint], list[AuditFinding]]:
    """Return the checkpoints that the keys have signed, and what is wrong with the others."""
    proven: list[KeptCheckpoint] = []
    findings: list[AuditFinding] = []
    unknown: list[tuple[int, OutsideCheckpoint]] = []
    for seq, kept in _read_outside(stored, outside, findings):
        try:
            signed = kept.signed.checkpoint
            if signed.origin != origin:
                raise DataLoss(f"the checkpoint in {kept.source} is of another log: {signed.origin[:100]}")
            if is_signed(kept.signed, keys, is_valid):
                proven.append(KeptCheckpoint(signed, kept.source))
            else:
                unknown.append((seq, kept))
        except DataLoss as fault:
            findings.append(AuditFinding(seq, str(fault)))
    largest = max((kept.checkpoint.size for kept in proven), default=-1)
    findings += [_unknown_key(seq, kept) for seq, kept in unknown if kept.signed.checkpoint.size > largest][-1:]
    return proven, findings


def _read_outside(
    stored: Iterable[tuple[int, str]], outside: Iterable[OutsideCheckpoint], findings: list[AuditFinding]
) -> Iterator[tuple[int, OutsideCheckpoint]]:
    for size, note in stored:
        try:
            signed = read_checkpoint(note)
        except InvalidInput:
            findings.append(AuditFinding(size, f"the checkpoint with {size} entries in {DATABASE} was changed"))
            continue
        if signed.checkpoint.size != size:
            stated = f"stands for {size} entries in {DATABASE}, but states {signed.checkpoint.size}"
            findings.append(AuditFinding(signed.checkpoint.size, f"a checkpoint {stated}: it was changed or inserted"))
        yield size, OutsideCheckpoint(signed, DATABASE)
    for kept in outside:
        yield kept.signed.checkpoint.size, kept


def _unknown_key(seq: int, kept: OutsideCheckpoint) -> AuditFinding:
    signed = f"the checkpoint in {kept.source} with {kept.signed.checkpoint.size} entries"
    advice = "if you trust it, give its public key (--key, or audit.trusted_keys)"
    return AuditFinding(seq, f"{signed} is signed by {kept.signed.key_ids}, which is not trusted; {advice}")
