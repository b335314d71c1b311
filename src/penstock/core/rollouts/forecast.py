"""What a rollout will probably need: canary requests and time of each step, if the canary is as good as the control.

The production guards judge a made-up canary whose requests are drawn from what the control did so far. It is one
possible course and not the mean of many: the numbers are estimates.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from penstock.core.buckets import FINE_EDGES_NS, FINE_PER_OCTAVE
from penstock.core.rollouts.gates import RolloutStep
from penstock.core.rollouts.guard_evidence import EvidenceBatch
from penstock.core.rollouts.guard_spec import ABSOLUTE, GuardSpec
from penstock.core.rollouts.guards import GuardVerdict
from penstock.core.rollouts.pooling import find_stratum_size
from penstock.core.rollouts.progress import round_count
from penstock.core.rollouts.rollout import Rollout, add_batch, advance, guard_verdicts, start_rollout
from penstock.core.rollouts.spec import RolloutSpec
from penstock.core.rollouts.waiting import waiting_for
from penstock.core.routing import POINTS

_COUNTS_OF = {
    "errors": "errors",
    "error_ratio": "errors",
    "latency": "latency",
    "latency_p99": "latency",
    "outputs": "outputs",
    "quality": "errors",
}
"""Guards that can be forecast, and the counts of the control that this takes; quality is taken as perfect."""

GROWTH = 0.15
"""Size of each batch as a part of the step's requests so far: the precision of the estimate."""

MOST_REQUESTS = 100_000_000
"""Requests of both versions at a step after which the estimate is given up."""

LEAST_SEEN = 100
"""Requests of the control from which an estimate can be drawn."""

PER_BUCKET = FINE_PER_OCTAVE // 2
"""Fine buckets in one of ``LATENCY_EDGES_NS``."""

SEEDS = 3
"""Courses to try: one in ``1 / alpha`` rolls back a sound canary."""


@dataclass(frozen=True, slots=True)
class ControlCounts:
    """What the control did so far, as counts: (failed, other) requests, durations and runs by fine bucket, and its
    outputs by bin. ``requests_per_second`` is the model's rate, 0 where it is not known."""

    errors: tuple[int, int] = (0, 0)
    latency: Sequence[float] = ()
    runs: Sequence[float] = ()
    outputs: Sequence[float] = ()
    requests_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class StepForecast:
    """One step: ``requests`` are those the canary needs, ``seconds`` the time until the next step; None where nobody
    can know. ``also`` are the conditions that requests alone do not meet."""

    step: int
    weight: int
    min_seconds: float
    requests: int | None
    seconds: float | None
    also: tuple[str, ...] = field(default_factory=tuple)


