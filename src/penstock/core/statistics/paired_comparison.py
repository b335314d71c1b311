"""Whether one of two versions is better than another on the same rows: one-sided lower bounds of paired differences.

Both versions answer every row, so only rows that they answer differently distinguish them. For rates (each row right or
wrong) the bound is the score interval of a difference of paired proportions (Tango, "Equivalence test and confidence
interval for the difference in proportions for the paired-sample design", Statistics in Medicine 17, 1998), which is
McNemar's test where the difference is held against nothing; half a row is taken off, which brings it to the mid-p
form that Fagerland, Lydersen and Laake (2013) recommend for few discordant rows. For other metrics it is the
delete-a-group jackknife (Shao and Tu, "The Jackknife and Bootstrap", 1995).

Rows of one request are alike, so they are not votes of their own: the variance of a rate is multiplied by what clusters
of rows add to it, and the jackknife leaves out whole requests.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HALVINGS = 50
HALF = 0.5
"""Of a row: the continuity correction."""


@dataclass(frozen=True, slots=True)
class Advantage:
    """How far the candidate is ahead (more is better, whatever the metric): the estimate, and its one-sided lower bound
    at a ``level``; ``rows`` are those that were answered differently, None where that is not what counts."""

    estimate: float
    lower: float
    level: float
    rows: int | None = None


def spend_alpha(alpha: float, tries: int) -> float:
    """The part of ``alpha`` that try number ``tries`` (from 1 on) may use: ``6 alpha / (pi tries)^2``.

    The parts of all tries, however many, add up to alpha (Euler), so the chance that any of them passes by luck is
    alpha at most, however the tries depend on each other and on what came of the ones before (Bonferroni's bound).
    """
    return 6 * alpha / (math.pi * tries) ** 2


def rate_advantage(
    candidate: Sequence[bool], champion: Sequence[bool], units: Sequence[int], level: float
) -> Advantage:
    """Of the share of rows that are right; ``units`` says which request each row came with."""
    right, reference = np.asarray(candidate, bool), np.asarray(champion, bool)
    rows = len(right)
    won, lost = int((right & ~reference).sum()), int((~right & reference).sum())
    inflation = _find_inflation(right.astype(float) - reference.astype(float), np.asarray(units))
    lower = _find_edge(won, lost, rows, NormalDist().inv_cdf(1 - level) * math.sqrt(inflation))
    return Advantage((won - lost) / rows, lower, level, won + lost)


def _find_inflation(differences: Floats, units: NDArray[np.int_]) -> float:
    """The variance of the sum of differences by clusters against the one of single rows, 1 at least."""
    apart = differences - differences.mean()
    single = float((apart**2).sum())
    _, places = np.unique(units, return_inverse=True)
    clusters = np.bincount(places, apart)
    return max(1.0, float((clusters**2).sum()) / single) if single > 0 else 1.0


def _find_edge(won: int, lost: int, rows: int, z: float) -> float:
    """The least difference that is not rejected."""
    if _score(won, lost, rows, -1 + 1e-9) < z:
        return -1.0
    low, high = -1 + 1e-9, (won - lost) / rows
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _score(won, lost, rows, middle) >= z else (low, middle)
    return low


def _score(won: int, lost: int, rows: int, difference: float) -> float:
    """Tango's statistic against a difference, with the continuity correction."""
    a = 2.0 * rows
    b = -won - lost + (2 * rows - won + lost) * difference
    c = -lost * difference * (1 - difference)
    share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = rows * (2 * share + difference * (1 - difference))
    ahead = won - lost - rows * difference - HALF
    return ahead / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, ahead)


def jackknife_advantage(whole: float, without: Sequence[float], level: float) -> Advantage:
    """Of any metric: its difference over all rows, and ``without`` each of some groups of about one size."""
    groups = len(without)
    spread = np.asarray(without, float)
    variance = (groups - 1) / groups * float(((spread - spread.mean()) ** 2).sum())
    return Advantage(whole, whole - _student_quantile(1 - level, groups - 1) * math.sqrt(variance), level)


def _student_quantile(share: float, degrees: int) -> float:
    """A quantile of Student's distribution by the expansion in 1/degrees (Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(share)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3
