"""The largest legal request of every kind, one after the other and together, beside small requests on both transports.

Reports how each kind ended and the longest stall of the event loop meanwhile, as the histogram of the worker has
it; and of each phase the small requests' 99th percentile against that of small requests alone.
"""

import argparse
import http.client
import os
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loadtests import echoes
from loadtests.graphs import find_repository
from loadtests.largest import list_largest
from loadtests.largest_data import Largest
from loadtests.models import MODELS
from loadtests.neighbours import RATE, Neighbours, send_beside
from loadtests.processes import Server, penstock, run_server, split_cores
from loadtests.send import REFUSED, SEGMENT, Ended, is_expected, open_region, send
from penstock.core.limits import RequestLimits

MAX_STALL_S = 0.05
MAX_RATIO = 1.5
_TIMEOUT_S = 60.0
_SETTLE_S = 0.3  # a timer that looks every 20 ms records a stall
_MODEL = MODELS["tiny"]
_BUCKET = re.compile(r'penstock_event_loop_stall_seconds_bucket\{le="([^"]+)"[^}]*\} (\S+)')

_RESTARTS = re.compile(r"^penstock_worker_restarts_total\{[^}]*\} (\S+)$", re.MULTILINE)


def read_metrics(address: str) -> str:
    """The metrics of a server, by the address of its ops port."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def read_stalls(address: str) -> dict[float, int]:
    """Stalls so far by the upper edge of their bucket, in seconds, of all workers."""
    summed = Counter[float]()
    for edge, count in _BUCKET.findall(read_metrics(address)):
        summed[float(edge)] += int(float(count))
    percentiles, below = {}, 0
    for edge in sorted(summed):
        percentiles[edge], below = summed[edge] - below, summed[edge]
    return percentiles


def find_longest(before: Mapping[float, int], after: Mapping[float, int]) -> float:
    """The upper edge of the longest stall between two looks, 0 for none."""
    return max((edge for edge, count in after.items() if count > before.get(edge, 0)), default=0.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--only", default="", help="only kinds whose name holds this text")
    parser.add_argument("--clients", type=int, default=4, help="large requests at a time when together (default 4)")
    parser.add_argument("--alone-s", type=float, default=10.0, help="small requests alone, in seconds (default 10)")
    parser.add_argument("--no-together", action="store_true", help="only one after the other")


def main(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 where a worker was replaced, an answer is not as it has to be, or the loop stood still."""
    kinds = [request for request in list_largest(RequestLimits()) if arguments.only in request.kind]
    with TemporaryDirectory(prefix="penstock-loadtests-") as folder, _serving(Path(folder)) as server:
        run = _Run(server)
        run.phase("alone", lambda: time.sleep(arguments.alone_s))
        run.phase("one after the other", lambda: run.in_turn(kinds))
        if not arguments.no_together:
            run.phase("together", lambda: run.together(kinds, arguments.clients))
        return run.report(Console(width=120))


@contextmanager
def _serving(folder: Path) -> Iterator[Server]:
    echoes.place(folder)
    shutil.copytree(find_repository(_MODEL) / _MODEL.name, folder / _MODEL.name)
    settings = {"PENSTOCK_SHARED_MEMORY": f'["/{SEGMENT}"]', "PENSTOCK_GRPC_OUTPUTS": "mirror"}
    os.environ.update(settings)
    try:
        with run_server(penstock(folder, "--workers", "1"), split_cores()[0]) as server:
            os.sched_setaffinity(0, split_cores()[1])
            with open_region(server.addresses, RequestLimits().max_body_bytes):
                yield server
    finally:
        for name in settings:
            del os.environ[name]


