"""The control plane with a worker that is connected: ready once it has applied what is wanted, and what it said."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from penstock.control.periodic import PeriodicTask
from penstock.control.reconcile import reconciler
from penstock.control.reconcile.planner import SourceModel
from penstock.control.reconcile.reconciler import NoModelsYet
from penstock.control.workers.process import WorkerProcess
from penstock.control.workers.protocol import Message
from penstock.control.workers.slots import SlotFile
from penstock.control.workers.supervisor import RestartReason
from penstock.monitor.feedback import Feedback, FeedbackResult
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point
from tests.harness import PATIENCE_S, reached
from tests.unit.control.plane.test_control_plane import Gateway, at
from tests.unit.control.reconcile.test_reconciler import FakeSource, found

pytestmark = pytest.mark.processes

WORKER = """
import asyncio, os, signal, sys, time
from pathlib import Path
import numpy as np
from penstock.control.workers.client import Link
from penstock.control.workers.slots import SlotFile
from penstock.control.workers.supervisor import RestartReason
from penstock.core.desired import ReadyState, VersionStatus
from penstock.monitor.columns import RowValues
from penstock.monitor.counters.slot import READY

async def main():
    file = SlotFile(Path(sys.argv[1]))
    assert file.acquire()
    file.slot.take_over(os.getpid())
    file.slot.set_state(READY)

    def serve(desired):
        keys = [(model.name, one) for model in desired.models for one in model.versions]
        link.report([VersionStatus(name, one.version, ReadyState.READY, tag=one.tag) for name, one in keys])
        link.describe("m", "1", {"inputs": [], "outputs": [{"name": "y"}, {"name": "z"}]})
        link.samples("m", "1", [{"id": "a", "badness": 1.0}])
        link.rows("m", "1", [["x"], ["y"]], [RowValues(np.ones((1, 1)), ())], [RowValues(np.ones((1, 1)), ())])
        link.applied(desired.revision)

    link = Link(Path(sys.argv[2]), 0, serve, 5.0)
    running = asyncio.create_task(link.run(60.0))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    while not stop.is_set():
        file.slot.beat(time.monotonic_ns())
        await asyncio.sleep(0.05)

