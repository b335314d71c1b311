"""Fails when Penstock has become slower against the bare protocol than it may be: ratios in one run.

Every figure is a part of the ceiling's, and less is worse: of its throughput and its processor time at 32 connections,
of its durations at half of Penstock's peak, of the instructions of a request that comes alone, and of what a start
needs. The transformer runs on the thread pool, the other models on the event loop; its rates and its processor time are
also parts of those of bare ``session.run``. Processor time without traces is a part of that with them. ``guard.json``
has the least that each figure may be, by the vendor of the processor. As the machine may have been disturbed, a part of
the run in which something is less is run once more.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loadtests import h2load
from loadtests.bare import bare_ratios
from loadtests.bench import HALF_LOADS, PEAK, BenchRound
from loadtests.contenders import Contender, all_running, list_contenders
from loadtests.graphs import find_repository
from loadtests.instructions import MODEL, lone_ratios, require
from loadtests.measurements import Load, Measurement, cpu_us, median_ratio, p50, p99, rate
from loadtests.models import MODELS
from loadtests.processes import split_cores
from loadtests.start import start_ratios
from loadtests.tracing import tracing_ratios

KEPT = Path(__file__).with_name("guard.json")
CODECS = ("json", "binary", "grpc")
MAY_FALL = {
    "throughput": 0.1,
    "processor time": 0.1,
    "half load": 0.3,
    "lone": 0.05,
    "start": 0.15,
    "memory": 0.1,
    "tracing": 0.02,
    "of bare runs": 0.05,
}
"""How much less than what was seen a figure may be, by the first words of its name."""

_START_ROUNDS = 2
_ON_THREADS = "transformer"

Parts = dict[str, float]
"""Figures as parts of the ceiling's, by name."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model and its codecs, and the loads that are held."""

    model: str
    codecs: tuple[str, ...]
    loads: tuple[Load, ...]


HALF_LOAD = HALF_LOADS[0]
CASES = (
    Case("tiny", CODECS, (PEAK, HALF_LOAD)),
    Case("mlp", CODECS, (PEAK,)),
    Case("transformer", ("binary",), (PEAK,)),
)


@dataclass(frozen=True, slots=True)
class Regression:
    """A figure that is less than it may be."""

    name: str
    least: float
    seen: float


def find_regressions(least: Mapping[str, float], measured: Mapping[str, float]) -> list[Regression]:
    """Figures that are less than they may be, or no number; one that is not kept cannot fall."""
    return [
        Regression(name, least[name], part)
        for name, part in measured.items()
        if name in least and not part >= least[name]
    ]


def choose_limits(kept: Mapping[str, Mapping[str, float]], vendor: str) -> Parts:
    """The least that figures may be with a processor of a vendor; with that of another one, the least of all."""
    if vendor in kept:
        return dict(kept[vendor])
    names = {name for figures in kept.values() for name in figures}
    return {name: min(figures[name] for figures in kept.values() if name in figures) for name in sorted(names)}


def limits_from(measured: Mapping[str, float]) -> Parts:
    """The least that figures may be, from what was seen on a quiet machine."""
    return {
        name: round(part * (1 - next(fall for kind, fall in MAY_FALL.items() if name.startswith(kind))), 3)
        for name, part in measured.items()
    }


def vendor_of(cpuinfo: str) -> str:
    """The vendor of the processor, "" where the kernel does not say."""
    names = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("vendor_id")]
    return names[0] if names else ""


def measure(case: Case, rounds: int, seconds: float) -> Parts:
    """Measure a case: medians over the rounds."""
    model = MODELS[case.model]
    find_repository(model)
    loads = [replace(load, seconds=seconds * load.seconds / PEAK.seconds) for load in case.loads]
    names = {f"{server} {codec}" for server in ("penstock", "batched") for codec in case.codecs}
    chosen = [contender for contender in list_contenders(model) if contender.name in names]
    with all_running(chosen, model, split_cores()[0]) as servers:
        for contender in chosen:
            BenchRound(0, model, servers).warm_up(contender)
        measured = []
        for number in range(rounds):
            bout, order = BenchRound(number, model, servers), chosen[::-1] if number % 2 else chosen
            measured += [bout.measure(load, contender) for load in loads for contender in order]
    return dict(parts(chosen, measured))


def parts(chosen: Sequence[Contender], measured: Sequence[Measurement]) -> Iterator[tuple[str, float]]:
    """Penstock's figures as parts of the ceiling's."""

    def of(contender: str, load: Load) -> list[Measurement]:
        return [item for item in measured if (item.contender, item.load) == (contender, load.name)]

    for contender in chosen:
        if contender.server != "penstock":
            continue
        own, least = of(contender.name, PEAK), of(contender.batched, PEAK)
        own_half, least_half = of(contender.name, HALF_LOAD), of(contender.batched, HALF_LOAD)
        found = {
            "throughput {}": median_ratio(own, least, rate),
            "processor time {}": median_ratio(least, own, cpu_us),
            "half load {} p50": median_ratio(least_half, own_half, p50),
            "half load {} p99": median_ratio(least_half, own_half, p99),
        }
        case = f"{measured[0].model} {contender.codec.name}"
        yield from ((name.format(case), part) for name, part in found.items() if part is not None)


def settled(leg: Callable[[], Parts], least: Mapping[str, float]) -> Parts:
    """What a part of the run sees; where something is less than it may be, the better of two runs."""
    measured = leg()
    if not find_regressions(least, measured):
        return measured
    again = leg()
    return {name: max(part, again[name]) for name, part in measured.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (default 5)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a window (default 1.5)")
    parser.add_argument("--keep", action="store_true", help="write the least that may be to guard.json")


def main(arguments: argparse.Namespace) -> int:
    """Measure and compare; 1 where a figure is less than it may be."""
    h2load.require()
    require()
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    vendor = vendor_of(Path("/proc/cpuinfo").read_text())
    least = {} if arguments.keep else choose_limits(kept, vendor)
    legs: list[Callable[[], Parts]] = [
        *(partial(measure, case, arguments.rounds, arguments.seconds) for case in CASES),
        partial(bare_ratios, _ON_THREADS, arguments.rounds, arguments.seconds),
        partial(lone_ratios, MODELS[MODEL]),
        partial(start_ratios, _START_ROUNDS),
        partial(tracing_ratios, arguments.rounds),
    ]
    measured = {name: part for leg in legs for name, part in settled(leg, least).items()}
    console = Console()
    console.print(_table(vendor, measured, least))
    if arguments.keep:
        KEPT.write_text(json.dumps({**kept, vendor: limits_from(measured)}, indent=1) + "\n")
        return 0
    for fall in find_regressions(least, measured):
        console.print(f"{fall.name} is {fall.seen:.2f}, less than {fall.least:.2f}", style="red")
    return 1 if find_regressions(least, measured) else 0


def _table(vendor: str, measured: Mapping[str, float], least: Mapping[str, float]) -> Table:
    table = Table(title=vendor, title_justify="left", box=SIMPLE_HEAD)
    for head in ("", "part", "at least"):
        table.add_column(head)
    for name, part in measured.items():
        table.add_row(name, f"{part:.2f}", f"{least[name]:.2f}" if name in least else "")
    return table
