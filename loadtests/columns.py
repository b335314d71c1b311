"""Simulated columns through the monitor that serves: shifts that last, end or change size, small references, and effect
sizes of rows that follow each other."""

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from loadtests.cases import add_stream_arguments, draw_autoregression, report, write_figures
from penstock.core.policies import MonitorPolicy
from penstock.core.signature import TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor.columns import input_columns, output_columns
from penstock.monitor.drift_changes import DRIFT, DriftChange
from penstock.monitor.reference import TRAINING
from penstock.monitor.reference_builder import build
from penstock.monitor.rows import RegionCounts, RegionLayout, RowCounter
from penstock.monitor.verdicts import VersionMonitor

Floats = NDArray[np.float64]

Case = TypeVar("Case", "LastingShift", "SmallReference", "CorrelatedRows")
Outcome = TypeVar("Outcome")

LOOK_ROWS = 250
"""Rows between two looks."""

LOOKS_OF_A_WINDOW = 4
"""Looks at each window of rows that follow each other; effect sizes do not depend on them."""

STABLE_ROWS = 1000
"""Rows without a shift before the first one."""


class MonitoredColumns:
    """Rows of some columns, a reference made of the first of them, and the monitor that watches those after it.

    ``draw`` gives so many rows [rows, columns]; a row takes a second.
    """

    def __init__(self, draw: Callable[[int], Floats], reference_rows: int, window_s: float = 300.0) -> None:
        self._draw, self._now = draw, 0.0
        first = draw(reference_rows)
        sides = input_columns([TensorSpec("x", "FP64", (-1, first.shape[1]))], True), output_columns((), True)
        given = sides[0]([Tensor("x", "FP64", first)])
        if given is None:
            raise RuntimeError
        self.reference = build(([*sides[0].numbers], []), given, None, TRAINING)
        self._cells = np.zeros(RegionLayout.of(self.reference).size, np.uint64)
        self._counter = RowCounter(self.reference, self._cells, sides, 1.0)
        self.monitor = VersionMonitor(self.reference, MonitorPolicy(window_s=window_s), self._counted(), self._now)

    def look(self, rows: int = LOOK_ROWS) -> list[DriftChange]:
        """Some rows, as many seconds, and a look."""
        self._counter.count([([Tensor("x", "FP64", self._draw(rows))], [])])
        self._now += rows
        return self.monitor.evaluate(self._counted(), self._now)

    def _counted(self) -> RegionCounts:
        return RegionCounts.of(self.reference, [self._cells])


@dataclass(frozen=True, slots=True)
class LastingShift:
    """Shifts of the first of some columns, one after the other: (rows, standard deviations), from ``STABLE_ROWS`` rows
    on. ``detected`` and ``cleared`` are how often each has to be reported, by the end of its rows."""

    name: str
    shifts: tuple[tuple[int, float], ...]
    cleared: int = 0
    columns: int = 3
    reference_rows: int = 10_000
    look_rows: int = LOOK_ROWS


LASTING = (
    LastingShift("+0.2 sd for 20,000 rows", ((20_000, 0.2),)),
    LastingShift("+0.3 sd for 20,000 rows", ((20_000, 0.3),)),
    LastingShift("+0.5 sd for 20,000 rows", ((20_000, 0.5),)),
    LastingShift("+1 sd for 20,000 rows", ((20_000, 1.0),)),
    LastingShift("+0.2 sd for 10,000 rows, then as before", ((10_000, 0.2), (5000, 0.0)), 1),
    LastingShift("+0.5 sd for 500 rows, then as before", ((500, 0.5), (5000, 0.0)), 1, look_rows=50),
    LastingShift("+0.5 sd for 10,000 rows, then as before", ((10_000, 0.5), (5000, 0.0)), 1),
    LastingShift("+2 sd for 300 rows, then as before", ((300, 2.0), (5000, 0.0)), 1, look_rows=50),
    LastingShift("+0.5, then +0.2, then +0.8 sd, 5,000 rows each", ((5000, 0.5), (5000, 0.2), (5000, 0.8))),
    LastingShift("+0.5, then -0.3 sd, 5,000 rows each", ((5000, 0.5), (5000, -0.3))),
)
"""What is asked of ``drift.detected`` and ``drift.cleared``: the one once, the other never while a shift lasts."""


