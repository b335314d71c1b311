"""What traces of 1 % of the requests cost, within one worker: its traces are switched on and off four times a second.

Two processes of one program differ by more than traces cost, for as long as they live; two windows of one process do
not. Windows with and without traces follow each other in pairs at full load (``loadtests.switched``), so what disturbs
one disturbs the other. The figure is the worker's processor time for an answer: worker and control process share one
core that is never idle, so the rate is the reciprocal of what both take for an answer. What the control process takes
is found apart, because it works on the spans of a window after it: its processor time for a span, times the spans of an
answer. Answers are counted by the log of the client.
"""

import argparse
import os
import re
import signal
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
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
MOST_COST = 1.02
WARM_UP_S = 1.0
LEAD_S = 5.0
"""Load before the control process is measured: from then on as many spans leave as come."""

TAIL_S = 0.2

_WIDTH = 160
_SENT = re.compile(r'penstock_otlp_items_total\{outcome="sent",signal="traces"\} ([\d.e+]+)')


@dataclass(frozen=True, slots=True)
class Change:
    """A line of the worker's log: when, in nanoseconds since the epoch, its processor time so far, and what is next."""

    at_ns: int
    cpu_ns: int
    is_on: bool


class Flow(NamedTuple):
    """What comes and goes in a second: answers, processor seconds of the control process, and spans."""

    answers: float
    control_s: float
    spans: float


@dataclass(frozen=True, slots=True)
class Start:
    """What was measured while the same gateway ran: processor microseconds of the worker for an answer with traces and
    without, of each pair; and for the control process, the spans of an answer with traces, and what each takes."""

    traced_us: list[float]
    plain_us: list[float]
    spans_an_answer: float
    control_us: float

    @property
    def control_share(self) -> float:
        """What the control process takes for the spans of an answer, as a part of what the worker takes for it."""
        return self.spans_an_answer * self.control_us / statistics.median(self.plain_us)


def read_log(text: str) -> list[Change]:
    """Return the changes that a worker has logged."""
    rows = [line.split() for line in text.splitlines()]
    return [Change(int(at), int(cpu), state == "1") for at, cpu, state in rows]


def pair_windows(changes: Sequence[Change], answered_us: Times) -> Iterator[tuple[float, float]]:
    """Yield processor microseconds for an answer with traces and without, for each whole pair of windows in which the
    client was there from beginning to end."""
    ordered = np.sort(answered_us)
    for first in range(0, len(changes) - 2, 2):
        edges = changes[first : first + 3]
        places = np.searchsorted(ordered, [edge.at_ns / 1e3 for edge in edges])
        if not 0 < places[0] < places[1] < places[2] < len(ordered):
            continue
        used = [
            (edges[side + 1].cpu_ns - edges[side].cpu_ns) / 1e3 / (places[side + 1] - places[side]) for side in (0, 1)
        ]
        yield (used[0], used[1]) if edges[0].is_on else (used[1], used[0])


class Bench:
    """One gateway under load."""

    def __init__(self, server: Server, log: Path, codec: Codec, connections: int) -> None:
        self._server = server
        self._log = log
        self._codec = codec
        self._connections = connections
        self._others = sorted(set(list_tree(server.pid)) - set(server.workers))
        self._size = ReferenceCalls(MODELS[MODEL]).check(codec, address_of(server, codec)) + GRPC_PREFIX

    def measure(self, seconds: float) -> Start:
        """Measure a start; a third as long without spans, for what the control process does anyway."""
        self._load(WARM_UP_S)
        _, idle = self._watch(seconds / 3)
        for pid in self._server.workers:
            os.kill(pid, signal.SIGUSR1)
        answered_us, busy = self._watch(seconds)
        pairs = list(pair_windows(read_log(self._log.read_text()), answered_us))
        control_s = max(0.0, busy.control_s - idle.control_s)
        return Start(
            [traced for traced, _ in pairs],
            [plain for _, plain in pairs],
            2 * busy.spans / busy.answers,  # half of them come in windows with traces
            control_s / max(busy.spans, 1.0) * 1e6,
        )

    def _watch(self, seconds: float) -> tuple[Times, Flow]:
        """Load it; return when it answered, and what came and went a second once spans leave as they come."""
        with ThreadPoolExecutor(1) as thread:
            load = thread.submit(self._load, LEAD_S + seconds + TAIL_S)
            time.sleep(LEAD_S)
            before = time.time(), self._control_s(), self._spans()
            time.sleep(seconds)
            after = time.time(), self._control_s(), self._spans()
            answered_us = load.result()
        taken_s = after[0] - before[0]
        answers = np.count_nonzero((answered_us > before[0] * 1e6) & (answered_us <= after[0] * 1e6))
        return answered_us, Flow(answers / taken_s, (after[1] - before[1]) / taken_s, (after[2] - before[2]) / taken_s)

    def _load(self, seconds: float) -> Times:
        model = MODELS[MODEL]
        window, answered_us = logged_loop(
            self._codec,
            self._codec.write(model, model.rows(1)),
            address_of(self._server, self._codec),
            connections=self._connections,
            seconds=seconds,
            cores=split_cores()[1],
            answer_bytes=self._size,
        )
        if window.errors:
            raise SystemExit(f"{window.errors} of {window.done} answers were errors")
        return answered_us

    def _control_s(self) -> float:
        return sum(map(process_time_s, self._others))

    def _spans(self) -> int:
        with urllib.request.urlopen(f"http://{self._server.addresses['ops']}/metrics", timeout=10) as answer:
            found = _SENT.search(answer.read().decode())
        return int(float(found[1])) if found else 0


