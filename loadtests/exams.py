"""Simulated exams of candidates through the production comparison: how often a candidate passes that is worse, equal or
better than the champion, alone and after many tries."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from loadtests.cases import report, write_figures
from penstock.control.retraining.holdout import compare
from penstock.core.gates import HoldoutGate, check_exam
from penstock.core.tensors import Tensor
from penstock.monitor.answers import CLASS, SCORES, Answers
from penstock.monitor.captured_rows import LabelledRows

ACCURACY = 0.9
"""The champion's."""

DISCORDANT = 0.08
"""Share of rows that only one of the two answers right."""

ROWS = 1000


@dataclass(frozen=True, slots=True)
class Case:
    """One question: how far a candidate is ahead in truth, and how many are tried; at most (or at least) which share of
    the champions sees one of them pass."""

    name: str
    difference: float
    tries: int = 1
    most: float = 1.0
    least: float = 0.0
    discordant: float = DISCORDANT
    request: int = 1

    def holds(self, passed: float) -> bool:
        """Whether that is what was asked for."""
        return self.least <= passed <= self.most


CASES = (
    Case("worse by 1 point", -0.01, most=0.05),
    Case("equal", 0.0, most=0.5),
    Case("better by 3 points", 0.03, least=0.8),
    Case("better by 3 points, 15 % discordant", 0.03, discordant=0.15),
    Case("equal, in requests of 10 like rows", 0.0, most=0.1, request=10),
    Case("one of 24 equal ones", 0.0, tries=24, most=0.1),
    Case("one of 24 worse by 1 point", -0.01, tries=24, most=0.05),
)
"""What is asked of exams of 1,000 rows at default settings."""


def is_passing(case: Case, seed: int, rows: int = ROWS) -> bool:
    """Whether one of the case's candidates passes its exam against one champion, on the same held-out rows."""
    generator, asked = np.random.default_rng(seed), HoldoutGate("accuracy")
    units = rows // case.request
    right = np.repeat(generator.random(units) < ACCURACY, case.request)
    return any(_is_passing(generator, case, right, asked, number + 1) for number in range(case.tries))


def _is_passing(
    generator: np.random.Generator, case: Case, right: NDArray[np.bool_], asked: HoldoutGate, tries: int
) -> bool:
    units = len(right) // case.request
    won = (case.discordant + case.difference) / 2 / (1 - ACCURACY)
    lost = (case.discordant - case.difference) / 2 / ACCURACY
    turned = generator.random(units) < np.where(right[:: case.request], lost, won)
    candidate = right ^ np.repeat(turned, case.request)
    requests = np.repeat(np.arange(units), case.request)
    held = LabelledRows([Tensor("x", "FP32", np.zeros((len(right), 1), np.float32))], np.ones(len(right)), requests)
    return not check_exam(asked, compare(asked, held, (_make_answers(candidate), _make_answers(right)), tries=tries))


def _make_answers(right: NDArray[np.bool_]) -> Answers:
    return Answers(CLASS, right.astype(np.float64), np.full((len(right), SCORES), np.nan, np.float32))


@dataclass(frozen=True, slots=True)
class Finding:
    """The share of champions that saw a candidate of the case pass."""

    case: Case
    streams: int
    passed: float


def find(case: Case, seeds: Sequence[int]) -> Finding:
    """Run a case with these seeds."""
    return Finding(case, len(seeds), sum(is_passing(case, seed) for seed in seeds) / len(seeds))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen on the command line."""
    parser.add_argument("--streams", type=int, default=200, help="champions of each case")
    parser.add_argument("--seed", type=int, default=30_000)
    parser.add_argument("--json", type=Path, help="file for the figures")


def main(arguments: argparse.Namespace) -> int:
    """Run every case and print what was asked and what came out; 1 if something does not hold."""
    seeds = range(arguments.seed, arguments.seed + arguments.streams)
    findings = [find(case, seeds) for case in track(CASES, "exams", console=Console(stderr=True))]
    rows = []
    for finding in findings:
        asked = (
            f">= {finding.case.least:.0%}"
            if finding.case.least
            else f"<= {finding.case.most:.0%}"
            if finding.case.most < 1
            else ""
        )
        rows.append((finding.case.name, f"{finding.passed:.1%}", asked))
    write_figures(arguments.json, findings)
    return report(("candidates", "passed", "asked"), rows, [finding.case.holds(finding.passed) for finding in findings])
