"""Simulated rollouts through the production decision: how often a sound canary is rolled back, how soon a bad one is.

Time and traffic are made up; guards, evidence and the decision are the gateway's own.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from penstock.core.buckets import FINE_EDGES_NS
from penstock.core.rollouts.decision import RolloutActionKind, RolloutSnapshot, apply_action, decide
from penstock.core.rollouts.gates import parse_steps
from penstock.core.rollouts.guard_evidence import EvidenceBatch
from penstock.core.rollouts.guard_spec import GuardSpec
from penstock.core.rollouts.rollout import OPEN, add_batch, start_rollout
from penstock.core.rollouts.spec import RolloutSpec
from penstock.core.routing import POINTS

CANARY, CONTROL = 5, 95
"""Requests of a batch: five per cent of the traffic."""

NEVER_S = 1e9
"""A step of that length does not end while a case runs."""

MEDIAN_NS = 500_000.0
SPREAD = 0.5
"""Durations are lognormal: half a millisecond, and the standard deviation of the logarithm."""

Draw = Callable[[np.random.Generator, int], Iterable[EvidenceBatch]]


@dataclass(frozen=True, slots=True)
class Case:
    """One question: the guard that looks, what canary and control do, and what is asked of the answer.

    ``most`` bounds the canary requests of a run. A sound canary may be rolled back in ``share`` of the runs at most;
    a bad one has to be within ``within`` canary requests on average.
    """

    name: str
    guard: GuardSpec
    draw: Draw
    most: int
    share: float | None = None
    within: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out of a case: the share of runs that ended in a roll-back, and the mean canary requests until then."""

    rolled_back: float
    requests: float | None

    def holds(self, case: Case) -> bool:
        """Whether that is what was asked for."""
        if case.share is not None:
            return self.rolled_back <= case.share
        return self.rolled_back == 1.0 and self.requests is not None and self.requests <= (case.within or math.inf)


def draw_errors(canary: float, control: float, generator: np.random.Generator, batches: int) -> Iterable[EvidenceBatch]:
    """Requests that fail with these probabilities."""
    bad_a, bad_b = generator.binomial(CANARY, canary, batches), generator.binomial(CONTROL, control, batches)
    for a, b in zip(bad_a.tolist(), bad_b.tolist(), strict=True):
        yield EvidenceBatch(errors=((a, CANARY - a), (b, CONTROL - b)))


def draw_latency(
    ratio: float, generator: np.random.Generator, batches: int, sizes: tuple[int, int] = (CANARY, CONTROL)
) -> Iterable[EvidenceBatch]:
    """Durations of which the canary's are longer by a ratio; ``sizes`` are the requests of a batch, canary's first."""
    bins = len(FINE_EDGES_NS) + 1
    for _ in range(batches):
        counts = []
        for scale, size in zip((ratio, 1.0), sizes, strict=True):
            durations = MEDIAN_NS * scale * np.exp(SPREAD * generator.standard_normal(size))
            counts.append(np.bincount(np.searchsorted(FINE_EDGES_NS, durations), minlength=bins).tolist())
        yield EvidenceBatch(latency=(counts[0], counts[1]))


CASES = (
    Case("errors 0.5 % both", GuardSpec("errors", 0.02), partial(draw_errors, 0.005, 0.005), 20_000, share=0.01),
    Case("errors 0.5 to 2 %", GuardSpec("errors", 0.02), partial(draw_errors, 0.02, 0.005), 20_000, within=600),
    Case("errors 0.5 to 5 %", GuardSpec("errors", 0.02), partial(draw_errors, 0.05, 0.005), 20_000, within=160),
    Case("latency the same", GuardSpec("latency", 1.0), partial(draw_latency, 1.0), 20_000, share=0.01),
    Case("latency +20 %", GuardSpec("latency", 1.0), partial(draw_latency, 1.2), 20_000, within=250),
)
"""What is asked of the rollouts; 20 000 canary requests are 400 000 in all, looked at 4 000 times."""


