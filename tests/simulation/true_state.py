"""What the database really holds, past every simulated fault."""

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from penstock.registry.db import schema
from penstock.registry.db.database import open_database
from penstock.registry.records import Document
from penstock.registry.stores.outbox import PENDING, Outbox
from penstock.registry.stores.traffic import ROLLOUT, TrafficStore, Trial
from penstock.registry.stores.versions import Store


class TrueState:
    """A connection of its own to the database of a run; ``clock`` gives seconds since the epoch."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self.database = open_database(f"sqlite:///{folder / 'registry.db'}", 5.0)
        self.store = Store(self.database, clock)
        self.traffic = TrafficStore(self.database, clock)
        self.outbox = Outbox(self.database, self.traffic, clock)

    def rollouts(self, model: str) -> list[Trial]:
        """A model's rollouts."""
        return self.traffic.trials(model, ROLLOUT)

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
