"""What traces cost at full load: gateways without, again without, and with 1 % of the requests traced.

Worker and control process of a gateway share one core; the load and the receiver, which reads and throws away, have the
other: they are no part of a gateway. Short windows of the three come in random order, round after round. The gateway
with traces runs before its window until its export flows, and is left alone after it until that has ended. A window is
compared with the mean of the two without traces of its round; the interval is that of Wilcoxon's signed-rank test
(``penstock.loadtest.comparison``). The second gateway without traces shows what is found where nothing differs. Two
processes of one program differ for as long as they live, so the gateways are started anew several times.

Two figures. Answers a second come from these windows. Processor time of an answer, in all processes of the gateway, is
what remains where the core has more to do than the gateway; it is measured while the three gateways are loaded at the
same time on the same core, second by second, so that a disturbance meets all of them. Each then has a third of the
load, so what a gateway does once a second weighs three times as much in it. Answers are counted by the log of the
client, by when they were complete.
"""

import argparse
import random
import re
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from loadtests.access import set_environment
from loadtests.codecs import BINARY, GRPC, GRPC_PREFIX, JSON, Codec, ReferenceCalls
from loadtests.graphs import find_repository
from loadtests.h2load import Times, logged_loop, require
from loadtests.keys import address_of
from loadtests.models import MODELS
from loadtests.processes import Server, list_tree, penstock, process_time_s, run_server, split_cores
from penstock.loadtest.comparison import RatioInterval, compare_pairs

MODEL = "tiny"
CODECS = {codec.name: codec for codec in (JSON, BINARY, GRPC)}
PLAIN, AGAIN, TRACED = "off", "off, again", "on"
KINDS = (PLAIN, AGAIN, TRACED)
LEAST_RATE = 0.98
LEAD_S = {PLAIN: 0.3, AGAIN: 0.3, TRACED: 2.3}
"""Load before a window: connections are there, and where there are traces, as many leave as come."""

WARM_UP_S = 0.5
TAIL_S = 0.1
TOGETHER_S = 1.0
"""Length of a window in which all are loaded."""

EXPORTED_S = 2.3
"""Until what waits is sent: it is this window's, and disturbs no other."""

_WIDTH = 200
_SENT = re.compile(r'penstock_otlp_items_total\{outcome="sent",signal="traces"\} ([\d.e+]+)')


@dataclass(frozen=True, slots=True)
class Seen:
    """One window: answers a second, and processor microseconds of an answer, in the worker and in the other processes
    of the gateway."""

    rate: float
    worker_us: float
    control_us: float

    @property
    def cpu_us(self) -> float:
        """Processor microseconds of an answer in the whole gateway."""
        return self.worker_us + self.control_us


@dataclass(frozen=True, slots=True)
class SpanCost:
    """Spans that were sent, and the processor microseconds that the control process and the receiver need for each."""

    spans: int
    control_us: float
    receiver_us: float


@dataclass(frozen=True, slots=True)
class TracingCost:
    """What the windows of a codec say, by kind, as parts of those without traces: rates, processor times of the
    gateway, and what they would be if only the worker or only the other processes differed."""

    codec: str
    rates: Mapping[str, RatioInterval]
    cpu: Mapping[str, RatioInterval]
    worker: Mapping[str, RatioInterval]
    control: Mapping[str, RatioInterval]
    spans: SpanCost

    @property
    def verdict(self) -> str:
        """Whether traces leave at least ``LEAST_RATE`` of the rate: ``yes`` and ``no`` only where the whole interval
        says so."""
        found = self.rates[TRACED]
        if found.low >= LEAST_RATE:
            return "yes"
        return "no" if found.high < LEAST_RATE else "undecided"


Round = Mapping[str, Seen]


class Mark(NamedTuple):
    """The edge of a window: microseconds since the epoch, and the processor seconds of a gateway's workers and of its
    other processes."""

    at_us: float
    cpu_s: tuple[float, float]


def see(answered_us: Times, before: Mark, after: Mark) -> Seen:
    """Return what a window shows, by when its answers were complete."""
    answers = int(np.count_nonzero((answered_us > before.at_us) & (answered_us <= after.at_us)))
    worker_us, control_us = [
        (then - now) / max(answers, 1) * 1e6 for now, then in zip(before.cpu_s, after.cpu_s, strict=True)
    ]
    return Seen(answers / (after.at_us - before.at_us) * 1e6, worker_us, control_us)


@dataclass(frozen=True, slots=True)
class Start:
    """What was measured while the same gateways ran: rounds of windows in turn, windows beside each other, and the cost
    of a span."""

    rounds: list[Round]
    beside: list[Round]
    spans: SpanCost


