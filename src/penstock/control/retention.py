"""The janitor: deletes expired data, and lists everything that grows.

The gateway that leads deletes rows, which all share; each gateway deletes its own files.
"""

import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from penstock.control.calls.blocking import BlockingPool
from penstock.core.versions import VersionKey
from penstock.engine.scratch import is_scratch, sweep, sweep_below, temporary_folder
from penstock.registry.stores.audit_archive import AuditArchives
from penstock.registry.stores.retention import RetentionStore

log = logging.getLogger("penstock.control")

DAY_S = 86_400.0
PASS_S = 300.0
"""Time between two passes."""

MOST_BATCHES = 20
"""Maximum batches of one kind in a pass; the rest waits for the next pass."""

FILES_S = 300.0
"""Deadline of one batch that deletes many files, or writes an archive to a bucket."""

MOST_FILES = 1000
"""Maximum files and folders of one place to delete in a pass."""

UNUSED_SIGNATURES_S = 30 * DAY_S
"""Time after which signatures of versions that were not pushed are deleted."""

ONE_EACH = "one for each model"
TABLES: Mapping[str, str] = {
    "alembic_version": "one row",
    "registry": "one row",
    "leadership": "one row",
    "gateways": "one for each gateway, until unseen for a day",
    "models": "one for each model name",
    "aliases": "some for each model, up to 100 steps back each",
    "routes": ONE_EACH,
    "policies": ONE_EACH,
    "standings": ONE_EACH,
    "signatures": "while the version is recorded, or 30 days where it was not pushed",
    "approvals": "while the version is recorded",
    "versions": "until retired, then retention.retired_versions_days",
    "audit": "retention.audit_days, then archived",
    "audit_archives": "for good: about 50 a year, and one for each 10,000 entries",
    "audit_checkpoints": "retention.audit_days, the newest for good",
    "keys": "until revoked or expired, then retention.keys_days",
    "leases": "until they end",
    "condemned": "while contents are being deleted",
    "trials": "while open, then retention.trials_days and retention.trials_per_model",
    "observations": "while the trial is open",
    "events": "retention.events_days",
    "references": "while served or offered, then retention.references_days",
    "counts": "one for each gateway and version that is served, and one for all that have ended",
    "verdicts": "while a gateway serves the version",
    "feedback": "a day, 64 MiB",
    "feedback_readers": "a day after the gateway looked last",
    "request_history": "the longest window of the model's burn rates, two days at most",
    "labelled": "while a gateway serves the version, the newest ones",
    "row_requests": "while captured rows of a fleet are gathered, 10 minutes more where that was cut off",
    "row_answers": "as long as their requests; the files lie in the blobs as long, an hour more where both ended",
    "erasures": "while they are answered, in a fleet retention.erasures_days",
    "erasure_reports": "as long as their erasures",
    "gathered": "until a reference is learned of them: usually half a minute after the first gateway contributes",
    "outbox": "until sent or given up, then retention.deliveries_days or retention.dead_deliveries_days",
}
"""Every table of the database, and how long its rows stay."""

FOLDERS: Mapping[str, str] = {
    "blobs": "while a version needs it, 7 days more, and archives of the audit as long as retention.audit_archive_days",
    "incoming": "while a push is received",
    "unpacked": "while a version needs it, then retention.copies_days",
    "cache": "while a version needs it, then retention.copies_days",
    "copies": "while a repository offers it, one hour more",
    "verdicts": "the newest ones",
    "references": "while a reference is kept, then retention.copies_days",
    "retraining": "retention.exports_days and retention.exports_bytes",
    "answers": "the policy's horizon, and the limit for answers",
    "captures": "the policies' limit for captured rows",
    "sinks": "what file sinks wrote, until you rotate it",
}
"""Every folder of the home, and how long its content stays."""

FILES: Mapping[str, str] = {
    "registry.db": "the database",
    "folder-*.db": "the database of watched folders, one for each set of them",
    "*.db-wal": "the database's log",
    "*.db-shm": "the database's index of its log",
    "last-*.json": "what a database last said, one for each database",
    "access-*.json": "the API keys that a database last had, by their digests, one for each database",
    "gateway.json": "while a gateway runs",
    "ops.sock": "while a gateway runs",
    "evidence-history.json": "at most 60 points of each column of the versions that are served",
    "mask.key": "for good: one key",
    "audit.key": "the key that signs checkpoints of the audit",
    "audit-position.json": "the number of the last entry of the audit in the log",
    "audit-checkpoints*.txt": "the checkpoints that the gateway has seen, the newest 16 to 32 MiB",
}
"""Every other file of the home."""


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """How long growing data is kept, in seconds, and how much of it; see ``config.Retention``."""

    events_s: float = 90 * DAY_S
    audit_s: float = 365 * DAY_S
    audit_archive_s: float = 0.0
    trials_s: float = 90 * DAY_S
    trials_per_model: int = 1000
    deliveries_s: float = 7 * DAY_S
    dead_deliveries_s: float = 30 * DAY_S
    retired_versions_s: float = 365 * DAY_S
    references_s: float = 30 * DAY_S
    keys_s: float = 90 * DAY_S
    erasures_s: float = 30 * DAY_S
    exports_s: float = 30 * DAY_S
    exports_bytes: int = 10 << 30
    copies_s: float = DAY_S


