"""Guards: what a canary is compared in, and the verdict that the evidence allows.

A guard holds two tests. ``harm`` has the null hypothesis that the canary is no worse than allowed: when it falls, the
canary fails. ``health`` has the null hypothesis that it is worse than allowed: when it falls, the canary passes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from typing import Any

from penstock.core.buckets import FINE_PER_OCTAVE
from penstock.core.label_matching import describe_delay
from penstock.core.rollouts.guard_evidence import UNITS_FAIL, GuardState, allowed_bins, harm_now
from penstock.core.rollouts.guard_spec import ABSOLUTE, GuardSpec, describe_guard
from penstock.core.statistics.confidence_sequences import Mean, find_confidence_sequence
from penstock.core.statistics.distributions import total_variation
from penstock.core.statistics.evidence import Evidence, decode_evidence, evidence_values

HEALTH_ALPHA = 0.05
"""The probability that a guard passes a canary that is worse than allowed."""

SUSPICION = math.log(5)
"""A log e-value of harm above which no canary passes: one that is no worse is held up so at any moment with a
probability of a fifth at most."""

LEAST_UNITS = 2
"""Units of a sticky split that must fail at a step before the canary's errors count as harm."""

INTERVAL_ALPHA = 0.05
"""The probability that the interval of the ``performance`` guard is ever wrong."""

PASSES = 3
"""Consecutive evaluations in which a query must be within, or outside, its bounds."""

Document = Mapping[str, Any]


class GuardVerdict(StrEnum):
    """The verdict of a guard."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    UNDECIDED = "undecided"


def judge_guard(guard: GuardSpec, state: GuardState, alpha: float) -> GuardVerdict:
    """Return the verdict of the evidence when ``alpha`` is this guard's part of the release's budget.

    What has failed stays so. What has passed does so only while nothing speaks against it at the moment.
    """
    if guard.metric == "promql":
        if abs(state.streak) < PASSES:
            return GuardVerdict.UNDECIDED
        return GuardVerdict.PASS if state.streak > 0 else GuardVerdict.FAIL
    if state.peak >= math.log(1 / alpha) and not _is_one_unit(guard, state):
        return GuardVerdict.FAIL
    healthy = state.passed >= math.log(1 / HEALTH_ALPHA) and harm_now(guard, state) < SUSPICION
    return GuardVerdict.PASS if healthy else GuardVerdict.UNDECIDED


def _is_one_unit(guard: GuardSpec, state: GuardState) -> bool:
    """Whether one unit may have caused all of the harm, in a sticky split."""
    return guard.metric in UNITS_FAIL and state.copies > 0 and state.failed_units < LEAST_UNITS


def find_effect(guard: GuardSpec, state: GuardState) -> float | None:
    """Return how much worse the canary looks, in the unit of the guard's limit; None while it is unknown."""
    harm = state.harm
    if guard.metric == "promql":
        return state.value
    if guard.metric == "disagreement" or guard.metric in ABSOLUTE:
        return harm.canary[0] / harm.n_canary if harm.n_canary else None
    if not harm.n_canary or not harm.n_control:
        return None
    if guard.metric == "latency":
        return _find_ratio(guard, harm)
    if guard.metric == "outputs":
        return total_variation(state.health.canary, state.health.control)
    return harm.canary[0] / harm.n_canary - harm.control[0] / harm.n_control


def _find_ratio(guard: GuardSpec, test: Evidence) -> float:
    """Return the ratio of the canary's time to the control's, by geometric means."""
    bins = _mean_bin(test.canary) - _mean_bin(test.control) + allowed_bins(guard)
    return float(2 ** (bins / FINE_PER_OCTAVE))


def _mean_bin(counts: Sequence[float]) -> float:
    return sum(index * count for index, count in enumerate(counts)) / sum(counts)


def requests_needed_by(guard: GuardSpec, state: GuardState, alpha: float) -> int | None:
    """Return how many more canary requests the verdict needs if the evidence continues to grow at this rate; None if
    unknown.
    """
    if guard.metric == "promql" or guard.metric in ABSOLUTE:
        return None
    if judge_guard(guard, state, alpha) is not GuardVerdict.UNDECIDED:
        return 0
    slowest = min((state.health, *([state.run_health] if state.has_runs else [])), key=lambda test: test.log_e)
    tests = ((state.harm, state.peak, alpha), (slowest, slowest.log_e, HEALTH_ALPHA))
    left = [
        math.ceil((test.n_canary - test.begun_at) * (math.log(1 / share) - log_e) / log_e)
        for test, log_e, share in tests
        if log_e > 0 and test.n_canary > test.begun_at
    ]
    return max(1, min(left)) if left else None


