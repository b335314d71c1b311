"""The benchmark: everybody measured in turn on the same cores, round after round, against the ceilings of the round.

Closed loop (1 and 32 connections, each with one request in flight) says how much a server can do and what one
caller feels; open loop (random arrivals at half of Penstock's peak of the round, and at half of the ceiling's, the same
for everybody) says what callers feel who do not wait for each other.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from loadtests import h2load, report
from loadtests.codecs import GRPC_PREFIX, ReferenceCalls, WrongAnswer
from loadtests.contenders import Contender, all_running, list_contenders, list_peers
from loadtests.graphs import find_repository
from loadtests.h2load import Window, closed_loop
from loadtests.measurements import CLOSED, MANY, ONE, Load, Measurement, Results, Row, ServerFacts
from loadtests.models import MODELS, BenchModel
from loadtests.openloop import open_loop
from loadtests.peers.environments import python_of
from loadtests.peers.launch import PEERS
from loadtests.processes import Server, split_cores, steal_s

PEAK = Load(MANY, 4.0, connections=32)
HALF_LOADS = (
    Load("half of penstock's peak", 4.0, share=0.5, of="penstock"),
    Load("half of the ceiling's peak", 4.0, share=0.5, of="batched"),
)
LOADS = (Load(ONE, 2.0, connections=1), PEAK, *HALF_LOADS)
HALF_LOAD_S = 60.0
"""The length of a window of half load where nothing else is measured."""

CODECS = ("json", "binary", "grpc")

_ROUNDS, _HALF_LOAD_ROUNDS = 3, 5
_TWO_WORKERS = "2 workers"
_QUICK = 0.35
_WIDTH = 150  # of the tables, also where the terminal is narrower or there is none
_WARM_UP_S = 0.5
_START_S, _BESIDE_S = 2.0, 1.5
"""Seconds for the start of a server, and those of a window beside its load: a comparison of answers, and the client's
start and reckoning; as seen on two cores."""

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: models, windows, rounds, the servers left out, those of others that can be had, and the codecs.
    ``pairs``: only Penstock and the batching ceiling."""

    models: tuple[BenchModel, ...]
    loads: tuple[Load, ...]
    rounds: int
    without: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    codecs: tuple[str, ...] = CODECS
    pairs: bool = False

    def contenders(self, model: BenchModel, number: int = 0) -> list[Contender]:
        """Who takes part, in the order of that round: every second one goes backwards."""
        all_of = [*list_contenders(model), *(peer for peer in list_peers() if peer.server in self.beside)]
        chosen = [contender for contender in all_of if self._takes_part(contender)]
        return chosen[::-1] if number % 2 else chosen

    def _takes_part(self, contender: Contender) -> bool:
        is_paired = contender.server == "penstock" or contender.name == contender.batched
        return (
            contender.server not in self.without
            and contender.ceiling_codec in self.codecs
            and (is_paired or not self.pairs)
        )

    def windows(self, model: BenchModel, number: int = 0) -> list[tuple[Load, Contender]]:
        """What is measured in that round, in order: an open loop only where the peak that sets its rate is measured."""
        chosen = self.contenders(model, number)
        names = {contender.name for contender in chosen}
        pairs = product(self.loads, chosen)
        return [
            (load, contender) for load, contender in pairs if load.connections or load.reference(contender) in names
        ]

    def steps(self) -> int:
        """How many windows that makes."""
        return self.rounds * sum(len(self.windows(model)) for model in self.models)

    def estimate_s(self) -> float:
        """About how many seconds it takes."""
        return self.rounds * sum(self._estimate_model_s(model) for model in self.models)

    def _estimate_model_s(self, model: BenchModel) -> float:
        chosen = self.contenders(model)
        servers = {contender.server for contender in chosen}
        windows = sum(load.seconds * model.longer + _BESIDE_S for load, _ in self.windows(model))
        return _START_S * len(servers) + (_WARM_UP_S + _BESIDE_S) * len(chosen) + windows


class BenchRound:
    """One round of one model: every load in turn, every contender in turn, all servers up beside each other."""

    def __init__(self, number: int, model: BenchModel, servers: Mapping[str, Server]) -> None:
        self._number, self._model, self._servers = number, model, servers
        self._cores = split_cores()[1]
        self._reference = ReferenceCalls(model)
        self._peaks: dict[str, float] = {}

    def warm_up(self, contender: Contender) -> None:
        """Let a server and its connections settle."""
        self._closed(contender, replace(PEAK, seconds=_WARM_UP_S), 0)

    def measure(self, load: Load, contender: Contender) -> Measurement:
        """Compare answers with ONNX Runtime, then measure one window. Raises WrongAnswer."""
        load = replace(load, seconds=load.seconds * self._model.longer)
        server = self._servers[contender.server]
        size = self._reference.check(contender.codec, contender.address(server)) + GRPC_PREFIX
        cpu, stolen = server.cpu_s(), steal_s()
        window = self._closed(contender, load, size) if load.connections else self._open(contender, load)
        cpu_us = (server.cpu_s() - cpu) * 1e6 / max(window.done, 1)
        if load.connections == PEAK.connections:
            self._peaks[contender.name] = window.rate
        stolen = steal_s() - stolen
        server.wait_idle()
        return Measurement(self._number, self._model.name, contender.name, load.name, window, cpu_us, stolen)

    def facts(self) -> list[ServerFacts]:
        """How the servers started and what they hold now."""
        return [
            ServerFacts(self._number, self._model.name, name, server.start_s, server.rss_bytes())
            for name, server in self._servers.items()
        ]

    def _closed(self, contender: Contender, load: Load, answer_bytes: int) -> Window:
        return closed_loop(
            contender.codec,
            contender.codec.write(self._model, self._model.rows(1)),
            contender.address(self._servers[contender.server]),
            connections=load.connections,
            seconds=load.seconds,
            cores=self._cores,
            answer_bytes=answer_bytes,
        )

    def _open(self, contender: Contender, load: Load) -> Window:
        return open_loop(
            contender.codec,
            contender.codec.write(self._model, self._model.rows(1)),
            contender.address(self._servers[contender.server]),
            rate=load.share * self._peaks[load.reference(contender)],
            seconds=load.seconds,
            cores=self._cores,
        )