SCRATCH, COPIES, AUDIT, AUDIT_ARCHIVES = "scratch", "files", "audit", "audit archives"
WITH_CONTENTS = (SCRATCH, COPIES, AUDIT, AUDIT_ARCHIVES)
"""Batches that delete files or call the content store, which may take longer than rows."""

DeleteBatch = Callable[[], int]
"""One short transaction; returns how many rows it deleted, 0 if nothing is left."""


def row_batches(
    keeping: RetentionLimits, store: RetentionStore, archives: AuditArchives, now: float
) -> Iterator[tuple[str, DeleteBatch]]:
    """Return the batches for rows that all gateways share, by name; ``now`` is the database's time in seconds since the
    epoch.
    """
    yield "deliveries", partial(store.deliveries, now - keeping.deliveries_s)
    yield "dead deliveries", partial(store.dead_deliveries, now - keeping.dead_deliveries_s)
    yield "events", partial(store.events, now - keeping.events_s)
    yield "trials", partial(store.trials, now - keeping.trials_s, keeping.trials_per_model)
    yield "observations", store.observations
    yield "request histories", store.request_histories
    yield "leases", store.leases
    yield "requests for rows", store.row_requests
    yield "rows handed over", store.row_answers
    yield "erasures", partial(store.erasures, now - keeping.erasures_s)
    yield "reports of erasures", store.erasure_reports
    yield "references", partial(store.references, now - keeping.references_s)
    yield "keys", partial(store.keys, now - keeping.keys_s)
    yield "signatures", partial(store.signatures, now - UNUSED_SIGNATURES_S)
    yield "approvals", store.approvals
    yield "retired versions", partial(store.retired_versions, now - keeping.retired_versions_s)
    yield AUDIT, partial(archives.archive, now - keeping.audit_s)
    yield "audit checkpoints", partial(archives.delete_checkpoints, now - keeping.audit_s)
    if keeping.audit_archive_s:
        yield AUDIT_ARCHIVES, partial(archives.drop, now - keeping.audit_archive_s)


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """A file or folder that may be deleted; ``age_s`` since its last change."""

    name: str
    age_s: float
    size: int


@dataclass(frozen=True, slots=True)
class RetentionLimit:
    """How long entries are kept (``age_s``), how much of them (``size`` in bytes, None = any), and how long each is
    kept in any case (``young_s``).
    """

    age_s: float
    size: int | None = None
    young_s: float = 0.0


def find_overdue(
    entries: Iterable[StoredEntry], keep: RetentionLimit, needed: Callable[[str], bool] = lambda _: False
) -> list[str]:
    """Return the names of the entries to delete, oldest first, at most ``MOST_FILES``."""
    candidates = sorted((entry for entry in entries if not needed(entry.name)), key=lambda item: -item.age_s)
    held, gone = sum(candidate.size for candidate in candidates), []
    for candidate in candidates:
        too_large = keep.size is not None and held > keep.size
        if candidate.age_s > keep.young_s and (candidate.age_s > keep.age_s or too_large):
            gone.append(candidate.name)
            held -= candidate.size
    return gone[:MOST_FILES]


@dataclass(frozen=True, slots=True)
class ReferencedDigests:
    """Digests (hex) of contents and references that this gateway's copies are needed for."""

    contents: Collection[str]
    references: Collection[str]


