"""What a rollout watches: each guard turns batches of counts into evidence and evidence into one of three verdicts.

A guard holds two tests. ``harm`` has the null hypothesis that the canary is no worse than allowed: when it falls, the
canary fails. ``health`` has the null hypothesis that it is worse than allowed: when it falls, the canary passes.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from penstock.core import sequential
from penstock.core.buckets import FINE_EDGES_NS, FINE_PER_OCTAVE
from penstock.core.errors import InvalidInput
from penstock.core.sequential import Evidence

HEALTH_ALPHA = 0.05
"""The probability that a guard passes a canary that is worse than allowed."""

MOST_GUARDS = 16
TAIL = 0.01
TAIL_SHARE = 0.2
"""What part of the latency guard's evidence comes from the slowest hundredth alone."""

MOST_QUERY = 2000
PASSES = 3
"""Evaluations in a row that a query has to be within, or out of, its bounds."""

Document = Mapping[str, Any]


class Verdict(StrEnum):
    """What a guard says."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Batch:
    """What canary and control did in the same stretch of time, as counts.

    ``errors``, ``quality`` and ``wrong`` are (bad, other); ``latency`` is by fine bucket, ``outputs`` by bin;
    ``disagreements`` is (differing, agreeing) of the canary's shadow pairs. ``values`` are what queries answered.
    """

    errors: tuple[Sequence[float], Sequence[float]] = ((0, 0), (0, 0))
    latency: tuple[Sequence[float], Sequence[float]] = ((), ())
    outputs: tuple[Sequence[float], Sequence[float]] = ((), ())
    quality: tuple[Sequence[float], Sequence[float]] = ((0, 0), (0, 0))
    wrong: tuple[Sequence[float], Sequence[float]] = ((0, 0), (0, 0))
    disagreements: Sequence[float] = (0, 0)
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GuardSpec:
    """One guard: ``limit`` is how much worse the canary may be, in the metric's own unit.

    errors, quality, performance: a rate's rise; latency: a ratio; outputs: total variation; disagreement: a share;
    error_ratio: the canary's own share of errors; latency_p99: milliseconds that 99 % of its answers may take.
    A ``promql`` guard keeps ``query`` between ``least`` and ``most``.
    """

    metric: str
    limit: float = 0.0
    query: str = ""
    least: float = -math.inf
    most: float = math.inf

    @property
    def name(self) -> str:
        """What it is called where several are listed."""
        return f"{self.metric}:{self.query}" if self.query else self.metric


@dataclass(frozen=True, slots=True)
class GuardState:
    """The evidence of one guard: ``peak`` is the greatest log e-value against the canary so far.

    ``tail`` is the latency guard's second harm test; ``streak`` a query's: how many answers in a row were within
    (positive) or out of (negative) its bounds.
    """

    harm: Evidence = field(default_factory=Evidence)
    health: Evidence = field(default_factory=Evidence)
    tail: Evidence = field(default_factory=Evidence)
    peak: float = 0.0
    streak: int = 0
    value: float | None = None


_LIMITS = {
    # metric: the limit's word, its default, the least and the greatest it may be
    "errors": ("max_increase", 0.02, 0.0001, 1.0),
    "latency": ("max_ratio", 1.2, 1.0, 100.0),
    "outputs": ("max", 0.1, 0.001, 1.0),
    "disagreement": ("max", 0.02, 0.0001, 1.0),
    "quality": ("max_increase", 0.01, 0.0001, 1.0),
    "performance": ("max_increase", 0.05, 0.0001, 1.0),
    "error_ratio": ("max", 0.01, 0.00001, 1.0),
    "latency_p99": ("max_ms", 100.0, 0.01, 3_600_000.0),
}
ABSOLUTE = ("error_ratio", "latency_p99")
"""Guards that hold the canary alone against a limit: they find harm without a control, and hold up no step."""

NAMES = (*_LIMITS, "promql")


def guard_in(stated: Any) -> GuardSpec:
    """A guard from its JSON form.

    Raises:
        InvalidInput: it is none.
    """
    if isinstance(stated, str):
        stated = {"metric": stated}
    metric = stated.get("metric") if isinstance(stated, dict) else None
    if metric == "promql":
        return _query_in(stated)
    if metric not in _LIMITS:
        raise InvalidInput(f"a guard's 'metric' is one of {', '.join(NAMES)}")
    word, usual, least, most = _LIMITS[metric]
    limit = stated.get(word, usual)
    if set(stated) - {"metric", word}:
        raise InvalidInput(f"guard '{metric}': it has 'metric' and '{word}' only")
    if type(limit) not in (int, float) or not least <= limit <= most:
        raise InvalidInput(f"guard '{metric}': '{word}' is a number from {least:g} to {most:g}")
    return GuardSpec(metric, float(limit))


def _query_in(stated: Document) -> GuardSpec:
    query, least, most = stated.get("query"), stated.get("min"), stated.get("max")
    if not isinstance(query, str) or not 0 < len(query) <= MOST_QUERY:
        raise InvalidInput("guard 'promql': 'query' is a PromQL expression")
    if set(stated) - {"metric", "query", "min", "max"} or (least is None and most is None):
        raise InvalidInput("guard 'promql': it has 'query' and 'min' or 'max' or both")
    if any(type(bound) not in (int, float, type(None)) for bound in (least, most)):
        raise InvalidInput("guard 'promql': 'min' and 'max' are numbers")
    least, most = (-math.inf if least is None else float(least)), (math.inf if most is None else float(most))
    return GuardSpec("promql", query=query, least=least, most=most)


def guard_out(guard: GuardSpec) -> dict[str, Any]:
    """A guard's JSON form."""
    if guard.metric == "promql":
        bounds = {"min": guard.least, "max": guard.most}
        return {"metric": "promql", "query": guard.query} | {
            name: bound for name, bound in bounds.items() if math.isfinite(bound)
        }
    return {"metric": guard.metric, _LIMITS[guard.metric][0]: guard.limit}


