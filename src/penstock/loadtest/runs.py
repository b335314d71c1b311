"""The three kinds of load tests, by windows of load: one version, two in turn, and the search for the capacity."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from penstock.loadtest.capacity import Capacity, CapacityTrial, Probe, conclude, next_probe
from penstock.loadtest.comparison import RatioInterval, compare_pairs
from penstock.loadtest.measurement import Measurement, combine
from penstock.loadtest.objectives import RATIOS, LoadObjective, Verdict, judge, judge_ratio
from penstock.loadtest.schedule import MOST_REQUESTS, Ramp, steady_rate

PAIRS: Final = 10
"""Windows of each version in a comparison."""

ENOUGH_ANSWERS: Final = 0.97
"""A rate is kept only if the answers of a window came in about its time: else requests pile up."""

FEWEST_REQUESTS: Final = 5
"""A further window of a search has at least so many requests, or it would say nothing."""

Send = Callable[[Ramp, float, int], Measurement]
"""Sends a window of load (rate, seconds, seed) to a target, and returns what it showed."""


class OnWindow(Protocol):
    """Is given each window before it begins."""

    def __call__(self, title: str, seconds: float) -> None:
        """Show which window comes, and how long it takes."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """The load: its rate over time, the seconds of measurement and of warm-up, and the seed of all that is random."""

    ramp: Ramp
    seconds: float
    warmup_seconds: float
    seed: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """What windows of two targets in turn show: all of each together, and the ratio of figures with its interval."""

    own: Measurement
    other: Measurement
    ratios: Mapping[str, RatioInterval]


@dataclass(frozen=True, slots=True)
class CapacitySearch:
    """What a search for the capacity did and found; ``measurement`` is of all windows at the rate it found (of the
    last window, if none kept the objectives)."""

    trials: tuple[CapacityTrial, ...]
    capacity: Capacity
    measurement: Measurement


def run_once(send: Send, plan: LoadPlan, on_window: OnWindow) -> Measurement:
    """Warm up, then measure one target; a stop in the warm-up leaves nothing measured."""
    on_window("warm-up", plan.warmup_seconds)
    if plan.warmup_seconds and send(_start_ramp(plan), plan.warmup_seconds, plan.seed + 1).stopped:
        return send(plan.ramp, 0.0, plan.seed)
    on_window("load", plan.seconds)
    return send(plan.ramp, plan.seconds, plan.seed)


def run_pairs(own: Send, other: Send, plan: LoadPlan, on_window: OnWindow) -> Comparison:
    """Measure two targets in turn, in PAIRS pairs of windows of equal length; chance decides which is first in a pair.

    Both windows of a pair have the same schedule. A stopped window ends the test.
    """
    order, parts = random.Random(plan.seed), (list[Measurement](), list[Measurement]())
    on_window("warm-up", plan.warmup_seconds / 2)
    stopped = any(send(_start_ramp(plan), plan.warmup_seconds / 2, plan.seed + 1).stopped for send in (own, other))
    for pair in range(0 if stopped else PAIRS):
        for side in order.sample((0, 1), 2):
            on_window(f"compare, pair {pair + 1} of {PAIRS}", plan.seconds / PAIRS)
            parts[side].append((own, other)[side](plan.ramp, plan.seconds / PAIRS, plan.seed + 2 + pair))
            if parts[side][-1].stopped:
                return _compare(*parts)
    return _compare(*parts)


def _compare(own: Sequence[Measurement], other: Sequence[Measurement]) -> Comparison:
    whole = [pair for pair in zip(own, other, strict=False) if not (pair[0].stopped or pair[1].stopped)]
    figures = [(first.figures(), second.figures()) for first, second in whole]
    ratios = {}
    for name in RATIOS:
        key = name.removesuffix("_ratio")
        ratios[name] = compare_pairs([pair[0][key] for pair in figures], [pair[1][key] for pair in figures])
    return Comparison(combine(own), combine(other), ratios)


def find_capacity(
    send: Send,
    plan: LoadPlan,
    objectives: Sequence[LoadObjective],
    budget_seconds: float,
    most_lag_ms: float,
    on_window: OnWindow,
    clock: Callable[[], float] = time.monotonic,
) -> CapacitySearch:
    """Search the highest rate that keeps the objectives, by windows of the plan's length, within a time.

    The search begins at the rate of the plan. It ends early where the next window would not fit into the time, and
    where it would have too few requests, or more than a window may have.
    """
    trials: list[CapacityTrial] = []
    windows: list[Measurement] = []
    start = plan.ramp.end
    began = clock()
    on_window("warm-up", plan.warmup_seconds)
    stopped = bool(plan.warmup_seconds) and send(plan.ramp, plan.warmup_seconds, plan.seed + 1).stopped
    while not stopped and (probe := next_probe(trials, start)) and clock() - began + plan.seconds <= budget_seconds:
        if not FEWEST_REQUESTS <= probe.rate * plan.seconds <= MOST_REQUESTS and trials:
            break
        on_window(f"{'confirm' if probe.confirming else 'try'} {probe.rate:g}/s", plan.seconds)
        window = send(steady_rate(probe.rate), plan.seconds, plan.seed + 2 + len(trials))
        stopped = window.stopped
        if not stopped:
            trials.append(_judge_trial(probe, window, objectives, most_lag_ms))
            windows.append(window)
    return _conclude(trials, windows, start)


def _conclude(trials: Sequence[CapacityTrial], windows: Sequence[Measurement], start: float) -> CapacitySearch:
    capacity = conclude(trials, start)
    at_rate = [
        window for trial, window in zip(trials, windows, strict=True) if trial.kept and trial.rate == capacity.rate
    ]
    return CapacitySearch(tuple(trials), capacity, combine(at_rate or windows[-1:]))


def _judge_trial(
    probe: Probe, window: Measurement, objectives: Sequence[LoadObjective], most_lag_ms: float
) -> CapacityTrial:
    verdicts = judge(objectives, window.figures())
    limited = bool(window.generator_problem(most_lag_ms)) or not window.requests
    kept = keeps_up(window) and all(verdict.outcome != "breach" for verdict in verdicts) and not limited
    return CapacityTrial(probe.rate, kept, probe.confirming, limited)


def keeps_up(window: Measurement) -> bool:
    """Whether the answers came until the end of a window, or as soon after it as at its beginning; else requests pile
    up, and a longer window would only be slower."""
    first = window.series[0].p50_ms if window.series else None
    slack_s = max((1 - ENOUGH_ANSWERS) * window.seconds, 2 * (first or 0.0) / 1000)
    return window.answered_in_s <= window.seconds + slack_s


def judge_all(
    objectives: Sequence[LoadObjective], measurement: Measurement, ratios: Mapping[str, RatioInterval]
) -> list[Verdict]:
    """Judge every objective in its order; the ratios need a comparison."""
    plain = {verdict.objective: verdict for verdict in judge(objectives, measurement.figures())}
    return [plain.get(objective) or _judge_interval(objective, ratios) for objective in objectives]


def _judge_interval(objective: LoadObjective, ratios: Mapping[str, RatioInterval]) -> Verdict:
    interval = ratios.get(objective.metric)
    if interval is None:
        return Verdict(objective, None, "undecided")
    return judge_ratio(objective, interval.estimate, interval.low, interval.high)


def _start_ramp(plan: LoadPlan) -> Ramp:
    return steady_rate(max(plan.ramp.start, 1.0))
