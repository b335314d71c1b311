"""The gateways of a fleet as each says that it lives, and which of them leads; each method is one transaction."""

from dataclasses import dataclass

import sqlalchemy as sa

from penstock.core.leases import Lease
from penstock.registry.db import schema
from penstock.registry.db.lease import database_now, read_lease
from penstock.registry.records import Document
from penstock.registry.stores.connections import Connections

FORGOTTEN_S = 86_400.0
"""A gateway that was not heard of for that long is no part of the fleet any more."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a gateway says of itself: ``release`` of Penstock it runs, when it ``started`` (seconds since the epoch),
    the ``revision`` of what it wants to serve, the versions that are ready (``serves``: by model), and what its home is
    called ("" is not known)."""

    id: str
    host: str
    release: str
    started: float
    revision: int
    serves: Document
    home: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """A gateway, and how many seconds ago it was last heard of."""

    gateway: Gateway
    silent_s: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """All gateways that were heard of within a day, by their names, who leads, and the registry's revision."""

    gateways: tuple[Seen, ...]
    lease: Lease
    revision: int


class GatewayStore:
    """The records of gateways; times are the database's. Raises ``NotReady`` as the registry does."""

    def __init__(self, database: Connections) -> None:
        self._database = database

    def beat(self, gateway: Gateway) -> bool:
        """Say that a gateway lives, and forget those that were not heard of for a day; whether captured rows of
        gateways are asked for."""
        table, requests = schema.gateways, schema.row_requests
        open_requests = sa.select(sa.func.count()).select_from(requests).scalar_subquery().label("open_requests")
        values = {name: getattr(gateway, name) for name in Gateway.__slots__ if name != "id"}
        with self._database.recording() as connection:
            now = database_now(connection)
            mine = table.update().where(table.c.id == gateway.id).values(**values, seen=now)
            asked = connection.execute(mine.returning(open_requests)).scalar()
            if asked is None:
                connection.execute(table.insert().values(id=gateway.id, **values, seen=now))
            connection.execute(table.delete().where(table.c.seen < now - FORGOTTEN_S))
        return bool(asked)

    def leave(self, gateway: str) -> None:
        """A gateway ends."""
        table = schema.gateways
        with self._database.recording() as connection:
            connection.execute(table.delete().where(table.c.id == gateway))

    def fleet(self) -> Fleet:
        """Everybody, at one moment."""
        table = schema.gateways
        with self._database.reading() as connection:
            silent = (database_now(connection) - table.c.seen).label("silent_s")
            rows = connection.execute(sa.select(table, silent).order_by(table.c.id)).all()
            revision = connection.execute(sa.select(schema.registry.c.revision)).scalar_one()
            return Fleet(tuple(_seen(row) for row in rows), read_lease(connection), int(revision))


def _seen(row: sa.Row[tuple[object, ...]]) -> Seen:
    return Seen(Gateway(*(getattr(row, name) for name in Gateway.__slots__)), max(0.0, float(row.silent_s)))
