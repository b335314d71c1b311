"""Compares two versions by windows of load in turn: the ratio of a figure, and an exact interval for it.

The windows form pairs, and chance decides which version is first in a pair. Where both are equally fast, the logarithm
of a pair's ratio is therefore as likely to be positive as negative, whatever its distribution; the interval is that of
Wilcoxon's signed-rank test (Hodges and Lehmann 1963), which rests on nothing else.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

Direction = Literal["slower", "faster", "no difference found"]

CONFIDENCE: Final = 0.95
"""Of an interval; fewer than six pairs have none."""

_ALL: Final = 1e4
"""The logarithm that stands for a ratio with requests that failed: beyond those of all durations."""


@dataclass(frozen=True, slots=True)
class RatioInterval:
    """A ratio with the bounds of its confidence interval; ``confidence`` is what the number of pairs really gives."""

    estimate: float
    low: float
    high: float
    confidence: float
    pairs: int

    @property
    def direction(self) -> Direction:
        """What the whole interval says of durations."""
        if self.low > 1:
            return "slower"
        return "faster" if self.high < 1 else "no difference found"


def compare_pairs(own: Sequence[float], others: Sequence[float]) -> RatioInterval:
    """Return the ratio of paired figures, all greater than zero, with its interval.

    A figure is infinite where requests failed: the ratio is then beyond all others, so that failures are never a gain.
    A pair is left out where both failed, and where one has no figure. With too few pairs the interval is unbounded.
    """
    logarithms = [
        _log_ratio(a, b) for a, b in zip(own, others, strict=True) if a > 0 and b > 0 and min(a, b) < math.inf
    ]
    if not logarithms:
        return RatioInterval(math.nan, 0.0, math.inf, 0.0, 0)
    means = sorted((first + second) / 2 for place, first in enumerate(logarithms) for second in logarithms[place:])
    rank, confidence = _choose_rank(len(logarithms))
    low, high = (_to_ratio(means[rank - 1]), _to_ratio(means[-rank])) if rank else (0.0, math.inf)
    return RatioInterval(_to_ratio(_find_median(means)), low, high, confidence, len(logarithms))


def _log_ratio(own: float, other: float) -> float:
    if math.isinf(own):
        return _ALL
    return -_ALL if math.isinf(other) else math.log(own / other)


def _to_ratio(logarithm: float) -> float:
    """Return the ratio of a logarithm; means with pairs of failures are infinite, or 0."""
    if abs(logarithm) > _ALL / 8:
        return math.inf if logarithm > 0 else 0.0
    return math.exp(logarithm)


def _find_median(ordered: Sequence[float]) -> float:
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _choose_rank(pairs: int) -> tuple[int, float]:
    """Return which of the ordered means bounds the interval (0: none does), and the confidence of the interval."""
    counts, below, rank = _signed_rank_counts(pairs), 0, 0
    allowed = (1 - CONFIDENCE) / 2 * 2.0**pairs
    while below + counts[rank] <= allowed:
        below += counts[rank]
        rank += 1
    return rank, 1 - 2 * below / 2.0**pairs if rank else 1.0


@lru_cache(maxsize=64)
def _signed_rank_counts(pairs: int) -> tuple[int, ...]:
    """Return how many of the 2 ** pairs assignments of signs have each sum of positive ranks."""
    counts = [1] + [0] * (pairs * (pairs + 1) // 2)
    for rank in range(1, pairs + 1):
        for total in range(len(counts) - 1, rank - 1, -1):
            counts[total] += counts[total - rank]
    return tuple(counts)