class Bench:
    """The gateways of a measurement by kind, and their receiver."""

    def __init__(self, servers: Mapping[str, Server], receiver: Server, seconds: float, connections: int) -> None:
        self._servers = servers
        self._receiver = receiver
        self._seconds = seconds
        self._connections = connections
        self._others = {kind: set(list_tree(server.pid)) - set(server.workers) for kind, server in servers.items()}
        reference = ReferenceCalls(MODELS[MODEL])
        plain = servers[PLAIN]
        self._sizes = {
            codec.name: reference.check(codec, address_of(plain, codec)) + GRPC_PREFIX for codec in CODECS.values()
        }

    def window(self, kind: str, codec: Codec) -> Seen:
        """Measure one window; every answer must be a good one."""
        with ThreadPoolExecutor(1) as thread:
            load = thread.submit(self._load, kind, codec, LEAD_S[kind] + self._seconds + TAIL_S)
            time.sleep(LEAD_S[kind])
            before = self._mark(kind)
            time.sleep(self._seconds)
            after = self._mark(kind)
            answered_us = load.result()
        if kind == TRACED:
            time.sleep(EXPORTED_S)
        return see(answered_us, before, after)

    def together(self, codec: Codec, windows: int) -> list[Round]:
        """Measure windows in which all gateways are loaded; their rates say nothing."""
        lead_s = LEAD_S[TRACED]
        with ThreadPoolExecutor(len(KINDS)) as threads:
            seconds = lead_s + windows * TOGETHER_S + TAIL_S
            loads = {kind: threads.submit(self._load, kind, codec, seconds) for kind in KINDS}
            time.sleep(lead_s)
            marks = [{kind: self._mark(kind) for kind in KINDS}]
            for _ in range(windows):
                time.sleep(TOGETHER_S)
                marks.append({kind: self._mark(kind) for kind in KINDS})
            answered_us = {kind: load.result() for kind, load in loads.items()}
        time.sleep(EXPORTED_S)
        return [
            {kind: see(answered_us[kind], before[kind], after[kind]) for kind in KINDS}
            for before, after in pairwise(marks)
        ]

    def _mark(self, kind: str) -> Mark:
        return Mark(time.time() * 1e6, self._cpu(kind))

    def _load(self, kind: str, codec: Codec, seconds: float) -> Times:
        """Load a gateway; return when the answers were complete, in microseconds since the epoch."""
        model = MODELS[MODEL]
        window, answered_us = logged_loop(
            codec,
            codec.write(model, model.rows(1)),
            address_of(self._servers[kind], codec),
            connections=self._connections,
            seconds=seconds,
            cores=split_cores()[1],
            answer_bytes=self._sizes[codec.name],
        )
        if window.errors:
            raise SystemExit(f"{window.errors} of {window.done} answers were errors")
        return answered_us

    def _cpu(self, kind: str) -> tuple[float, float]:
        workers = self._servers[kind].workers
        return sum(map(process_time_s, workers)), sum(map(process_time_s, self._others[kind]))

    def measure(self, codec: Codec, rounds: int, windows: int, chance: random.Random) -> Start:
        """Measure the rounds of a codec, each with a window of every kind in random order, and windows of all."""
        for kind in KINDS:
            self._load(kind, codec, WARM_UP_S)
        time.sleep(EXPORTED_S)
        spans, used_s, control_s = self._spans(), process_time_s(self._receiver.pid), self._control_s()
        seen: list[Round] = []
        for _ in track(range(rounds), f"measuring {codec.name}", console=Console(stderr=True)):
            found = {kind: self.window(kind, codec) for kind in chance.sample(KINDS, len(KINDS))}
            seen.append({kind: found[kind] for kind in KINDS})
        beside = self.together(codec, windows)
        sent = max(1, self._spans() - spans)
        more_s = {kind: ended - control_s[kind] for kind, ended in self._control_s().items()}
        traced_s = more_s[TRACED] - statistics.mean((more_s[PLAIN], more_s[AGAIN]))
        received_s = process_time_s(self._receiver.pid) - used_s
        return Start(seen, beside, SpanCost(sent, traced_s / sent * 1e6, received_s / sent * 1e6))

    def _control_s(self) -> dict[str, float]:
        return {kind: self._cpu(kind)[1] for kind in KINDS}

    def _spans(self) -> int:
        """Return how many spans the receiver has got."""
        address = self._servers[TRACED].addresses["ops"]
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            found = _SENT.search(answer.read().decode())
        return int(float(found[1])) if found else 0