asyncio.run(main())
"""


class Connected(Gateway):
    """A gateway whose worker is connected and serves all that it is told to."""

    worker = WORKER

    def _spawn(self, index: int) -> WorkerProcess:
        command = [sys.executable, "-c", self.worker, str(self.instance.slot(index)), str(self.instance.socket)]
        child = subprocess.Popen(command)
        self.processes.append(WorkerProcess(child.pid, child))
        return self.processes[-1]


class Labels:
    """Joins everything."""

    async def take(self, model: str, feedback: Sequence[Feedback]) -> FeedbackResult:
        return FeedbackResult(0, len(feedback))


def test_a_plane_is_ready_once_its_worker_serves_what_is_wanted_and_knows_what_it_said(tmp_path: Path) -> None:
    async def run() -> None:
        gateway = Connected(tmp_path)
        plane = gateway.plane
        gathered: list[Message] = []
        plane.gather(gathered.append)
        assert plane.signature("m", "1") is None
        assert plane.outputs("m", "1") == 0
        try:
            async with asyncio.timeout(PATIENCE_S):
                await plane.start()
                await plane.wait_ready()
                await reached(lambda: bool(gathered) and bool(plane.samples("m", "1")))
                assert plane.readiness().ready
                assert plane.outputs("m", "1") == 2
                assert gathered[0]["model"] == "m"
                assert await plane.serve_changes()
                assert plane.feature_names("m", "9") == plane.feature_names("m", "1") == ()
                plane.label_by(Labels())  # type: ignore[arg-type]
                assert (await plane._take_labels("m", [Feedback("r", 1)])).pending == 1
        finally:
            await plane.stop_now()

    asyncio.run(run())


def test_others_have_their_metrics_shown_and_their_tasks_run(tmp_path: Path) -> None:
    ran = asyncio.Event()

    async def step() -> None:
        ran.set()

    async def act(gateway: Gateway) -> None:
        gateway.plane.supervise(PeriodicTask("a task of others", step, 60.0))
        gateway.plane.measure(lambda: [Point(metrics.EVENTS_DROPPED, (), 3)])
        await ran.wait()
        assert Point(metrics.EVENTS_DROPPED, (), 3) in list(gateway.plane.readings())
        gateway.plane.renew()
        cells = gateway.plane.regions(0, 4)
        assert len(cells) == 1
        cells[0][1] = 7
        gateway.plane.clear_region(0, 4)
        assert list(gateway.plane.regions(0, 4)[0]) == [0, 0, 0, 0]

    at(tmp_path, act)


def test_a_live_worker_is_adopted_and_none_takes_its_place(tmp_path: Path) -> None:
    async def act() -> None:
        gateway = Gateway(tmp_path)
        worker = gateway._spawn(0)  # as the control process before did
        try:
            async with asyncio.timeout(PATIENCE_S):
                await reached(lambda: SlotFile(gateway.instance.slot(0)).owner() == worker.pid)
                await gateway.plane.start()
                await gateway.until_beating(1)
        finally:
            await gateway.plane.stop_now()
            worker.close()

    asyncio.run(act())


def test_requests_in_flight_of_a_worker_that_ended_unwatched_are_lost(tmp_path: Path) -> None:
    async def act(gateway: Gateway) -> None:
        await gateway.until_beating(1)
        before, worker = gateway.plane, gateway.processes[0]
        before.save(before.reconciler.state)
        await before._tasks.stop()  # as if the control process was killed
        await before.channel.close()
        worker.kill()
        await reached(worker.ended)
        gateway.plane = gateway.new_plane()
        await gateway.plane.start()
        await gateway.until_beating(2)
        assert gateway.plane.losses("m", "1") == 1
        worker.close()

    at(tmp_path, act)


def test_a_plane_without_workers_drains_and_a_killed_one_has_no_last_report(tmp_path: Path) -> None:
    async def act() -> None:
        gateway = Gateway(tmp_path)
        gateway.plane.drain()
        assert gateway.plane.readiness().reason == "the gateway is stopping"
        gateway.plane._on_worker_lost(0, 1, RestartReason.STUCK)
        assert Point(metrics.WORKER_RESTARTS, ("stuck",), 1) in list(gateway.plane.readings())
        await gateway.plane.stop_now()
        assert gateway.processes == []

    asyncio.run(act())


class Loading(Connected):
    """A gateway whose workers end while they load."""

    worker = WORKER.replace("ReadyState.READY, tag", "ReadyState.LOADING, tag").replace(
        "link.applied(desired.revision)", "asyncio.get_running_loop().call_later(0.2, os._exit, 1)"
    )


def test_a_version_whose_loading_ends_workers_is_quarantined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "FATAL_LOADS", 1)

    async def act() -> None:
        gateway = Loading(tmp_path)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await gateway.plane.start()
                await reached(lambda: bool(gateway.plane.reconciler.state.quarantine))
        finally:
            await gateway.plane.stop_now()

    asyncio.run(act())


class Empty(FakeSource):
    """Offers nothing yet."""

    async def scan(self, settled_only: bool, retry: str = "") -> list[SourceModel]:
        if not self.models:
            raise NoModelsYet("the bucket is empty")
        return self.models


def test_a_plane_waits_for_first_models_and_serves_them_when_they_come(tmp_path: Path) -> None:
    async def act() -> None:
        gateway = Gateway(tmp_path)
        gateway.source = Empty()
        gateway.plane = gateway.new_plane(look_s=PATIENCE_S)
        try:
            await gateway.plane.start()
            revision = gateway.plane.reconciler.desired.revision
            await gateway.plane._let_time_pass()
            assert gateway.plane.readiness().reason == "the bucket is empty"
            assert gateway.plane.reconciler.desired.revision == revision
            gateway.source.models = [found("m", "1")]
            await gateway.plane._scan()
            assert [model.name for model in gateway.plane.reconciler.desired.models] == ["m"]
            gateway.source.models.append(found("n", "1"))
            await gateway.plane._scan()
            assert [model.name for model in gateway.plane.reconciler.desired.models] == ["m", "n"]
        finally:
            await gateway.plane.stop_now()

    asyncio.run(act())
