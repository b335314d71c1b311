"""The report of a replay as one JSON document, and what it decides; docs/how-to/replay-traffic.md describes it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from penstock.loadtest.report import describe_durations, finite_or_none
from penstock.monitor.capture_parts import ReadCounts
from penstock.replay.findings import Findings, OutputCounts
from penstock.replay.judgement import PairCounts, excess_of
from penstock.replay.pace import ASAP

Document = dict[str, Any]
Outcome = Literal["pass", "breach", "invalid", "interrupted"]

FORMAT: Final = "penstock-replay/1"

MOST_UNANSWERED: Final = 0.01
"""With a greater part of requests without an answer, a replay says nothing of the version."""


@dataclass(frozen=True, slots=True)
class ReplaySetup:
    """What was replayed, and how: the facts at the top of a report. ``max_differences`` is None without comparison."""

    penstock: str
    started_at: str
    captures: Sequence[str]
    target: str
    address: str
    transport: Literal["rest", "grpc"]
    speed: float
    connections: int
    timeout_seconds: float
    max_differences: float | None


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """Everything a replay found."""

    setup: ReplaySetup
    findings: Findings
    read: ReadCounts
    interrupted: bool = False

    @property
    def problem(self) -> str:
        """Why the result says nothing of the version; "" if it does."""
        found = self.findings
        if not found.requests:
            return "no captured request could be sent"
        if found.unanswered_share > MOST_UNANSWERED:
            return f"{found.unanswered} of {found.requests} requests had no answer of the version"
        if self.setup.max_differences is not None and not found.pairs.compared:
            return "no answer could be compared: the capture holds no answers, or masked ones"
        return ""

    @property
    def outcome(self) -> Outcome:
        """What the replay says as a whole: a breach if more requests differ than the set-up allows."""
        if self.interrupted:
            return "interrupted"
        if self.problem:
            return "invalid"
        limit = self.setup.max_differences
        return "breach" if limit is not None and excess_of(self.findings.pairs).low > limit else "pass"


def to_document(result: ReplayResult) -> Document:
    """Return the report; NaN and infinity become null."""
    found, setup = result.findings, result.setup
    return {
        "format": FORMAT,
        "outcome": result.outcome,
        "problem": result.problem,
        **asdict(setup),
        "captures": list(setup.captures),
        "speed": "asap" if setup.speed == ASAP else setup.speed,
        "seconds": round(found.seconds, 3),
        "requests": {
            "sent_or_due": found.requests,
            "answered": found.answered,
            "unanswered": found.unanswered,
            "ended": dict(found.ended.most_common()),
            "skipped": {reason: count for reason, count in found.skipped.most_common() if count},
        },
        "read": {"share": round(result.read.share, 6), "deleted": result.read.deleted, "damaged": result.read.damaged},
        "versions": dict(found.versions.most_common()),
        "latency_ms": describe_durations(found.durations.histogram()),
        "comparison": None if setup.max_differences is None else _describe_comparison(found),
        "series": {
            "step_seconds": found.series.step_s,
            "names": list(found.series.names),
            "steps": [[step.second, *step.counts] for step in found.series.steps()],
        },
        "samples": [_describe_sample(sample.document) for sample in found.worst()],
    }


def _describe_comparison(found: Findings) -> Document:
    return {
        **_describe_pairs(found.pairs),
        "errors": found.errors,
        "uncompared": found.uncompared,
        "outputs": {name: _describe_output(counts) for name, counts in found.outputs.items()},
    }


def _describe_pairs(pairs: PairCounts) -> Document:
    excess = excess_of(pairs)
    return {
        "compared": pairs.compared,
        "differ": pairs.differ,
        "noisy": pairs.noisy,
        "share_above_noise": finite_or_none(excess.share),
        "share_that_counts": finite_or_none(excess.low),
    }


def _describe_output(counts: OutputCounts) -> Document:
    return {**_describe_pairs(counts.pairs), "flips": counts.flips, "max_abs_diff": finite_or_none(counts.max_abs)}


def _describe_sample(document: Mapping[str, Any]) -> Document:
    return {**document, "max_abs_diff": finite_or_none(document["max_abs_diff"])}


def describe_comparison(result: ReplayResult) -> str:
    """Return what the comparison found in a sentence or two, "" without one."""
    limit, pairs = result.setup.max_differences, result.findings.pairs
    if limit is None or not pairs.compared:
        return ""
    excess = excess_of(pairs)
    noise = (
        f"{pairs.noisy} differ from themselves; above this noise {excess.share:.4%} differ, {excess.low:.4%} with 95 % "
        "confidence"
        if pairs.noisy
        else "none differs from itself"
    )
    return (
        f"{pairs.differ} of {pairs.compared} requests differ from the capture ({result.findings.errors} by an error), "
        f"{noise}; {limit:.4%} may differ."
    )


def describe_ends(found: Findings) -> str:
    """Return how requests ended that were not answered, and which were not sent, in one line; "" if there are none."""
    ends = [f"{count} {name}" for name, count in found.ended.most_common() if name != "answered"]
    ends += [f"{count} not sent: {reason}" for reason, count in found.skipped.most_common() if count]
    return "; ".join(ends)


def latency_curve(found: Findings, nines: float, steps: int) -> list[tuple[float, float]]:
    """Return percentiles in milliseconds over the number of nines."""
    histogram = found.durations.histogram()
    places = [step / steps * nines for step in range(steps + 1)]
    points = [(place, histogram.percentile_us(100 * (1 - 10**-place)) / 1000) for place in places]
    return [(place, value) for place, value in points if math.isfinite(value)]
