"""The gateways of a fleet: each one stores a heartbeat every few seconds, and any of them shows all."""

import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from penstock.control.calls.blocking import READ_S, BlockingPool
from penstock.control.periodic import PeriodicTask
from penstock.core.desired import ReadyState, VersionStatus
from penstock.core.errors import Fault
from penstock.registry.records import Document
from penstock.registry.stores.gateways import (
    SILENT_S,
    FleetStatus,
    GatewayDescription,
    GatewayHeartbeat,
    GatewayStore,
)

BEAT_S = 5.0
THREADS = 2
"""Two threads: one for this gateway's heartbeat, one for queries."""

MOST_MODELS = 1000
"""Maximum models that a gateway reports."""


class SharedQuotas(Protocol):
    """The quotas of callers, which the gateways of a fleet share (see ``control.access.fleet_quotas``)."""

    @property
    def has_quotas(self) -> bool:
        """Whether any caller has a quota."""

    def measure(self) -> Document:
        """Return the demand of each caller since the last call."""

    def use(self, own: str, published: Mapping[str, Document]) -> None:
        """Use the shares that follow from the demands of all gateways."""


class FleetMember:
    """The part of one gateway: ``gateway`` is its id, ``release`` its version of Penstock.

    ``revision`` and ``statuses`` say which revision of the registry it has seen, and what it serves; ``home``, which
    may block, what its home is called. ``rows_asked`` is called where captured rows of gateways are asked for.
    ``problem`` is why it could not say so last, "" if it could: that is also whether the database takes writes.
    """

    def __init__(
        self,
        store: GatewayStore,
        gateway: str,
        release: str,
        revision: Callable[[], int],
        statuses: Callable[[], Iterable[VersionStatus]],
        home: Callable[[], str] = lambda: "",
        rows_asked: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._id = gateway
        self._release = release
        self._revision = revision
        self._statuses = statuses
        self._home = home
        self._rows_asked = rows_asked
        self._pool = BlockingPool("fleet", THREADS)
        self.pools = (self._pool,)
        self._started = time.time()
        self._quotas: SharedQuotas | None = None
        self.problem = ""
        self.task = PeriodicTask("fleet", self.step, BEAT_S, meanwhile="other gateways show this one as silent")

    def share_quotas(self, quotas: SharedQuotas) -> None:
        """Share these quotas with the other gateways from now on."""
        self._quotas = quotas

    async def step(self) -> None:
        """Store a heartbeat, and take this gateway's share of quotas; raises ``Fault`` while the database is
        unreachable: then the shares stay as they are."""
        host, serves = socket.gethostname()[:255], ready_versions(self._statuses())
        state = GatewayDescription(self._id, host, self._release, self._started, self._revision(), serves)
        if self._quotas is not None:
            state = replace(state, demand=self._quotas.measure())
        try:
            asked = await self._pool.call(self._beat, state)
        except Fault as fault:
            self.problem = str(fault)
            raise
        self.problem = ""
        if asked:
            self._rows_asked()
        if self._quotas is not None and self._quotas.has_quotas:
            self._quotas.use(self._id, await self._pool.call(self._store.demands))

    def _beat(self, state: GatewayDescription) -> bool:
        return self._store.beat(replace(state, home=self._home()))

    async def document(self) -> Document:
        """Return the fleet as the admin API shows it; raises ``NotReady``."""
        return describe_fleet(await self._pool.call(self._store.fleet, deadline_s=READ_S), self._id)

    async def stop(self) -> None:
        """Leave the fleet."""
        with suppress(Fault):  # the others forget it in time
            await self._pool.call(self._store.leave, self._id, deadline_s=READ_S)

    def close(self) -> None:
        """End the threads."""
        self._pool.close()


def ready_versions(statuses: Iterable[VersionStatus]) -> Document:
    """Return the versions of each model that answer, of the first ``MOST_MODELS`` models by name."""
    ready: dict[str, list[str]] = {}
    for status in statuses:
        if status.version and status.state is ReadyState.READY:
            ready.setdefault(status.model, []).append(status.version)
    return {model: ready[model] for model in sorted(ready)[:MOST_MODELS]}


def describe_fleet(fleet: FleetStatus, asked: str) -> Document:
    """Return a fleet as JSON, from the view of the gateway ``asked``."""
    lease = fleet.lease
    holds = None if lease.is_free or not lease.holder else lease.holder
    return {
        "asked": asked,
        "leader": holds,
        "term": lease.term,
        "lease_seconds": round(max(0.0, lease.left_s), 3),
        "revision": fleet.revision,
        "gateways": [_describe_gateway(gateway, holds) for gateway in fleet.gateways],
    }


def _describe_gateway(heartbeat: GatewayHeartbeat, leader: str | None) -> Document:
    item = heartbeat.gateway
    return {
        "id": item.id,
        "host": item.host,
        "version": item.release,
        "started": item.started,
        "silent_seconds": round(heartbeat.silent_s, 3),
        "state": "silent" if heartbeat.silent_s > SILENT_S else "alive",
        "leads": item.id == leader,
        "revision": item.revision,
        "serves": item.serves,
    }