class _Run:
    """All phases against one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cores = sorted(os.sched_getaffinity(0))
        self._kinds = Table(title="one after the other", box=SIMPLE_HEAD)
        for head in ("kind", "ended", "seconds", "longest stall up to ms"):
            self._kinds.add_column(head, justify="left" if head == "kind" else "right", no_wrap=True)
        self._phases: list[tuple[str, float, Neighbours]] = []
        self._together = Counter[str]()
        self._faults: list[str] = []

    def phase(self, name: str, work: Callable[[], None]) -> None:
        """Do some work beside small requests."""
        before = self._stalls()
        with send_beside(_MODEL, self._server.addresses, self._cores) as found:
            work()
        self._phases.append((name, find_longest(before, self._stalls()), found))

    def in_turn(self, kinds: Sequence[Largest]) -> None:
        """Each kind by itself."""
        for kind in kinds:
            request = kind.build()
            before, began = self._stalls(), time.monotonic()
            ended = self._send(kind, partial(send, request, self._server.addresses, _TIMEOUT_S))
            took_s = time.monotonic() - began
            stall = find_longest(before, self._stalls())
            if not is_expected(kind, ended):
                self._faults.append(f"{kind.kind} ended with {ended}")
            style = "red" if stall > MAX_STALL_S else ""
            self._kinds.add_row(kind.kind, _name(ended), f"{took_s:.1f}", f"{stall * 1000:.0f}", style=style)

    def together(self, kinds: Sequence[Largest], clients: int) -> None:
        """Some at a time, in a random order; some may be rejected for lack of capacity."""
        order = random.Random(1).sample(list(kinds), len(kinds))
        with ThreadPoolExecutor(clients) as pool:
            for request, ended in zip(order, pool.map(self._one_of_many, order), strict=True):
                self._together[_name(ended)] += 1
                if not is_expected(request, ended) and ended not in REFUSED:
                    self._faults.append(f"{request.kind} ended with {ended} beside others")

    def _one_of_many(self, request: Largest) -> Ended:
        return self._send(request, lambda: send(request.build(), self._server.addresses, _TIMEOUT_S))

    def _send(self, request: Largest, work: Callable[[], Ended]) -> Ended:
        try:
            return work()
        except OSError as failure:
            self._faults.append(f"{request.kind}: {failure!r}")
            return 0

    def _stalls(self) -> dict[float, int]:
        time.sleep(_SETTLE_S)
        return read_stalls(self._server.addresses["ops"])

    def report(self, console: Console) -> int:
        """Print everything; the exit code."""
        console.print(self._kinds)
        console.print(self._neighbours())
        if self._together:
            console.print("together:", ", ".join(f"{count} x {name}" for name, count in sorted(self._together.items())))
        if any(map(float, _RESTARTS.findall(read_metrics(self._server.addresses["ops"])))):
            self._faults.append("a worker was replaced")
        for fault in self._faults:
            console.print(fault, style="red")
        return 1 if self._faults else 0

    def _neighbours(self) -> Table:
        table = Table(title=f"{RATE:g} small requests a second on each transport", box=SIMPLE_HEAD)
        for head in (
            "phase",
            "longest stall up to ms",
            "transport",
            "p50 ms",
            "p99 ms",
            "to alone",
            "p99.9 ms",
            "failed",
        ):
            table.add_column(head, justify="right", no_wrap=True)
        alone = self._phases[0][2]
        for name, stall, found in self._phases:
            if stall > MAX_STALL_S:
                self._faults.append(f"{name}: the event loop stood still for up to {stall * 1000:.0f} ms")
            if found.errors:
                self._faults.append(f"{name}: {found.errors} small requests failed")
            for kind, latencies in found.seen.items():
                ratio = latencies.p99 / alone.seen[kind].p99
                if ratio > MAX_RATIO:
                    self._faults.append(f"{name}: p99 of {kind} is {ratio:.2f} times what it is alone")
                cells = [
                    f"{latencies.p50:.2f}",
                    f"{latencies.p99:.2f}",
                    f"{ratio:.2f}",
                    f"{latencies.p999:.2f}",
                    str(found.errors),
                ]
                table.add_row(name, f"{stall * 1000:.0f}", kind, *cells)
        return table


def _name(ended: Ended) -> str:
    return str(ended) if isinstance(ended, int) else ended.name
