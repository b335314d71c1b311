"""Verifies the audit from its first entry to its last: hash chain, archives, and the roots that checkpoints state."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from penstock.core.audit.chain import canonical_form, first_link, next_link
from penstock.core.audit.merkle import LeafRange, hash_leaf
from penstock.core.audit.notes import Checkpoint

MOST_FINDINGS: Final = 100

DROP_ACTION: Final = "audit.archive.drop"
"""The action of entries that say which archives were dropped."""

ONLY_OUTSIDE: Final = (
    "only a checkpoint that is kept elsewhere (--checkpoint FILE) can show that newer entries were removed, or that "
    "somebody with the signing key has rewritten the history"
)


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """Something that is wrong with the audit, at or just before the entry ``seq``."""

    seq: int
    problem: str


@dataclass(frozen=True, slots=True)
class KeptCheckpoint:
    """A checkpoint, and where it is kept."""

    checkpoint: Checkpoint
    source: str


@dataclass(frozen=True, slots=True)
class ArchivedRange:
    """Entries in an archive: the sequence numbers of the first and the last, their number, the hash of the last, and
    the hashes of their range in the tree (all hexadecimal)."""

    first: int
    last: int
    entries: int
    link: str
    nodes: tuple[str, ...]

    def leaves(self, begin: int) -> LeafRange:
        """Return the range, whose first leaf has the index ``begin``; raises ``ValueError`` for other hashes."""
        return LeafRange.restore(begin, begin + self.entries, [bytes.fromhex(node) for node in self.nodes])


@dataclass(frozen=True, slots=True)
class AuditVerification:
    """The result: ``root`` is that of all entries, ``covered`` the size of the largest checkpoint that was compared,
    ``unread`` the number of entries whose archive was dropped."""

    entries: int
    last: int
    link: str
    root: bytes
    covered: int
    checkpoints: int
    unread: int
    findings: tuple[AuditFinding, ...]


class AuditVerifier:
    """Takes the entries and archives in their order; ``checkpoints`` are those whose signatures are valid."""

    def __init__(self, registry_id: str, checkpoints: Iterable[KeptCheckpoint]) -> None:
        self._link = first_link(registry_id)
        self._leaves = LeafRange()
        self._last = 0
        self._pending = sorted(checkpoints, key=lambda kept: kept.checkpoint.size, reverse=True)
        self._covered, self._covered_seq, self._compared, self._unread = 0, 0, 0, 0
        self._findings: list[AuditFinding] = []
        self._dropped: list[tuple[ArchivedRange, str]] = []
        self._dropped_to, self._dropped_before = 0, ""
        self._compare()

    def add_entry(self, entry: Mapping[str, Any]) -> None:
        """Verify the next entry, which has the fields of ``chain.FIELDS`` and ``hash`` (hexadecimal)."""
        canonical, stated = canonical_form(entry), str(entry["hash"])
        if next_link(self._link, canonical).hex() != stated:
            self._report_broken(int(entry["seq"]))
        self._link, self._last = _decode_hash(stated), int(entry["seq"])
        self._leaves.append(hash_leaf(canonical))
        if entry.get("action") == DROP_ACTION:
            self._note_drop(entry["after"] or {})
        self._compare()

    def _note_drop(self, after: Mapping[str, Any]) -> None:
        """Take note which archives were dropped: to an entry, or (an older release) from before a time."""
        if "last" in after:
            self._dropped_to = max(self._dropped_to, int(after["last"]))
        else:
            self._dropped_before = max(self._dropped_before, str(after.get("before", "")))

    def _report_broken(self, seq: int) -> None:
        if seq > self._last + 1:
            first = self._last + 1
            self._report(first, f"entry {first} is missing, or {seq} was changed: it does not follow {self._last}")
        else:
            self._report(seq, f"entry {seq} was changed, moved or inserted: its hash does not follow {self._last}")

    def start_after(self, last: int) -> None:
        """Go on after an archive whose entries are older than the chain."""
        self._last = last

    def end_archive(self, archive: ArchivedRange, begin: int) -> None:
        """Verify the record of an archive after its entries; ``begin`` is the index of its first leaf."""
        own = LeafRange(begin, begin)
        try:
            own = archive.leaves(begin)
        except ValueError:
            self._report(archive.first, f"the record of archive {archive.first}-{archive.last} was changed")
        ended = (self._last, self._link.hex(), self._leaves.end)
        if ended != (archive.last, archive.link, own.end):
            self._report(archive.first, f"archive {archive.first}-{archive.last} does not have the entries it states")

    def drop_archive(self, archive: ArchivedRange, last_at: str) -> None:
        """Go on after an archive whose file was dropped; ``last_at`` is when its last entry was made. A later entry
        must say that it was: otherwise somebody has hidden its entries."""
        self._dropped.append((archive, last_at))
        self.skip_archive(archive)

    def skip_archive(self, archive: ArchivedRange) -> None:
        """Go on after an archive whose file was dropped, or cannot be read, by the hashes in its record."""
        try:
            self._leaves.join(archive.leaves(self._leaves.end))
        except ValueError:
            self._report(archive.first, f"the record of archive {archive.first}-{archive.last} was changed")
        self._link, self._last = _decode_hash(archive.link), archive.last
        self._unread += archive.entries
        while self._pending and self._pending[-1].checkpoint.size < self._leaves.end:
            self._pending.pop()  # between two entries that cannot be read any more
        self._compare()

    @property
    def index(self) -> int:
        """The index of the next leaf."""
        return self._leaves.end

    def report_unreadable(self, seq: int, problem: str) -> None:
        """Report an archive that cannot be read."""
        self._report(seq, problem)

    def _compare(self) -> None:
        """Compare the tree with the checkpoints of its present size."""
        size = self._leaves.end
        while self._pending and self._pending[-1].checkpoint.size <= size:
            kept = self._pending.pop()
            if kept.checkpoint.root != self._leaves.root():
                self._report_rewritten(kept)
            self._covered, self._covered_seq, self._compared = size, self._last, self._compared + 1

    def _report_rewritten(self, kept: KeptCheckpoint) -> None:
        if self._findings:
            return  # the entry that differs is known
        first = self._covered_seq + 1
        self._report(
            first, f"an entry from {first} to {self._last} is not the one that the checkpoint in {kept.source} signed"
        )

    def _report(self, seq: int, problem: str) -> None:
        if len(self._findings) < MOST_FINDINGS:
            self._findings.append(AuditFinding(seq, problem))

    def result(self) -> AuditVerification:
        """Return the result, after the last entry."""
        for archive, last_at in self._dropped:
            if archive.last > self._dropped_to and last_at >= self._dropped_before:
                name = f"{archive.first}-{archive.last}"
                self._report(archive.first, f"archive {name} is marked as dropped, but no entry says that it was")
        for kept in self._pending[::-1]:
            missing = kept.checkpoint.size - self._leaves.end
            problem = f"the last {missing} entries are missing that the checkpoint in {kept.source} has signed"
            self._report(self._last + 1, problem)
        return AuditVerification(
            self._leaves.end,
            self._last,
            self._link.hex(),
            self._leaves.root(),
            self._covered,
            self._compared,
            self._unread,
            tuple(sorted(self._findings, key=lambda finding: finding.seq)),
        )


def _decode_hash(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