def observe(guard: GuardSpec, state: GuardState, batch: Batch) -> GuardState:
    """The evidence after one more batch."""
    after = _OBSERVE[guard.metric](guard, state, batch)
    return replace(after, peak=max(state.peak, _against(guard, after)))


def _against(guard: GuardSpec, state: GuardState) -> float:
    if guard.metric == "latency":
        return sequential.average((state.harm.log_e, state.tail.log_e), (1 - TAIL_SHARE, TAIL_SHARE))
    return state.tail.log_e if guard.metric == "outputs" else state.harm.log_e


def _rates(field_name: str) -> Callable[[GuardSpec, GuardState, Batch], GuardState]:
    def observe_rates(guard: GuardSpec, state: GuardState, batch: Batch) -> GuardState:
        a, b = getattr(batch, field_name)
        return replace(
            state,
            harm=sequential.rate_exceeds(state.harm, a, b, 0.0),
            health=sequential.rate_below(state.health, a, b, guard.limit),
        )

    return observe_rates


def _latency(guard: GuardSpec, state: GuardState, batch: Batch) -> GuardState:
    a, b = batch.latency
    if not a:
        return state
    tolerated = math.log2(guard.limit) * FINE_PER_OCTAVE
    allowed = _moved_down(a, math.ceil(tolerated - 1e-9))
    proven = _moved_down(a, math.floor(max(tolerated, math.log2(LEAST_PROVEN) * FINE_PER_OCTAVE) + 1e-9))
    tail_at = _quantile_bin(state.harm.control, 1 - TAIL)
    tail = state.tail
    if tail_at is not None:
        tail = sequential.rate_exceeds(tail, _split_at(allowed, tail_at), _split_at(b, tail_at), 0.0)
    return replace(
        state,
        harm=sequential.exceeds(state.harm, allowed, b),
        health=_faster(state.health, proven, b),
        tail=tail,
    )


LEAST_PROVEN = 1.2
"""A canary passes the latency guard when it is proven to be less than that much slower, or less than its limit."""


