"""What traces cost at full load: gateways without, again without, and with 1 % of the requests traced, in turn.

The receiver is a process that reads and throws away, on the cores of the load: its cost is stated, and is not the
gateway's. The second gateway without traces shows how far two windows differ for no reason. Ratios are of neighbouring
windows, whose order changes round after round; medians are reported.
"""

import argparse
import re
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from loadtests.access import environment
from loadtests.codecs import BINARY, GRPC, GRPC_PREFIX, JSON, Codec, ReferenceCalls
from loadtests.graphs import repository
from loadtests.h2load import closed_loop, require
from loadtests.keys import address_of
from loadtests.models import MODELS
from loadtests.processes import Server, cpu_s, halves, penstock, running

MODEL = "tiny"
CODECS = {codec.name: codec for codec in (JSON, BINARY, GRPC)}
PLAIN, AGAIN, TRACED = "off", "off, again", "on"
KINDS = (PLAIN, AGAIN, TRACED)
LEAST_RATE = 0.98
EXPORTED_S = 1.5
_SENT = re.compile(r'penstock_otlp_items_total\{outcome="sent",signal="traces"\} ([\d.e+]+)')


@dataclass(frozen=True, slots=True)
class Seen:
    """One window: answers a second, and processor microseconds of an answer, in the worker and in the control
    process."""

    rate: float
    worker_us: float
    control_us: float

    @property
    def cpu_us(self) -> float:
        """Processor microseconds of an answer in the whole gateway."""
        return self.worker_us + self.control_us


@dataclass(frozen=True, slots=True)
class TracingCost:
    """What a codec's windows say: by kind the medians of rates and processor times as parts of those without traces,
    and the microseconds of the control process and of the receiver for each span."""

    codec: str
    rates: Mapping[str, float]
    cpu: Mapping[str, float]
    worker_us: Mapping[str, float]
    span_us: float
    receiver_us: float
    spans: int


class Bench:
    """The gateways of a measurement by kind, and their receiver."""

    def __init__(self, servers: Mapping[str, Server], receiver: Server, seconds: float, connections: int) -> None:
        self._servers = servers
        self._receiver = receiver
        self._seconds = seconds
        self._connections = connections
        reference = ReferenceCalls(MODELS[MODEL])
        plain = servers[PLAIN]
        self._sizes = {
            codec.name: reference.check(codec, address_of(plain, codec)) + GRPC_PREFIX for codec in CODECS.values()
        }

    def window(self, kind: str, codec: Codec) -> Seen:
        """Measure one window; every answer must be a good one."""
        server, model = self._servers[kind], MODELS[MODEL]
        worker, control = self._cpu(server)
        window = closed_loop(
            codec,
            codec.write(model, model.rows(1)),
            address_of(server, codec),
            connections=self._connections,
            seconds=self._seconds,
            cores=halves()[1],
            answer_bytes=self._sizes[codec.name],
        )
        if window.errors:
            raise SystemExit(f"{window.errors} of {window.done} answers were errors")
        time.sleep(EXPORTED_S)  # what waits is sent: it is this window's, and disturbs no other
        ended = self._cpu(server)
        return Seen(window.rate, (ended[0] - worker) / window.done * 1e6, (ended[1] - control) / window.done * 1e6)

    @staticmethod
    def _cpu(server: Server) -> tuple[float, float]:
        workers = sum(map(cpu_s, server.workers))
        return workers, server.cpu_s() - workers

    def measure(self, codec: Codec, rounds: int) -> TracingCost:
        """Measure the windows of a codec."""
        seen: dict[str, list[Seen]] = {kind: [] for kind in KINDS}
        for kind in KINDS:
            self.window(kind, codec)
        spans, used, control = self._spans(), self._receiver.cpu_s(), self._control_s()
        for number in track(range(rounds), f"measuring {codec.name}", console=Console(stderr=True)):
            for kind in KINDS[number % 3 :] + KINDS[: number % 3]:
                seen[kind].append(self.window(kind, codec))
        sent = max(1, self._spans() - spans)
        more_s = self._control_s()[TRACED] - control[TRACED]
        more_s -= statistics.mean(self._control_s()[kind] - control[kind] for kind in (PLAIN, AGAIN))
        received_s = self._receiver.cpu_s() - used
        return summarise(codec.name, seen, more_s / sent * 1e6, received_s / sent * 1e6, sent)

    def _control_s(self) -> dict[str, float]:
        return {kind: self._cpu(server)[1] for kind, server in self._servers.items()}

    def _spans(self) -> int:
        """Return how many spans the receiver has got."""
        address = self._servers[TRACED].addresses["ops"]
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            found = _SENT.search(answer.read().decode())
        return int(float(found[1])) if found else 0


