"""A worker process: takes over its slot, serves the desired state of the control process, and drains on request."""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from penstock import __version__
from penstock.api.grpc.http2_server import Http2Server, bind
from penstock.api.grpc.services import GrpcOptions
from penstock.api.http1.limits import HttpLimits
from penstock.api.rest.server import DialectOptions, RestServer
from penstock.api.tls import TlsContexts
from penstock.app.descriptors import connection_limit, raise_limit
from penstock.app.logs import set_up
from penstock.control.access.authenticator import Authenticator
from penstock.control.instance.directory import Instance
from penstock.control.instance.options import WorkerOptions, options_in
from penstock.control.instance.ports import Address, is_loopback, share
from penstock.control.periodic import PeriodicTask, Tasks
from penstock.control.workers.client import Link
from penstock.control.workers.protocol import encode_tensors
from penstock.control.workers.slots import SlotFile, sum_totals
from penstock.core.access.origins import OriginPolicy
from penstock.core.access.quota_shares import QuotaShare
from penstock.core.access.table import AccessTable
from penstock.core.batching import BATCHING
from penstock.core.certificates import TlsMaterial
from penstock.core.desired import Desired, ReadyState, VersionStatus
from penstock.core.errors import InvalidInput
from penstock.core.limits import RequestLimits
from penstock.engine import heap
from penstock.engine.confinement.confine import confine_worker
from penstock.engine.confinement.landlock import AllowedPaths
from penstock.engine.memory import read_memory
from penstock.monitor.counters.slot import DEAD, DRAINING, HEARTBEAT, HOUSE, OVERDUE, READY, TASK_NAMES, WELL, TaskState
from penstock.monitor.unit_votes import UnitVotes
from penstock.serving.data_plane import DataPlane
from penstock.serving.memory_budget import MemoryBudget
from penstock.serving.model_loader import ModelLoader
from penstock.serving.server_queries import UncontrolledRepository
from penstock.serving.shared_memory import SharedRegions
from penstock.serving.tracer import TraceLimits, Tracer

log = logging.getLogger("penstock.worker")

BEAT_S = 0.1
BEATS_A_REPORT = 10
"""Heartbeats after which the state of tasks is reported."""

HOUSE_S = 1.0
OWN_S = 5.0
"""Seconds to wait for the previous worker of the slot to exit."""

BUSY_NS = 60_000_000_000
"""Time that the load of one version may block the loop before the worker counts as frozen."""

MEMORY_SHARE = 4
"""By default, all workers together may hold one part in this many of the memory for their callers."""

CLOSE_S = 2.0
"""Seconds for the steps after the last answer; shorter than the margin of the control process."""

PORTS = 2
COMMAND_MARGIN_S = 5.0
"""Seconds that a worker waits for a repository request beyond the time limit of the control process."""


@dataclass(frozen=True, slots=True)
class BoundSockets:
    """The sockets of the data ports, bound and not yet listening: a confined worker can make none."""

    http: socket.socket
    grpc: list[socket.socket]


