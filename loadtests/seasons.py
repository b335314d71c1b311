"""Simulated seasons through the monitor that serves: a column that moves by the hour and at weekends must not raise
alarms, and a real shift on top of it has to be found."""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from loadtests.cases import add_stream_arguments, report, write_figures
from penstock.core.policies import MonitorPolicy
from penstock.core.signature import TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor.columns import input_columns, output_columns
from penstock.monitor.reference import TRAINING, Reference
from penstock.monitor.reference_builder import build
from penstock.monitor.rows import RegionCounts, RegionLayout, RowCounter
from penstock.monitor.verdicts import VersionMonitor

Floats = NDArray[np.float64]

FEATURES = 3
"""Columns, of which the first has the season."""

TRAINED = 50_000
"""Rows of the reference, spread evenly over one week."""

DAY_S, WEEK_S = 86_400.0, 604_800.0
MONDAY = 1_767_571_200.0
"""A Monday, 00:00 UTC."""

LOOK_S = 900.0
"""Seconds between two looks while nothing changes; a gateway looks each second, which is more chances to see about the
same evidence."""

COLUMNS = input_columns([TensorSpec("x", "FP64", (-1, FEATURES))], True), output_columns((), True)


@dataclass(frozen=True, slots=True)
class Case:
    """One question: rows a second, what the reference knows of time (``hours``, ``order`` or ``nothing``), and the
    shift in standard deviations that comes on top (0 for none); ``sine`` and ``weekend`` are the season's."""

    name: str
    rate: float
    knows: str = "hours"
    shift: float = 0.0
    sine: float = 0.3
    weekend: float = -0.2
    most_alarms: float = 1.0
    within: int = 1000


CASES = (
    Case("a week, 1 row/s, by the hour", 1),
    Case("a week, 10 rows/s, by the hour", 10),
    Case("a week, 1 row/s, by the order of rows", 1, "order"),
    Case("a week, 10 rows/s, by the order of rows", 10, "order"),
    Case("+0.5 sd, 1 row/s, by the hour", 1, shift=0.5),
    Case("+0.5 sd, 10 rows/s, by the hour", 10, shift=0.5),
    Case("+0.5 sd, 1 row/s, by the order of rows", 1, "order", shift=0.5),
)
"""What is asked of the monitor at its default budget."""


def seasonal_mean(case: Case, times: Floats) -> Floats:
    """Where the season has the first column at these times."""
    weekend = (times - MONDAY) % WEEK_S >= 5 * DAY_S
    return np.asarray(case.sine * np.sin(2 * np.pi * times / DAY_S) + case.weekend * weekend, np.float64)


class Stream:
    """Rows with a season, a reference made of a week of them, and the monitor that watches those after it."""

    def __init__(self, case: Case, seed: int, begins: float) -> None:
        self._case, self._generator, self.now = case, np.random.default_rng(seed), begins
        self.shift = 0.0
        self.reference = self._trained()
        self._cells = np.zeros(RegionLayout.of(self.reference).size, np.uint64)
        self._counter = RowCounter(self.reference, self._cells, COLUMNS, 1.0)
        self.monitor = VersionMonitor(self.reference, MonitorPolicy(), self._counted(), self.now)

    def _trained(self) -> Reference:
        times = np.asarray(MONDAY - WEEK_S + np.arange(TRAINED) * (WEEK_S / TRAINED), np.float64)
        if self._case.knows == "nothing":
            times = self._generator.permutation(times)
        given = COLUMNS[0](self._rows(times)[0])
        if given is None:
            raise RuntimeError
        times_known = times if self._case.knows == "hours" else None
        return build(([*COLUMNS[0].numbers], []), given, None, TRAINING, times_known)

    def _rows(self, times: Floats) -> tuple[list[Tensor], list[Tensor]]:
        x = self._generator.standard_normal((len(times), FEATURES))
        x[:, 0] += seasonal_mean(self._case, times) + self.shift
        return [Tensor("x", "FP64", x)], []

    def look(self, seconds: float) -> None:
        """The rows of some seconds, and a look."""
        rows = round(seconds * self._case.rate)
        self._counter.count([self._rows(self.now + np.arange(rows) / self._case.rate)])
        self.now += seconds
        self.monitor.evaluate(self._counted(), self.now)

    def _counted(self) -> RegionCounts:
        return RegionCounts.of(self.reference, [self._cells])


