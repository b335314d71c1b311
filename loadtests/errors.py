"""Simulated errors that follow each other, through the code that watches labels (``concept`` and ``gap``): how often it
alarms while nothing changes, and after how many labels it finds more errors."""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from loadtests.cases import add_stream_arguments, draw_autoregression, report, write_figures
from penstock.core.policies import MonitorPolicy
from penstock.core.statistics.calibration import GapWatch
from penstock.core.statistics.error_watch import ErrorWatch
from penstock.monitor.performance import SHARE

Floats = NDArray[np.float64]

REFERENCE = 10_000
"""Labelled rows of a reference."""

STABLE_LABELS = 10_000
"""Labels of a stream in which nothing changes."""

MOST_AT_ONCE = 120
"""Labels that come at once at most; some come one by one."""

CORRELATIONS = (0.0, 0.3, 0.6, 0.9)
RATES = (0.02, 0.1, 0.3)

CHAIN, LATENT, NUMBERS = "chain", "latent", "numbers"


@dataclass(frozen=True, slots=True)
class Case:
    """One question.

    Errors come of a Markov ``chain`` of two states whose neighbours correlate by ``correlation``; or where a ``latent``
    Gaussian autoregression of that correlation exceeds a threshold; or they are ``numbers``, exponentials of that
    autoregression. ``after`` is the share of errors after ``stable_labels`` labels (None: nothing changes), for
    ``most`` labels; in ``within`` labels half of the changes have to be found. ``gap``: it is not the errors that are
    watched, but whether answers are as often right as a model says that is right so often by its own account.
    """

    kind: str
    rate: float
    correlation: float
    known: bool
    after: float | None = None
    stable_labels: int = STABLE_LABELS
    most: int = 0
    within: int = 0
    gap: bool = False

    @property
    def name(self) -> str:
        """For people."""
        rate = "" if self.kind == NUMBERS else f" {self.rate:.0%}"
        change = "" if self.after is None else f" to {self.after:.0%} after {self.stable_labels}"
        return f"{self.kind}{rate}{change}, {self.correlation}, {self._usual()}"

    def _usual(self) -> str:
        return "gap" if self.gap else "reference" if self.known else "baseline"


STEADY = tuple(
    Case(kind, rate, correlation, known)
    for kind in (CHAIN, LATENT)
    for rate in RATES
    for correlation in (*CORRELATIONS, *((0.99,) if kind == LATENT else ()))
    for known in (True, False)
    if correlation or kind == CHAIN
) + tuple(Case(NUMBERS, 0.0, correlation, False) for correlation in CORRELATIONS)
"""At a correlation of 0.99 of the latent variable, neighbouring errors correlate by 0.89."""

CHANGED = (
    Case(CHAIN, 0.1, 0.0, True, 0.2, 1000, 2000, 400),
    Case(CHAIN, 0.1, 0.0, False, 0.2, 1000, 3000, 600),
    Case(CHAIN, 0.1, 0.0, False, 0.2, 3000, 2000, 400),
    Case(CHAIN, 0.1, 0.3, True, 0.2, 3000, 4000, 700),
    Case(CHAIN, 0.1, 0.6, True, 0.2, 5000, 8000, 1500),
    Case(CHAIN, 0.1, 0.9, True, 0.2, 10_000, 25_000, 7000),
    Case(LATENT, 0.1, 0.9, True, 0.2, 10_000, 15_000, 5000),
)
GAPS = (
    *(Case(CHAIN, 0.1, correlation, False, gap=True) for correlation in CORRELATIONS),
    *(Case(LATENT, 0.1, correlation, False, gap=True) for correlation in (0.6, 0.9)),
    Case(CHAIN, 0.1, 0.0, False, 0.2, 1000, 2000, 400, gap=True),
    Case(CHAIN, 0.1, 0.6, False, 0.2, 5000, 8000, 1600, gap=True),
)
CASES = STEADY + CHANGED + GAPS


def draw_errors(case: Case, rate: float, rows: int, generator: np.random.Generator) -> Floats:
    """So many errors of a case in a row [rows]."""
    if case.kind == CHAIN:
        return _draw_chain(rate, case.correlation, rows, generator)
    noise = generator.standard_normal((rows + 1, 1))
    latent = draw_autoregression(noise[1:], noise[0], case.correlation)[0][:, 0]
    if case.kind == NUMBERS:
        return np.exp(latent / 2)
    return (latent > NormalDist().inv_cdf(1 - rate)).astype(np.float64)


