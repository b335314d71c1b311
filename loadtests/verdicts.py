"""Simulated verdicts through the production code: outputs that differ as much as the limit or not at all, rollouts at
default settings, and the intervals of experiments."""

import argparse
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from loadtests.cases import add_stream_arguments, report, write_figures
from loadtests.simulate import draw_latency, run_rollout
from penstock.core.rollouts.guard_evidence import EvidenceBatch, GuardState, observe
from penstock.core.rollouts.guard_spec import GuardSpec
from penstock.core.rollouts.guards import GuardVerdict, judge_guard
from penstock.core.statistics.confidence_sequences import Mean, find_confidence_sequence, log_evidence

Floats = NDArray[np.float64]

LIMIT = 0.1
"""Total variation that outputs may differ by."""

CANARY, CONTROL = 50, 950
"""Requests of a batch."""

ALPHA = 0.05
"""The probability that the interval of an experiment ever leaves the true mean out."""

LOOKS = (*range(1, 200), *range(200, 10_001, 50))
"""Numbers of rewards at which an interval is looked at."""

LEAST_REWARDS = 10
"""Rewards from which on a width is compared: before, the asymptotic interval is none."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question: ``run`` gives one stream's answer by its seed, a number; at most ``most`` of them (a share) may be
    above ``limit``."""

    name: str
    asked: str
    run: Callable[[int], float]
    limit: float
    most: float


