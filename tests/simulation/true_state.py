"""What the database really holds, past every simulated fault."""

from collections import Counter
from collections.abc import Callable, Collection

import sqlalchemy as sa

from penstock.control.monitoring.label_batches import unpack_rows
from penstock.control.monitoring.publication import unpack_block
from penstock.control.retraining.rules import MANUAL
from penstock.core.versions import VersionKey
from penstock.monitor.counters.totals import Totals
from penstock.registry.db import schema
from penstock.registry.db.database import Database
from penstock.registry.records import Document
from penstock.registry.stores.evidence import EvidenceStore
from penstock.registry.stores.outbox import PENDING, Outbox
from penstock.registry.stores.traffic import TrafficStore, Trial
from penstock.registry.stores.versions import VersionStore
from tests.simulation.monitoring import requests_of


class TrueState:
    """Reads a run's database by a way of its own; ``clock`` gives seconds since the epoch."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self.database = database
        self.store = VersionStore(self.database, clock)
        self.traffic = TrafficStore(self.database, clock)
        self._evidence = EvidenceStore(self.database, clock)
        self.outbox = Outbox(self.database, self.traffic, clock)

    def trials(self, but: Collection[str]) -> list[Trial]:
        """All rollouts and experiments but these."""
        table = schema.trials
        query = sa.select(table.c.id, table.c.model, table.c.kind).where(table.c.id.not_in(but))
        with self.database.reading() as connection:
            found = connection.execute(query.order_by(table.c.created_at, table.c.id)).all()
        return [self.traffic.trial(row.model, row.kind, row.id) for row in found]

    def pending(self) -> int:
        """Deliveries that wait."""
        table = schema.outbox
        with self.database.reading() as connection:
            query = sa.select(sa.func.count()).where(table.c.state == PENDING)
            return int(connection.execute(query).scalar_one())

    def counted(self) -> dict[VersionKey, int]:
        """How many requests of each version all gateways have published together."""
        found: Counter[VersionKey] = Counter()
        for row in self._evidence.published():
            block = unpack_block(row.block)
            if block is None:
                raise ValueError("a row of counts cannot be unpacked")
            found[row.model, row.version] += requests_of(Totals(block))
        return found

    def labelled(self) -> list[tuple[VersionKey, float]]:
        """Every labelled row that was written down: whose it is, and its number."""
        batches = self._evidence.labels(0)
        return [
            ((batch.model, batch.version), row.at)
            for batch in batches
            for row in unpack_rows(batch.version, batch.rows)
        ]

    def happened(self) -> list[tuple[str, str]]:
        """Every event but requests by hand, and those that ask a person instead: its type and its subject."""
        with self.database.reading() as connection:
            rows = connection.execute(sa.select(schema.events.c.type, schema.events.c.subject, schema.events.c.data))
            return [
                (row.type, row.subject)
                for row in rows
                if row.data.get("rule") != MANUAL and not row.data.get("escalated")
            ]

    def observations(self) -> int:
        """What gateways have counted for trials, in rows."""
        with self.database.reading() as connection:
            query = sa.select(sa.func.count()).select_from(schema.observations)
            return int(connection.execute(query).scalar_one())

    def addressed(self) -> list[Document]:
        """Every event that is for the sink, oldest first."""
        with self.database.reading() as connection:
            rows = connection.execute(
                sa.select(schema.outbox.c.event, schema.outbox.c.model).order_by(schema.outbox.c.seq)
            )
            return [{"event": row.event, "model": row.model} for row in rows]
