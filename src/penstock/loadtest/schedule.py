"""When requests are due: all moments are fixed before the load begins, and no answer moves them (open loop)."""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Moments = NDArray[np.float64]
Arrivals = Literal["poisson", "constant"]

MOST_REQUESTS: Final = 10_000_000
"""The most of one schedule: the memory of a load test is bounded."""


@dataclass(frozen=True, slots=True)
class Ramp:
    """A rate that goes from ``start`` to ``end`` requests a second in ``seconds``, and stays there."""

    start: float
    end: float
    seconds: float

    def expected(self, seconds: float) -> float:
        """Return the mean number of requests until a moment."""
        ramped = min(seconds, self.seconds)
        slope = (self.end - self.start) / self.seconds if self.seconds else 0.0
        return self.start * ramped + slope * ramped**2 / 2 + self.end * (seconds - ramped)


def steady_rate(rate: float) -> Ramp:
    """Return a rate that does not change."""
    return Ramp(rate, rate, 0.0)


def due_moments(ramp: Ramp, seconds: float, arrivals: Arrivals, seed: int) -> Moments:
    """Return the moments within ``seconds`` at which requests are due, in order.

    ``poisson``: independent callers, who come at random; ``constant``: equal distances at a steady rate, as wrk2.

    Raises:
        ValueError: they are more than a load test may have.
    """
    expected = ramp.expected(seconds)
    if expected > MOST_REQUESTS:
        raise ValueError(f"expected at most {MOST_REQUESTS:,} requests (got about {expected:,.0f})")
    return _find_moments(ramp, _expected_counts(expected, arrivals, seed))


def _expected_counts(expected: float, arrivals: Arrivals, seed: int) -> Moments:
    """Return the expected number of requests at each arrival: that makes a process of rate 1 one of any rate."""
    if arrivals == "constant":
        return np.arange(0.5, expected, 1.0)
    enough = int(expected + 10 * math.sqrt(expected) + 20)
    counts = np.cumsum(np.random.default_rng(seed).exponential(1.0, enough))
    return counts[counts < expected]


def _find_moments(ramp: Ramp, counts: Moments) -> Moments:
    """Return the moments at which the expected number of requests reaches these counts."""
    in_ramp = ramp.expected(ramp.seconds)
    after = ramp.seconds + (counts - in_ramp) / ramp.end if ramp.end else np.zeros_like(counts)
    if not ramp.seconds:
        return after
    slope = (ramp.end - ramp.start) / ramp.seconds
    root = np.sqrt(np.maximum(ramp.start**2 + 2 * slope * np.minimum(counts, in_ramp), 0.0))
    during = 2 * np.minimum(counts, in_ramp) / np.maximum(ramp.start + root, 1e-12)
    return np.where(counts <= in_ramp, during, after)


def parse_ramp(text: str) -> Ramp:
    """Return the ramp that ``A:B:S`` states.

    Raises:
        ValueError: the text has another form.
    """
    try:
        start, end, seconds = (float(part) for part in text.split(":"))
    except ValueError:
        start = end = seconds = math.nan
    if not (0 <= start < math.inf and 0 < end < math.inf and 0 < seconds < math.inf):
        raise ValueError(
            f"expected A:B:S, requests a second from A to B in S seconds, such as 10:500:30 (got '{text}')"
        )
    return Ramp(start, end, seconds)