@dataclass(frozen=True, slots=True)
class Outcome:
    """Alarms while nothing but the season changed, and after how many rows the shift was found (None: it was not)."""

    alarms: int
    delay: int | None = None


def run(case: Case, seed: int, stable_s: float = WEEK_S, look_s: float = LOOK_S) -> Outcome:
    """One stream: a week of the season alone; or some hours of it, then the shift at any time of the week."""
    begins = MONDAY if not case.shift else MONDAY + float(np.random.default_rng(seed + 1).uniform(0, WEEK_S))
    stream = Stream(case, seed, begins)
    for _ in range(round((stable_s if not case.shift else 3 * 3600) / look_s)):
        stream.look(look_s)
    alarms = stream.monitor.alarms
    if not case.shift:
        return Outcome(alarms)
    stream.shift, step = case.shift, 20
    for rows in range(step, 4 * case.within + 1, step):
        stream.look(step / case.rate)
        if stream.monitor.alarms > alarms:
            return Outcome(alarms, rows)
    return Outcome(alarms)


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a case's streams: alarms a stream (a week, where nothing is shifted), the share of shifts that was
    found in time, and the mean rows until then."""

    case: Case
    streams: int
    alarms: float
    found: float | None = None
    delay: float | None = None

    @property
    def holds(self) -> bool:
        """Whether that is what was asked for; of the order of rows alone no shift can be asked for at every hour."""
        if not self.case.shift:
            return self.alarms <= self.case.most_alarms
        return self.case.knows != "hours" or (self.found or 0.0) >= 0.95


def find(case: Case, outcomes: Sequence[Outcome]) -> Finding:
    """Add a case's streams up."""
    alarms = sum(outcome.alarms for outcome in outcomes) / len(outcomes)
    if not case.shift:
        return Finding(case, len(outcomes), alarms)
    delays = [outcome.delay for outcome in outcomes if outcome.delay is not None and outcome.delay <= case.within]
    return Finding(case, len(outcomes), alarms, len(delays) / len(outcomes), sum(delays) / max(1, len(delays)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen on the command line."""
    add_stream_arguments(parser, 50_000)
    parser.add_argument("--look", type=float, default=LOOK_S, help="seconds between two looks at the season alone")


def main(arguments: argparse.Namespace) -> int:
    """Run every case and print what was asked and what came out; 1 if something does not hold."""
    console, findings = Console(stderr=True), []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for index, case in enumerate(CASES):
            if arguments.only not in case.name:
                continue
            seeds = range(arguments.seed + 1000 * index, arguments.seed + 1000 * index + arguments.streams)
            outcomes = list(
                track(
                    pool.map(partial(run, case, look_s=arguments.look), seeds), case.name, len(seeds), console=console
                )
            )
            findings.append(find(case, outcomes))
    heads, rows = ("case", "streams", "alarms a stream", "found in time", "mean rows", "asked"), []
    for finding in findings:
        asked = f"<= {finding.case.most_alarms:g} alarm" if not finding.case.shift else f"<= {finding.case.within} rows"
        rate = "" if finding.found is None else f"{finding.found:.1%}"
        delay = "" if finding.delay is None else f"{finding.delay:.0f}"
        rows.append((finding.case.name, str(finding.streams), f"{finding.alarms:.3f}", rate, delay, asked))
    write_figures(arguments.json, findings)
    return report(heads, rows, [finding.holds for finding in findings])
