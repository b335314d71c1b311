"""The control plane of one instance: its workers, what they serve, and what the ops plane may ask about both."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from penstock.control import readings, view
from penstock.control.channel import Channel, Listeners, Report
from penstock.control.desire import Found, Key, Ledger, ledger_in, ledger_out
from penstock.control.desk import Desk, Source
from penstock.control.digests import Digests
from penstock.control.memory import SlotFile
from penstock.control.options import WorkerOptions
from penstock.control.processes import WorkerProcess, adopt
from penstock.control.runtime import Instance
from penstock.control.supervisor import Reason, Supervisor
from penstock.core.desired import Desired, VersionStatus
from penstock.core.errors import NotFound
from penstock.monitor.counters import BLOCKS, READY, STATE_NAMES, Totals
from penstock.telemetry.metrics import Reading

log = logging.getLogger("penstock.control")

STOP_MARGIN_S = 3.0
"""Time a worker gets beyond its own drain before it is ended."""

LAST_WORDS_S = 0.1
POLL_S = 0.01


class ControlPlane:
    """Runs the workers of one instance; ``start``, then ``stop``.

    ``spawn`` starts the process of a slot's worker.
    """

    def __init__(
        self, instance: Instance, options: WorkerOptions, source: Source, spawn: Callable[[int], WorkerProcess]
    ) -> None:
        self._instance = instance
        self._options = options
        self._spawn = spawn
        self._files = [SlotFile(instance.slot(index)) for index in range(options.workers)]
        self._slots = [file.slot for file in self._files]
        self._digests = Digests()
        self._departed: dict[int, Report] = {}
        self._draining = False
        self._watch: asyncio.Task[None] | None = None
        stored = instance.read("ledger")
        self._tally = readings.tally_in(stored.get("tally", {}))
        self._desk = Desk(source, self, ledger_in(stored.get("ledger", {})), BLOCKS - 1, options.load_s)
        self._supervisor = Supervisor(self._slots, self._start_worker, self._lost, time.monotonic_ns)
        listeners = Listeners(self._desk.changed, self._loaded, self._parted)
        self._channel = Channel(instance.socket, self._is_worker, self._desk, listeners)

    # Life.

    async def start(self, found: Sequence[Found]) -> None:
        """Adopt the workers that live, start the missing ones, and have them serve what was found."""
        for index, file in enumerate(self._files):
            if (process := adopt(file)) is not None:
                log.info("worker %d (pid %d) goes on under this control process", index, process.pid)
                self._supervisor.adopt(index, self._watched(process))
        self._desk.begin(found)
        await self._channel.start()
        self._watch = asyncio.create_task(self._supervisor.run())

    async def until_ready(self) -> None:
        """Wait until the gateway is ready and every worker, adopted ones too, serves what this process wants."""
        await _eventually(lambda: self.readiness().ready and view.applied(self._desk.desired, self.reports.values()))

    async def stop(self) -> None:
        """Let the workers drain, end those that do not in time, and take the instance away."""
        self.drain()
        patience = self._options.drain_delay_s + self._options.drain_timeout_s + STOP_MARGIN_S
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await _eventually(self._deserted)
        await self.stop_now()

    def drain(self) -> None:
        """Not ready from now on; the workers are asked to end their work."""
        self._draining = True
        self._supervisor.retire()
        for process in self._supervisor.processes():
            if process is not None:
                process.terminate()

    async def stop_now(self) -> None:
        """End whatever still lives, and take the instance away."""
        self._draining = True
        self._supervisor.retire()
        for process in self._supervisor.processes():
            if process is not None:
                process.kill()
        await _eventually(self._deserted)
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        self._supervisor.step()
        await self._channel.close()
        await self._digests.close()
        self._instance.remove()

    # What the ops plane asks.

    def readiness(self) -> view.Readiness:
        """Whether requests are taken, and what that rests on."""
        ready = [self._worker_ready(index) for index in range(self.workers)]
        return view.readiness(ready, self.statuses(), self._draining)

    def _worker_ready(self, index: int) -> bool:
        """Alive, open for requests, and in touch with us."""
        return self._supervisor.responsive(index) and self._slots[index].state == READY and index in self.reports

    def statuses(self) -> list[VersionStatus]:
        """Every version of every model."""
        return view.statuses(self._desk.desired, self.reports, self.workers)

    def model(self, name: str) -> list[VersionStatus]:
        """Every version of one model.

        Raises:
            NotFound: no such model.
        """
        for spec in self._desk.desired.models:
            if spec.name == name:
                return view.model_statuses(spec, self.reports, self.workers)
        raise NotFound(f"unknown model '{name}'")

    def signature(self, model: str, version: str) -> Mapping[str, Any] | None:
        """A version's inputs and outputs, None while no worker has told."""
        return self._channel.signatures.get((model, version))

    def digest(self, model: str, version: str) -> str | None:
        """The digest of a version's graph, None while it is not known or not served."""
        for found in self._desk.desired.models:
            for spec in found.versions:
                if (found.name, spec.version) == (model, version):
                    return self._digests.of(spec)
        return None

    def worker_states(self) -> list[tuple[int, str]]:
        """Process id and state in a word of each slot's worker, 0 where there is none."""
        return [
            (process.pid, STATE_NAMES[slot.state] if slot.pid == process.pid else STATE_NAMES[0])
            if process
            else (0, "absent")
            for process, slot in zip(self._supervisor.processes(), self._slots, strict=True)
        ]

    def readings(self) -> Iterator[Reading]:
        """Everything there is to measure, as it stands now."""
        living = [slot for slot, one in zip(self._slots, self._supervisor.processes(), strict=True) if one]
        yield from readings.counted(self._slots, living, self._desk.ledger.blocks)
        yield from readings.states(self.statuses())
        yield from readings.contents(self._desk.desired, self._digests.of)
        yield from readings.tallied(self._tally)

    # What the desk needs of the fleet.

    @property
    def workers(self) -> int:
        """How many there should be."""
        return self._options.workers

    @property
    def reports(self) -> Mapping[int, Report]:
        """What the connected workers said last, by slot."""
        return self._channel.reports

    def publish(self, desired: Desired) -> None:
        """Tell every worker."""
        self._channel.publish(desired)
        self._digests.learn(desired)

    def save(self, ledger: Ledger) -> None:
        """Keep what must outlive this process."""
        self._instance.write("ledger", {"ledger": ledger_out(ledger), "tally": readings.tally_out(self._tally)})

    def reusable(self, ledger: Ledger) -> Collection[Key]:
        """Versions that no worker serves and that nobody is still answering for."""
        served = {(model.name, one.version) for model in self._desk.desired.models for one in model.versions}
        if len(ledger.blocks) < BLOCKS - 1 or not view.applied(self._desk.desired, self.reports.values()):
            return ()
        idle = (key for key, block in ledger.blocks.items() if not Totals.of(self._slots, block).inflight)
        return [key for key in idle if key not in served]

    def clear(self, block: int) -> None:
        """Zero a counter block in every slot."""
        for slot in self._slots:
            slot.clear(block)

    # What happens to workers.

    def _start_worker(self, index: int) -> WorkerProcess:
        return self._watched(self._spawn(index))

    def _watched(self, process: WorkerProcess) -> WorkerProcess:
        loop = asyncio.get_running_loop()
        handle = process.pidfd

        def ended() -> None:
            loop.remove_reader(handle)
            self._supervisor.wake()

        loop.add_reader(handle, ended)
        return process

    def _is_worker(self, slot: int, pid: int) -> bool:
        processes = self._supervisor.processes()
        return 0 <= slot < len(processes) and getattr(processes[slot], "pid", 0) == pid

    def _parted(self, slot: int, report: Report) -> None:
        self._departed[slot] = report

    def _lost(self, index: int, pid: int, reason: Reason) -> None:
        self._tally.restarts[reason] += 1
        self.save(self._desk.ledger)
        if reason is Reason.DIED:  # its last words may still be on their way
            asyncio.get_running_loop().call_later(LAST_WORDS_S, self._inquire, index, pid)

    def _inquire(self, index: int, pid: int) -> None:
        for report in (self.reports.get(index), self._departed.pop(index, None)):
            if report is not None and report.pid == pid:
                self._desk.died(report)

    def _loaded(self, key: Key, succeeded: bool) -> None:
        self._tally.loads[*key, "ok" if succeeded else "failed"] += 1
        self.save(self._desk.ledger)

    def _deserted(self) -> bool:
        return not any(self._supervisor.processes())


async def _eventually(check: Callable[[], bool]) -> None:
    while not check():  # noqa: ASYNC110 - shared memory and strangers' processes have no event
        await asyncio.sleep(POLL_S)