def requests_to_pass(state: GuardState) -> int | None:
    """How many more of what a guard counts its health test will take if the evidence grows as it has since it began;
    None while it does not grow."""
    test = state.health
    requests = test.n_canary - test.begun_at
    if test.log_e <= 0 or requests <= 0:
        return None
    return max(1, math.ceil(requests * (math.log(1 / HEALTH_ALPHA) - test.log_e) / test.log_e))


def describe_evidence(guard: GuardSpec, state: GuardState, alpha: float) -> dict[str, Any]:
    """Return a guard for the admin API."""
    worst = find_effect(guard, state)
    return {
        "metric": guard.metric,
        "verdict": judge_guard(guard, state, alpha).value,
        "log_e": round(state.peak, 4),
        "log_e_fail_at": round(math.log(1 / alpha), 4),
        "log_e_pass": round(state.passed, 4),
        "log_e_pass_at": round(math.log(1 / HEALTH_ALPHA), 4),
        "n_canary": state.harm.n_canary,
        "n_control": state.harm.n_control,
        "effect": None if worst is None else round(worst, 6),
        "needed": requests_needed_by(guard, state, alpha),
        **_describe_limit(guard, state),
        **(_describe_labels(state) if guard.metric == "performance" else {}),
        **(_describe_runs(guard, state) if guard.metric == "latency" else {}),
    }


def _describe_runs(guard: GuardSpec, state: GuardState) -> dict[str, Any]:
    """Return the evidence of the times of runs for the admin API."""
    test = state.run_harm
    has_counts = test.n_canary and test.n_control
    return {
        "run_effect": round(_find_ratio(guard, test), 6) if has_counts else None,
        "run_log_e": round(test.log_e, 4),
        "run_n_canary": test.n_canary,
        "run_n_control": test.n_control,
    }


def _describe_labels(state: GuardState) -> dict[str, Any]:
    """The interval in which the rise of the wrong share lies at all times with probability 0.95, and the age of the
    labels that it rests on: both versions' answers were labelled at the same age."""
    canary, control = (
        find_confidence_sequence(_share(counts), INTERVAL_ALPHA / 2)
        for counts in (state.harm.canary, state.harm.control)
    )
    return {
        "interval": [round(canary.low - control.high, 6), round(canary.high - control.low, 6)],
        "label_delay_seconds": describe_delay(dict(enumerate(state.ages))),
    }


def _share(counts: Sequence[float]) -> Mean:
    return Mean(round(sum(counts)), counts[0], counts[0]) if counts else Mean()


def _describe_limit(guard: GuardSpec, state: GuardState) -> dict[str, Any]:
    stated = {name: value for name, value in describe_guard(guard).items() if name != "metric"}
    if guard.metric == "errors" and not guard.limit and state.exposure:
        rate = state.harm.control[0] / state.harm.n_control if state.harm.n_control else 0.0
        stated["max_increase"] = round(guard.default_increase(rate, state.exposure), 6)
    return stated


_FIELDS = tuple(field.name for field in fields(GuardState))


def encode_state(state: GuardState) -> dict[str, Any]:
    """Encode a guard's evidence as JSON values."""
    values = ((name, getattr(state, name)) for name in _FIELDS)
    return {name: evidence_values(value) if isinstance(value, Evidence) else value for name, value in values}


def decode_state(values: Document) -> GuardState:
    """Decode a guard's evidence from its JSON values."""
    harm, health, tail = (decode_evidence(values[name]) for name in ("harm", "health", "tail"))
    run_harm, run_health = (decode_evidence(values.get(name, {})) for name in ("run_harm", "run_health"))
    return GuardState(
        harm,
        health,
        tail,
        values["peak"],
        values["streak"],
        values["value"],
        values.get("exposure", 0.0),
        tuple(values.get("ages", ())),
        run_harm,
        run_health,
        values.get("copies", 0),
        values.get("failed_before", 0.0),
    )
