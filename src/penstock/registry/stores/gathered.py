"""The rows that gateways have gathered of versions without a reference, until a live reference is learned from them.

Each method is one transaction, and blocks.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from penstock.core.live_references import Contribution, GatheringState
from penstock.core.versions import VersionKey
from penstock.registry.db import schema
from penstock.registry.db.lease import LeaderConnections, database_now
from penstock.registry.db.own_connection import ChangeMark
from penstock.registry.stores.connections import Connections


class GatheredStore:
    """The gathered rows of all gateways, as one gateway uses them; ``clock`` gives seconds since the epoch, by default
    those of the database. Every method raises ``NotReady`` while the database cannot be reached or written."""

    def __init__(self, database: Connections, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._leader = LeaderConnections(database)
        self._now = clock or database.clock.now

    @property
    def gateway(self) -> str:
        """The id of this gateway."""
        return self._database.lease.gateway

    def change_mark(self) -> ChangeMark | None:
        """Return a mark that is another one after every change of the database; see ``Connections``."""
        return self._database.change_mark()

    def acquire_leadership(self) -> bool:
        """Return whether this gateway leads the fleet; acquire or renew the lease if that is due."""
        return self._database.acquire_leadership()

    def submit(self, key: VersionKey, what: Contribution, rows: bytes) -> None:
        """Replace this gateway's packed rows of a version; ignored if the version has a reference by now."""
        table, own = schema.gathered, _select_rows(schema.gathered, key, self.gateway)
        with self._database.recording() as connection:
            if connection.execute(
                sa.select(schema.references.c.digest).where(*_select_rows(schema.references, key))
            ).first():
                return
            values = {"number": what.rows, "answered": what.answered, "rows": rows}
            if not connection.execute(table.update().where(*own).values(**values)).rowcount:
                identity = {"model": key[0], "version": key[1], "gateway": self.gateway, "at": self._now()}
                connection.execute(table.insert().values(**identity, **values))

    def update_answered(self, key: VersionKey, requests: int) -> None:
        """Update the number of requests that this gateway has answered, if it has submitted rows."""
        table = schema.gathered
        with self._database.recording() as connection:
            own = _select_rows(table, key, self.gateway)
            connection.execute(table.update().where(*own).values(answered=requests))

    def open(self) -> dict[VersionKey, GatheringState]:
        """Return the state of each version that rows were submitted of."""
        table, gateways, references = schema.gathered, schema.gateways, schema.references
        columns = [table.c[name] for name in ("model", "version", "gateway", "number", "answered", "at")]
        learned = sa.exists().where(references.c.model == table.c.model, references.c.version == table.c.version)
        with self._database.reading() as connection:
            submitted = connection.execute(sa.select(*columns, learned.label("has_reference"))).all()
            if not submitted:
                return {}
            silent = (database_now(connection) - gateways.c.seen).label("silent_s")
            heartbeats = connection.execute(sa.select(gateways.c.id, gateways.c.serves, silent)).all()
        keys = {(row.model, row.version) for row in submitted}
        rows = {key: [row for row in submitted if (row.model, row.version) == key] for key in keys}
        return {key: self._gathering(rows[key], _find_serving(key, heartbeats)) for key in sorted(keys)}

    def _gathering(self, rows: Sequence[Any], serving: Mapping[str, float]) -> GatheringState:
        contributions = {row.gateway: Contribution(row.number, row.answered) for row in rows}
        return GatheringState(
            contributions, serving, self._now() - min(row.at for row in rows), bool(rows[0].has_reference)
        )

    def rows(self, key: VersionKey, gateway: str) -> bytes | None:
        """Return the packed rows of a gateway of a version, None without any."""
        table = schema.gathered
        with self._database.reading() as connection:
            rows: bytes | None = connection.execute(
                sa.select(table.c.rows).where(*_select_rows(table, key, gateway))
            ).scalar()
        return rows

    def erase(self, model: str | None, change: Callable[[VersionKey, bytes], tuple[int, int, bytes] | None]) -> int:
        """Change the submitted rows of a model (None: of all models), of all gateways; return how many are gone.

        ``change`` returns how many rows are gone, how many are left, and these packed, or None.
        """
        table, gone = schema.gathered, 0
        of_model = [] if model is None else [table.c.model == model]
        columns = [table.c[name] for name in ("model", "version", "gateway", "rows")]
        with self._database.writing() as connection:
            for row in connection.execute(sa.select(*columns).where(*of_model)).all():
                changed = change((row.model, row.version), row.rows)
                if changed is None:
                    continue
                number, left, rows = changed
                own = _select_rows(table, (row.model, row.version), row.gateway)
                if left:
                    connection.execute(table.update().where(*own).values(number=left, rows=rows))
                else:
                    connection.execute(table.delete().where(*own))
                gone += number
        return gone

    def discard(self, key: VersionKey) -> None:
        """Delete the gathered rows of a version; raises ``NotLeading`` unless this gateway leads."""
        with self._leader.recording() as connection:
            forget(connection, key)


def forget(connection: sa.Connection, key: VersionKey) -> None:
    """Delete the gathered rows of a version within a transaction."""
    connection.execute(schema.gathered.delete().where(*_select_rows(schema.gathered, key)))


def _select_rows(table: sa.Table, key: VersionKey, gateway: str | None = None) -> list[sa.ColumnElement[bool]]:
    of_version = [table.c.model == key[0], table.c.version == key[1]]
    return of_version if gateway is None else [*of_version, table.c.gateway == gateway]


def _find_serving(key: VersionKey, heartbeats: Sequence[Any]) -> dict[str, float]:
    return {row.id: float(row.silent_s) for row in heartbeats if key[1] in row.serves.get(key[0], ())}
