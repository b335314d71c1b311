"""Converts batches of counts to a guard's evidence: each guard tests for harm and for health, on its own counts."""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from penstock.core.buckets import FINE_EDGES_NS, FINE_PER_OCTAVE
from penstock.core.rollouts.guard_spec import GuardSpec
from penstock.core.statistics.evidence import Counts, Evidence, average_evidence, split_batch, with_recent
from penstock.core.statistics.odds_ratio import rate_rises
from penstock.core.statistics.one_sample import share_above, share_below
from penstock.core.statistics.total_variation import distance_below
from penstock.core.statistics.two_sample import add_excess_batch, rate_below, rate_exceeds

TAIL = 0.01
TAIL_SHARE, RUN_SHARE = 0.2, 0.3
"""What part of the latency guard's evidence of harm comes from the slowest hundredth alone, and from the time of runs;
the rest is from the whole time of requests. The mean of e-values with these weights splits the guard's alpha."""

SCARCE = 0.05
"""Minimum share of requests with a run of their own for the time of runs to prove that a canary is healthy."""

LEAST_PROVEN = 1.2
"""A canary passes the latency guard when it is proven to be less than this much slower, or less than its limit."""


@dataclass(frozen=True, slots=True)
class LabelledCounts:
    """Labels of the same class of age (see ``label_matching``) of answers of the same time: (wrong, right)."""

    age: int
    canary: tuple[float, float]
    control: tuple[float, float]


@dataclass(frozen=True, slots=True)
class EvidenceBatch:
    """What canary and control did in the same stretch of time, as counts.

    ``errors`` and ``quality`` are (bad, other); ``latency`` and ``runs`` (the times of runs that a request had alone)
    are by fine bucket, ``outputs`` by bin; ``labelled`` has a stratum for each stretch of time and class of age of
    labels; ``disagreements`` is (differing, agreeing) of the canary's shadow pairs. ``values`` are what queries
    answered. ``copies`` is 0 where each request is a unit of its own; of a sticky split it is how often one unit's
    failure may be counted: once by each gateway.
    """

    errors: tuple[Sequence[float], Sequence[float]] = ((0, 0), (0, 0))
    latency: tuple[Sequence[float], Sequence[float]] = ((), ())
    runs: tuple[Sequence[float], Sequence[float]] = ((), ())
    outputs: tuple[Sequence[float], Sequence[float]] = ((), ())
    quality: tuple[Sequence[float], Sequence[float]] = ((0, 0), (0, 0))
    labelled: tuple[LabelledCounts, ...] = ()
    disagreements: Sequence[float] = (0, 0)
    copies: int = 0
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GuardState:
    """The evidence of one guard: ``peak`` is the greatest log e-value against the canary so far.

    ``tail`` is the latency guard's second harm test, and the outputs guard's bets; ``streak`` a query's: how many
    answers in a row were within (positive) or out of (negative) its bounds. ``exposure`` is the share of the traffic
    that a default limit of the health test was made for. ``run_harm`` and ``run_health`` are the latency guard's tests
    of the time of runs. ``ages`` are the numbers of labels by their class of age.
    ``copies`` is the batches', the most there were; ``failed_before`` is how many of the canary's units had failed
    before this step.
    """

    harm: Evidence = field(default_factory=Evidence)
    health: Evidence = field(default_factory=Evidence)
    tail: Evidence = field(default_factory=Evidence)
    peak: float = 0.0
    streak: int = 0
    value: float | None = None
    exposure: float = 0.0
    ages: tuple[int, ...] = ()
    run_harm: Evidence = field(default_factory=Evidence)
    run_health: Evidence = field(default_factory=Evidence)
    copies: int = 0
    failed_before: float = 0.0

    @property
    def failed_units(self) -> float:
        """Return the minimum number of the canary's units that have failed at this step; without sticky splits, every
        request is a unit.
        """
        failed = self.harm.canary[0] if self.harm.canary else 0.0
        return (failed - self.failed_before) / self.copies if self.copies else failed

    @property
    def has_runs(self) -> bool:
        """Whether enough requests had a run of their own, so that the time of runs must be shown to be healthy."""
        return self.run_harm.n_canary > SCARCE * self.harm.n_canary

    @property
    def passed(self) -> float:
        """Return the greatest log e-value for health: of two tests, the smaller, because both must reject."""
        return min(self.health.peak, self.run_health.peak) if self.has_runs else self.health.peak


def observe(guard: GuardSpec, state: GuardState, batch: EvidenceBatch, exposure: float = 1.0) -> GuardState:
    """Return the evidence after one more batch; ``exposure`` is the canary's share of the traffic if it passes."""
    after = _OBSERVE[guard.metric](guard, state, batch, exposure)
    copies, peak = max(state.copies, batch.copies), max(state.peak, harm_now(guard, after))
    if (copies, peak) == (after.copies, after.peak):
        return after
    return replace(after, copies=copies, peak=peak)


