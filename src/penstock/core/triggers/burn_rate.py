"""How fast a version uses up what its service-level objectives allow, over windows of time (the burn rate)."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LATENCY_BUDGET = 0.01
"""Share of requests that may be slower than a 99th percentile."""

MOST_COUNTS = 15_000


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """Requests answered until a time (seconds since the epoch), callers' mistakes left out: how many, how many of them
    failed, and how many took longer than the objective."""

    at: float
    requests: int = 0
    failed: int = 0
    slow: int = 0


@dataclass(frozen=True, slots=True)
class BurnRates:
    """What happened in a window: so many requests, and each objective's burn rate: 1 uses up exactly what it allows."""

    requests: int
    rates: Mapping[str, float]


def find_error_budgets(objectives: Mapping[str, float]) -> dict[str, float]:
    """The share of requests that each objective (``error_ratio``, ``latency_p99_ms``) allows to be bad."""
    allowed = {"error_ratio": objectives.get("error_ratio"), "latency_p99_ms": None}
    if "latency_p99_ms" in objectives:
        allowed["latency_p99_ms"] = LATENCY_BUDGET
    return {name: share for name, share in allowed.items() if share}


def burn_rates(history: Sequence[RequestCounts], window_s: float, allowed: Mapping[str, float]) -> BurnRates | None:
    """The burn over the last seconds of a history; None while it does not reach back so far."""
    if not history:
        return None
    last = history[-1]
    first = next((item for item in reversed(history) if item.at <= last.at - window_s), None)
    if first is None:
        return None
    requests = last.requests - first.requests
    bad = {"error_ratio": last.failed - first.failed, "latency_p99_ms": last.slow - first.slow}
    return BurnRates(
        requests, {name: bad[name] / requests / share if requests else 0.0 for name, share in allowed.items()}
    )


class History:
    """The counts of one version over time, none nearer to each other than ``step_s``, for windows of ``window_s`` at
    most. Counts that fall, because a worker or gateway is gone, count as no requests."""

    def __init__(self, window_s: float, step_s: float) -> None:
        self.step_s = max(step_s, window_s / MOST_COUNTS)
        self.window_s = window_s
        self._raw: RequestCounts | None = None
        self._counts: deque[RequestCounts] = deque(maxlen=int(window_s / self.step_s) + 3)

    def takes(self, at: float) -> bool:
        """Whether counts of this time are far enough from the last ones."""
        return self._raw is None or at - self._raw.at >= self.step_s

    def add(self, now: RequestCounts) -> None:
        """What is counted now; it is left out if it is too near to the last counts."""
        if not self.takes(now.at):
            return
        self._counts.append(
            RequestCounts(now.at) if self._raw is None else _add_increase(self._counts[-1], self._raw, now)
        )
        self._raw = now

    def counts(self) -> tuple[RequestCounts, ...]:
        """Oldest first."""
        return tuple(self._counts)


def _add_increase(sum_so_far: RequestCounts, before: RequestCounts, now: RequestCounts) -> RequestCounts:
    return RequestCounts(
        now.at,
        sum_so_far.requests + max(0, now.requests - before.requests),
        sum_so_far.failed + max(0, now.failed - before.failed),
        sum_so_far.slow + max(0, now.slow - before.slow),
    )
