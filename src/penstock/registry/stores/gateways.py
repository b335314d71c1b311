"""The heartbeats of a fleet's gateways, and which of them leads; each method is one transaction, and blocks."""

from dataclasses import dataclass, field

import sqlalchemy as sa

from penstock.core.leases import Lease
from penstock.registry.db import schema
from penstock.registry.db.lease import database_now, read_lease
from penstock.registry.records import Document
from penstock.registry.stores.connections import Connections

SILENT_S = 15.0
"""Silence after which a gateway is shown as silent, and has no share of quotas: it is frozen, cut off or ended."""

FORGOTTEN_S = 86_400.0
"""A gateway without a heartbeat for this long is no longer part of the fleet."""


@dataclass(frozen=True, slots=True)
class GatewayDescription:
    """A gateway as its heartbeat describes it: the ``release`` of Penstock, the time when it ``started`` (seconds since
    the epoch), the ``revision`` of its desired state, the ready versions by model (``serves``), the name of its home
    ("" if unknown), and the ``demand`` of callers with quotas."""

    id: str
    host: str
    release: str
    started: float
    revision: int
    serves: Document
    home: str = ""
    demand: Document = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatewayHeartbeat:
    """A gateway with the seconds since its last heartbeat."""

    gateway: GatewayDescription
    silent_s: float


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """All gateways with a heartbeat within a day, in the order of their ids, the lease, and the registry's revision."""

    gateways: tuple[GatewayHeartbeat, ...]
    lease: Lease
    revision: int


class GatewayStore:
    """The records of gateways; times are those of the database. Every method raises ``NotReady`` while the database
    cannot be reached or written."""

    def __init__(self, database: Connections) -> None:
        self._database = database

    def beat(self, gateway: GatewayDescription) -> bool:
        """Store a heartbeat, delete gateways without one for a day, and return whether any request for captured rows is
        open."""
        table, requests = schema.gateways, schema.row_requests
        open_requests = sa.select(sa.func.count()).select_from(requests).scalar_subquery().label("open_requests")
        values = {name: getattr(gateway, name) for name in GatewayDescription.__slots__ if name != "id"}
        with self._database.renewing() as connection:
            now = database_now(connection)
            own = table.update().where(table.c.id == gateway.id).values(**values, seen=now)
            asked = connection.execute(own.returning(open_requests)).scalar()
            if asked is None:
                connection.execute(table.insert().values(id=gateway.id, **values, seen=now))
            connection.execute(table.delete().where(table.c.seen < now - FORGOTTEN_S))
        return bool(asked)

    def demands(self) -> dict[str, Document]:
        """Return the demand of callers at each gateway that is alive, by its id."""
        table = schema.gateways
        with self._database.reading() as connection:
            alive = table.c.seen >= database_now(connection) - SILENT_S
            return {
                row.id: row.demand for row in connection.execute(sa.select(table.c.id, table.c.demand).where(alive))
            }

    def leave(self, gateway: str) -> None:
        """Delete a gateway that ends."""
        table = schema.gateways
        with self._database.recording() as connection:
            connection.execute(table.delete().where(table.c.id == gateway))

    def fleet(self) -> FleetStatus:
        """Return the fleet as of one moment."""
        table = schema.gateways
        with self._database.reading() as connection:
            silent = (database_now(connection) - table.c.seen).label("silent_s")
            rows = connection.execute(sa.select(table, silent).order_by(table.c.id)).all()
            revision = connection.execute(sa.select(schema.registry.c.revision)).scalar_one()
            return FleetStatus(tuple(_read_heartbeat(row) for row in rows), read_lease(connection), int(revision))


def _read_heartbeat(row: sa.Row[tuple[object, ...]]) -> GatewayHeartbeat:
    return GatewayHeartbeat(
        GatewayDescription(*(getattr(row, name) for name in GatewayDescription.__slots__)),
        max(0.0, float(row.silent_s)),
    )
