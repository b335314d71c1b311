"""Two-sample tests over counts in fixed bins, canary against control.

The k-sample e-process of Turner, Ly and Grünwald ("Generic E-variables for exact sequential k-sample tests that allow
for optional stopping"): per batch with counts a and b of sizes n_a and n_b it multiplies
``prod (theta_a / null_a)^a * prod (theta_b / null_b)^b``, where (null_a, null_b) is the point of the null hypothesis
closest to the estimates in the sense of ``n_a KL(theta_a | null_a) + n_b KL(theta_b | null_b)``. For a convex null
hypothesis this is an e-value for every batch size fixed before the data. "No difference" has the weighted mean as its
closest point. The estimates come from earlier batches only, and from earlier parts of the same one.

Tests of harm at ``any_onset`` are means over the time at which it may have begun, as ``evidence`` describes.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from penstock.core.statistics.evidence import (
    Counts,
    Evidence,
    split_batch,
    with_batch,
    with_batch_any_onset,
    with_recent,
)

PRIOR = 200.0
"""Pseudo-observations by which the canary's estimate is drawn to the control's."""

CONTROL_PRIOR = 1.0
"""Pseudo-observations, spread evenly over the bins, of the control's own estimate."""

RATIOS = (2.0, 4.0, 10.0)
"""Bad rates a canary may turn out to have, in multiples of the control's: one bet on each, beside the estimate's."""

SHIFTS = (2, 5, 10)
"""The same for ordered bins: how many bins higher everything may lie."""

LEFT = 0.05
TINY = 1e-12


def add_difference_batch(evidence: Evidence, a: ArrayLike, b: ArrayLike) -> Evidence:
    """One batch for "the two have the same distribution", against any difference."""
    for one, other in split_batch(evidence, np.asarray(a, float), np.asarray(b, float)):
        gains = _distribution_gains(evidence, one, other, ordered=False, any_onset=False)
        evidence = with_batch(evidence, one, other, gains)
    return evidence


def add_excess_batch(evidence: Evidence, a: ArrayLike, b: ArrayLike, any_onset: bool = False) -> Evidence:
    """One batch for "the canary is nowhere above the control" (in the order of the bins), against "it is".

    The estimated likelihood ratio is made monotone in the bins (isotonic regression), so the bet only ever pays for
    mass that has moved up, and the e-value holds for every canary that is stochastically below the control.
    """
    for one, other in split_batch(evidence, np.asarray(a, float), np.asarray(b, float)):
        gains = _distribution_gains(evidence, one, other, ordered=True, any_onset=any_onset)
        evidence = _take(evidence, one, other, gains, any_onset)
    return evidence


def rate_exceeds(evidence: Evidence, a: ArrayLike, b: ArrayLike, margin: float, any_onset: bool = False) -> Evidence:
    """One batch of (bad, other) counts for "the canary's bad rate is at most the control's plus ``margin``"."""
    for one, other in split_batch(evidence, np.asarray(a, float), np.asarray(b, float)):
        evidence = _take(evidence, one, other, _rate_gains(evidence, one, other, margin, True, any_onset), any_onset)
    return evidence


def rate_below(evidence: Evidence, a: ArrayLike, b: ArrayLike, margin: float) -> Evidence:
    """One batch of (bad, other) counts for "the canary's bad rate is at least the control's plus ``margin``"."""
    for one, other in split_batch(evidence, np.asarray(a, float), np.asarray(b, float)):
        evidence = _take(evidence, one, other, _rate_gains(evidence, one, other, margin, False, False), False)
    return evidence


def _take(evidence: Evidence, a: Counts, b: Counts, gains: Sequence[float], any_onset: bool) -> Evidence:
    if not any_onset:
        return with_batch(evidence, a, b, gains)
    recent = with_recent(evidence, a)
    return replace(with_batch_any_onset(evidence, a, b, gains, [1 / len(gains)] * len(gains)), recent=recent)


def estimate_batch(evidence: Evidence, bins: int, any_onset: bool = False) -> tuple[Counts, Counts]:
    """What the next batch is expected to look like, for canary (as it was recently, if ``any_onset``) and
    control."""
    control = _fill(evidence.control, bins)
    canary = _fill(evidence.recent if any_onset else evidence.canary, bins)
    pooled = control + canary + CONTROL_PRIOR / bins
    theta_b = (control + CONTROL_PRIOR * pooled / pooled.sum()) / (control.sum() + CONTROL_PRIOR)
    theta_a = (canary + PRIOR * theta_b) / (canary.sum() + PRIOR)
    return theta_a, theta_b