def _draw_chain(rate: float, correlation: float, rows: int, generator: np.random.Generator) -> Floats:
    uniform, found, wrong = generator.random(rows).tolist(), np.zeros(rows), bool(generator.random() < rate)
    again, anew = rate + correlation * (1 - rate), rate * (1 - correlation)
    for index, number in enumerate(uniform):
        wrong = number < (again if wrong else anew)
        found[index] = wrong
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one stream: changes that began while there was none, and after how many labels the real one was found."""

    alarms: int
    delay: int | None = None


def run(case: Case, seed: int, stable_labels: int | None = None) -> Outcome:
    """One stream; ``stable_labels`` is its labels without a change, if not the case's."""
    generator = np.random.default_rng(seed)
    watch = _watch(case)
    _feed(watch, draw_errors(case, case.rate, stable_labels or case.stable_labels, generator), generator)
    alarms = watch.alarms
    if case.after is None:
        return Outcome(alarms)
    return Outcome(
        alarms, _feed(watch, draw_errors(case, case.after, case.most, generator), generator, until=alarms + 1)
    )


class _CalibrationGap:
    """A model's gap, as labels bring it: every answer says that it is right with the same chance."""

    def __init__(self, chance: float, budget: float) -> None:
        self._chance, self._watch, self.alarms = chance, GapWatch(budget), 0

    def take(self, found: Sequence[float]) -> None:
        """Some more errors."""
        self.alarms += sum(self._watch.add(self._chance, not is_right) is True for is_right in found)


def _watch(case: Case) -> ErrorWatch | _CalibrationGap:
    budget, wrong = MonitorPolicy().budget / SHARE, round(REFERENCE * case.rate)
    if case.gap:
        return _CalibrationGap(1 - case.rate, budget)
    return ErrorWatch((wrong, REFERENCE - wrong) if case.known else None, budget)


def _feed(
    watch: ErrorWatch | _CalibrationGap, found: Floats, generator: np.random.Generator, until: int = 0
) -> int | None:
    """Bring labels, many or few at once; after how many there were so many alarms."""
    start = 0
    while start < len(found):
        many = int(generator.integers(1, MOST_AT_ONCE)) if generator.random() < 0.5 else 1
        watch.take(found[start : start + many].tolist())
        start += many
        if until and watch.alarms >= until:
            return start
    return None


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a case's streams: alarms, and how many the budget allows; the median and the 0.9 quantile of labels
    until a change was found (None: so many were not)."""

    case: Case
    streams: int
    alarms: int
    allowed: float
    median: int | None = None
    most: int | None = None

    @property
    def holds(self) -> bool:
        """Whether that is what was asked for."""
        if self.case.after is None:
            return self.alarms <= self.allowed
        return self.median is not None and self.median <= self.case.within


def find(case: Case, outcomes: Sequence[Outcome], stable_labels: int | None = None) -> Finding:
    """Add a case's streams up."""
    alarms = sum(outcome.alarms for outcome in outcomes)
    allowed = len(outcomes) * (stable_labels or case.stable_labels) * SHARE / MonitorPolicy().budget
    if case.after is None:
        return Finding(case, len(outcomes), alarms, allowed)
    delays: list[int | None] = [*sorted(outcome.delay for outcome in outcomes if outcome.delay is not None)]
    delays += [None] * (len(outcomes) - len(delays))
    return Finding(
        case, len(outcomes), alarms, allowed, delays[len(delays) // 2], delays[int(0.9 * (len(delays) - 1) + 0.999)]
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen on the command line."""
    add_stream_arguments(parser, 70_000)


def main(arguments: argparse.Namespace) -> int:
    """Run every case and print what was asked and what came out; 1 if something does not hold."""
    console, findings = Console(stderr=True), []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for index, case in enumerate(CASES):
            if arguments.only not in case.name:
                continue
            first = arguments.seed + 1000 * index
            seeds = range(first, first + arguments.streams)
            outcomes = pool.map(partial(run, case), seeds, chunksize=5)
            findings.append(find(case, list(track(outcomes, case.name, len(seeds), console=console))))
    heads, rows = ("case", "streams", "alarms", "allowed", "median labels", "0.9 quantile", "asked"), []
    for finding in findings:
        asked = "the budget" if finding.case.after is None else f"median <= {finding.case.within}"
        delays = [
            "" if finding.case.after is None else "never" if value is None else str(value)
            for value in (finding.median, finding.most)
        ]
        rows.append(
            (finding.case.name, str(finding.streams), str(finding.alarms), f"{finding.allowed:.1f}", *delays, asked)
        )
    write_figures(arguments.json, findings)
    return report(heads, rows, [finding.holds for finding in findings])