def simulate_outputs(classes: int, distance: float, single: bool, rows: int, seed: int) -> float:
    """After how many canary rows a guard passes outputs that differ by so much; infinity if it does not in ``rows``.

    The control's classes are equally frequent. The canary has less of ``one`` class and more of all others, or less of
    one half of them and more of the other.
    """
    generator, guard, state = np.random.default_rng(seed), GuardSpec("outputs", LIMIT), GuardState()
    usual = np.full(classes, 1 / classes)
    fewer = np.arange(classes) < (1 if single else classes // 2)
    other = usual + np.where(fewer, -distance / fewer.sum(), distance / (classes - fewer.sum()))
    for number in range(1, rows // CANARY + 1):
        counts = generator.multinomial(CANARY, other).tolist(), generator.multinomial(CONTROL, usual).tolist()
        state = observe(guard, state, EvidenceBatch(outputs=counts))
        if judge_guard(guard, state, 0.01) is GuardVerdict.PASS:
            return number * CANARY
    return math.inf


def simulate_slower(ratio: float, requests: int, seed: int) -> float:
    """After how many canary requests a guard calls durations worse that are longer by a ratio; infinity if it does not
    in so many."""
    generator, guard, state = np.random.default_rng(seed), GuardSpec("latency", 1.0), GuardState()
    for number, batch in enumerate(draw_latency(ratio, generator, requests // CANARY, (CANARY, CONTROL)), 1):
        state = observe(guard, state, batch)
        if judge_guard(guard, state, 0.01) is GuardVerdict.FAIL:
            return number * CANARY
    return math.inf


def simulate_end(canary: float, control: float, wrong: str, seed: int) -> float:
    """1 where a rollout at default settings ends in the ``wrong`` way, 0 where it does not."""
    return float(run_rollout(canary, control, seed)[0] == wrong)


def simulate_missed(rate: float, seed: int) -> float:
    """1 where the interval of a mean reward leaves out the true one at any look at 10,000 rewards, 0 where it never
    does."""
    sums = np.cumsum(np.random.default_rng(seed).random(LOOKS[-1]) < rate)
    return float(any(log_evidence(n, float(sums[n - 1]), rate) >= math.log(1 / ALPHA) for n in LOOKS))


def measure_width(rate: float, rows: int, seed: int) -> float:
    """The width of an interval after so many rewards over that of the asymptotic one, tuned for 1,000 (Waudby-Smith,
    Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences", 2024).
    """
    total = float(np.random.default_rng(seed).binomial(rows, rate))
    if total < LEAST_REWARDS:
        return 0.0
    bounds = find_confidence_sequence(Mean(rows, total, total), ALPHA)
    rho = (-2 * math.log(ALPHA) + math.log(1 - 2 * math.log(ALPHA))) / 1000
    spread = 2 * (rows * rho + 1) / (rows * rows * rho) * math.log(math.sqrt(rows * rho + 1) / ALPHA)
    return (bounds.high - bounds.low) / (2 * math.sqrt(total / rows * (1 - total / rows) * spread))


def _outputs() -> list[Case]:
    cases = []
    for classes in (3, 10, 30):
        for distance in (LIMIT, 0.12):
            for single in (True, False) if distance * classes <= 1 else (False,):
                changed = "one class" if single else "half of the classes"
                name = f"outputs, {classes} classes, {distance:g} apart, {changed}"
                run = partial(simulate_outputs, classes, distance, single, 10_000)
                cases.append(Case(name, "<= 5 % pass in 10,000 rows", run, -math.inf, 0.05))
    run = partial(simulate_outputs, 10, 0.0, False, 10_000)
    return [*cases, Case("outputs, 10 classes, the same", "pass in 2,000 rows", run, 2000, 0.05)]


RATES = (0.001, 0.01, 0.1, 0.3, 0.5)

CASES = (
    *_outputs(),
    Case("latency, the same", "<= 1 % fail in 20,000 requests", partial(simulate_slower, 1.0, 20_000), -math.inf, 0.01),
    Case("latency, 20 % longer", "fails in 1,000 requests", partial(simulate_slower, 1.2, 2000), 1000, 0.05),
    Case(
        "rollout, 0.1 to 0.5 % errors", "<= 2.5 % promoted", partial(simulate_end, 0.005, 0.001, "promoted"), 0, 0.025
    ),
    Case(
        "rollout, 0.1 % errors in both",
        "<= 2.5 % rolled back",
        partial(simulate_end, 0.001, 0.001, "rolled_back"),
        0,
        0.025,
    ),
    *(
        Case(f"coverage, rewards of {rate:g}", "<= 5 % missed", partial(simulate_missed, rate), 0, ALPHA)
        for rate in RATES
    ),
    *(
        Case(f"width, {rows} rewards of {rate:g}", "<= 1.25", partial(measure_width, rate, rows), 1.25, 0.0)
        for rate in RATES
        for rows in (2000, 10_000, 100_000)
    ),
)
"""What is asked of guards, rollouts and experiments."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a case's streams: the share above the limit, and the quantiles of what was measured."""

    name: str
    asked: str
    streams: int
    above: float
    median: float
    greatest: float
    holds: bool


def find(case: Case, values: Sequence[float]) -> Finding:
    """Add a case's streams up; shares of chance (but no others) may be above by 3 standard deviations."""
    if case.limit == -math.inf:  # what is asked is that nothing is found
        above = sum(math.isfinite(value) for value in values) / len(values)
    else:
        above = sum(value > case.limit for value in values) / len(values)
    most = case.most + 3 * math.sqrt(case.most * (1 - case.most) / len(values))
    ordered = sorted(values)
    return Finding(case.name, case.asked, len(values), above, ordered[len(values) // 2], ordered[-1], above <= most)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen on the command line."""
    add_stream_arguments(parser, 90_000)


def main(arguments: argparse.Namespace) -> int:
    """Run every case and print what was asked and what came out; 1 if something does not hold."""
    console, findings = Console(stderr=True), []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for index, case in enumerate(CASES):
            if arguments.only in case.name:
                seeds = range(arguments.seed + 1000 * index, arguments.seed + 1000 * index + arguments.streams)
                jobs = pool.map(case.run, seeds, chunksize=5)
                findings.append(find(case, list(track(jobs, case.name, len(seeds), console=console))))
    heads = ("case", "streams", "asked", "above", "median", "greatest")
    rows = [
        (
            finding.name,
            str(finding.streams),
            finding.asked,
            f"{finding.above:.1%}",
            f"{finding.median:.4g}",
            f"{finding.greatest:.4g}",
        )
        for finding in findings
    ]
    write_figures(arguments.json, findings)
    return report(heads, rows, [finding.holds for finding in findings])
