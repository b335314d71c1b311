"""Reads the archives of the audit: which there are, and the entries of one."""

import gzip
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.core.errors import Damaged, NotFound
from penstock.registry.blobs.folder import CHANGED, Blobs, hash_file
from penstock.registry.db import schema
from penstock.registry.records import AuditEntry, Document
from penstock.registry.stores.audit_archive import AuditArchive
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.versions import MOST_AUDIT

MOST_LISTED = 1000
FIELDS = ("seq", "at", "actor", "action", "subject", "reason", "before", "after")


class ArchivedAudit:
    """The archives of one registry's audit; ``blobs`` gives the store that their files are in. Blocks, for any thread;
    raises ``NotReady`` as the registry does."""

    def __init__(self, database: Connections, blobs: Callable[[], Blobs]) -> None:
        self._database = database
        self._blobs = blobs

    def listed(self) -> list[AuditArchive]:
        """The newest archives, oldest first."""
        table = schema.audit_archives
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(table).order_by(table.c.first.desc()).limit(MOST_LISTED)).all()
        return [_archive(row) for row in reversed(rows)]

    def entries(
        self, name: str, model: str | None = None, after: int | None = None, limit: int = 100
    ) -> list[AuditEntry]:
        """At most ``limit`` changes of an archive, as ``Store.audit`` gives those of the database.

        Raises:
            NotFound: there is no archive of this name, or its file was dropped.
            Damaged: its file is gone, or not what it was.
        """
        archive = self._named(name)
        if archive.dropped_at is not None:
            raise NotFound(f"the file of archive '{name}' was dropped when its time was over; only its record is kept")
        path = self._blobs().fetch(archive.digest)
        if hash_file(path) != archive.digest:
            raise Damaged(CHANGED)
        return [_entry(line) for line in _chosen(_lines(path), model, after, min(limit, MOST_AUDIT))]

    def _named(self, name: str) -> AuditArchive:
        """An archive by the numbers in its name."""
        numbers = name.split("-")
        found = None
        if len(numbers) == 2 and all(one.isascii() and one.isdecimal() and len(one) < 19 for one in numbers):
            table, (first, last) = schema.audit_archives, map(int, numbers)
            with self._database.reading() as connection:
                query = sa.select(table).where(table.c.first == first, table.c.last == last)
                found = connection.execute(query).one_or_none()
        if found is None:
            raise NotFound(f"the audit has no archive '{name[:60]}'; list them with: penstock audit --archives")
        return _archive(found)


def _archive(row: Any) -> AuditArchive:
    return AuditArchive(**row._mapping)  # noqa: SLF001 - its public name


def _lines(path: Path) -> Iterator[Document]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def _chosen(lines: Iterable[Document], model: str | None, after: int | None, limit: int) -> Iterable[Document]:
    """The first after a sequence number, or the newest."""
    wanted = (one for one in lines if model in (None, one["model"]) and one["seq"] > (after or 0))
    return deque(wanted, maxlen=limit) if after is None else islice(wanted, limit)


def _entry(line: Mapping[str, Any]) -> AuditEntry:
    return AuditEntry(*(line[field] for field in FIELDS))
