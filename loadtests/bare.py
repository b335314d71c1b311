"""Penstock beside bare ``session.run``: the same model, cores and callers at a time, in turn.

The bare runs have no client: each of as many threads as there are cores, or connections if they are fewer, runs one row
again and again. With fewer connections than cores, runs on one core and runs that are spread over the cores are
measured, and the faster of the two counts. So a single connection pays for the network and for its client, which bare
runs do not have; from as many connections as cores on, the server can be busy all the time. Where the runs get all
cores, the client shares them: it takes less than a hundredth of a run of milliseconds.

What a single connection pays anyway is measured in the same rounds: the batching ceiling, which runs the model on its
event loop, and the ceiling without runs, whose answers take only the client, the network and the protocol.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from itertools import product

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loadtests import h2load
from loadtests.codecs import BINARY, GRPC, GRPC_PREFIX, JSON, Call, Codec, ReferenceCalls
from loadtests.graphs import find_repository
from loadtests.h2load import closed_loop
from loadtests.models import MODELS, BenchModel
from loadtests.processes import Server, penstock, pin_children, run_server, split_cores

CONNECTIONS = (1, 4, 32)
LONG = ("gbm", "transformer", "cnn")
CODECS = {codec.name: codec for codec in (BINARY, GRPC, JSON)}

_WARM_UP_S = 0.5
_SETTLE_S = 2.0
"""Seconds that a gateway gets after its start: for one of them it releases what only the start needed, and its control
process takes a tenth of the core."""

_WIDTH = 120


@dataclass(frozen=True, slots=True)
class Figures:
    """One window: runs or answers a second, and the processor time of each in microseconds."""

    rate: float
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Penstock and the bare runs in one round."""

    own: Figures
    bare: Figures


@dataclass(frozen=True, slots=True)
class LoneRound:
    """One connection in one round: Penstock, the bare runs, the ceiling, and the ceiling without runs."""

    own: Figures
    bare: Figures
    ceiling: Figures
    without_run: Figures


class BareRuns:
    """A process that runs a model on request."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def measure(self, callers: int, seconds: float) -> Figures:
        """Run in so many threads at a time for that long."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the bare runs have no pipes")
        print(callers, seconds, file=self._process.stdin, flush=True)
        runs, took_s, cpu_s = json.loads(self._process.stdout.readline())
        return Figures(runs / took_s, cpu_s * 1e6 / runs)


@contextmanager
def bare_runs(model: BenchModel, threads: int, cores: Sequence[int]) -> Iterator[BareRuns]:
    """Start the bare runs of a model on these cores, with a session of so many threads."""
    command = [sys.executable, "-m", "loadtests.bare", model.name, str(threads)]
    with pin_children(cores):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        yield BareRuns(process)  # the end of its input ends it


class BareComparison:
    """One model on some cores: Penstock and the bare runs beside each other. One that is not asked costs nothing."""

    def __init__(self, model: BenchModel, codec: Codec, server: Server, bare: Sequence[BareRuns], cores: int) -> None:
        self._model, self._codec, self._server, self._bare, self._cores = model, codec, server, bare, cores
        self._size = ReferenceCalls(model).check(codec, self._address(server)) + GRPC_PREFIX
        self._call: Call = codec.write(model, model.rows(1))

    def _address(self, server: Server) -> str:
        return server.addresses["grpc" if self._codec.grpc else "http"]

    def own(self, connections: int, seconds: float) -> Figures:
        """Measure Penstock."""
        return self._answers(self._server, connections, seconds)

    def _answers(self, server: Server, connections: int, seconds: float) -> Figures:
        cpu_s = server.cpu_s()
        window = closed_loop(
            self._codec,
            self._call,
            self._address(server),
            connections=connections,
            seconds=seconds,
            cores=split_cores()[1],
            answer_bytes=self._size,
        )
        if window.errors:
            raise RuntimeError(f"{window.errors} of {window.done} answers are errors")
        return Figures(window.rate, (server.cpu_s() - cpu_s) * 1e6 / max(window.done, 1))

    def lone(self, ceiling: Server, without_run: Server, seconds: float, own_first: bool) -> LoneRound:
        """Measure one connection beside the ceiling and the ceiling without runs."""
        pair = self.pair(1, seconds, own_first)
        least, none = (self._answers(server, 1, seconds) for server in (ceiling, without_run))
        return LoneRound(pair.own, pair.bare, least, none)

    def bare(self, connections: int, seconds: float) -> Figures:
        """Measure the bare runs; where both kinds are possible, the faster one."""
        callers = min(connections, self._cores)
        kinds = self._bare if callers < self._cores else self._bare[:1]
        return max([runs.measure(callers, seconds) for runs in kinds], key=lambda figures: figures.rate)

    def pair(self, connections: int, seconds: float, own_first: bool) -> Pair:
        """Measure both, one after the other."""
        if own_first:
            own = self.own(connections, seconds)
            return Pair(own, self.bare(connections, seconds))
        bare = self.bare(connections, seconds)
        return Pair(self.own(connections, seconds), bare)


