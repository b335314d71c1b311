"""The report of a load test as one JSON document; docs/reference/loadtest.md describes its fields."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from penstock.loadtest.comparison import RatioInterval
from penstock.loadtest.histogram import HdrHistogram
from penstock.loadtest.measurement import Measurement, figure_ms
from penstock.loadtest.objectives import LATENCIES, Verdict
from penstock.loadtest.runs import CapacitySearch
from penstock.loadtest.stages import StageTimes

Document = dict[str, Any]
Outcome = Literal["pass", "breach", "undecided", "invalid", "interrupted"]

FORMAT: Final = "penstock-loadtest/1"


@dataclass(frozen=True, slots=True)
class LoadTestSetup:
    """What was tested, and how: the facts at the top of a report."""

    penstock: str
    started_at: str
    model: str
    transport: Literal["rest", "grpc"]
    arrivals: str
    seed: int
    connections: int
    timeout_seconds: float
    warmup_seconds: float
    inputs: str
    request_bytes: int
    rate: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TargetResult:
    """What one target showed, where it is, and the statistics of its gateway, if it gave any."""

    label: str
    address: str
    measurement: Measurement
    stages: StageTimes | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class LoadTestResults:
    """Everything a load test found; the first target is the one whose objectives count."""

    setup: LoadTestSetup
    targets: Sequence[TargetResult]
    verdicts: Sequence[Verdict] = ()
    ratios: Mapping[str, RatioInterval] = field(default_factory=dict)
    search: CapacitySearch | None = None
    interrupted: bool = False

    @property
    def outcome(self) -> Outcome:
        """What the load test says as a whole. A result that is of the generator is not a breach of the gateway."""
        if self.interrupted:
            return "interrupted"
        if any(target.problem for target in self.targets):
            return "invalid"
        outcomes = {verdict.outcome for verdict in self.verdicts}
        if "breach" in outcomes or (self.search is not None and self.search.capacity.rate is None):
            return "breach"
        return "undecided" if "undecided" in outcomes else "pass"


def to_document(results: LoadTestResults) -> Document:
    """Return the report; NaN and infinity become null."""
    return {
        "format": FORMAT,
        "outcome": results.outcome,
        **{key: dict(value) if isinstance(value, Mapping) else value for key, value in asdict(results.setup).items()},
        "targets": [_describe_target(target) for target in results.targets],
        "objectives": [_describe_verdict(verdict) for verdict in results.verdicts],
        "comparison": _describe_comparison(results) if results.ratios else None,
        "capacity": None if results.search is None else _describe_capacity(results.search),
    }


def _describe_target(target: TargetResult) -> Document:
    measured, stages = target.measurement, target.stages
    return {
        "name": target.label,
        "address": target.address,
        "seconds": round(measured.seconds, 3),
        "requests": measured.requests,
        "answered": measured.good,
        "failures": dict(measured.failures),
        "error_ratio": finite_or_none(measured.error_ratio),
        "asked_per_second": round(measured.asked_rate, 3),
        "answered_per_second": round(measured.rate, 3),
        "latency_ms": describe_durations(measured.latency),
        "service_ms": describe_durations(measured.service),
        "stages_ms": {} if stages is None else {name: round(mean, 6) for name, mean in stages.mean_ms.items()},
        "versions": {} if stages is None else dict(stages.requests),
        "generator": {
            "valid": not target.problem,
            "problem": target.problem,
            "lag_ms": describe_durations(measured.lag),
            "waited_for_connection": measured.waited,
        },
        "hdr": measured.latency.encode(),
        "series": [asdict(second) for second in measured.series],
    }


def describe_durations(histogram: HdrHistogram) -> dict[str, float | None]:
    """Return the durations of a histogram by their names; None among failed requests, or without any."""
    return {name: finite_or_none(figure_ms(histogram, name)) for name in LATENCIES}


def finite_or_none(value: float) -> float | None:
    """Return a number that JSON can hold, None for NaN and infinity."""
    return round(value, 6) if math.isfinite(value) else None


def _describe_verdict(verdict: Verdict) -> Document:
    objective, observed = verdict.objective, verdict.observed
    return {
        "objective": objective.text,
        "metric": objective.metric,
        "relation": objective.relation,
        "limit": objective.limit,
        "observed": None if observed is None else finite_or_none(observed),
        "outcome": verdict.outcome,
    }


def _describe_comparison(results: LoadTestResults) -> Document:
    return {
        "name": results.targets[0].label,
        "against": results.targets[1].label,
        "method": "Hodges-Lehmann estimate and Wilcoxon signed-rank interval of paired windows in random order",
        "ratios": {name: _describe_interval(interval) for name, interval in results.ratios.items()},
    }


def _describe_interval(interval: RatioInterval) -> Document:
    return {
        "estimate": finite_or_none(interval.estimate),
        "low": finite_or_none(interval.low),
        "high": finite_or_none(interval.high),
        "confidence": round(interval.confidence, 4),
        "pairs": interval.pairs,
        "finding": interval.direction,
    }


def _describe_capacity(search: CapacitySearch) -> Document:
    found = search.capacity
    return {
        "rate": found.rate,
        "breached": found.breached,
        "limit": found.limit,
        "kept_windows": found.kept_windows,
        "breach_share_at_most": round(found.breach_share, 4),
        "confirmed": found.confirmed,
        "trials": [asdict(trial) for trial in search.trials],
    }


def describe_capacity(search: CapacitySearch) -> str:
    """Return what a search found, in a sentence or two that say how sure it is."""
    found = search.capacity
    if found.rate is None:
        lowest = "" if found.breached is None else f" The lowest rate that was tried is {found.breached:g}/s."
        return f"No rate kept the objectives.{lowest}"
    beyond = {
        "objective": f"{found.breached or 0:g}/s did not",
        "generator": f"the generator of the load could not reach {found.breached or 0:g}/s",
        "none": "no higher rate was tried",
    }[found.limit]
    certainty = (
        f"With 95 % confidence at most {found.breach_share:.0%} of such windows breach at this rate."
        if found.confirmed
        else "The search was over before this was confirmed; a longer --budget allows it."
    )
    return (
        f"{found.rate:g}/s kept the objectives in {found.kept_windows} of {found.kept_windows} windows; {beyond}. "
        f"{certainty}"
    )