@dataclass(frozen=True, slots=True)
class ReportedDrift:
    """What was reported of the first column: how often, and how many rows after its last shift a drift was cleared."""

    detected: int
    cleared: int
    cleared_after: int | None


def run_lasting_shift(case: LastingShift, seed: int) -> ReportedDrift:
    """One stream of a case."""
    generator, shift = np.random.default_rng(seed), [0.0]

    def draw(rows: int) -> Floats:
        numbers = generator.standard_normal((rows, case.columns))
        numbers[:, 0] += shift[0]
        return numbers

    watched = MonitoredColumns(draw, case.reference_rows)
    detected, cleared, after = 0, 0, None
    for rows, size in ((STABLE_ROWS, 0.0), *case.shifts):
        shift[0] = size
        for rows_seen in range(case.look_rows, rows + 1, case.look_rows):
            for change in watched.look(case.look_rows):
                if change.about == DRIFT and change.feature == "x[0]":
                    detected, cleared = detected + change.begins, cleared + (not change.begins)
                    after = None if change.begins else rows_seen
    return ReportedDrift(detected, cleared, after)


@dataclass(frozen=True, slots=True)
class SmallReference:
    """A reference of so many rows, of so many columns of one kind, and rows that do not differ from it."""

    reference_rows: int
    columns: int
    kind: str
    rows: int = 10_000

    @property
    def name(self) -> str:
        """As it is shown."""
        return f"{self.reference_rows} rows, {self.columns} {self.kind}"


KINDS = {"normal": 0.0, "binary": 0.5, "binary (3 %)": 0.03}
"""Kinds of columns: normal ones, and those of two values by the share of the second."""

SMALL = tuple(
    SmallReference(rows, columns, kind) for rows in (100, 300, 1000) for columns in (2, 10, 30) for kind in KINDS
)


def run_small_reference(case: SmallReference, seed: int) -> int:
    """Alarms of one stream."""
    generator, share = np.random.default_rng(seed), KINDS[case.kind]

    def draw(rows: int) -> Floats:
        if not share:
            return generator.standard_normal((rows, case.columns))
        return (generator.random((rows, case.columns)) < share).astype(np.float64)

    watched = MonitoredColumns(draw, case.reference_rows)
    for _ in range(case.rows // LOOK_ROWS):
        watched.look()
    return watched.monitor.alarms


@dataclass(frozen=True, slots=True)
class CorrelatedRows:
    """Rows that follow each other: an autoregression of first order, whose windows' effect sizes are held against their
    thresholds."""

    correlation: float
    window: int = 1000
    windows: int = 10
    columns: int = 1
    reference_rows: int = 10_000

    @property
    def name(self) -> str:
        """As it is shown."""
        return f"autocorrelation {self.correlation:g}, windows of {self.window}"


FOLLOWING = tuple(
    CorrelatedRows(correlation, window) for correlation in (0.0, 0.3, 0.6, 0.9) for window in (1000, 5000)
)
EFFECTS = ("psi", "ks", "chi_square")


@dataclass(slots=True)
class ExceededThresholds:
    """In how many windows each effect size was above its threshold."""

    windows: int = 0
    above: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EFFECTS, 0))


class _Autoregression:
    """Rows of an autoregression of first order; independent ones until it ``follows``."""

    def __init__(self, correlation: float, columns: int, seed: int) -> None:
        self._generator, self._correlation = np.random.default_rng(seed), correlation
        self._last = self._generator.standard_normal(columns)
        self.follows = False

    def __call__(self, rows: int) -> Floats:
        numbers = self._generator.standard_normal((rows, len(self._last)))
        if self.follows:
            numbers, self._last = draw_autoregression(numbers, self._last, self._correlation)
        return numbers