@contextmanager
def open_comparison(model: BenchModel, codec: Codec, cores: Sequence[int]) -> Iterator[BareComparison]:
    """Start both on these cores."""
    with ExitStack() as stack:
        server = stack.enter_context(run_server(penstock(model.folder, "--workers", "1"), cores))
        bare = [stack.enter_context(bare_runs(model, threads, cores)) for threads in sorted({1, len(cores)})]
        time.sleep(_SETTLE_S)
        yield BareComparison(model, codec, server, bare, len(cores))


def measure_lone(model: BenchModel, codec: Codec, cores: Sequence[int], rounds: int, seconds: float) -> list[LoneRound]:
    """Measure one connection on some cores, beside the ceilings."""
    find_repository(model)
    seconds *= model.longer
    command = [sys.executable, "-m", "loadtests.ceiling", model.name, "--codec", codec.name, "--batched"]
    with (
        run_server([*command, "--threads", str(len(cores))], cores) as ceiling,
        run_server([*command, "--without-run"], cores) as without_run,
        open_comparison(model, codec, cores) as both,
    ):
        both.own(1, _WARM_UP_S)
        return [both.lone(ceiling, without_run, seconds, number % 2 == 0) for number in range(rounds)]


def measure(
    model: BenchModel, codec: Codec, cores: Sequence[int], rounds: int, seconds: float
) -> dict[int, list[Pair]]:
    """Measure a model on some cores: the rounds of each number of connections."""
    find_repository(model)
    seconds *= model.longer
    found: dict[int, list[Pair]] = {connections: [] for connections in CONNECTIONS}
    with open_comparison(model, codec, cores) as both:
        both.own(CONNECTIONS[-1], _WARM_UP_S)
        for number, connections in product(range(rounds), CONNECTIONS):
            found[connections].append(both.pair(connections, seconds, number % 2 == 0))
    return found


def rate_ratio(pairs: Sequence[Pair]) -> float:
    """The median over the rounds of Penstock's rate as a part of the bare one."""
    return statistics.median(pair.own.rate / pair.bare.rate for pair in pairs)


def cpu_ratio(pairs: Sequence[Pair]) -> float:
    """The median over the rounds of the processor time of a bare run as a part of that of an answer."""
    return statistics.median(pair.bare.cpu_us / pair.own.cpu_us for pair in pairs)


def bare_ratios(name: str, rounds: int, seconds: float) -> dict[str, float]:
    """Figures of a model on one core as parts of those of bare runs; less is worse."""
    found = measure(MODELS[name], BINARY, split_cores()[0][:1], rounds, seconds)
    rates = {f"of bare runs, {name}, {connections}": rate_ratio(pairs) for connections, pairs in found.items()}
    busy = found[CONNECTIONS[-1]]
    return {**rates, f"of bare runs, {name}, processor time": cpu_ratio(busy)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(LONG))
    parser.add_argument("--codec", choices=CODECS, default=BINARY.name)
    parser.add_argument("--cores", nargs="+", type=int, choices=(1, 2), default=[1, 2], help="of the runs (1 and 2)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a window (default 2)")
    parser.add_argument("--lone", action="store_true", help="one connection alone, beside the ceilings")


