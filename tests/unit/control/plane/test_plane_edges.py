"""The control plane with a worker that is connected: ready once it has applied what is wanted, and what it said."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from penstock.control.periodic import PeriodicTask
from penstock.control.workers.process import WorkerProcess
from penstock.control.workers.protocol import Message
from penstock.monitor.feedback import Feedback, FeedbackResult
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point
from tests.harness import PATIENCE_S, reached
from tests.unit.control.plane.test_control_plane import Gateway, at

WORKER = """
import asyncio, os, signal, sys, time
from pathlib import Path
import numpy as np
from penstock.control.workers.client import Link
from penstock.control.workers.slots import SlotFile
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

    def _spawn(self, index: int) -> WorkerProcess:
        command = [sys.executable, "-c", WORKER, str(self.instance.slot(index)), str(self.instance.socket)]
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