def run(plan: Plan, step: Step) -> tuple[list[Measurement], list[ServerFacts]]:
    """Measure everything; ``step`` hears before every window what comes."""
    measurements: list[Measurement] = []
    facts: list[ServerFacts] = []
    for number in range(plan.rounds):
        for model in plan.models:
            chosen = plan.contenders(model, number)
            with all_running(chosen, model, split_cores()[0]) as servers:
                chosen = [contender for contender in chosen if contender.server in servers]
                bout = BenchRound(number, model, servers)
                for contender in chosen:
                    bout.warm_up(contender)
                for load, contender in plan.windows(model, number):
                    if contender in chosen:
                        step(f"round {number + 1}, {model.name}, {load.name}: {contender.name}")
                        measurements.append(bout.measure(load, contender))
                facts += bout.facts()
    return measurements, facts


def _with_progress(plan: Plan, console: Console) -> tuple[list[Measurement], list[ServerFacts]]:
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=plan.steps())
        done = -1

        def step(what: str) -> None:
            nonlocal done
            done += 1
            progress.update(task, completed=done, description=what)

        return run(plan, step)


def _plan(arguments: argparse.Namespace) -> Plan:
    half = arguments.half_load
    names = arguments.models or (["tiny"] if arguments.quick or half else list(MODELS))
    return Plan(
        models=tuple(MODELS[name] for name in names),
        loads=_loads(arguments),
        rounds=arguments.rounds or (_HALF_LOAD_ROUNDS if half else _ROUNDS),
        without=(*arguments.without, *(() if half else _impossible())),
        beside=_available_peers() if arguments.peers and not half else (),
        codecs=tuple(arguments.only),
        pairs=half,
    )


def _loads(arguments: argparse.Namespace) -> tuple[Load, ...]:
    """The loads, and how long their windows are."""
    scale = arguments.scale * (_QUICK if arguments.quick else 1.0)
    chosen = (PEAK, *(replace(load, seconds=HALF_LOAD_S) for load in HALF_LOADS)) if arguments.half_load else LOADS
    return tuple(
        replace(load, seconds=load.seconds * scale if load.connections else arguments.seconds or load.seconds * scale)
        for load in chosen
    )


def _impossible() -> tuple[str, ...]:
    """Servers that this machine has too few cores for."""
    if len(split_cores()[0]) > 1:
        return ()
    print(f"{_TWO_WORKERS} are left out: they need two cores, and the client two more", file=sys.stderr)
    return (_TWO_WORKERS,)


def _available_peers() -> tuple[str, ...]:
    """Servers of others whose environments are filled, or can be."""
    found = []
    for peer in PEERS:
        try:
            python_of(peer)
        except (RuntimeError, OSError, subprocess.CalledProcessError) as failure:
            print(f"{peer} is left out: {failure}", file=sys.stderr)
        else:
            found.append(peer)
    return tuple(found)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the benchmark."""
    parser.add_argument("--quick", action="store_true", help="short windows and the tiny model alone: some minutes")
    parser.add_argument(
        "--half-load",
        action="store_true",
        help="the peaks, and then half load alone, of Penstock and the batching ceiling: the tiny model, windows of a "
        "minute",
    )
    parser.add_argument("--seconds", type=float, help="length of a window of half load (default 60; 4 in a full run)")
    parser.add_argument("--only", nargs="+", choices=CODECS, default=CODECS, help="which codecs (default all)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the windows' lengths (default 1)")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="leave the servers of others out")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (default 3; 5 with --half-load)")
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, help="which models (default all; tiny with --quick or --half-load)"
    )
    parser.add_argument("--without", nargs="+", default=[], metavar="SERVER", help="servers to leave out")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder of the JSON report")


def main(arguments: argparse.Namespace) -> int:
    """Run the benchmark; 1 where an answer was wrong, or a request failed that a server had to answer."""
    h2load.require()
    console, errors, plan = Console(width=max(Console().width, _WIDTH)), Console(stderr=True), _plan(arguments)
    for model in plan.models:
        find_repository(model)
    errors.print(f"about {plan.estimate_s() / 60:.1f} minutes: {plan.rounds} rounds, {plan.steps()} windows")
    try:
        measurements, facts = _with_progress(plan, errors)
    except (WrongAnswer, RuntimeError) as failure:
        errors.print(f"benchmark ended: {failure}", markup=False)
        return 1
    results = Results(measurements)
    rows = [
        row
        for model in plan.models
        for load in plan.loads
        for contender in plan.contenders(model)
        if (row := results.row(model.name, load, contender))
    ]
    report.show(console, rows, facts)
    errors.print(f"written: {report.write(arguments.out, plan, rows, measurements, facts)}", markup=False)
    return 1 if any(map(_failed, rows)) else 0


def _failed(row: Row) -> bool:
    """Whether requests failed. The rate of an open loop can be more than the servers of others can do."""
    return bool(row.errors) and (row.load in CLOSED or row.contender.startswith("penstock"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    add_arguments(parser)
    raise SystemExit(main(parser.parse_args()))