def at_next_step(guard: GuardSpec, state: GuardState) -> GuardState:
    """Return the evidence at the beginning of the next step: every guard must show again that the canary is healthy."""
    if guard.metric in UNITS_FAIL:
        state = replace(state, failed_before=state.harm.canary[0] if state.harm.canary else 0.0)
    if guard.metric not in RENEWED:
        return state
    return replace(state, health=state.health.restart(), run_health=state.run_health.restart())


RENEWED = ("errors", "latency", "quality")
UNITS_FAIL = ("errors", "error_ratio")
"""Guards that count failures: in a sticky split, one of each unit."""


def harm_now(guard: GuardSpec, state: GuardState) -> float:
    """Return the log e-value against the canary at this moment."""
    if guard.metric == "latency":
        tests = (state.harm, state.tail, state.run_harm)
        return average_evidence([test.log_e for test in tests], (1 - TAIL_SHARE - RUN_SHARE, TAIL_SHARE, RUN_SHARE))
    return state.tail.log_e if guard.metric == "outputs" else state.harm.log_e


def _observe_errors(guard: GuardSpec, state: GuardState, batch: EvidenceBatch, exposure: float) -> GuardState:
    """The limit that was stated, or the default one, which is about all traffic after the next step: the health test
    starts again at another step."""
    if guard.limit:
        return _observe_rates("errors", guard, state, batch, exposure)
    if state.exposure != exposure:
        state = replace(state, health=state.health.restart(), exposure=exposure)
    bad, other = state.harm.control or (0.0, 0.0)
    margin = guard.default_increase(bad / (bad + other) if bad + other else 0.0, exposure)
    return _observe_rates("errors", replace(guard, limit=margin), state, batch, exposure)


def _observe_rates(counts: str, guard: GuardSpec, state: GuardState, batch: EvidenceBatch, _: float) -> GuardState:
    a, b = getattr(batch, counts)
    return _compare(guard, state, a, b)


def _compare(guard: GuardSpec, state: GuardState, a: Sequence[float], b: Sequence[float]) -> GuardState:
    if not any(a) and not any(b):  # while few counts wait, most batches have none
        return state
    return replace(state, harm=rate_rises(state.harm, a, b), health=rate_below(state.health, a, b, guard.limit))


def _observe_performance(guard: GuardSpec, state: GuardState, batch: EvidenceBatch, _: float) -> GuardState:
    """Observe each stratum of labels as its own batch: only within one were both labelled alike."""
    for item in batch.labelled:
        ages = [*state.ages, *[0] * (item.age + 1 - len(state.ages))]
        ages[item.age] += round(sum(item.canary) + sum(item.control))
        state = replace(_compare(guard, state, item.canary, item.control), ages=tuple(ages))
    return state


def _observe_latency(guard: GuardSpec, state: GuardState, batch: EvidenceBatch, _: float) -> GuardState:
    """The whole time of requests, which callers feel, and the time of runs, which is the version's own: a slow canary
    also holds up the control's requests in the same worker, so the whole times of both rise."""
    a, b = batch.latency
    if not a:
        return state
    tail_at = _quantile_bin(state.harm.control, 1 - TAIL)
    tail = state.tail
    if tail_at is not None:
        tail = rate_rises(tail, _split_at(_shift_down(a, allowed_bins(guard)), tail_at), _split_at(b, tail_at))
    harm, health = _test_slower(guard, state.harm, state.health, a, b)
    run_harm, run_health = state.run_harm, state.run_health
    if sum(batch.runs[0]) or sum(batch.runs[1]):
        run_harm, run_health = _test_slower(guard, run_harm, run_health, *batch.runs)
    return replace(state, harm=harm, health=health, tail=tail, run_harm=run_harm, run_health=run_health)


def _test_slower(
    guard: GuardSpec, harm: Evidence, health: Evidence, a: Sequence[float], b: Sequence[float]
) -> tuple[Evidence, Evidence]:
    """Return both tests after one batch of times by fine bucket."""
    proven = max(math.log2(guard.limit), math.log2(LEAST_PROVEN)) * FINE_PER_OCTAVE
    after = add_excess_batch(harm, _shift_down(a, allowed_bins(guard)), b, any_onset=True)
    return after, _test_faster(health, _shift_down(a, int(proven + 1e-9)), b)


def allowed_bins(guard: GuardSpec) -> int:
    """Return by how many fine buckets the canary may be slower."""
    return math.ceil(math.log2(guard.limit) * FINE_PER_OCTAVE - 1e-9)


def _test_faster(evidence: Evidence, a: Sequence[float], b: Sequence[float]) -> Evidence:
    """Test "the canary is nowhere below the control": the same test with the bins in reverse."""
    reversed_ = replace(evidence, canary=evidence.canary[::-1], control=evidence.control[::-1])
    after = add_excess_batch(reversed_, list(a)[::-1], list(b)[::-1])
    return replace(after, canary=after.canary[::-1], control=after.control[::-1])