def _fill(counts: tuple[float, ...], bins: int) -> Counts:
    return np.asarray(counts, float) if counts else np.zeros(bins)


def _distribution_gains(evidence: Evidence, a: Counts, b: Counts, ordered: bool, any_onset: bool) -> list[float]:
    n_a, n_b = a.sum(), b.sum()
    gains = [0.0] * (1 + len(SHIFTS) if ordered else 1)
    if not n_a or not n_b or not evidence.control:
        return gains
    theta_a, theta_b = estimate_batch(evidence, len(a), any_onset)
    bets = [theta_a, *(_shift_up(theta_b, bins) for bins in SHIFTS)] if ordered else [theta_a]
    for index, bet in enumerate(bets):
        theta = theta_b * fit_isotonic(bet / theta_b, theta_b) if ordered else bet
        null = (n_a * theta + n_b * theta_b) / (n_a + n_b)
        gains[index] = _log_ratio(a, theta, null) + _log_ratio(b, theta_b, null)
    return gains


def _shift_up(theta: Counts, bins: int) -> Counts:
    """The distribution with everything ``bins`` higher, a little of it left where it was."""
    bins = min(bins, len(theta) - 1)
    shifted = np.concatenate([np.zeros(bins), theta[:-bins]])
    shifted[-1] += theta[-bins:].sum()
    return (1 - LEFT) * shifted + LEFT * theta


def _log_ratio(counts: Counts, theta: Counts, null: Counts) -> float:
    observed = counts > 0
    return float(
        np.sum(counts[observed] * np.log(np.maximum(theta[observed], TINY) / np.maximum(null[observed], TINY)))
    )


def fit_isotonic(values: Counts, weights: Counts) -> Counts:
    """The closest non-decreasing sequence in weighted least squares (pool adjacent violators); keeps the mean.

    Neighbours of one value, such as bins without counts, are one block from the start.
    """
    starts = np.concatenate(([True], values[1:] != values[:-1])).nonzero()[0]
    means: list[float] = []
    masses: list[float] = []
    firsts: list[int] = []
    blocks = zip(values[starts].tolist(), np.add.reduceat(weights, starts).tolist(), starts.tolist(), strict=True)
    for value, weight, start in blocks:
        mean, mass, first = value, weight, start
        while means and means[-1] >= mean:
            last, held, first = means.pop(), masses.pop(), firsts.pop()
            total = held + mass
            mean, mass = (last * held + mean * mass) / total if total else 0.0, total
        means.append(mean)
        masses.append(mass)
        firsts.append(first)
    return np.repeat(means, np.diff([*firsts, len(values)]))


def _rate_gains(evidence: Evidence, a: Counts, b: Counts, margin: float, above: bool, any_onset: bool) -> list[float]:
    n_a, n_b = float(a.sum()), float(b.sum())
    gains = [0.0] * (1 + len(RATIOS) if above else 1)
    if not n_a or not n_b or not evidence.control:
        return gains
    theta_a, theta_b = (float(theta[0]) for theta in estimate_batch(evidence, 2, any_onset))
    bets = [theta_a, *(min(0.5, margin + theta_b * ratio) for ratio in RATIOS)] if above else [theta_a]
    for index, bet in enumerate(bets):
        if (bet > theta_b + margin) if above else (bet < theta_b + margin):
            null = _closest_rates(n_a, bet, n_b, theta_b, margin)
            gains[index] = _bernoulli_log_ratio(a, bet, null + margin) + _bernoulli_log_ratio(b, theta_b, null)
    return gains


def _closest_rates(n_a: float, theta_a: float, n_b: float, theta_b: float, margin: float) -> float:
    """The rate p that minimises ``n_a KL(theta_a | p + margin) + n_b KL(theta_b | p)``, by bisection of the slope."""
    low, high = max(0.0, -margin) + TINY, min(1.0, 1.0 - margin) - TINY
    for _ in range(60):
        p = (low + high) / 2
        q = p + margin
        slope = n_a * (q - theta_a) / (q * (1 - q)) + n_b * (p - theta_b) / (p * (1 - p))
        low, high = (p, high) if slope < 0 else (low, p)
    return (low + high) / 2


def _bernoulli_log_ratio(counts: Counts, theta: float, null: float) -> float:
    """The same as ``_log_ratio`` of two bins, without arrays."""
    bad, other = counts.tolist()
    gain = bad * math.log(max(theta, TINY) / max(null, TINY)) if bad > 0 else 0.0
    return gain + (other * math.log(max(1 - theta, TINY) / max(1 - null, TINY)) if other > 0 else 0.0)