def _faster(evidence: Evidence, a: Sequence[float], b: Sequence[float]) -> Evidence:
    """For "the canary is nowhere below the control": the same test with the bins in reverse."""
    turned = replace(evidence, canary=evidence.canary[::-1], control=evidence.control[::-1])
    after = sequential.exceeds(turned, list(a)[::-1], list(b)[::-1])
    return replace(after, canary=after.canary[::-1], control=after.control[::-1])


def _moved_down(counts: Sequence[float], bins: int) -> list[float]:
    if not bins:
        return list(counts)
    return [sum(counts[: bins + 1]), *counts[bins + 1 :], *[0.0] * bins]


def _quantile_bin(counts: Sequence[float], share: float) -> int | None:
    """The first bin below which at least ``share`` of the counts lie; None while there are too few to say."""
    total = sum(counts)
    if total * TAIL < 1:
        return None
    seen = 0.0
    for index, count in enumerate(counts):
        seen += count
        if seen >= share * total:
            return index
    return None


def _split_at(counts: Sequence[float], index: int) -> tuple[float, float]:
    above = float(sum(counts[index + 1 :]))
    return above, float(sum(counts)) - above


def _outputs(guard: GuardSpec, state: GuardState, batch: Batch) -> GuardState:
    """Total variation above the limit means that some set of bins differs by more; the set is the one that gained
    most so far, so each batch is a bet on a rate, by bins chosen before it."""
    a, b = batch.outputs
    if not a:
        return state
    gained = _gained(state.harm)
    counts = replace(state.harm, canary=_sum(state.harm.canary, a), control=_sum(state.harm.control, b))
    harm, health = state.tail, state.health  # the bets lie beside the counts they are made by
    if gained is not None:
        rates_a, rates_b = _within(a, gained), _within(b, gained)
        known_a, known_b = _within(state.harm.canary, gained), _within(state.harm.control, gained)
        harm = sequential.rate_exceeds(replace(harm, canary=known_a, control=known_b), rates_a, rates_b, guard.limit)
        health = sequential.rate_below(replace(health, canary=known_a, control=known_b), rates_a, rates_b, guard.limit)
    return replace(state, harm=counts, tail=harm, health=health)


def _gained(evidence: Evidence) -> list[bool] | None:
    n_a, n_b = sum(evidence.canary), sum(evidence.control)
    if not n_a or not n_b:
        return None
    return [x * n_b > y * n_a for x, y in zip(evidence.canary, evidence.control, strict=True)]


def _within(counts: Sequence[float], chosen: Sequence[bool]) -> tuple[float, float]:
    inside = float(sum(count for count, one in zip(counts, chosen, strict=True) if one))
    return inside, float(sum(counts)) - inside


def _sum(before: Sequence[float], now: Sequence[float]) -> tuple[float, ...]:
    return tuple(now) if not before else tuple(x + y for x, y in zip(before, now, strict=True))


def _disagreement(guard: GuardSpec, state: GuardState, batch: Batch) -> GuardState:
    return replace(
        state,
        harm=sequential.share_above(state.harm, batch.disagreements, guard.limit),
        health=sequential.share_below(state.health, batch.disagreements, guard.limit),
    )


def _error_ratio(guard: GuardSpec, state: GuardState, batch: Batch) -> GuardState:
    return replace(state, harm=sequential.share_above(state.harm, batch.errors[0], guard.limit))


def _latency_p99(guard: GuardSpec, state: GuardState, batch: Batch) -> GuardState:
    """For "at most a hundredth of the canary's answers takes longer than the limit"; a bucket counts as longer only if
    all of it is."""
    counts = batch.latency[0]
    if not counts:
        return state
    first = bisect_left(FINE_EDGES_NS, guard.limit * 1e6) + 1
    longer = float(sum(counts[first:]))
    return replace(state, harm=sequential.share_above(state.harm, (longer, sum(counts) - longer), TAIL))


def _promql(guard: GuardSpec, state: GuardState, batch: Batch) -> GuardState:
    value = batch.values.get(guard.query)
    if value is None or math.isnan(value):
        return state
    within = guard.least <= value <= guard.most
    streak = max(state.streak, 0) + 1 if within else min(state.streak, 0) - 1
    return replace(state, streak=streak, value=value)