def fine_buckets(coarse: Sequence[float]) -> list[float]:
    """Return counts by fine bucket from counts by bucket of ``LATENCY_EDGES_NS``, spread evenly within each; nothing
    from nothing."""
    owners = [(fine + PER_BUCKET - 1) // PER_BUCKET for fine in range(len(FINE_EDGES_NS) + 1)]
    sizes = Counter(owners)
    return [coarse[owner] / sizes[owner] for owner in owners] if sum(coarse) else []


def forecast_steps(spec: RolloutSpec, control: ControlCounts) -> list[StepForecast]:
    """Return the forecast of each step, the mirrored stage before them as step -1."""
    needed = _requests_by_step(spec, control)
    mirrored = [_mirrored_stage(spec)] if spec.shadow else []
    return [*mirrored, *(_step(spec, control, index, needed[index]) for index in range(len(spec.steps)))]


def _mirrored_stage(spec: RolloutSpec) -> StepForecast:
    waits = [f"guard '{guard.name}' to pass" for guard in spec.guards if guard.metric == "disagreement"]
    return StepForecast(-1, 0, spec.min_step_s, None, None if waits else spec.min_step_s, tuple(waits))


def _is_drawn(guard: GuardSpec, control: ControlCounts) -> bool:
    """Whether a guard's counts can be drawn from those of the control."""
    name = _COUNTS_OF.get(guard.metric)
    return name is not None and sum(getattr(control, name)) > 0


def _step(spec: RolloutSpec, control: ControlCounts, index: int, requests: int | None) -> StepForecast:
    weight = spec.weight_at(index)
    rate = control.requests_per_second * weight / POINTS
    seconds = None if requests is None or not rate else max(spec.min_step_s, requests / rate)
    return StepForecast(
        index, weight, spec.min_step_s, requests, seconds, tuple(_other_conditions(spec, control, index))
    )


def _other_conditions(spec: RolloutSpec, control: ControlCounts, index: int) -> Iterator[str]:
    """Yield what the step waits for beside time and requests."""
    step = spec.steps[index]
    if step.min_labels:
        yield f"{step.min_labels} labels of the canary's answers"
    for guard in spec.guards:
        if guard.metric not in (*ABSOLUTE, "disagreement") and not _is_drawn(guard, control):
            yield f"guard '{guard.name}' to pass"
    yield from (f"{gate.name} {gate.condition}" for gate in step.gates)
    if step.approval:
        yield "a person's approval"
    if index == len(spec.steps) - 1 and spec.left_alone():
        yield "a person to promote it, because the hold-back is 0"


def _requests_by_step(spec: RolloutSpec, control: ControlCounts) -> Sequence[int | None]:
    unknown: Sequence[int | None] = [None] * len(spec.steps)
    if sum(control.errors) < LEAST_SEEN:
        return unknown
    courses = (_simulate_course(_without_conditions(spec, control), control, seed) for seed in range(SEEDS))
    return next((course for course in courses if course is not None), unknown)


def _without_conditions(spec: RolloutSpec, control: ControlCounts) -> RolloutSpec:
    """Return the part of a specification that requests alone decide."""
    steps = tuple(RolloutStep(step.weight, step.min_requests) for step in spec.steps)
    guards = tuple(guard for guard in spec.guards if _is_drawn(guard, control))
    return replace(spec, steps=steps, guards=guards, min_step_s=0.0, shadow=0.0, deadline_s=0.0)


def _simulate_course(spec: RolloutSpec, control: ControlCounts, seed: int) -> list[int | None] | None:
    """Return the canary requests of each step of one course; None if the sound canary was rolled back."""
    draw, rollout, needed = _Draw(control, seed), start_rollout(spec, 0.0), list[int | None]()
    for index in range(len(spec.steps)):
        if index:
            rollout = advance(rollout, index, 0.0, "")
        if rollout.weight >= POINTS and spec.left_alone():
            return [*needed, None]
        passed = _pass_step(rollout, draw)
        if passed is None:
            return [*needed, *[None] * (len(spec.steps) - index)]
        if _has_failed(passed):
            return None
        rollout = passed
        needed.append(round_count(rollout.requests))
    return needed


def _pass_step(rollout: Rollout, draw: "_Draw") -> Rollout | None:
    """Return the rollout once nothing more is needed at its step, or when a guard fails; None after too many
    requests."""
    total, least = 0, max(1, find_stratum_size(rollout.weight))
    while total < MOST_REQUESTS:
        size = max(least, int(total * GROWTH))
        total += size
        batch, requests = draw.batch(size, rollout.weight / POINTS)
        rollout = add_batch(rollout, batch, requests, sticky=True)  # the drawn split is sound
        if _has_failed(rollout) or not waiting_for(rollout, guard_verdicts(rollout), 0.0):
            return rollout
    return None


def _has_failed(rollout: Rollout) -> bool:
    return GuardVerdict.FAIL in guard_verdicts(rollout).values()


class _Draw:
    """Draws requests of both versions from what the control did."""

    def __init__(self, control: ControlCounts, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._control = control

    def batch(self, size: int, share: float) -> tuple[EvidenceBatch, tuple[int, int]]:
        """Return the counts of so many requests, of which the canary gets a share, and the requests of each."""
        canary = int(self._generator.binomial(size, share))
        sizes = canary, size - canary
        errors = self._pair(self._control.errors, sizes)
        batch = EvidenceBatch(
            errors=errors,
            latency=self._pair(self._control.latency, sizes),
            runs=self._pair(self._control.runs, sizes),
            outputs=self._pair(self._control.outputs, sizes),
            quality=((0, sizes[0]), (0, sizes[1])),
        )
        return batch, sizes

    def _pair(self, counts: Sequence[float], sizes: tuple[int, int]) -> tuple[Sequence[float], Sequence[float]]:
        total = float(sum(counts))
        if not total:
            return (), ()
        shares = np.asarray(counts, float) / total
        one, other = (self._generator.multinomial(size, shares).tolist() for size in sizes)
        return one, other


def forecast_document(spec: RolloutSpec, steps: Sequence[StepForecast], rate: float) -> dict[str, Any]:
    """Return a forecast for the admin API, with a summary in sentences."""
    seconds = [step.seconds for step in steps]
    known = [value for value in seconds if value is not None]
    total = sum(known) if len(known) == len(seconds) else None
    return {
        "to": spec.to,
        "from": spec.control,
        "steps": [_step_document(step) for step in steps],
        "requests_per_second": round(rate, 3),
        "total_seconds": None if total is None else round(total, 1),
        "sentences": _make_sentences(spec, steps, rate, total),
    }


def _step_document(step: StepForecast) -> Mapping[str, Any]:
    return {
        "step": step.step,
        "weight": step.weight,
        "min_seconds": step.min_seconds,
        "requests": step.requests,
        "seconds": None if step.seconds is None else round(step.seconds, 1),
        "also": list(step.also),
    }


def _make_sentences(spec: RolloutSpec, steps: Sequence[StepForecast], rate: float, total: float | None) -> list[str]:
    weights = ", ".join(f"{step.weight / 100:g} %" for step in steps if step.step >= 0)
    first = f"version {spec.to} gets {weights} of the requests, step by step; version {spec.control} gets the rest"
    dry = ["this is a dry run: it changes no traffic"] if spec.dry_run else []
    guards = ", ".join(guard.name for guard in spec.guards)
    return [*dry, first, f"harm in {guards} rolls it back at any moment", _how_long(steps, rate, total)]


def _how_long(steps: Sequence[StepForecast], rate: float, total: float | None) -> str:
    if not rate:
        return "without traffic it stays at its first step"
    if any(step.requests is None for step in steps if step.step >= 0):
        return f"at {rate:.3g} requests a second, the time of at least one step cannot be said in advance"
    if total is None or any(step.also for step in steps):
        return f"at {rate:.3g} requests a second, requests and time alone take {_format_duration(_count_known(steps))}"
    duration = _format_duration(total)
    return f"at {rate:.3g} requests a second it takes about {duration} if the version is as good as the other"


def _count_known(steps: Sequence[StepForecast]) -> float:
    return sum(step.seconds or 0.0 for step in steps)


def _format_duration(seconds: float) -> str:
    for size, unit in ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
