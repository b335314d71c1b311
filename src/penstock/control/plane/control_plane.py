"""The control plane of one instance: its workers, the desired state, and the queries of the ops plane."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from penstock.control.instance.directory import Instance
from penstock.control.instance.options import WorkerOptions
from penstock.control.monitoring.feedback import FeedbackMonitor
from penstock.control.periodic import PeriodicTask, Tasks
from penstock.control.plane import metrics, processes
from penstock.control.plane.audited_requests import AuditedRequests
from penstock.control.plane.version_counters import VersionCounters
from penstock.control.reconcile import planner, status
from penstock.control.reconcile.planner import ControllerState, SourceModel
from penstock.control.reconcile.reconciler import ModelSource, Reconciler
from penstock.control.sources.initial_sync import InitialSync
from penstock.control.workers.process import WorkerProcess, adopt
from penstock.control.workers.protocol import Message
from penstock.control.workers.server import Channel, Listeners, WorkerReport
from penstock.control.workers.slots import SlotFile
from penstock.control.workers.supervisor import RestartReason, Supervisor, SupervisorLimits
from penstock.core.desired import Desired, VersionStatus
from penstock.core.errors import NotReady, unknown_model
from penstock.core.versions import VersionKey
from penstock.monitor.counters.layout import BLOCKS, Cells
from penstock.monitor.counters.slot import READY, Slot
from penstock.monitor.counters.totals import Totals
from penstock.monitor.feedback import Feedback, FeedbackResult
from penstock.telemetry.readings import Reading

log = logging.getLogger("penstock.control")

STOP_MARGIN_S = 3.0
"""The time that a worker has beyond its own drain before it is killed, in seconds."""

STEP_S = 1.0
ACKNOWLEDGE_S = 10.0
"""The longest wait until every worker has applied a stored change, in seconds."""

LAST_REPORT_S = 0.1
POLL_S = 0.01


class ControlPlane:
    """Runs the workers of one instance; ``start``, then ``stop``.

    ``spawn`` starts the worker process of a slot; ``look_s`` is the time between two scans of the source, 0 for scans
    only at the start and at repository load requests; ``ready_workers``: see ``status.needed_workers``. The metrics of
    a version end ``series_s`` seconds after its removal, by ``clock``, which is monotonic. Belongs to the event loop.
    """

    def __init__(
        self,
        instance: Instance,
        options: WorkerOptions,
        source: ModelSource,
        spawn: Callable[[int], WorkerProcess],
        look_s: float,
        ready_workers: int | None = None,
        series_s: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._instance = instance
        self._options = options
        self._spawn = spawn
        self._look_s = look_s
        self._ready_workers = ready_workers
        self._phase = status.GatewayPhase.STARTING
        self._statuses = status.StatusCache()
        self._files = [SlotFile(instance.slot(index)) for index in range(options.workers)]
        self._slots = [file.slot for file in self._files]
        self._departed: dict[int, WorkerReport] = {}
        self._tasks = Tasks()
        self._first = InitialSync(source)
        self._adopted = False
        self._gathered: Callable[[Message], None] = lambda _: None
        self._labels: FeedbackMonitor | None = None
        self._measured: list[Callable[[], Iterable[Reading]]] = []
        stored = instance.read("state")
        self.counters = VersionCounters(self._slots, stored, series_s, clock)
        state, memory = planner.decode_controller_state(stored.get("state", {})), options.models_memory_bytes
        self.reconciler = Reconciler(source, self, state, BLOCKS - 1, options.load_s, memory_bytes=memory)
        limits = SupervisorLimits(freeze=int(options.freeze_s * 1e9))
        self._supervisor = Supervisor(self._slots, self._start_worker, self._on_worker_lost, time.monotonic_ns, limits)
        listeners = Listeners(
            self.reconciler.on_report, self._count_load, self._on_disconnect, self._take_rows, self._take_labels
        )
        self.repository_requests = AuditedRequests(self.reconciler)
        self.channel = Channel(instance.socket, self._is_worker, self.repository_requests, listeners)
        self.channel.on_refused = self.repository_requests.count_refused

    async def start(self) -> None:
        """Adopt the live workers, start the missing ones, and have them serve the models of the source; a source that
        is empty but may offer models later is scanned again.

        Raises:
            Fault: the source cannot offer models.
        """
        for index, file in enumerate(self._files):
            if (process := adopt(file)) is not None:
                log.info("worker %d (pid %d) is adopted by this control process", index, process.pid)
                self._supervisor.adopt(index, self._watch(process))
                self._adopted = True
            elif file.slot.pid:  # it died while no control process ran
                self.counters.note_loss(self.reconciler.state, index, file.slot.pid)
        self._tasks.start(self._supervisor.task)  # new workers start meanwhile
        await self.channel.start()
        self._serve_first(await self._first.at_start())
        look_s = self._look_s or STEP_S
        self._tasks.start(
            PeriodicTask("models", self._scan, look_s, delay_s=look_s, meanwhile="what is served stays as it is"),
            PeriodicTask("reconciler", self._let_time_pass, look_s, delay_s=look_s),
        )

    async def _scan(self) -> None:
        """Scan the source."""
        if self._first.reason:
            self._serve_first(await self._first.again())
        elif self._look_s:
            await self.reconciler.refresh()

    async def _let_time_pass(self) -> None:
        if not self._first.reason:
            self.reconciler.step()

    def _serve_first(self, models: Sequence[SourceModel] | None) -> None:
        """Serve the first models; while there are none, adopted workers keep what they serve."""
        if models is None:
            self.reconciler.wait(self._first.reason, publish=not self._adopted)
        else:
            self.reconciler.begin(models)

    async def wait_ready(self) -> None:
        """Wait until the gateway is ready and every worker, also an adopted one, has applied the desired state."""
        await _wait_for(
            lambda: self.readiness().ready and status.is_applied(self.reconciler.desired, self.reports.values())
        )
        if self._phase is status.GatewayPhase.STARTING:
            self._phase = status.GatewayPhase.SERVING

    async def stop(self) -> None:
        """Drain the workers, kill those that do not end in time, and remove the instance."""
        self.drain()
        patience = self._options.drain_delay_s + self._options.drain_timeout_s + STOP_MARGIN_S
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await _wait_for(self._has_no_worker)
        await self.stop_now()

    def drain(self) -> None:
        """Be unready from now on, and ask the workers to drain."""
        self._phase = status.GatewayPhase.DRAINING
        self._supervisor.retire()
        for process in self._supervisor.processes():
            if process is not None:
                process.terminate()

    async def stop_now(self) -> None:
        """Kill the remaining workers and remove the instance."""
        self._phase = status.GatewayPhase.DRAINING
        self._supervisor.retire()
        for process in self._supervisor.processes():
            if process is not None:
                process.kill()
        await _wait_for(self._has_no_worker)
        await self._tasks.stop()
        self._supervisor.step()
        await self.channel.close()
        self._instance.remove()

    # Queries of the ops plane.

    def readiness(self) -> status.Readiness:
        """Whether the gateway is ready, and why."""
        ready = [self._worker_ready(index) for index in range(self.workers)]
        waiting = "" if self._adopted else self._first.reason
        needed = status.needed_workers(
            self._ready_workers, self.workers, self._phase is not status.GatewayPhase.STARTING
        )
        is_draining = self._phase is status.GatewayPhase.DRAINING
        return status.find_readiness(ready, self.statuses(), needed, is_draining, waiting)

    def _worker_ready(self, index: int) -> bool:
        """Whether a worker is alive, open for requests and connected."""
        return self._supervisor.responsive(index) and self._slots[index].state == READY and index in self.reports

    def statuses(self) -> list[VersionStatus]:
        """Every version of every model."""
        return self._statuses.statuses(self.reconciler.desired, self.reports, self.workers)

    def model(self, name: str) -> list[VersionStatus]:
        """Every version of one model.

        Raises:
            NotFound: the model does not exist.
        """
        for spec in self.reconciler.desired.models:
            if spec.name == name:
                return status.model_statuses(spec, self.reports, self.workers)
        raise unknown_model(name)

    def signature(self, model: str, version: str) -> Mapping[str, Any] | None:
        """A version's inputs and outputs, None until a worker has reported them."""
        return self.channel.signatures.get((model, version))

    @property
    def desired(self) -> Desired:
        """What the workers should serve."""
        return self.reconciler.desired

    def is_applied(self) -> bool:
        """Whether every worker is connected and has applied the desired state."""
        return len(self.reports) == self.workers and self.reconciler.is_applied()

    def totals(self, model: str, version: str) -> Totals:
        """The totals of a version since the instance began; zero for one that was never served."""
        return self.counters.totals(self.reconciler.state, (model, version))

    def losses(self, model: str, version: str) -> int:
        """How many workers have died or been killed with calls of a version in flight, since the instance began."""
        return self.counters.losses((model, version))

    def outputs(self, model: str, version: str) -> int:
        """How many outputs a version has, 0 until a worker has reported them."""
        return len((self.signature(model, version) or {}).get("outputs", ()))

    def samples(self, model: str, version: str) -> list[Message]:
        """The requests on which a shadow disagreed most, worst first, over all workers."""
        return self.channel.samples_of(model, version)

    async def serve_changes(self) -> bool:
        """Publish stored changes to the workers; return whether all have applied them in time."""
        await self.reconciler.refresh()
        return await self.reconciler.wait_applied(ACKNOWLEDGE_S)

    def worker_states(self) -> list[tuple[int, str]]:
        """Process id (0 = none) and state of each slot's worker."""
        return processes.worker_states(self._supervisor.processes(), self._slots)

    def process_document(self) -> Message:
        """The workers, and the periodic tasks of all processes."""
        return processes.process_document(self.worker_states(), self._slots, self._living(), self._tasks)

    def gather(self, gathered: Callable[[Message], None]) -> None:
        """Set the callback for messages with rows that workers gathered."""
        self._gathered = gathered

    def label_by(self, labels: FeedbackMonitor) -> None:
        """Set what joins feedback from now on."""
        self._labels = labels

    def _take_rows(self, message: Message) -> None:
        self._gathered(message)

    async def _take_labels(self, model: str, feedback: list[Feedback]) -> FeedbackResult:
        if self._labels is None:
            raise NotReady("labels are not accepted yet; try again later")
        return await self._labels.take(model, feedback)

    def feature_names(self, model: str, version: str) -> Sequence[str]:
        """The feature names of a version, from its graph or else its model card."""
        placed = self.reconciler.materialized_version(model, version)
        return () if placed is None else placed.features

    def graph(self, model: str, version: str) -> tuple[Path, str, Path] | None:
        """A version's graph on this machine, its configuration, and the folder of the files that this names."""
        placed = self.reconciler.materialized_version(model, version)
        return None if placed is None else (Path(placed.path), placed.config, Path(placed.folder))

    def renew(self) -> None:
        """Publish what has changed to the workers."""
        self.reconciler.renew()

    def regions(self, offset: int, size: int) -> list[Cells]:
        """A region of counters in every worker's slot."""
        return self.counters.regions(offset, size)

    def clear_region(self, offset: int, size: int) -> None:
        """Zero a region in every slot, before another reference uses it."""
        self.counters.clear_region(offset, size)

    def supervise(self, *tasks: PeriodicTask) -> None:
        """Run these tasks until the plane is stopped."""
        self._tasks.start(*tasks)

    def task_problems(self) -> Mapping[str, str]:
        """Periodic tasks of this process and of living workers that are dead or overdue, and why."""
        return {**self._tasks.problems(), **metrics.worker_problems(self._slots, self._living())}

    def measure(self, readings: Callable[[], Iterable[Reading]]) -> None:
        """Add a source of metrics."""
        self._measured.append(readings)

    def readings(self) -> Iterator[Reading]:
        """All metrics now."""
        living = self._living()
        versions = self.counters.reported_versions(self.reconciler.state, self.desired, self.reports)
        yield from metrics.of_versions(self._readings(living, versions), versions)

    def _living(self) -> list[Slot]:
        return [slot for slot, process in zip(self._slots, self._supervisor.processes(), strict=True) if process]

    def _readings(self, living: Sequence[Slot], versions: Collection[VersionKey]) -> Iterator[Reading]:
        yield from self.counters.readings(self.reconciler.state, living, versions)
        yield from metrics.read_workers(self._slots, living)
        yield from metrics.read_states(self.statuses())
        yield from metrics.read_contents(self.reconciler.desired, self.reconciler.materialized_version)
        yield from metrics.read_traffic(self.reconciler.desired, self.statuses(), self.totals)
        yield from self._tasks.readings()
        for measured in self._measured:
            yield from measured()

    # The reconciler's ``Fleet``.

    @property
    def workers(self) -> int:
        """How many there should be."""
        return self._options.workers

    @property
    def reports(self) -> Mapping[int, WorkerReport]:
        """The latest report of each connected worker, by slot."""
        return self.channel.reports

    def publish(self, desired: Desired) -> None:
        """Send a desired state to every worker."""
        self.channel.publish(desired)

    def save(self, state: ControllerState) -> None:
        """Store the state, so that it outlives this process."""
        self.counters.retain(state)
        self._instance.write("state", {"state": planner.encode_controller_state(state), **self.counters.out()})

    def reusable(self, state: ControllerState) -> Collection[VersionKey]:
        """Versions whose counter blocks may be reused, if no block is free."""
        return self.counters.reusable(state, self.desired, self.reports)

    def departed_versions(self, state: ControllerState) -> Collection[VersionKey]:
        """Versions that were removed so long ago that their metrics have ended."""
        return self.counters.departed_versions(state, self.desired, self.reports)

    def clear(self, block: int) -> None:
        """Zero a counter block in every slot."""
        self.counters.clear(self.reconciler.state, block)

    # Workers.

    def _start_worker(self, index: int) -> WorkerProcess:
        return self._watch(self._spawn(index))

    def _watch(self, process: WorkerProcess) -> WorkerProcess:
        loop = asyncio.get_running_loop()
        handle = process.pidfd

        def ended() -> None:
            loop.remove_reader(handle)
            self._supervisor.wake()

        loop.add_reader(handle, ended)
        # The supervisor may see the end before the loop does: a reader that outlived its descriptor would take the
        # events of the next connection with the same number.
        process.before_close = partial(loop.remove_reader, handle)
        return process

    def _is_worker(self, slot: int, pid: int) -> bool:
        processes = self._supervisor.processes()
        return 0 <= slot < len(processes) and getattr(processes[slot], "pid", 0) == pid

    def _on_disconnect(self, slot: int, report: WorkerReport) -> None:
        self._departed[slot] = report

    def _on_worker_lost(self, index: int, pid: int, reason: RestartReason) -> None:
        self.counters.note_restart(reason)
        self.counters.note_loss(self.reconciler.state, index, pid)
        self.save(self.reconciler.state)
        if reason is RestartReason.DIED:  # its last report may still be in the socket
            asyncio.get_running_loop().call_later(LAST_REPORT_S, self._check_worker, index, pid)

    def _check_worker(self, index: int, pid: int) -> None:
        for report in (self.reports.get(index), self._departed.pop(index, None)):
            if report is not None and report.pid == pid:
                self.reconciler.on_worker_death(report)

    def _count_load(self, key: VersionKey, succeeded: bool) -> None:
        self.counters.note_load(key, succeeded)
        self.save(self.reconciler.state)

    def _has_no_worker(self) -> bool:
        return not any(self._supervisor.processes())


async def _wait_for(check: Callable[[], bool]) -> None:
    while not check():  # noqa: ASYNC110 - shared memory and adopted processes have no event
        await asyncio.sleep(POLL_S)
