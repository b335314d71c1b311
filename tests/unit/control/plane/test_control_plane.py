"""The control plane of one instance with a worker that only beats: replaced when it ends, its losses counted."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from penstock.control.instance.directory import Instance, create, make_private
from penstock.control.instance.options import WorkerOptions
from penstock.control.plane.control_plane import ControlPlane
from penstock.control.workers import slots
from penstock.control.workers.process import WorkerProcess
from penstock.core.errors import NotFound, NotReady
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point, Reading
from tests.harness import PATIENCE_S, reached
from tests.unit.control.reconcile.test_reconciler import FakeSource, found

pytestmark = pytest.mark.processes

WORKER = """
import os, signal, sys, time
from pathlib import Path
from penstock.control.workers.slots import SlotFile
from penstock.monitor.counters.slot import READY

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
file = SlotFile(Path(sys.argv[1]))
assert file.acquire()
file.slot.take_over(os.getpid())
file.slot.block(1).set_in_flight(2)
file.slot.set_state(READY)
while True:
    file.slot.beat(time.monotonic_ns())
    time.sleep(0.05)
"""


class Gateway:
    """An instance with one worker, and a source that offers a model."""

    def __init__(self, folder: Path) -> None:
        self.instance: Instance = create(make_private(folder / "home"))
        slots.create(self.instance.slot(0))
        self.processes: list[WorkerProcess] = []
        self.source = FakeSource(found("m", "1"))
        self.plane = self.new_plane()

    def new_plane(self, look_s: float = 0.0) -> ControlPlane:
        """As another control process has it."""
        options = WorkerOptions("127.0.0.1", 0, 0, freeze_s=PATIENCE_S, drain_delay_s=0, drain_timeout_s=PATIENCE_S)
        return ControlPlane(self.instance, options, self.source, self._spawn, look_s)

    def _spawn(self, index: int) -> WorkerProcess:
        child = subprocess.Popen([sys.executable, "-c", WORKER, str(self.instance.slot(index))])
        self.processes.append(WorkerProcess(child.pid, child))
        return self.processes[-1]

    async def until_beating(self, number: int) -> None:
        """Until so many workers were started and the last one has its slot."""
        await reached(
            lambda: len(self.processes) == number and self.plane.worker_states() == [(self.processes[-1].pid, "ready")]
        )


def at(folder: Path, act: Callable[[Gateway], Awaitable[None]]) -> None:
    async def run() -> None:
        gateway = Gateway(folder)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await gateway.plane.start()
                await act(gateway)
        finally:
            await gateway.plane.stop_now()

    asyncio.run(run())


def restarts(readings: list[Reading]) -> dict[str, float]:
    found = [
        reading for reading in readings if isinstance(reading, Point) and reading.metric is metrics.WORKER_RESTARTS
    ]
    return {item.labels[0]: item.value for item in found if item.value}


def test_a_worker_that_ends_is_replaced_and_its_requests_in_flight_are_lost(tmp_path: Path) -> None:
    async def act(gateway: Gateway) -> None:
        await gateway.until_beating(1)
        assert gateway.plane.losses("m", "1") == 0
        gateway.processes[0].kill()
        await gateway.until_beating(2)
        assert gateway.plane.losses("m", "1") == 1
        assert restarts(list(gateway.plane.readings())) == {"died": 1}
        kept = gateway.instance.read("state")
        assert kept["losses"]["counts"] == [["m", "1", 1]]
        assert kept["tally"]["restarts"] == {"died": 1}

    at(tmp_path, act)


def test_a_gateway_without_a_connected_worker_is_not_ready_and_says_what_is_wanted(tmp_path: Path) -> None:
    async def act(gateway: Gateway) -> None:
        await gateway.until_beating(1)
        readiness = gateway.plane.readiness()
        assert (readiness.ready, readiness.reason) == (False, "0 of 1 workers are ready")
        assert not gateway.plane.is_applied()
        assert [(status.version, status.state.value) for status in gateway.plane.model("m")] == [("1", "LOADING")]
        with pytest.raises(NotFound):
            gateway.plane.model("n")
        assert gateway.plane.graph("m", "1") == (Path("/m/1"), "", Path())
        assert gateway.plane.graph("m", "2") is None
        with pytest.raises(NotReady):
            await gateway.plane._take_labels("m", [])
        assert gateway.plane.task_problems() == {}

    at(tmp_path, act)


def test_a_plane_that_stops_ends_its_workers_and_takes_the_instance_away(tmp_path: Path) -> None:
    async def act(gateway: Gateway) -> None:
        await gateway.until_beating(1)
        gateway.plane.drain()
        assert gateway.plane.readiness().reason == "the gateway is stopping"
        await gateway.plane.stop()
        assert not gateway.instance.path.exists()
        assert len(gateway.processes) == 1  # none took its place

    at(tmp_path, act)


def test_an_empty_source_is_reported_at_the_start(tmp_path: Path) -> None:
    async def run() -> None:
        gateway = Gateway(tmp_path)
        gateway.source.models = []
        with pytest.raises(Exception, match="holds no model"):
            await gateway.plane.start()
        await gateway.plane.stop_now()

    asyncio.run(run())
