"""What the database really holds, past every simulated fault."""

from collections.abc import Callable, Collection

import sqlalchemy as sa

from penstock.registry.db import schema
from penstock.registry.db.database import Database
from penstock.registry.records import Document
from penstock.registry.stores.outbox import PENDING, Outbox
from penstock.registry.stores.traffic import TrafficStore, Trial
from penstock.registry.stores.versions import Store


class TrueState:
    """Reads a run's database by a way of its own; ``clock`` gives seconds since the epoch."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self.database = database
        self.store = Store(self.database, clock)
        self.traffic = TrafficStore(self.database, clock)
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
