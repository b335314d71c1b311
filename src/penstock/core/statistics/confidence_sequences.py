"""Confidence sequences of a mean: intervals that hold at all times together, not only at one."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

CONCENTRATION = 50.0
"""Pseudo-observations of the mixture's prior, which is centred on the mean in question: at some multiples of so many
values the interval is tightest."""

HALVINGS = 60
SMALLEST = 1e-12


@dataclass(frozen=True, slots=True)
class Interval:
    """The interval of a confidence sequence at this moment."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Mean:
    """The statistics of a stream of values in [0, 1]: their number, sum and sum of squares."""

    count: int = 0
    total: float = 0.0
    squares: float = field(default=0.0)

    def with_values(self, count: int, total: float, squares: float) -> "Mean":
        """Return the statistics with further values."""
        return Mean(self.count + count, self.total + total, self.squares + squares)

    @property
    def value(self) -> float:
        """Return the mean, one half without values."""
        return self.total / self.count if self.count else 0.5

    @property
    def variance(self) -> float:
        """Return the variance, pulled to its maximum of one quarter by one imagined value."""
        spread = self.squares - self.total * self.total / self.count if self.count else 0.0
        return (max(0.0, spread) + 0.25) / (self.count + 1)


def find_confidence_sequence(mean: Mean, alpha: float) -> Interval:
    """The confidence sequence of a mean of values in [0, 1]: it holds at all times together with probability 1 - alpha.

    All means are kept against which the evidence has not reached ``1 / alpha``. The evidence against ``m`` is the
    beta-binomial mixture of likelihood ratios (Robbins 1970; Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform,
    nonparametric, nonasymptotic confidence sequences", 2021): the mean of ``(t/m)^S ((1-t)/(1-m))^(n-S)`` over t from
    Beta(c m, c (1-m)). It needs the count n and the sum S only. For values between 0 and 1 it is an e-process as for 0
    and 1, since ``(t/m)^x ((1-t)/(1-m))^(1-x)`` lies below its chord in x (arithmetic and geometric mean). Nothing is
    asymptotic: it holds from the first value on, for means however small.
    """
    if not mean.count:
        return Interval(0.0, 1.0)
    n, total = mean.count, min(max(mean.total, 0.0), float(mean.count))
    target = math.log(1 / alpha)

    def excluded(candidate: float) -> bool:
        return log_evidence(n, total, candidate) >= target

    middle = min(max(total / n, SMALLEST), 1 - SMALLEST)
    low = 0.0 if total == 0 else _find_edge(middle, SMALLEST, excluded)
    high = 1.0 if total == n else _find_edge(middle, 1 - SMALLEST, excluded)
    return Interval(low, high)


def log_evidence(n: int, total: float, mean: float) -> float:
    """Return the logarithm of the evidence against a mean in (0, 1), by ``n`` values that sum to ``total``."""
    a, b = CONCENTRATION * mean, CONCENTRATION * (1 - mean)
    mixture = math.lgamma(a + total) - math.lgamma(a) + math.lgamma(b + n - total) - math.lgamma(b)
    mixture -= math.lgamma(CONCENTRATION + n) - math.lgamma(CONCENTRATION)
    return mixture - total * math.log(mean) - (n - total) * math.log1p(-mean)


def _find_edge(inside: float, outside: float, excluded: Callable[[float], bool]) -> float:
    """Return the end of the interval between the observed mean and the end of the range."""
    if not excluded(outside):
        return outside
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if excluded(middle) else (middle, outside)
    return outside
