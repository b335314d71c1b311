"""What windows of load show: durations, failures, rates, and whether the generator itself was in time."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penstock.core.labels import GRPC_STATUSES
from penstock.loadtest.histogram import HdrHistogram, join
from penstock.loadtest.objectives import LATENCIES
from penstock.loadtest.samples import INTERRUPTED, Samples
from penstock.loadtest.schedule import Moments
from penstock.loadtest.wire import LOST, TIMED_OUT, UNSENT

Chosen = NDArray[np.bool_]

LAG_SHARE: Final = 0.1
"""A generator that delays one in a hundred requests by this part of the 99th percentile has measured itself."""

CONNECTION_S: Final = 0.001
_OWN: Final = {LOST: "connection lost", TIMED_OUT: "timed out", UNSENT: "no connection was free"}


@dataclass(frozen=True, slots=True)
class SecondOfLoad:
    """A second of a window: requests that were due in it, those that failed, and percentiles in milliseconds (None
    among failed requests, or without any)."""

    second: int
    due: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Measurement:
    """What windows show together.

    ``latency`` runs from the moment a request was due, ``service`` from when it was sent; requests without a good
    answer rank beyond all others in both. ``lag`` is the generator's own delay. ``waited`` requests were sent later
    than a millisecond after they were due because every connection was busy.
    """

    seconds: float
    requests: int
    failures: Mapping[str, int]
    latency: HdrHistogram
    service: HdrHistogram
    lag: HdrHistogram
    waited: int
    answered_in_s: float
    stopped: bool
    series: tuple[SecondOfLoad, ...]

    @property
    def good(self) -> int:
        """Requests with a good answer."""
        return self.latency.recorded

    @property
    def rate(self) -> float:
        """Good answers a second, until the last one."""
        return self.good / self.answered_in_s if self.answered_in_s else 0.0

    @property
    def asked_rate(self) -> float:
        """Requests that were due a second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def error_ratio(self) -> float:
        """The part of the requests without a good answer, NaN without requests."""
        return self.latency.missed / self.requests if self.requests else math.nan

    def figures(self) -> dict[str, float]:
        """Return every figure that an objective may bound: milliseconds, a ratio, answers a second."""
        found = {name: figure_ms(self.latency, name) for name in LATENCIES}
        return {**found, "errors": self.error_ratio, "rate": self.rate if self.requests else math.nan}

    def generator_problem(self, most_lag_ms: float) -> str:
        """Return why the measurement is of the generator and not of the gateway; "" if it is valid."""
        lag_ms = self.lag.percentile_us(99) / 1000
        p99_ms = self.latency.percentile_us(99) / 1000
        allowed = max(most_lag_ms, LAG_SHARE * p99_ms if math.isfinite(p99_ms) else 0.0)
        if math.isnan(lag_ms) or lag_ms <= allowed:
            return ""
        return (
            f"the generator sent 1 % of the requests more than {lag_ms:.2f} ms after it could have (allowed: "
            f"{allowed:.2f} ms); this machine is too busy or too slow for the rate: lower it, or use another machine"
        )


def figure_ms(histogram: HdrHistogram, name: str) -> float:
    """Return a duration in milliseconds by its name in objectives."""
    if name == "mean":
        return histogram.mean_us / 1000 if not histogram.missed else math.inf
    percent = 100.0 if name == "max" else float(name[1:])
    return histogram.percentile_us(percent) / 1000


def measure(samples: Samples, seconds: float, transport_is_grpc: bool) -> Measurement:
    """Return what one window shows; ``seconds`` is its planned length."""
    kept = samples.outcome != INTERRUPTED
    good = samples.is_good & kept
    missed = int((kept & ~good).sum())
    end = float(samples.due.max(initial=0.0)) if samples.stopped else seconds
    waits = samples.sent - samples.due - samples.lag
    return Measurement(
        end,
        int(kept.sum()),
        _count_failures(samples, transport_is_grpc),
        HdrHistogram.of((samples.done - samples.due)[good] * 1e6, missed),
        HdrHistogram.of((samples.done - samples.sent)[good] * 1e6, missed),
        HdrHistogram.of(samples.lag[~np.isnan(samples.sent)] * 1e6),
        int((waits[~np.isnan(waits)] > CONNECTION_S).sum()),
        max(end, float(samples.done[good].max(initial=0.0))),
        samples.stopped,
        tuple(_count_seconds(samples, kept, good)),
    )


def combine(parts: Sequence[Measurement]) -> Measurement:
    """Return what several windows show together; their seconds follow each other."""
    failures: Counter[str] = Counter()
    series: list[SecondOfLoad] = []
    for part in parts:
        failures.update(part.failures)
        begin = len(series)
        series += [SecondOfLoad(begin + at.second, at.due, at.failed, at.p50_ms, at.p99_ms) for at in part.series]
    return Measurement(
        sum(part.seconds for part in parts),
        sum(part.requests for part in parts),
        dict(failures),
        join(part.latency for part in parts),
        join(part.service for part in parts),
        join(part.lag for part in parts),
        sum(part.waited for part in parts),
        sum(part.answered_in_s for part in parts),
        any(part.stopped for part in parts),
        tuple(series),
    )


def name_outcome(outcome: int, transport_is_grpc: bool) -> str:
    """Return an outcome in the terms of its transport."""
    if outcome < 0:
        return _OWN.get(outcome, "interrupted")
    if transport_is_grpc:
        return GRPC_STATUSES[outcome] if outcome < len(GRPC_STATUSES) else f"gRPC status {outcome}"
    return f"HTTP {outcome}"


def _count_failures(samples: Samples, transport_is_grpc: bool) -> dict[str, int]:
    bad = samples.outcome[~samples.is_good & (samples.outcome != INTERRUPTED)]
    outcomes, counts = np.unique(bad, return_counts=True)
    pairs = zip(outcomes.tolist(), counts.tolist(), strict=True)
    return {name_outcome(outcome, transport_is_grpc): count for outcome, count in pairs}


def _count_seconds(samples: Samples, kept: Chosen, good: Chosen) -> list[SecondOfLoad]:
    seconds = samples.due.astype(np.int64)
    found = []
    for second in range(int(seconds.max(initial=-1)) + 1):
        inside = (seconds == second) & kept
        durations = np.sort((samples.done - samples.due)[inside & good] * 1000)
        due = int(inside.sum())
        p50, p99 = (_find_percentile(durations, due, percent) for percent in (50, 99))
        found.append(SecondOfLoad(second, due, due - len(durations), p50, p99))
    return found


def _find_percentile(durations: Moments, count: int, percent: int) -> float | None:
    rank = -(-percent * count // 100)
    return float(durations[rank - 1]) if 0 < rank <= len(durations) else None
