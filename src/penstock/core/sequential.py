"""Tests that stay valid while they are watched: evidence as e-processes over counts in fixed bins.

A test holds a log e-value. Under its null hypothesis the probability that it ever reaches ``log(1 / alpha)`` is at most
alpha, however often one looks (Ville's inequality). Every bet rests on earlier batches only.

The two-sample test is the k-sample e-process of Turner, Ly and Grünwald ("Generic E-variables for exact sequential
k-sample tests that allow for optional stopping"): per batch with counts a and b of sizes n_a and n_b it multiplies
``prod (theta_a / null_a)^a * prod (theta_b / null_b)^b``, where (null_a, null_b) is the point of the null hypothesis
closest to the estimates in the sense of ``n_a KL(theta_a | null_a) + n_b KL(theta_b | null_b)``. For a convex null
hypothesis this is an e-value for every batch size fixed before the data. "No difference" has the weighted mean as its
closest point.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.float64]

PRIOR = 200.0
"""Pseudo-observations by which the canary's estimate is drawn to the control's."""

CONTROL_PRIOR = 1.0
"""Pseudo-observations, spread evenly over the bins, of the control's own estimate."""

SPLIT_PRIOR = 100.0
"""Concentration of the Dirichlet mixture of the sample-ratio test."""

RATIOS = (2.0, 4.0, 10.0)
"""Bad rates a canary may turn out to have, in multiples of the control's: one bet on each, beside the estimate's."""

SHIFTS = (2, 5, 10)
"""The same for ordered bins: how many bins higher everything may lie."""

LEFT = 0.05
TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Evidence:
    """A test's counts so far (canary, control; one number a bin), its log e-value and the greatest it ever had.

    ``bets`` are the log e-values of the single bets whose mean the e-value is.
    """

    canary: tuple[float, ...] = ()
    control: tuple[float, ...] = ()
    log_e: float = 0.0
    peak: float = 0.0
    bets: tuple[float, ...] = ()

    @property
    def n_canary(self) -> int:
        """Observations of the canary."""
        return int(sum(self.canary))

    @property
    def n_control(self) -> int:
        """Observations of the control."""
        return int(sum(self.control))


def _added(evidence: Evidence, a: Counts, b: Counts, gains: Sequence[float]) -> Evidence:
    bets = tuple(map(sum, zip(evidence.bets or (0.0,) * len(gains), gains, strict=True)))
    log_e = average(bets, [1 / len(bets)] * len(bets))
    before_a = np.asarray(evidence.canary) if evidence.canary else np.zeros(len(a))
    before_b = np.asarray(evidence.control) if evidence.control else np.zeros(len(b))
    canary, control = tuple((before_a + a).tolist()), tuple((before_b + b).tolist())
    return Evidence(canary, control, log_e, max(evidence.peak, log_e), bets)


def estimates(evidence: Evidence, bins: int) -> tuple[Counts, Counts]:
    """What the next batch is expected to look like, for canary and control."""
    control = np.asarray(evidence.control) if evidence.control else np.zeros(bins)
    canary = np.asarray(evidence.canary) if evidence.canary else np.zeros(bins)
    pooled = control + canary + CONTROL_PRIOR / bins
    theta_b = (control + CONTROL_PRIOR * pooled / pooled.sum()) / (control.sum() + CONTROL_PRIOR)
    theta_a = (canary + PRIOR * theta_b) / (canary.sum() + PRIOR)
    return theta_a, theta_b


def differs(evidence: Evidence, a: ArrayLike, b: ArrayLike) -> Evidence:
    """One batch for "the two have the same distribution", against any difference."""
    return _two_sample(evidence, np.asarray(a, float), np.asarray(b, float), ordered=False)


def exceeds(evidence: Evidence, a: ArrayLike, b: ArrayLike) -> Evidence:
    """One batch for "the canary is nowhere above the control" (in the order of the bins), against "it is".

    The estimated likelihood ratio is made monotone in the bins (isotonic regression), so the bet only ever pays for
    mass that has moved up, and the e-value holds for every canary that is stochastically below the control.
    """
    return _two_sample(evidence, np.asarray(a, float), np.asarray(b, float), ordered=True)