class HomeFiles:
    """The files of one gateway that nobody else deletes; ``clock`` gives seconds since the epoch, ``shared`` is the
    memory that its processes share. Blocks.
    """

    def __init__(self, home: Path, keeping: RetentionLimits, clock: Callable[[], float], shared: Path) -> None:
        self._home = home
        self._shared = shared
        self._keeping = keeping
        self._clock = clock

    def sweep_scratch(self) -> int:
        """Delete the scratch of killed processes; return the number of files and folders."""
        return sweep_below(self._home) + sweep_below(self._shared) + sweep(temporary_folder())

    def clear(self, needed: ReferencedDigests) -> int:
        """Delete what is overdue; return the number of files and folders."""
        copies = RetentionLimit(self._keeping.copies_s)
        exports = RetentionLimit(self._keeping.exports_s, self._keeping.exports_bytes, DAY_S)
        contents, references = set(needed.contents), {*needed.references, "index"}
        gone = self._sweep(self._home / "retraining", exports, lambda _: False)
        gone += self._sweep(self._home / "unpacked", copies, lambda name: name.partition("-")[0] in contents)
        gone += self._sweep(self._home / "references", copies, lambda name: name.removesuffix(".json") in references)
        for shard in _entries_below(self._home / "cache" / "sha256"):
            gone += self._sweep(shard, copies, lambda name: name in contents)
        return gone

    def _sweep(self, folder: Path, keep: RetentionLimit, needed: Callable[[str], bool]) -> int:
        names = find_overdue(self._entries(folder, keep.size is not None), keep, needed)
        for name in names:
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()
        return len(names)

    def _entries(self, folder: Path, weighed: bool) -> Iterator[StoredEntry]:
        for path in (item for item in _entries_below(folder) if not is_scratch(item.name)):
            with suppress(OSError):  # gone meanwhile
                yield StoredEntry(
                    path.name, self._clock() - path.lstat().st_mtime, _measure_size(path) if weighed else 0
                )


def _entries_below(folder: Path) -> Sequence[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return ()


def _measure_size(path: Path) -> int:
    """Return the bytes of a folder on the disk."""
    return sum(item.lstat().st_blocks * 512 for item in path.rglob("*"))


class Janitor:
    """The janitor of one gateway. ``lead``: whether it deletes shared rows; ``needed`` and ``served`` return what its
    files are needed for, and its versions. ``lead`` and ``needed`` may block.
    """

    def __init__(
        self,
        keeping: RetentionLimits,
        store: RetentionStore,
        archives: AuditArchives,
        files: HomeFiles,
        lead: Callable[[], bool],
        needed: Callable[[], ReferencedDigests],
        served: Callable[[], Collection[VersionKey]],
    ) -> None:
        self._keeping = keeping
        self._store = store
        self._archives = archives
        self._files = files
        self._lead = lead
        self._needed = needed
        self._served = served
        self._contents = BlockingPool("janitor_files", 1, "the disk, or the store of contents,", FILES_S)
        self._rows = BlockingPool("janitor_rows", 1)
        self.pools = (self._contents, self._rows)

    async def step(self) -> Mapping[str, int]:
        """Run one pass; return the number of deletions of each kind.

        Raises:
            Exception: something failed, such as a database that is away; everything else was done nevertheless.
        """
        gone: dict[str, int] = {}
        faults: list[Exception] = []
        await self._perform(self._own(), gone, faults)
        try:
            await self._perform(await self._shared(), gone, faults)
        except Exception as fault:
            faults.append(fault)
        if cleared := {name: number for name, number in gone.items() if number}:
            log.info("deleted: %s", ", ".join(f"{number} {name}" for name, number in cleared.items()))
        if faults:
            raise faults[0]
        return cleared

    async def _perform(
        self, batches: Iterable[tuple[str, DeleteBatch]], gone: dict[str, int], faults: list[Exception]
    ) -> None:
        for name, batch in batches:
            try:
                gone[name] = await self._repeat(name, batch)
            except Exception as fault:
                faults.append(fault)

    def _own(self) -> list[tuple[str, DeleteBatch]]:
        """Run the part of every gateway, even without the database."""
        scratch = (SCRATCH, self._files.sweep_scratch)
        return [scratch, ("references in use", self._disk_use), (COPIES, self._clear)]

    async def _shared(self) -> list[tuple[str, DeleteBatch]]:
        """Run the part of the leader."""
        if not await self._rows.call(self._lead):
            return []
        return list(row_batches(self._keeping, self._store, self._archives, await self._rows.call(self._store.now)))

    def _disk_use(self) -> int:
        self._store.use_references(self._served())
        return 0

    def _clear(self) -> int:
        return self._files.clear(self._needed())

    async def _repeat(self, name: str, batch: DeleteBatch) -> int:
        """Repeat a batch until nothing is left; other calls may run in between."""
        pool = self._contents if name in WITH_CONTENTS else self._rows
        gone = 0
        for _ in range(MOST_BATCHES):
            done = await pool.call(batch)
            gone += done
            if not done:
                break
        return gone

    def close(self) -> None:
        """End the threads."""
        for pool in self.pools:
            pool.close()