@dataclass(frozen=True, slots=True)
class TracingCost:
    """What traces cost a codec, as parts of the processor time of an answer: the worker's share over all pairs, and of
    each start; the control process's of each start, and its processor microseconds for a span."""

    codec: str
    worker: RatioInterval
    by_start: list[float]
    control: list[float]
    control_us: float

    @property
    def whole(self) -> tuple[float, float, float]:
        """The whole cost: its estimate and bounds, where the control process counts with its median, its least and its
        most."""
        return (
            self.worker.estimate + statistics.median(self.control),
            self.worker.low + min(self.control),
            self.worker.high + max(self.control),
        )

    @property
    def verdict(self) -> str:
        """Whether traces cost no more than ``MOST_COST``: ``yes`` and ``no`` only where all between the bounds says
        so."""
        _, low, high = self.whole
        if high <= MOST_COST:
            return "yes"
        return "no" if low > MOST_COST else "undecided"


def summarise(codec: str, starts: Sequence[Start]) -> TracingCost:
    """Return what all pairs say together."""
    traced_us = [value for start in starts for value in start.traced_us]
    plain_us = [value for start in starts for value in start.plain_us]
    return TracingCost(
        codec,
        compare_pairs(traced_us, plain_us),
        [compare_pairs(start.traced_us, start.plain_us).estimate for start in starts],
        [start.control_share for start in starts],
        statistics.median(start.control_us for start in starts),
    )


@contextmanager
def bench(codec: Codec, connections: int, ratio: float) -> Iterator[Bench]:
    """Run a gateway whose traces are switched, and a receiver."""
    require()
    find_repository(MODELS[MODEL])
    server_cores, client_cores = split_cores()
    with TemporaryDirectory(prefix="penstock-loadtests-") as name, ExitStack() as servers:
        log = Path(name, "log")
        receiver = servers.enter_context(run_server([sys.executable, "-m", "loadtests.receiver"], client_cores))
        url = f"http://{receiver.addresses['http']}"
        traced = {"PENSTOCK_TRACING__OTLP_ENDPOINT": url, "PENSTOCK_TRACING__RATIO": str(ratio)}
        command = penstock(MODELS[MODEL].folder, "--workers", "1")[1:]
        with set_environment(Path(name, "home"), traced):
            gateway = [sys.executable, "-m", "loadtests.switched", str(log), *command]
            server = servers.enter_context(run_server(gateway, server_cores[:1]))
        yield Bench(server, log, codec, connections)


def measure(codec: Codec, arguments: argparse.Namespace) -> TracingCost:
    """Measure a codec with a gateway that is started ``arguments.starts`` times."""
    starts = []
    for _ in range(arguments.starts):
        with bench(codec, arguments.connections, arguments.ratio) as measured:
            starts.append(measured.measure(arguments.seconds))
    return summarise(codec.name, starts)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--starts", type=int, default=3, help="how often the gateway is started (3)")
    parser.add_argument("--seconds", type=float, default=30.0, help="load for each start (30)")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--ratio", type=float, default=0.01, help="share of the requests that are traced (0.01)")
    parser.add_argument("--codecs", nargs="+", choices=CODECS, default=["json", "grpc"])


def main(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 unless traces are shown to cost no more than 2 %."""
    costs = [measure(CODECS[name], arguments) for name in arguments.codecs]
    Console(width=max(Console().width, _WIDTH)).print(_table(costs))
    return 0 if all(cost.verdict == "yes" for cost in costs) else 1


def _table(costs: Sequence[TracingCost]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    heads = ("codec", "the worker's time", "pairs", "by start", "control process", "µs a span", "whole", "≤ 2 %")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for cost in costs:
        table.add_row(
            cost.codec,
            _text(cost.worker.estimate, cost.worker.low, cost.worker.high),
            f"{cost.worker.pairs}",
            " ".join([f"{value:.3f}" for value in cost.by_start]),
            " ".join([f"{value:+.4f}" for value in cost.control]),
            f"{cost.control_us:.1f}",
            _text(*cost.whole),
            cost.verdict,
        )
    return table


def _text(estimate: float, low: float, high: float) -> str:
    return f"{estimate:.4f} [{low:.4f}, {high:.4f}]"