def _two_sample(evidence: Evidence, a: Counts, b: Counts, ordered: bool) -> Evidence:
    n_a, n_b = a.sum(), b.sum()
    gains = [0.0] * (1 + len(SHIFTS) if ordered else 1)
    if n_a and n_b and evidence.control:
        theta_a, theta_b = estimates(evidence, len(a))
        bets = [theta_a, *(_moved_up(theta_b, bins) for bins in SHIFTS)] if ordered else [theta_a]
        for index, bet in enumerate(bets):
            theta = theta_b * isotonic(bet / theta_b, theta_b) if ordered else bet
            null = (n_a * theta + n_b * theta_b) / (n_a + n_b)
            gains[index] = _log_ratio(a, theta, null) + _log_ratio(b, theta_b, null)
    return _added(evidence, a, b, gains)


def _moved_up(theta: Counts, bins: int) -> Counts:
    """The distribution with everything ``bins`` higher, a little of it left where it was."""
    bins = min(bins, len(theta) - 1)
    shifted = np.concatenate([np.zeros(bins), theta[:-bins]])
    shifted[-1] += theta[-bins:].sum()
    return (1 - LEFT) * shifted + LEFT * theta


def _log_ratio(counts: Counts, theta: Counts, null: Counts) -> float:
    seen = counts > 0
    return float(np.sum(counts[seen] * np.log(np.maximum(theta[seen], TINY) / np.maximum(null[seen], TINY))))


