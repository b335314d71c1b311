"""Workers killed under steady load: nothing hangs, only what the dead worker was answering fails, all is counted."""

import argparse
import asyncio
import http.client
import itertools
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loadtests.callers import Caller, ConnectionLost, EndedCall, GrpcCaller, NoAnswer, RestCaller, find_failed
from loadtests.codecs import BINARY, JSON, ReferenceCalls
from loadtests.graphs import find_repository
from loadtests.latencies import Latencies
from loadtests.models import MODELS
from loadtests.processes import Server, list_tree, penstock, run_server
from loadtests.sockets import find_listening, find_peers

_SETTLE_S = 0.05  # a kill takes the kernel a moment: a call begun this much later may still have met the dead worker
_GIVE_UP_S = 10.0
_EXACT_CALLS = 50
_REQUESTS = re.compile(r"^penstock_requests_total\{([^}]*)\} (\S+)", re.MULTILINE)
_RESTARTS = re.compile(r"^penstock_worker_restarts_total(?:\{[^}]*\})? (\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_SUCCESS = {"200", "OK"}


@dataclass(frozen=True, slots=True)
class Kill:
    """One worker killed: when (monotonic seconds), and the ports its clients' connections had.

    ``noticed_s`` later readiness said no (None: it never did); ``back_s`` later as many workers as before listened
    again and readiness said yes (None: not within the time given).
    """

    at: float
    rest_ports: frozenset[int]
    grpc_ports: frozenset[int]
    noticed_s: float | None
    back_s: float | None


@dataclass(slots=True)
class Findings:
    """What a drill saw; ``counted`` are successes by protocol as /metrics counts them, ``faults`` what was wrong."""

    ended: list[EndedCall] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Gateway:
    """The running server as the drill sees it."""

    def __init__(self, server: Server, workers: int) -> None:
        self.server, self._workers = server, workers
        self._http, self._grpc = (int(server.addresses[name].rpartition(":")[2]) for name in ("http", "grpc"))
        self._turn = itertools.count()

    def kill_one(self) -> Kill:
        """SIGKILL the next worker and watch until another has taken its place."""
        workers = self._listening()
        victim = workers[next(self._turn) % len(workers)]
        rest, grpc = frozenset(find_peers(victim, self._http)), frozenset(find_peers(victim, self._grpc))
        at = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        noticed, back = self._watch(at, victim)
        return Kill(at, rest, grpc, noticed, back)

    def _watch(self, at: float, victim: int) -> tuple[float | None, float | None]:
        noticed = None
        while (now := time.monotonic()) < at + _GIVE_UP_S:
            ready = self._get("/readyz")[0] == 200
            if not ready and noticed is None:
                noticed = now - at
            if ready and victim not in (workers := self._listening()) and len(workers) == self._workers:
                return noticed, now - at
            time.sleep(0.005)
        return noticed, None

    def _listening(self) -> list[int]:
        return find_listening(list_tree(self.server.pid), self._http)

    def counters(self) -> tuple[Counter[str], int]:
        """Successful requests by protocol, and workers replaced, as /metrics counts them."""
        text = self._get("/metrics")[1]
        counted: Counter[str] = Counter()
        for labels, value in _REQUESTS.findall(text):
            found = dict(_LABEL.findall(labels))
            if found["code"] in _SUCCESS:
                counted[found["protocol"]] += int(float(value))
        return counted, sum(int(float(value)) for value in _RESTARTS.findall(text))

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.server.addresses["ops"], timeout=_GIVE_UP_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


class Drill:
    """The whole course: load with kills, a kill in silence, and an exact count at the end."""

    def __init__(self, gateway: Gateway, reference: ReferenceCalls, back_within_s: float) -> None:
        self._gateway, self._reference, self._back_within_s = gateway, reference, back_within_s
        self.found = Findings()

    async def run(self, seconds: float, every_s: float, progress: Progress) -> Findings:
        """Everything in turn; the findings hold the faults."""
        task = progress.add_task("killing workers under load", total=round(seconds))
        stop = asyncio.Event()
        calling = asyncio.gather(*(caller.run(stop) for caller in self._callers(self.found.ended)))
        until = time.monotonic() + seconds
        while time.monotonic() + every_s <= until:
            await asyncio.sleep(every_s)
            self.found.kills.append(await asyncio.to_thread(self._gateway.kill_one))
            progress.update(task, completed=round(seconds - until + time.monotonic()))
        await asyncio.sleep(max(0.0, until - time.monotonic()))
        stop.set()
        await calling
        progress.update(task, description="killing a worker in silence", completed=round(seconds))
        await self._count()
        progress.update(task, description="counting exactly")
        await self._exact()
        self.found.faults += find_misplaced(self.found.ended, self.found.kills)
        self.found.faults += find_slow(self.found.kills, self._back_within_s)
        return self.found

    def _callers(self, ended: list[EndedCall]) -> list[Caller]:
        http_address, grpc_address = (self._gateway.server.addresses[name] for name in ("http", "grpc"))
        rest = [RestCaller("rest", codec, http_address, self._reference, ended) for codec in (JSON, BINARY) * 4]
        return [*rest, *(GrpcCaller(grpc_address, self._reference, ended) for _ in range(4))]

    async def _count(self) -> None:
        """Compare the counters with the clients' own counts; a kill while nothing runs must not change them."""
        self.found.counted, _ = self._gateway.counters()
        self.found.faults += find_miscounted(self.found.ended, self.found.counted)
        self.found.kills.append(await asyncio.to_thread(self._gateway.kill_one))
        counted, restarts = self._gateway.counters()
        if counted != self.found.counted:
            self.found.faults.append(f"a kill in silence changed the counters: {self.found.counted} to {counted}")
        if restarts != len(self.found.kills):
            self.found.faults.append(f"{len(self.found.kills)} workers were killed, {restarts} counted as replaced")

    async def _exact(self) -> None:
        """Without kills every call succeeds and every success is counted once."""
        before, _ = self._gateway.counters()
        ended: list[EndedCall] = []
        callers = self._callers(ended)
        for _ in range(_EXACT_CALLS):
            await asyncio.gather(*(caller.call() for caller in callers))
        for caller in callers:
            await caller.close()
        counted = self._gateway.counters()[0] - before
        self.found.faults += [f"failed without a kill: {call.failure}" for call in find_failed(ended)]
        if counted != Counter(call.protocol for call in ended):
            self.found.faults.append(f"with nothing in flight {len(ended)} calls were counted as {dict(counted)}")


def find_miscounted(ended: Sequence[EndedCall], counted: Counter[str]) -> list[str]:
    """A call that failed here may have been counted as a success, when its answer was lost with the worker."""
    faults = []
    for protocol in ("rest", "grpc"):
        lost = sum(call.protocol == protocol for call in find_failed(ended))
        good = sum(call.protocol == protocol for call in ended) - lost
        if not good <= counted[protocol] <= good + lost:
            faults.append(f"{protocol}: {good} succeeded, {lost} failed, but {counted[protocol]} were counted")
    return faults


def find_misplaced(ended: Sequence[EndedCall], kills: Sequence[Kill]) -> list[str]:
    """Failures other than those of calls the dead worker was answering."""
    faults = [
        f"{call.protocol}: {call.failure}"
        for call in find_failed(ended)
        if not isinstance(call.failure, ConnectionLost | NoAnswer)
    ]
    faults += [f"{call.protocol}: a call hung" for call in find_failed(ended) if isinstance(call.failure, NoAnswer)]
    lost = [call for call in find_failed(ended) if isinstance(call.failure, ConnectionLost)]
    faults += [
        f"{call.protocol}: failed beside every kill: {call.failure}" for call in lost if not _is_excused(call, kills)
    ]
    for number, kill in enumerate(kills, 1):
        calls = sum(call.protocol == "grpc" and _is_during(call, kill) for call in lost)
        if calls > len(kill.grpc_ports):
            faults.append(f"kill {number}: {calls} gRPC calls failed on {len(kill.grpc_ports)} connections")
    return faults


def _is_excused(call: EndedCall, kills: Iterable[Kill]) -> bool:
    return any(_is_during(call, kill) and (not call.port or call.port in kill.rest_ports) for kill in kills)


def _is_during(call: EndedCall, kill: Kill) -> bool:
    return call.began <= kill.at + _SETTLE_S and call.ended >= kill.at


def find_slow(kills: Sequence[Kill], back_within_s: float) -> list[str]:
    """Kills that readiness did not show, or after which capacity took too long to come back."""
    faults = []
    for number, kill in enumerate(kills, 1):
        if kill.noticed_s is None:
            faults.append(f"kill {number}: readiness never said no")
        if kill.back_s is None or kill.back_s > back_within_s:
            faults.append(f"kill {number}: capacity came back after {kill.back_s or _GIVE_UP_S:.2f} s")
    return faults


def show(console: Console, findings: Findings) -> None:
    """Print the findings."""
    table = Table(title="workers killed under load", title_justify="left", box=SIMPLE_HEAD)
    for head in ("", "calls", "failed", "counted", "p50 ms", "p99 ms", "slowest ms", "last failure after kill ms"):
        table.add_column(head, justify="right" if head else "left")
    for protocol in ("rest", "grpc"):
        table.add_row(
            protocol, *_format_cells([call for call in findings.ended if call.protocol == protocol], findings, protocol)
        )
    console.print(table)
    noticed = [kill.noticed_s for kill in findings.kills if kill.noticed_s is not None]
    back = [kill.back_s for kill in findings.kills if kill.back_s is not None]
    console.print(f"{len(findings.kills)} kills; noticed within {max(noticed, default=0) * 1000:.0f} ms", end=", ")
    console.print(f"capacity back within {max(back, default=0):.2f} s")
    for text, count in Counter(findings.faults).items():
        console.print(f"WRONG: {text}" + (f" ({count} times)" if count > 1 else ""), markup=False)


def _format_cells(calls: Sequence[EndedCall], findings: Findings, protocol: str) -> list[str]:
    good = np.array([(call.ended - call.began) * 1e6 for call in calls if call.failure is None]).astype(np.int64)
    latencies, lost = Latencies.of(good), find_failed(calls)
    delays = [call.ended - kill.at for call in lost for kill in findings.kills if _is_during(call, kill)]
    times = (latencies.p50, latencies.p99, max(good, default=0) / 1000, max(delays, default=0) * 1000)
    counts = (len(calls), len(lost), findings.counted[protocol])
    return [*(f"{count:,}" for count in counts), *(f"{value:.3g}" for value in times)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seconds", type=float, default=60.0, help="how long under load (default 60)")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between kills (default 5)")
    parser.add_argument("--workers", type=int, default=2, help="workers of the server (default 2)")
    parser.add_argument(
        "--back-within", type=float, default=1.0, help="seconds capacity may take to be back (default 1)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Run the drill; 1 where anything was wrong."""
    model, console = MODELS["tiny"], Console()
    command = penstock(find_repository(model), "--workers", str(arguments.workers))
    with (
        run_server(command, sorted(os.sched_getaffinity(0))) as server,
        Progress(console=Console(stderr=True)) as progress,
    ):
        drill = Drill(Gateway(server, arguments.workers), ReferenceCalls(model), arguments.back_within)
        findings = asyncio.run(drill.run(arguments.seconds, arguments.every, progress))
    show(console, findings)
    return 1 if findings.faults else 0