def summarise(codec: str, starts: Sequence[Start]) -> TracingCost:
    """Return the ratios of all windows; the costs of a span are the medians of the starts."""
    rounds = [found for start in starts for found in start.rounds]
    beside = [found for start in starts for found in start.beside]
    cost = SpanCost(
        sum(start.spans.spans for start in starts),
        statistics.median(start.spans.control_us for start in starts),
        statistics.median(start.spans.receiver_us for start in starts),
    )
    return TracingCost(
        codec,
        _compare(rounds, lambda seen, _: seen.rate),
        _compare(beside, lambda seen, _: seen.cpu_us),
        _compare(beside, lambda seen, usual: seen.worker_us + usual.control_us),
        _compare(beside, lambda seen, usual: usual.worker_us + seen.control_us),
        cost,
    )


def _compare(rounds: Sequence[Round], figure: Callable[[Seen, Seen], float]) -> dict[str, RatioInterval]:
    """Compare windows with traces with the mean of the two without, and the second of those with the first, by a figure
    of a window and of the one that it is compared with."""
    found = {}
    for kind in (AGAIN, TRACED):
        usual = [_mean(items[PLAIN], items[AGAIN]) if kind == TRACED else items[PLAIN] for items in rounds]
        own = [figure(items[kind], beside) for items, beside in zip(rounds, usual, strict=True)]
        found[kind] = compare_pairs(own, [figure(beside, beside) for beside in usual])
    return found


def _mean(first: Seen, second: Seen) -> Seen:
    return Seen(
        (first.rate + second.rate) / 2,
        (first.worker_us + second.worker_us) / 2,
        (first.control_us + second.control_us) / 2,
    )


@contextmanager
def bench(seconds: float, connections: int, ratio: float) -> Iterator[Bench]:
    """Run the gateways, and the receiver of the one that traces."""
    require()
    find_repository(MODELS[MODEL])
    server_cores, client_cores = split_cores()
    with TemporaryDirectory(prefix="penstock-loadtests-") as name, ExitStack() as servers:
        receiver = servers.enter_context(run_server([sys.executable, "-m", "loadtests.receiver"], client_cores))
        url = f"http://{receiver.addresses['http']}"
        traced = {"PENSTOCK_TRACING__OTLP_ENDPOINT": url, "PENSTOCK_TRACING__RATIO": str(ratio)}
        started = {}
        for kind in random.sample(KINDS, len(KINDS)):
            with set_environment(Path(name, kind), traced if kind == TRACED else {}):
                command = penstock(MODELS[MODEL].folder, "--workers", "1")
                started[kind] = servers.enter_context(run_server(command, server_cores[:1]))
        yield Bench(started, receiver, seconds, connections)


def measure(codec: Codec, arguments: argparse.Namespace) -> TracingCost:
    """Measure a codec with gateways that are started ``arguments.starts`` times."""
    starts = []
    for number in range(arguments.starts):
        with bench(arguments.seconds, arguments.connections, arguments.ratio) as measured:
            starts.append(measured.measure(codec, arguments.rounds, arguments.windows, random.Random(number)))
    return summarise(codec.name, starts)


def tracing_ratios(rounds: int) -> dict[str, float]:
    """Return the processor time of a request without traces as a part of that with 1 % of them traced."""
    with bench(TOGETHER_S, 32, 0.01) as measured:
        start = measured.measure(JSON, 0, 4 * rounds, random.Random(0))
    return {"tracing processor time": 1 / summarise(JSON.name, [start]).cpu[TRACED].estimate}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rounds", type=int, default=7, help="rounds of windows for each start of the gateways (7)")
    parser.add_argument("--starts", type=int, default=3, help="how often the gateways are started (3)")
    parser.add_argument("--windows", type=int, default=20, help="windows beside each other for each start (20)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a window (1.5)")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--ratio", type=float, default=0.01, help="share of the requests that are traced (0.01)")
    parser.add_argument("--codecs", nargs="+", choices=CODECS, default=["json", "grpc"])


def main(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 unless traces are shown to leave 98 % of the rate."""
    costs = [measure(CODECS[name], arguments) for name in arguments.codecs]
    Console(width=max(Console().width, _WIDTH)).print(_table(costs))
    return 0 if all(cost.verdict == "yes" for cost in costs) else 1


def _table(costs: Sequence[TracingCost]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    heads = ("codec", "traces", "of the rate", "processor time", "by the worker", "by the others", "control µs a span")
    for head in (*heads, "receiver µs a span", "spans", "≥ 98 % of the rate"):
        table.add_column(head, justify="right", no_wrap=True)
    for cost in costs:
        for kind in (AGAIN, TRACED):
            ratios = [_text(found[kind]) for found in (cost.rates, cost.cpu, cost.worker, cost.control)]
            table.add_row(cost.codec, kind, *ratios, *(_span_cells(cost) if kind == TRACED else ()))
    return table


def _text(found: RatioInterval) -> str:
    return f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _span_cells(cost: TracingCost) -> tuple[str, ...]:
    spans = cost.spans
    return f"{spans.control_us:.1f}", f"{spans.receiver_us:.1f}", f"{spans.spans}", cost.verdict