def summarise(
    codec: str, seen: Mapping[str, list[Seen]], span_us: float, receiver_us: float, spans: int
) -> TracingCost:
    """Return the medians over rounds; each window is compared with the mean of its round's two without traces."""
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    cpu: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for windows in zip(*(seen[kind] for kind in KINDS), strict=True):
        plain = windows[:2]
        for kind, window in zip(KINDS, windows, strict=True):
            others = plain if kind == TRACED else [item for item in plain if item is not window]
            rates[kind].append(window.rate / statistics.mean(item.rate for item in others))
            cpu[kind].append(window.cpu_us / statistics.mean(item.cpu_us for item in others))
    return TracingCost(
        codec,
        {kind: statistics.median(values) for kind, values in rates.items()},
        {kind: statistics.median(values) for kind, values in cpu.items()},
        {kind: statistics.median(item.worker_us for item in items) for kind, items in seen.items()},
        span_us,
        receiver_us,
        spans,
    )


@contextmanager
def bench(seconds: float, connections: int, ratio: float) -> Iterator[Bench]:
    """Run the gateways, and the receiver of the one that traces."""
    require()
    repository(MODELS[MODEL])
    server_cores, client_cores = halves()
    with TemporaryDirectory(prefix="penstock-loadtests-") as name, ExitStack() as servers:
        receiver = servers.enter_context(running([sys.executable, "-m", "loadtests.receiver"], client_cores))
        url = f"http://{receiver.addresses['http']}"
        traced = {"PENSTOCK_TRACING__OTLP_ENDPOINT": url, "PENSTOCK_TRACING__RATIO": str(ratio)}
        started = {}
        for kind in KINDS:
            with environment(Path(name, kind), traced if kind == TRACED else {}):
                command = penstock(MODELS[MODEL].folder, "--workers", "1")
                started[kind] = servers.enter_context(running(command, server_cores))
        yield Bench(started, receiver, seconds, connections)


def tracing_ratios(rounds: int, seconds: float) -> dict[str, float]:
    """Return the processor time of a request without traces as a part of that with 1 % of them traced."""
    with bench(seconds, 32, 0.01) as measured:
        return {"tracing processor time": 1 / measured.measure(JSON, rounds).cpu[TRACED]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rounds", type=int, default=7, help="windows of each kind; medians count (7)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a window (2)")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--ratio", type=float, default=0.01, help="share of the requests that are traced (0.01)")
    parser.add_argument("--codecs", nargs="+", choices=CODECS, default=["json", "grpc"])


def main(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 where traces cost more than 2 % of the rate."""
    with bench(arguments.seconds, arguments.connections, arguments.ratio) as measured:
        costs = [measured.measure(CODECS[name], arguments.rounds) for name in arguments.codecs]
    Console().print(_table(costs))
    return 0 if all(cost.rates[TRACED] >= LEAST_RATE for cost in costs) else 1


def _table(costs: list[TracingCost]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    heads = ("codec", "traces", "of the rate", "of the processor time", "worker µs", "control µs a span")
    for head in (*heads, "receiver µs a span", "spans"):
        table.add_column(head, justify="right")
    for cost in costs:
        for kind in KINDS:
            spans = (f"{cost.span_us:.1f}", f"{cost.receiver_us:.1f}", f"{cost.spans}") if kind == TRACED else ()
            ratios = f"{cost.rates[kind]:.3f}", f"{cost.cpu[kind]:.3f}", f"{cost.worker_us[kind]:.2f}"
            table.add_row(cost.codec, kind, *ratios, *spans)
    return table
