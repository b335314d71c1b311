"""Gateways of one fleet, in one process: each has its own database connections, workers' words and monitor."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from penstock.control.monitoring.fleet_evidence import FleetEvidence
from penstock.control.monitoring.service import Monitoring
from penstock.core.tensors import Tensor
from penstock.monitor.reference import Reference, encode_reference
from penstock.monitor.rows import RowCounter
from penstock.registry.records import Document
from penstock.registry.stores.evidence import EvidenceStore
from penstock.registry.stores.monitor import MonitorStore
from tests.unit.control.test_monitoring import COLUMNS, WatchedFleet
from tests.unit.control.trials import ME, Clock, World

Rows = tuple[list[Tensor], list[Tensor]]


class Member:
    """One gateway; its rows are counted by hand, and it publishes and looks when it is told to."""

    def __init__(self, folder: Path, name: str, clock: Clock, url: str = "") -> None:
        self.name = name
        self.home = folder / name
        self.home.mkdir(exist_ok=True)
        self.world = World(folder, url, clock)
        self.fleet = WatchedFleet(self.world)
        self.store = EvidenceStore(self.world.database, clock)
        self._counters: dict[str, RowCounter] = {}
        self.open()

    def open(self) -> None:
        """As a new control process does."""
        store = MonitorStore(self.world.database, self.world.clock)
        state, clock = self.home / "state.json", self.world.clock
        evidence = (self.store, self.name)
        self.monitoring = Monitoring(store, self.world.traffic, self.fleet, self.home, state, clock, evidence=evidence)
        asyncio.run(self.monitoring.start())
        self.monitoring.decorate(self.fleet.desired)

    @property
    def evidence(self) -> FleetEvidence:
        assert self.monitoring.evidence is not None
        return self.monitoring.evidence

    def give(self, reference: Reference, policy: Document | None = None) -> None:
        """Give version 1 a reference, and the model a policy."""
        if policy is not None:
            asyncio.run(self.monitoring.set_policy("m", policy, ME))
        asyncio.run(self.monitoring.set_reference("m", "1", encode_reference(reference), ME))

    def refresh(self) -> None:
        """Take over what the database says."""
        asyncio.run(self.monitoring.start())
        self.monitoring.decorate(self.fleet.desired)

    def count(self, reference: Reference, rows: Rows, version: str = "1") -> None:
        """Count rows in the words of the first worker."""
        if version not in self._counters:
            key, plain = ("m", version), self.monitoring.decorate(self.fleet.desired).models[0].versions
            watch = next(item.watch for item in plain if item.version == key[1])
            cells = self.fleet.regions(watch.offset, watch.size)[0]
            self._counters[version] = RowCounter(reference, cells, COLUMNS, 1.0, watch.keys)
        self._counters[version].count([rows])

    def step(self) -> None:
        """Publish, and look where it leads."""
        asyncio.run(self.evidence.step())

    def show(self, scope: str = "fleet") -> Document:
        """What this gateway shows of version 1."""
        return asyncio.run(self.monitoring.document("m", "1", scope))

    def kill(self) -> None:
        """End it as SIGKILL does: nothing more is written down."""
        self.world.database.close()


def split(rows: Rows, parts: int) -> list[Rows]:
    """Rows dealt out one by one."""
    return [(_every(rows[0], part, parts), _every(rows[1], part, parts)) for part in range(parts)]


def _every(tensors: Sequence[Tensor], first: int, step: int) -> list[Tensor]:
    return [Tensor(tensor.name, tensor.datatype, tensor.data[first::step]) for tensor in tensors]


def lead(members: Sequence[Member]) -> Member:
    """The one of these that leads."""
    return next(member for member in members if member.evidence.is_known)