def run_correlated_rows(case: CorrelatedRows, seed: int) -> ExceededThresholds:
    """One stream of a case; the reference is of independent rows."""
    draw = _Autoregression(case.correlation, case.columns, seed)
    watched, found = MonitoredColumns(draw, case.reference_rows, case.window), ExceededThresholds()
    draw.follows = True
    for look in range(1, (case.windows + 1) * LOOKS_OF_A_WINDOW + 1):
        watched.look(case.window // LOOKS_OF_A_WINDOW)
        if look > LOOKS_OF_A_WINDOW and look % LOOKS_OF_A_WINDOW == 0:
            column = watched.monitor.document()["features"][0]
            found.windows += 1
            for name in EFFECTS:
                found.above[name] += column[name] > column[f"{name}_threshold"]
    return found


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a case's streams, in words, and whether it is what was asked for."""

    name: str
    streams: int
    asked: str
    found: str
    holds: bool


def find_lasting(case: LastingShift, streams: Sequence[ReportedDrift]) -> Finding:
    """Add a case's streams up: 95 of 100 have to be right in all."""
    right = [stream for stream in streams if stream.detected == 1 and stream.cleared == case.cleared]
    detected, cleared = sum(stream.detected for stream in streams), sum(stream.cleared for stream in streams)
    after = sorted(stream.cleared_after for stream in right if stream.cleared_after is not None)
    shown = f"{len(right)} right, {detected} detected, {cleared} cleared"
    if case.cleared and after:
        shown += f", after {sum(after) / len(after):.0f} rows on average, {after[-1]} at most"
    asked = f"1 detected, {case.cleared} cleared"
    return Finding(case.name, len(streams), asked, shown, len(right) >= 0.95 * len(streams))


def find_small(case: SmallReference, alarms: Sequence[int]) -> Finding:
    """Add a case's streams up: no more alarms than the budget's rows and chance (3 standard deviations) allow."""
    rows, budget = case.rows * len(alarms), MonitorPolicy().budget
    allowed = rows / budget + 3 * (rows / budget) ** 0.5
    shown = f"{sum(alarms)} alarms in {rows} rows, in {sum(alarm > 0 for alarm in alarms)} streams"
    return Finding(case.name, len(alarms), f"<= 1 in {budget:.0f}", shown, sum(alarms) <= allowed)


def find_following(case: CorrelatedRows, exceeded: Sequence[ExceededThresholds]) -> Finding:
    """Add a case's streams up: one window in a hundred may be above, and chance (3 standard deviations)."""
    windows = sum(stream.windows for stream in exceeded)
    shares = {name: sum(stream.above[name] for stream in exceeded) / windows for name in EFFECTS}
    shown = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
    most = 0.01 + 3 * (0.01 / windows) ** 0.5
    return Finding(case.name, len(exceeded), "<= 1 %", f"{shown} of {windows}", max(shares.values()) <= most)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen on the command line."""
    add_stream_arguments(parser, 70_000)
    parser.add_argument("--what", choices=("lasting", "small", "following"), help="only these cases")


def _choose_cases(arguments: argparse.Namespace, cases: Sequence[Case]) -> list[Case]:
    return [case for case in cases if arguments.only in case.name]


def _run_streams(
    pool: Executor, arguments: argparse.Namespace, run: Callable[[Case, int], Outcome], case: Case
) -> list[Outcome]:
    seeds = range(arguments.seed, arguments.seed + arguments.streams)
    return list(track(pool.map(partial(run, case), seeds), case.name, len(seeds), console=Console(stderr=True)))


def main(arguments: argparse.Namespace) -> int:
    """Run every case and print what was asked and what came out; 1 if something does not hold."""
    findings: list[Finding] = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        if arguments.what in (None, "lasting"):
            findings += [
                find_lasting(case, _run_streams(pool, arguments, run_lasting_shift, case))
                for case in _choose_cases(arguments, LASTING)
            ]
        if arguments.what in (None, "small"):
            findings += [
                find_small(case, _run_streams(pool, arguments, run_small_reference, case))
                for case in _choose_cases(arguments, SMALL)
            ]
        if arguments.what in (None, "following"):
            findings += [
                find_following(case, _run_streams(pool, arguments, run_correlated_rows, case))
                for case in _choose_cases(arguments, FOLLOWING)
            ]
    heads = ("case", "streams", "asked", "found")
    rows = [(finding.name, str(finding.streams), finding.asked, finding.found) for finding in findings]
    write_figures(arguments.json, findings)
    return report(heads, rows, [finding.holds for finding in findings])