class Worker:
    """A data plane with its two transports, bound to one slot; control processes may replace each other."""

    def __init__(
        self,
        instance: Instance,
        index: int,
        files: list[SlotFile],
        options: WorkerOptions,
        sockets: BoundSockets,
    ) -> None:
        self._options = options
        self._slot = files[index].slot
        wait_s = options.load_s + COMMAND_MARGIN_S
        self._tls = TlsContexts()
        changes = self._set_access, self._set_tls, self._set_delegation, self._set_shares
        self._link = Link(instance.socket, index, self._set_desired, wait_s, *changes)
        slots = [file.slot for file in files]
        policy = OriginPolicy(options.trusted_hosts, options.cors_origins, any_address=not is_loopback(options.host))
        regions = SharedRegions(
            options.shared_memory,
            instance.path / "regions.json",
            options.max_body_bytes,
            is_controllable=options.repository_control,
        )
        self._memory = MemoryBudget(options.memory_bytes or read_memory() // MEMORY_SHARE // options.workers)
        self._plane = DataPlane(
            self._slot,
            sum_totals(slots),
            self._link if options.repository_control else UncontrolledRepository(self._link),
            int(options.deadline_s * 1e9),
            regions,
            self._memory,
            _request_limits(options),
            authenticator=Authenticator(time.time),
            other_slots=[slot for slot in slots if slot is not self._slot],
            tracer=_build_tracer(options),
        )
        votes = UnitVotes(self._slot.units, [slot.units for slot in slots if slot is not self._slot])
        link = self._link
        callbacks = self._report, link.rows, votes, options.signatures, link.closing, link.attributions
        self._loader = ModelLoader(self._plane, self._slot, options.threads, *callbacks)
        limits = HttpLimits(
            max_body_bytes=self._plane.limits.max_body_bytes,
            max_body_setting=self._plane.limits.max_body_setting,
            max_connections=connection_limit(options.max_connections, raise_limit(), PORTS),
            request_s=options.deadline_s,
        )
        tls = self._tls if options.tls else None
        dialects = DialectOptions(options.dialects, options.default_model, options.dialect_options)
        self._rest = RestServer(self._plane, __version__, limits, None if tls is None else tls.http, policy, dialects)
        grpc = GrpcOptions(
            max_message_bytes=options.max_body_bytes,
            max_connections=limits.max_connections,
            mirrors_typed=options.grpc_outputs == "mirror",
            tls=None if tls is None else tls.grpc,
            policy=policy,
            dialects=frozenset(options.dialects),
        )
        self._grpc = Http2Server(self._plane, grpc)
        self._client_ca = ""
        self._desired = Desired()
        self._desired_changed = asyncio.Event()
        self._stop_requested = asyncio.Event()
        self._described: set[tuple[str, str, str]] = set()
        self._sockets = sockets
        self._open = False
        self._last_heartbeat = time.thread_time(), time.monotonic()
        self._beats = 0
        self._tasks = (
            PeriodicTask(TASK_NAMES[HEARTBEAT], self._beat, BEAT_S),
            PeriodicTask(TASK_NAMES[HOUSE], self._clean_up, HOUSE_S, delay_s=HOUSE_S),
        )
        self._failed_before = [task.failures for task in self._slot.tasks]

    async def run(self) -> None:
        """Serve until a stop signal, or until no control process answers for the grace time; then drain."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop_requested.set)
        periodic = Tasks()
        periodic.start(*self._tasks)
        self._watch_stalls(self._plane.stalls.start())
        work = [asyncio.create_task(self._apply()), asyncio.create_task(self._run_link())]
        stop = asyncio.create_task(self._stop_requested.wait())
        tasks: list[asyncio.Task[Any]] = [stop, *work]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in work:
                if task.done():
                    task.result()
            await self._drain()
        finally:
            self._stall_timer.cancel()
            for ended in tasks:
                ended.cancel()
            await periodic.stop()

    def _set_desired(self, desired: Desired) -> None:
        self._desired = desired
        self._desired_changed.set()

    def _set_tls(self, material: TlsMaterial) -> None:
        """Use a certificate that the control process has checked; a new authority ends what an earlier one admitted."""
        try:
            self._tls.use(material)
        except InvalidInput as fault:
            log.error("%s; the certificates in use stay", fault)
            return
        if material.client_ca != self._client_ca:
            self._client_ca = material.client_ca
            self._rest.http.table.retire_certified()
            self._grpc.retire_certified()

    def _set_access(self, table: AccessTable) -> None:
        """Use another access table: from the next request on, also of open connections and streams."""
        self._plane.callers.use(table)

    def _set_delegation(self, key: bytes) -> None:
        """Accept what the control process asks on behalf of its callers."""
        self._plane.callers.trust(key)

    def _set_shares(self, shares: Mapping[str, QuotaShare]) -> None:
        """Limit callers to these shares of their quotas from now on."""
        self._plane.callers.use_shares(shares)

    def _report(self, statuses: tuple[VersionStatus, ...]) -> None:
        self._slot.announce_busy_until(time.monotonic_ns() + BUSY_NS)
        self._link.report(statuses)
        for status in statuses:
            key = (status.model, status.version, status.tag)
            if status.state is ReadyState.READY and key not in self._described:
                self._described.add(key)
                self._describe(status.model, status.version)

    def _describe(self, model: str, version: str) -> None:
        metadata = self._plane.queries.metadata(model, version)
        signature = {
            "inputs": encode_tensors(metadata.inputs),
            "outputs": encode_tensors(metadata.outputs),
            BATCHING: self._plane.queries.sharing(model, version),
        }
        self._link.describe(model, version, signature)

    async def _apply(self) -> None:
        """Apply each new desired state; after the first, open the ports."""
        while True:
            await self._desired_changed.wait()
            self._desired_changed.clear()
            desired = self._desired
            self._slot.announce_busy_until(time.monotonic_ns() + BUSY_NS)
            await self._loader.apply(desired)
            self._slot.beat(time.monotonic_ns())
            self._slot.announce_busy_until(0)
            if not self._open:
                await self._start()
            if not desired.waiting and not self._stop_requested.is_set():
                self._slot.set_state(READY)
            self._link.applied(desired.revision)

    async def _start(self) -> None:
        await self._rest.start(self._sockets.http)
        self._grpc.start_on(self._sockets.grpc)
        self._open = True

    async def _run_link(self) -> None:
        await self._link.run(self._options.orphan_grace_s)
        log.warning("no control process was reachable for %g s; draining", self._options.orphan_grace_s)

    async def _beat(self) -> None:
        """Report a heartbeat, the state of tasks, the memory used, and the utilisation of the loop."""
        before, now = self._last_heartbeat, (time.thread_time(), time.monotonic())
        self._slot.beat(time.monotonic_ns())
        self._slot.set_memory(self._memory.limit, self._memory.used)
        if self._beats % BEATS_A_REPORT == 0:
            self._report_tasks()
        self._beats += 1
        self._report_traces(at_once=False)
        if now[1] > before[1]:
            self._plane.loop_utilisation = (now[0] - before[0]) / (now[1] - before[1])
        self._last_heartbeat = now

    def _report_tasks(self) -> None:
        for index, (task, failed) in enumerate(zip(self._tasks, self._failed_before, strict=True)):
            health = DEAD if task.is_dead else OVERDUE if task.problem else WELL
            state = TaskState(failed + task.failures, int(task.last_success * 1000), health)
            self._slot.set_task(index, state)

    def _report_traces(self, at_once: bool) -> None:
        """Send what was recorded of requests, if it is time; it waits while the previous message is not sent."""
        tracer = self._plane.tracer
        if tracer is None or not self._link.takes_traces():
            return
        if (batch := tracer.take(at_once)) is not None:
            self._link.traces(batch.records, batch.texts, batch.dropped, batch.count)

    def _watch_stalls(self, wait_s: float) -> None:
        """Measure the delay of the loop's timers: by a bare timer, as it comes up to fifty times a second."""
        self._stall_timer = asyncio.get_running_loop().call_later(wait_s, self._check_stalls)

    def _check_stalls(self) -> None:
        is_idle = not len(self._rest.http.table) and not self._grpc.has_connections
        self._watch_stalls(self._plane.stalls.check(is_idle=is_idle))

    async def _clean_up(self) -> None:
        """Report samples of shadow disagreements and refusals, and return freed memory to the system."""
        self._report_samples()
        if refused := self._plane.refused.take():
            self._link.refused(refused)
        if self._memory.trim_due():
            await self._loader.release_memory()

    def _report_samples(self) -> None:
        for shadow in self._loader.shadows():
            if shadow.changed:
                samples = [{**item.request, "badness": item.badness} for item in shadow.worst()]
                self._link.samples(shadow.identity.model, shadow.identity.version, samples)

    async def _drain(self) -> None:
        """Turn readiness off, keep serving for the drain delay, refuse new calls, and finish the open ones.

        Clients of HTTP are asked to leave from the beginning: who is only cut off may be sending just then."""
        self._plane.begin_drain()
        self._slot.set_state(DRAINING)
        if not self._open:
            return
        self._rest.http.announce_end()
        await asyncio.sleep(self._options.drain_delay_s)
        timeout = self._options.drain_timeout_s
        self._grpc.drain()
        await asyncio.gather(self._rest.stop(timeout), self._grpc.stop(timeout))
        self._plane.close_threads()
        await self._close()

    async def _close(self) -> None:
        """Report the last samples and unload the models, for at most ``CLOSE_S``."""
        try:
            async with asyncio.timeout(CLOSE_S):
                self._report_samples()
                self._report_traces(at_once=True)
                await self._loader.close()
                await self._link.flush()
        except TimeoutError:
            log.warning("a model still runs %g s after the last answer; exiting without waiting for it", CLOSE_S)


def _build_tracer(options: WorkerOptions) -> Tracer | None:
    """Return the tracer of a worker; None if nothing is to be traced or logged."""
    limits = TraceLimits(options.trace_ratio, options.traces_forced_per_second, options.access_log_ratio)
    return Tracer(limits) if limits.is_on else None


def _request_limits(options: WorkerOptions) -> RequestLimits:
    return RequestLimits(
        max_body_bytes=options.max_body_bytes,
        max_json_bytes=options.max_json_bytes,
        max_output_bytes=options.max_output_bytes,
        max_elements=options.max_elements,
        max_text_elements=options.max_text_elements,
        max_text_bytes=options.max_text_bytes,
    )


def main(arguments: list[str]) -> int:
    """Run the worker of one slot; ``arguments`` are the instance's directory and the slot's number."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the control process handles Ctrl-C
    heap.set_up()
    instance, index = Instance(Path(arguments[0])), int(arguments[1])
    options = options_in(instance.read("instance")["options"])
    set_up(options.log_level, f"worker-{index}", log_format=options.log_format)
    files = [SlotFile(instance.slot(number), writable=number == index) for number in range(options.workers)]
    if not _acquire(files[index]):
        log.error("another worker still holds slot %d; exiting", index)
        return 1
    slot = files[index].slot
    slot.take_over(os.getpid())
    slot.announce_busy_until(time.monotonic_ns() + BUSY_NS)
    sockets = BoundSockets(share(Address(options.host, options.http_port)), bind(options.host, options.grpc_port))
    if not _confine(instance, options):  # before there is an event loop: libuv would open an io_uring
        return 1
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(instance, index, files, options, sockets))
    return 0


async def _run(
    instance: Instance, index: int, files: list[SlotFile], options: WorkerOptions, sockets: BoundSockets
) -> None:
    await Worker(instance, index, files, options, sockets).run()


def _confine(instance: Instance, options: WorkerOptions) -> bool:
    """Give up what serving does not need, and log what is missing; return whether the worker may serve."""
    readable = (instance.path, *map(Path, options.readable))
    shared = (instance.path,) if options.shared_memory else ()  # workers write there what clients register
    writable = (*shared, *map(Path, options.writable))
    confined = confine_worker(AllowedPaths(readable, writable), read_memory())
    if confined.is_complete:
        return True
    if options.is_confinement_required:
        log.error("confinement is required, and this worker lacks: %s; it ends", confined.problem)
        return False
    log.warning("this worker is not fully confined; it lacks: %s", confined.problem)
    return True


def _acquire(file: SlotFile) -> bool:
    deadline = time.monotonic() + OWN_S
    while not file.acquire():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
