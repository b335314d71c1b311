"""The counts of all gateways and the verdicts on them, in the database; each method is one transaction, and blocks.

A gateway has one row for each version, with its counts so far, which it replaces: a write that is repeated or lost
neither doubles nor loses a count. One more row, of no gateway, adds up the counts of gateways that have ended, so that
the sum over all rows of a version never falls.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from penstock.core.errors import Conflict
from penstock.core.versions import VersionKey
from penstock.registry.db import schema
from penstock.registry.db.lease import LeaderConnections
from penstock.registry.records import Document
from penstock.registry.stores.connections import Connections
from penstock.registry.stores.traffic import TrafficStore, TrialEvent

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

ENDED = ""
"""The gateway of the row that adds up the counts of ended gateways."""

RETIRED_S = 600.0
"""A gateway that is silent for this long has ended or does not serve the version any more: its row is added to that of
ended gateways."""

STAMPED_S = 60.0
"""Interval at which a gateway without new counts renews its stamp."""


@dataclass(frozen=True, slots=True)
class PublishedCounts:
    """The counts of a gateway for a version: ``words`` are the packed cells of its region (the name of the column),
    whose ``layout`` names the reference and the keys that rows are sliced by; ``block`` are the packed cells of its
    requests; ``outcomes`` counts its labels by outcome."""

    model: str
    version: str
    gateway: str
    layout: str
    workers: int
    words: bytes
    block: bytes
    outcomes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class VersionVerdict:
    """The verdict on a version: ``evidence`` is the state to continue from, ``summary`` and ``document`` are what the
    admin API shows; ``revision`` grows by every write."""

    layout: str
    revision: int
    evidence: Document
    summary: Document
    document: Document


@dataclass(frozen=True, slots=True)
class LabelBatch:
    """A batch of ``number`` labelled rows of a version, packed, that a gateway has joined. ``seq`` grows in the order
    of the writes; ``id`` is the gateway's own name of the batch."""

    seq: int
    id: str
    model: str
    version: str
    gateway: str
    number: int
    rows: bytes


@dataclass(frozen=True, slots=True)
class PublishedVersions:
    """The versions that a gateway has rows of, and those that have a row of ended gateways."""

    own: Collection[VersionKey]
    ended: Collection[VersionKey]


Make = Callable[[PublishedVersions], Sequence[PublishedCounts]]
"""Returns a gateway's rows, given the rows that exist."""

Merge = Callable[[PublishedCounts | None, Sequence[PublishedCounts]], PublishedCounts | None]
"""Adds rows of a version to the row of ended gateways; returns None if nothing is left of them."""