def run(case: Case, seed: int, most: int | None = None) -> int | None:
    """One rollout; after how many canary requests it was rolled back, None if it never was."""
    generator = np.random.default_rng(seed)
    spec = RolloutSpec("2", "1", steps=parse_steps([500, 10_000]), min_step_s=NEVER_S, alpha=0.01, guards=(case.guard,))
    rollout = start_rollout(spec, 0.0)
    batches = (most or case.most) // CANARY
    for number, batch in enumerate(case.draw(generator, batches), 1):
        rollout = add_batch(rollout, batch, (CANARY, CONTROL), sticky=False)
        action = decide(RolloutSnapshot(rollout, float(number)))
        if action is not None and action.kind is RolloutActionKind.ROLL_BACK:
            return number * CANARY
    return None


WHOLE_RATE, WHOLE_LOOK_S, WHOLE_MOST_S = 100.0, 5.0, 20_000.0
"""Whole rollouts: requests a second, seconds between two looks, and the longest one."""


def run_rollout(canary: float, control: float, seed: int, bad_from: int = -1) -> tuple[str, float]:
    """How a rollout at default settings ends, and after how many seconds; ``canary`` is its share of errors from step
    ``bad_from`` on, before which it fails as the control does."""
    generator = np.random.default_rng(seed)
    rollout, now = start_rollout(RolloutSpec("2", "1", guards=(GuardSpec("errors"),)), 0.0), 0.0
    while rollout.state in OPEN and now < WHOLE_MOST_S:
        now += WHOLE_LOOK_S
        many = int(WHOLE_RATE * WHOLE_LOOK_S)
        n_canary = int(generator.binomial(many, rollout.weight / POINTS))
        bad = int(generator.binomial(n_canary, canary if rollout.step >= bad_from else control))
        control_errors = int(generator.binomial(many - n_canary, control))
        batch = EvidenceBatch(errors=((bad, n_canary - bad), (control_errors, many - n_canary - control_errors)))
        rollout = add_batch(rollout, batch, (n_canary, many - n_canary), sticky=False)
        action = decide(RolloutSnapshot(rollout, now))
        rollout = rollout if action is None else apply_action(rollout, action, now)
    return rollout.state.value, now


def summarise(stopped_at: list[int | None]) -> Outcome:
    """Many runs of a case together."""
    stops = [stop for stop in stopped_at if stop is not None]
    return Outcome(len(stops) / len(stopped_at), float(np.mean(stops)) if stops else None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen on the command line."""
    parser.add_argument("--runs", type=int, default=1000, help="runs of each case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file for the figures")


def main(arguments: argparse.Namespace) -> int:
    """Run every case and print what was asked and what came out; 1 if something does not hold."""
    console, outcomes = Console(stderr=True), {}
    with ProcessPoolExecutor(arguments.processes) as pool:
        for index, case in enumerate(CASES):
            seeds = range(arguments.seed + 100_000 * index, arguments.seed + 100_000 * index + arguments.runs)
            jobs = pool.map(partial(_run, index), seeds, chunksize=5)
            stopped_at = list(track(jobs, case.name, total=arguments.runs, console=console))
            outcomes[case.name] = summarise(stopped_at)
    table = Table(box=None)
    for head in ("case", "rolled back", "canary requests", "asked", "holds"):
        table.add_column(head)
    for case in CASES:
        outcome = outcomes[case.name]
        asked = f"<= {case.share:.1%} rolled back" if case.share is not None else f"<= {case.within:.0f} requests"
        requests = "" if outcome.requests is None else f"{outcome.requests:.0f}"
        holds = "yes" if outcome.holds(case) else "NO"
        table.add_row(case.name, f"{outcome.rolled_back:.2%}", requests, asked, holds)
    Console().print(table)
    if arguments.json:
        figures = {
            name: {"rolled_back": outcome.rolled_back, "requests": outcome.requests}
            for name, outcome in outcomes.items()
        }
        arguments.json.write_text(json.dumps(figures, indent=1))
    return 0 if all(outcomes[case.name].holds(case) for case in CASES) else 1


def _run(index: int, seed: int) -> int | None:
    return run(CASES[index], seed)


if __name__ == "__main__":
    sys.exit("run it as: python -m loadtests simulate")