def _shift_down(counts: Sequence[float], bins: int) -> list[float]:
    if not bins:
        return list(counts)
    return [sum(counts[: bins + 1]), *counts[bins + 1 :], *[0.0] * bins]


def _quantile_bin(counts: Sequence[float], share: float) -> int | None:
    """Return the first bin below which at least ``share`` of the counts lie; None while there are too few."""
    total = sum(counts)
    if total * TAIL < 1:
        return None
    covered = 0.0
    for index, count in enumerate(counts):
        covered += count
        if covered >= share * total:
            return index
    return None


def _split_at(counts: Sequence[float], index: int) -> tuple[float, float]:
    above = float(sum(counts[index + 1 :]))
    return above, float(sum(counts)) - above


def _observe_outputs(guard: GuardSpec, state: GuardState, batch: EvidenceBatch, _: float) -> GuardState:
    """Harm: total variation above the limit means that some set of bins differs by more; the set is the one that has
    gained most of late, so each batch is a bet on a rate, by bins chosen before it. Health: all sets at once."""
    a, b = batch.outputs
    if not sum(a) or not sum(b):
        return state
    harm, bets = state.tail, state.harm  # the bets lie beside the counts they are made by
    for canary, control in split_batch(bets, np.asarray(a, float), np.asarray(b, float)):
        gained = _chosen_bins(bets)
        if gained is not None:
            harm = _bet_on(gained, harm, bets, (canary, control), guard.limit)
        recent = with_recent(bets, canary)
        sums = _sum(bets.canary, canary), _sum(bets.control, control)
        bets = replace(bets, canary=sums[0], control=sums[1], recent=recent)
    return replace(state, harm=bets, tail=harm, health=distance_below(state.health, a, b, guard.limit))


def _bet_on(
    gained: NDArray[np.bool_], harm: Evidence, bets: Evidence, batch: tuple[Counts, Counts], limit: float
) -> Evidence:
    """Bet that these bins have more of the canary's outputs than of the control's, by more than the limit."""
    canary, control, recent = (_split_counts(item, gained) for item in (bets.canary, bets.control, bets.recent))
    before = replace(harm, canary=canary, control=control, recent=recent)
    return rate_exceeds(before, _split_counts(batch[0], gained), _split_counts(batch[1], gained), limit, any_onset=True)


def _chosen_bins(evidence: Evidence) -> NDArray[np.bool_] | None:
    canary, control = np.asarray(evidence.recent), np.asarray(evidence.control)
    if not canary.sum() or not control.sum():
        return None
    chosen: NDArray[np.bool_] = canary * control.sum() > control * canary.sum()
    return chosen


def _split_counts(counts: Sequence[float] | Counts, chosen: NDArray[np.bool_]) -> tuple[float, float]:
    values = np.asarray(counts, float)
    inside = float(values[chosen].sum())
    return inside, float(values.sum()) - inside


def _sum(before: Sequence[float], now: Counts) -> tuple[float, ...]:
    total: list[float] = (np.asarray(before) + now if before else now).tolist()
    return tuple(total)


def _observe_disagreement(guard: GuardSpec, state: GuardState, batch: EvidenceBatch, _: float) -> GuardState:
    return replace(
        state,
        harm=share_above(state.harm, batch.disagreements, guard.limit),
        health=share_below(state.health, batch.disagreements, guard.limit),
    )


def _error_ratio(guard: GuardSpec, state: GuardState, batch: EvidenceBatch, _: float) -> GuardState:
    return replace(state, harm=share_above(state.harm, batch.errors[0], guard.limit))


def _latency_p99(guard: GuardSpec, state: GuardState, batch: EvidenceBatch, _: float) -> GuardState:
    """Test "at most a hundredth of the canary's answers takes longer than the limit"; a bucket counts as longer only if
    all of it is.
    """
    counts = batch.latency[0]
    if not counts:
        return state
    first = bisect_left(FINE_EDGES_NS, guard.limit * 1e6) + 1
    longer = float(sum(counts[first:]))
    return replace(state, harm=share_above(state.harm, (longer, sum(counts) - longer), TAIL))


def _observe_promql(guard: GuardSpec, state: GuardState, batch: EvidenceBatch, _: float) -> GuardState:
    value = batch.values.get(guard.query)
    if value is None or math.isnan(value):
        return state
    within = guard.least <= value <= guard.most
    streak = max(state.streak, 0) + 1 if within else min(state.streak, 0) - 1
    return replace(state, streak=streak, value=value)


_OBSERVE: Mapping[str, Callable[[GuardSpec, GuardState, EvidenceBatch, float], GuardState]] = {
    "errors": _observe_errors,
    "latency": _observe_latency,
    "outputs": _observe_outputs,
    "disagreement": _observe_disagreement,
    "quality": partial(_observe_rates, "quality"),
    "performance": _observe_performance,
    "error_ratio": _error_ratio,
    "latency_p99": _latency_p99,
    "promql": _observe_promql,
}