class EvidenceStore:
    """The counts of all gateways and the verdicts; ``clock`` gives seconds since the epoch, by default those of the
    database. Every method raises ``NotReady`` while the database cannot be reached or written; methods that write
    verdicts or delete rows raise ``NotLeading`` unless this gateway leads."""

    def __init__(self, database: Connections, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._leader = LeaderConnections(database)
        self._traffic = TrafficStore(database, clock)
        self.now = clock or database.clock.now

    def acquire_leadership(self) -> bool:
        """Return whether this gateway leads the fleet; acquire or renew the lease if that is due."""
        return self._traffic.acquire_leadership()

    # Counts of gateways.

    def publish(self, gateway: str, served: Collection[VersionKey], make: Make) -> None:
        """Replace a gateway's rows by those that ``make`` returns, and renew its stamps for the ``served`` versions.
        Only the gateway itself writes its rows, until they are retired."""
        table = schema.counts
        columns = (table.c.model, table.c.version, table.c.at)
        own = sa.select(*columns).where(table.c.gateway == gateway).with_for_update()
        with self._database.recording() as connection:
            stamped = {(row.model, row.version): row.at for row in connection.execute(own)}
            over = sa.select(table.c.model, table.c.version).where(table.c.gateway == ENDED)
            ended = {(row.model, row.version) for row in connection.execute(over)}
            now = self.now()
            made = make(PublishedVersions(stamped.keys(), ended))
            rows = [{**_pick_values(row), "gateway": gateway, "at": now} for row in made]
            if rows:
                connection.execute(_upsert(connection), rows)
            written = {(row["model"], row["version"]) for row in rows}
            quiet = [key for key in served if key not in written and stamped.get(key, now) < now - STAMPED_S]
            if quiet:
                of_version = (table.c.model == sa.bindparam("m"), table.c.version == sa.bindparam("v"))
                stamp = table.update().where(*of_version, table.c.gateway == gateway).values(at=now)
                connection.execute(stamp, [{"m": model, "v": version} for model, version in quiet])

    def published(self) -> list[PublishedCounts]:
        """Return the counts of every gateway, as of one moment."""
        table = schema.counts
        columns = [table.c[name] for name in PublishedCounts.__slots__]
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(*columns)).all()  # at once: one by one costs as much again
            return [PublishedCounts(*row) for row in rows]

    def retire(self, merge: Merge) -> None:
        """Add up the rows of gateways that have ended, by ``merge``."""
        table = schema.counts
        silent = (table.c.gateway != ENDED, table.c.at < self.now() - RETIRED_S)
        with self._leader.recording() as connection:
            ended = connection.execute(sa.select(table).where(*silent).with_for_update()).all()
            by_key: dict[VersionKey, list[PublishedCounts]] = {}
            for row in ended:
                by_key.setdefault((row.model, row.version), []).append(_published_counts(row))
            for key, rows in sorted(by_key.items()):
                self._merge(connection, key, rows, merge)

    def _merge(self, connection: sa.Connection, key: VersionKey, rows: Sequence[PublishedCounts], merge: Merge) -> None:
        table = schema.counts
        of_version = (table.c.model == key[0], table.c.version == key[1])
        whole = sa.select(table).where(*of_version, table.c.gateway == ENDED).with_for_update()
        ended = connection.execute(whole).first()
        merged = merge(None if ended is None else _published_counts(ended), rows)
        gone = [ENDED, *(row.gateway for row in rows)]
        connection.execute(table.delete().where(*of_version, table.c.gateway.in_(gone)))
        if merged is not None:
            values = _pick_values(replace(merged, gateway=ENDED))
            connection.execute(table.insert().values(**values, at=self.now()))

    # Labels.

    def add_labels(self, batches: Sequence[LabelBatch]) -> None:
        """Store batches of labelled rows, each once."""
        table = schema.labelled
        with self._database.writing() as connection:  # one at a time, so that whoever reads by number misses none
            ids = [batch.id for batch in batches]
            stored = set(connection.execute(sa.select(table.c.id).where(table.c.id.in_(ids))).scalars())
            rows = [_pick_values(batch, _LABELLED) for batch in batches if batch.id not in stored]
            if rows:
                connection.execute(table.insert(), rows)

    def labels(self, after: int) -> list[LabelBatch]:
        """Return the batches written after a number, in their order."""
        return self._labels(schema.labelled.c.seq > after)

    def labels_of(self, model: str, version: str) -> list[LabelBatch]:
        """Return the batches of a version, in their order."""
        table = schema.labelled
        return self._labels(sa.and_(table.c.model == model, table.c.version == version))

    def _labels(self, where: sa.ColumnElement[bool]) -> list[LabelBatch]:
        columns = [schema.labelled.c[name] for name in LabelBatch.__slots__]
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(*columns).where(where).order_by(schema.labelled.c.seq))
            return [LabelBatch(*row) for row in rows]

    def last_label(self) -> int:
        """Return the number of the last batch, 0 before the first."""
        with self._database.reading() as connection:
            last: int | None = connection.execute(sa.select(sa.func.max(schema.labelled.c.seq))).scalar()
        return last or 0

    def trim_labels(self, most: int) -> None:
        """Delete the oldest batches of versions that have more labelled rows than ``most`` in newer ones."""
        table = schema.labelled
        query = sa.select(table.c.seq, table.c.model, table.c.version, table.c.number).order_by(table.c.seq.desc())
        with self._leader.recording() as connection:
            rows: Counter[VersionKey] = Counter()
            old = []
            for row in connection.execute(query):
                if rows[row.model, row.version] >= most:
                    old.append(row.seq)
                rows[row.model, row.version] += row.number
            for start in range(0, len(old), _TOGETHER):
                connection.execute(table.delete().where(table.c.seq.in_(old[start : start + _TOGETHER])))

    # Verdicts.

    def verdict(self, model: str, version: str) -> VersionVerdict | None:
        """Return the last verdict on a version, None without one."""
        table = schema.verdicts
        columns = [table.c[name] for name in VersionVerdict.__slots__]
        query = sa.select(*columns).where(table.c.model == model, table.c.version == version)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else VersionVerdict(*row)

    def summaries(self) -> dict[VersionKey, Document]:
        """Return the summary of every version."""
        table = schema.verdicts
        query = sa.select(table.c.model, table.c.version, table.c.summary)
        with self._database.reading() as connection:
            return {(row.model, row.version): row.summary for row in connection.execute(query)}

    def conclude(self, key: VersionKey, verdict: VersionVerdict, events: Sequence[TrialEvent]) -> None:
        """Replace the verdict on a version (``verdict.revision`` is the new revision), and store its events.

        Raises:
            Conflict: another gateway has written a verdict meanwhile.
        """
        # Events are written one change at a time, so that readers by number miss none.
        with self._leader.writing() if events else self._leader.recording() as connection:
            self._replace(connection, key, verdict)
            for event in events:
                self._traffic.insert_event(connection, key[0], event)

    def _replace(self, connection: sa.Connection, key: VersionKey, verdict: VersionVerdict) -> None:
        table = schema.verdicts
        values = {name: getattr(verdict, name) for name in VersionVerdict.__slots__}
        of_version = (table.c.model == key[0], table.c.version == key[1])
        before = table.c.revision == verdict.revision - 1
        written = connection.execute(table.update().where(*of_version, before).values(**values))
        if written.rowcount:
            return
        if verdict.revision != 1 or connection.execute(sa.select(table.c.revision).where(*of_version)).first():
            raise Conflict(f"another gateway decides about version '{key[1][:64]}' of model '{key[0][:128]}'")
        connection.execute(table.insert().values(model=key[0], version=key[1], **values))

    def forget(self, versions: set[VersionKey]) -> None:
        """Delete the rows of all versions but these, unless a gateway has counts of them."""
        counts = schema.counts
        with self._leader.recording() as connection:
            living = {
                (row.model, row.version)
                for row in connection.execute(sa.select(counts.c.model, counts.c.version).where(counts.c.gateway != ""))
            }
            for table in (counts, schema.verdicts, schema.labelled):
                stored = connection.execute(sa.select(table.c.model, table.c.version).distinct())
                for model, version in {(row.model, row.version) for row in stored} - living - versions:
                    connection.execute(table.delete().where(table.c.model == model, table.c.version == version))


_LABELLED = tuple(name for name in LabelBatch.__slots__ if name != "seq")
_TOGETHER = 500


def _pick_values(row: object, names: Sequence[str] = PublishedCounts.__slots__) -> Mapping[str, object]:
    return {name: getattr(row, name) for name in names}


def _published_counts(row: sa.Row[tuple[object, ...]]) -> PublishedCounts:
    return PublishedCounts(*(getattr(row, name) for name in PublishedCounts.__slots__))


def _insert_into(connection: sa.Connection, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
    """Return an insertion that may have a conflict clause; only gateways on PostgreSQL import its dialects."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - see above

    return postgresql.insert(table)


def _upsert(connection: sa.Connection) -> sa.Executable:
    statement = _insert_into(connection, schema.counts)
    changed = {name: statement.excluded[name] for name in ("layout", "workers", "words", "block", "outcomes", "at")}
    return statement.on_conflict_do_update(index_elements=["model", "version", "gateway"], set_=changed)
