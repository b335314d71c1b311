"""Reads the archives of the audit: their list, and the entries of one archive."""

import gzip
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.core.access.model_filter import EVERY_MODEL, ModelFilter
from penstock.core.errors import DataLoss, NotFound
from penstock.registry.blobs.folder import CHANGED, BlobStore, hash_file
from penstock.registry.db import schema
from penstock.registry.records import AuditEntry, Document
from penstock.registry.stores.audit_archive import AuditArchive
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.versions import MOST_AUDIT

MOST_LISTED = 1000
FIELDS = tuple(item.name for item in fields(AuditEntry))


class ArchivedAudit:
    """The archives of one registry's audit; ``blobs`` returns the store of their files. Calls block; any thread may
    make them. Every method raises ``NotReady`` while the database or the blobs cannot be reached."""

    def __init__(self, database: Connections, blobs: Callable[[], BlobStore]) -> None:
        self._database = database
        self._blobs = blobs

    def list_archives(self) -> list[AuditArchive]:
        """Return the newest archives, oldest first."""
        table = schema.audit_archives
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(table).order_by(table.c.first.desc()).limit(MOST_LISTED)).all()
        return [_archive(row) for row in reversed(rows)]

    def entries(
        self,
        name: str,
        model: str | None = None,
        after: int | None = None,
        limit: int = 100,
        visible: ModelFilter = EVERY_MODEL,
    ) -> list[AuditEntry]:
        """Return at most ``limit`` entries of an archive, selected as by ``Store.audit``.

        Raises:
            NotFound: there is no archive of this name, or its file was dropped.
            Damaged: its file is missing, or does not match its digest.
        """
        lines = (line for line in self.lines(self._find(name)) if visible.allows(line["model"]))
        return [_read_entry(line) for line in _choose_lines(lines, model, after, min(limit, MOST_AUDIT))]

    def archives_after(self, last: int) -> list[AuditArchive]:
        """Return all archives whose entries follow a sequence number, oldest first."""
        table = schema.audit_archives
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(table).where(table.c.first > last).order_by(table.c.first)).all()
        return [_archive(row) for row in rows]

    def lines(self, archive: AuditArchive) -> Iterator[Document]:
        """Return the entries of an archive with all their fields, in order; raises as ``entries``."""
        if archive.dropped_at is not None:
            raise NotFound(
                f"the file of archive '{archive.name}' was dropped when its time was over; only its record is kept"
            )
        path = self._blobs().fetch(archive.digest)
        if hash_file(path) != archive.digest:
            raise DataLoss(CHANGED)
        return _read_lines(path)

    def _find(self, name: str) -> AuditArchive:
        """Return an archive by the numbers in its name."""
        numbers = name.split("-")
        row = None
        if len(numbers) == 2 and all(text.isascii() and text.isdecimal() and len(text) < 19 for text in numbers):
            table, (first, last) = schema.audit_archives, map(int, numbers)
            with self._database.reading() as connection:
                query = sa.select(table).where(table.c.first == first, table.c.last == last)
                row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"the audit has no archive '{name[:60]}'; list them with: penstock audit --archives")
        return _archive(row)


def _archive(row: Any) -> AuditArchive:
    return AuditArchive(**row._mapping)  # noqa: SLF001 - its public name


def _read_lines(path: Path) -> Iterator[Document]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def _choose_lines(lines: Iterable[Document], model: str | None, after: int | None, limit: int) -> Iterable[Document]:
    """Return the first lines after a sequence number, or the newest."""
    wanted = (line for line in lines if model in (None, line["model"]) and line["seq"] > (after or 0))
    return deque(wanted, maxlen=limit) if after is None else islice(wanted, limit)


def _read_entry(line: Mapping[str, Any]) -> AuditEntry:
    return AuditEntry(**{name: line[name] for name in FIELDS if name in line})