def main(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    h2load.require()
    every = sorted(os.sched_getaffinity(0))
    console = Console(width=max(Console().width, _WIDTH))
    for name, count in product(arguments.models, arguments.cores):
        cores, title = split_cores()[0][:1] if count == 1 else every[:count], f"{name}, cores: {count}"
        what = (MODELS[name], CODECS[arguments.codec], cores, arguments.rounds, arguments.seconds)
        console.print(lone_table(title, measure_lone(*what)) if arguments.lone else table(title, measure(*what)))
    return 0


def lone_table(title: str, rounds: Sequence[LoneRound]) -> Table:
    """The table of one connection: medians over the rounds."""
    rows = Table(title=f"{title}, one connection", title_justify="left", box=SIMPLE_HEAD)
    for head in ("", "a second", "µs", "of bare", "min-max", "CPU µs"):
        rows.add_column(head, justify="right" if head else "left", no_wrap=True)
    bare = [one.bare for one in rounds]
    rows.add_row("bare runs", *lone_cells(bare, bare))
    rows.add_row("penstock", *lone_cells([one.own for one in rounds], bare))
    rows.add_row("ceiling", *lone_cells([one.ceiling for one in rounds], bare))
    rows.add_row("ceiling without runs", *lone_cells([one.without_run for one in rounds], bare))
    return rows


def lone_cells(figures: Sequence[Figures], bare: Sequence[Figures]) -> list[str]:
    """Medians over the rounds of a server: its rate, the time and the processor time of an answer."""
    rate, cpu_us = (statistics.median(values) for values in zip(*map(astuple, figures), strict=True))
    ratios = [own.rate / least.rate for own, least in zip(figures, bare, strict=True)]
    spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
    return [f"{rate:,.0f}", f"{1e6 / rate:,.0f}", f"{statistics.median(ratios):.3f}", spread, f"{cpu_us:,.0f}"]


def table(title: str, found: Mapping[int, Sequence[Pair]]) -> Table:
    """The table of a model on some cores."""
    rows = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for head in ("connections", "runs/s", "answers/s", "ratio", "min-max", "run CPU µs", "answer CPU µs", "ratio"):
        rows.add_column(head, justify="right", no_wrap=True)
    for connections, pairs in found.items():
        rows.add_row(str(connections), *cells(pairs))
    return rows


def cells(pairs: Sequence[Pair]) -> list[str]:
    """The figures of one number of connections: medians over the rounds."""
    bare, own = [pair.bare for pair in pairs], [pair.own for pair in pairs]
    ratios = [pair.own.rate / pair.bare.rate for pair in pairs]
    times = [statistics.median(figures.cpu_us for figures in side) for side in (bare, own)]
    return [
        *(f"{statistics.median(figures.rate for figures in side):,.0f}" for side in (bare, own)),
        f"{rate_ratio(pairs):.3f}",
        f"{min(ratios):.2f}-{max(ratios):.2f}",
        *(f"{cpu_us:,.0f}" for cpu_us in times),
        f"{1 / cpu_ratio(pairs):.3f}",
    ]


def serve_runs(model: BenchModel, threads: int) -> None:
    """Answer each line of the input, callers and seconds, with the runs, and the seconds and processor seconds that
    they took."""
    session = model.session(threads)
    feeds = {model.input: model.rows(1)}
    outputs = list(model.outputs)
    session.run(outputs, feeds)
    for line in sys.stdin:
        callers, seconds = line.split()
        counts = [0] * int(callers)
        until = time.monotonic() + float(seconds)

        def work(index: int, until: float = until, counts: list[int] = counts) -> None:
            while time.monotonic() < until:
                session.run(outputs, feeds)
                counts[index] += 1

        began, cpu_s = time.monotonic(), time.process_time()
        workers = [threading.Thread(target=work, args=(index,)) for index in range(int(callers))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        print(json.dumps([sum(counts), time.monotonic() - began, time.process_time() - cpu_s]), flush=True)


if __name__ == "__main__":
    serve_runs(MODELS[sys.argv[1]], int(sys.argv[2]))