_OBSERVE: Mapping[str, Callable[[GuardSpec, GuardState, Batch], GuardState]] = {
    "errors": _rates("errors"),
    "latency": _latency,
    "outputs": _outputs,
    "disagreement": _disagreement,
    "quality": _rates("quality"),
    "performance": _rates("wrong"),
    "error_ratio": _error_ratio,
    "latency_p99": _latency_p99,
    "promql": _promql,
}


def verdict(guard: GuardSpec, state: GuardState, alpha: float) -> Verdict:
    """What the evidence says when ``alpha`` is this guard's part of the release's budget."""
    if guard.metric == "promql":
        if abs(state.streak) < PASSES:
            return Verdict.UNDECIDED
        return Verdict.PASS if state.streak > 0 else Verdict.FAIL
    if state.peak >= math.log(1 / alpha):
        return Verdict.FAIL
    return Verdict.PASS if state.health.peak >= math.log(1 / HEALTH_ALPHA) else Verdict.UNDECIDED


def effect(guard: GuardSpec, state: GuardState) -> float | None:
    """How much worse the canary looks, in the unit of the guard's limit; None while nothing can be said."""
    harm = state.harm
    if guard.metric == "promql":
        return state.value
    if guard.metric == "disagreement" or guard.metric in ABSOLUTE:
        return harm.canary[0] / harm.n_canary if harm.n_canary else None
    if not harm.n_canary or not harm.n_control:
        return None
    if guard.metric == "latency":
        tolerated = math.ceil(math.log2(guard.limit) * FINE_PER_OCTAVE - 1e-9)
        bins = _mean_bin(harm.canary) - _mean_bin(harm.control) + tolerated
        return float(2 ** (bins / FINE_PER_OCTAVE))
    if guard.metric == "outputs":
        return sequential.total_variation(harm.canary, harm.control)
    return harm.canary[0] / harm.n_canary - harm.control[0] / harm.n_control


def _mean_bin(counts: Sequence[float]) -> float:
    return sum(index * count for index, count in enumerate(counts)) / sum(counts)


def needed(guard: GuardSpec, state: GuardState, alpha: float) -> int | None:
    """How many more canary requests the verdict will take if the evidence grows as it has; None if nobody can say."""
    if guard.metric == "promql" or guard.metric in ABSOLUTE:
        return None
    if verdict(guard, state, alpha) is not Verdict.UNDECIDED:
        return 0
    seen = max(state.harm.n_canary, state.health.n_canary)
    ways = [(state.peak, math.log(1 / alpha)), (state.health.log_e, math.log(1 / HEALTH_ALPHA))]
    left = [math.ceil(seen * (target - log_e) / log_e) for log_e, target in ways if log_e > 0 and seen]
    return min(left) if left else None


def evidence_out(guard: GuardSpec, state: GuardState, alpha: float) -> dict[str, Any]:
    """What people are shown of a guard."""
    worst = effect(guard, state)
    return {
        "metric": guard.metric,
        "verdict": verdict(guard, state, alpha).value,
        "log_e": round(state.peak, 4),
        "log_e_fail_at": round(math.log(1 / alpha), 4),
        "log_e_pass": round(state.health.peak, 4),
        "log_e_pass_at": round(math.log(1 / HEALTH_ALPHA), 4),
        "n_canary": state.harm.n_canary,
        "n_control": state.harm.n_control,
        "effect": None if worst is None else round(worst, 6),
        "needed": needed(guard, state, alpha),
        **{name: value for name, value in guard_out(guard).items() if name != "metric"},
    }


def state_out(state: GuardState) -> dict[str, Any]:
    """A guard's evidence as JSON values."""
    return asdict(state)


def state_in(values: Document) -> GuardState:
    """A guard's evidence from its JSON values."""

    def evidence(one: Document) -> Evidence:
        return Evidence(
            tuple(one["canary"]), tuple(one["control"]), one["log_e"], one["peak"], tuple(one.get("bets", ()))
        )

    harm, health, tail = (evidence(values[name]) for name in ("harm", "health", "tail"))
    return GuardState(harm, health, tail, values["peak"], values["streak"], values["value"])