def isotonic(values: Counts, weights: Counts) -> Counts:
    """The closest non-decreasing sequence in weighted least squares (pool adjacent violators); keeps the mean."""
    blocks: list[list[float]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        blocks.append([value, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            mean, mass, length = blocks.pop()
            last = blocks[-1]
            total = last[1] + mass
            last[0] = (last[0] * last[1] + mean * mass) / total if total else 0.0
            last[1], last[2] = total, last[2] + length
    return np.repeat([block[0] for block in blocks], [int(block[2]) for block in blocks])


def rate_exceeds(evidence: Evidence, a: ArrayLike, b: ArrayLike, margin: float) -> Evidence:
    """One batch of (bad, other) counts for "the canary's bad rate is at most the control's plus ``margin``"."""
    return _rates(evidence, np.asarray(a, float), np.asarray(b, float), margin, above=True)


def rate_below(evidence: Evidence, a: ArrayLike, b: ArrayLike, margin: float) -> Evidence:
    """One batch of (bad, other) counts for "the canary's bad rate is at least the control's plus ``margin``"."""
    return _rates(evidence, np.asarray(a, float), np.asarray(b, float), margin, above=False)


def _rates(evidence: Evidence, a: Counts, b: Counts, margin: float, above: bool) -> Evidence:
    n_a, n_b = float(a.sum()), float(b.sum())
    gains = [0.0] * (1 + len(RATIOS) if above else 1)
    if n_a and n_b and evidence.control:
        theta_a, theta_b = (float(theta[0]) for theta in estimates(evidence, 2))
        bets = [theta_a, *(min(0.5, margin + theta_b * ratio) for ratio in RATIOS)] if above else [theta_a]
        for index, bet in enumerate(bets):
            if (bet > theta_b + margin) if above else (bet < theta_b + margin):
                null = _closest(n_a, bet, n_b, theta_b, margin)
                gains[index] = _bernoulli(a, bet, null + margin) + _bernoulli(b, theta_b, null)
    return _added(evidence, a, b, gains)


def _closest(n_a: float, theta_a: float, n_b: float, theta_b: float, margin: float) -> float:
    """The rate p that minimises ``n_a KL(theta_a | p + margin) + n_b KL(theta_b | p)``, by bisection of the slope."""
    low, high = max(0.0, -margin) + TINY, min(1.0, 1.0 - margin) - TINY
    for _ in range(60):
        p = (low + high) / 2
        q = p + margin
        slope = n_a * (q - theta_a) / (q * (1 - q)) + n_b * (p - theta_b) / (p * (1 - p))
        low, high = (p, high) if slope < 0 else (low, p)
    return (low + high) / 2


def _bernoulli(counts: Counts, theta: float, null: float) -> float:
    return _log_ratio(counts, np.array([theta, 1 - theta]), np.array([null, 1 - null]))


def share_above(evidence: Evidence, a: ArrayLike, limit: float) -> Evidence:
    """One batch of (bad, other) counts of one sample for "the bad rate is at most ``limit``"."""
    return _share(evidence, np.asarray(a, float), limit, above=True)


def share_below(evidence: Evidence, a: ArrayLike, limit: float) -> Evidence:
    """One batch of (bad, other) counts of one sample for "the bad rate is at least ``limit``"."""
    return _share(evidence, np.asarray(a, float), limit, above=False)


def _share(evidence: Evidence, a: Counts, limit: float, above: bool) -> Evidence:
    bad, other = evidence.canary or (0.0, 0.0)
    start = limit if above else limit / 2
    theta = (bad + 10 * start) / (bad + other + 10)
    gain = _bernoulli(a, theta, limit) if (theta > limit) == above and theta != limit else 0.0
    return _added(evidence, a, np.zeros(2), [gain])


def ratio_mismatch(evidence: Evidence, a: float, b: float, share: float) -> Evidence:
    """One batch of how many requests canary and control got, for "the canary's share is ``share``".

    Dirichlet mixture against a known split (Lindon and Malek, "Anytime-valid inference for multinomial count data"),
    centred on the split with concentration ``SPLIT_PRIOR``.
    """
    before = np.asarray([*(evidence.canary or (0.0,)), *(evidence.control or (0.0,))])
    now = np.asarray([a, b], float)
    split = np.asarray([share, 1 - share])
    prior = SPLIT_PRIOR * split
    gain = _log_beta(prior + before + now) - _log_beta(prior + before) - float(np.sum(now * np.log(split)))
    return _added(evidence, now[:1], now[1:], [gain])


def _log_beta(alpha: Counts) -> float:
    return sum(math.lgamma(one) for one in alpha.tolist()) - math.lgamma(float(alpha.sum()))


def average(log_e: Sequence[float], weights: Sequence[float]) -> float:
    """The log of the weighted mean of e-values, an e-value under any dependence; the weights sum to 1."""
    top = max(log_e)
    return top + math.log(sum(weight * math.exp(one - top) for one, weight in zip(log_e, weights, strict=True)))


def total_variation(a: Sequence[float], b: Sequence[float]) -> float:
    """Half the sum of the differences between two sets of shares; 0 while either is empty."""
    x, y = np.asarray(a, float), np.asarray(b, float)
    if not x.sum() or not y.sum():
        return 0.0
    return float(np.abs(x / x.sum() - y / y.sum()).sum() / 2)


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence sequence's interval at this moment."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Mean:
    """What is kept of a stream of values in [0, 1]: how many, their sum and the sum of their squares."""

    count: int = 0
    total: float = 0.0
    squares: float = field(default=0.0)

    def plus(self, count: int, total: float, squares: float) -> "Mean":
        """With further values."""
        return Mean(self.count + count, self.total + total, self.squares + squares)

    @property
    def value(self) -> float:
        """The mean, one half while there is nothing."""
        return self.total / self.count if self.count else 0.5

    @property
    def variance(self) -> float:
        """The variance, drawn to one quarter (the greatest there is) by one imagined value."""
        spread = self.squares - self.total * self.total / self.count if self.count else 0.0
        return (max(0.0, spread) + 0.25) / (self.count + 1)


TUNED_FOR = 1000
"""Number of values at which the confidence sequence is tightest."""


def confidence(mean: Mean, alpha: float) -> Interval:
    """An asymptotic confidence sequence for the mean: holds for all times together with probability 1 - alpha.

    Normal mixture boundary with estimated variance (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central
    limit theory", arXiv 2103.06476, theorem 2.2), clipped to [0, 1].
    """
    if not mean.count:
        return Interval(0.0, 1.0)
    n = mean.count
    rho2 = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / TUNED_FOR
    spread = 2 * (n * rho2 + 1) / (n * n * rho2) * math.log(math.sqrt(n * rho2 + 1) / alpha)
    half = math.sqrt(mean.variance * spread)
    return Interval(max(0.0, mean.value - half), min(1.0, mean.value + half))
