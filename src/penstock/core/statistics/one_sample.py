"""One-sample tests: a share against a limit, and a split against what it should be."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from penstock.core.statistics.evidence import Counts, Evidence, with_batch, with_batch_any_onset, with_recent

SPLIT_PRIOR = 100.0
"""Concentration of the Dirichlet mixture of the sample-ratio test."""

RATIOS = (1.5, 3.0, 10.0)
"""Shares that may turn out, in multiples of the limit: one bet on each, beside the estimate's."""

MOST_SHARE = 0.95
TINY = 1e-12
ESTIMATE_PRIOR = 10.0
"""Pseudo-observations by which an estimated share is drawn to where the test begins."""


def share_above(evidence: Evidence, a: ArrayLike, limit: float) -> Evidence:
    """One batch of (bad, other) counts of one sample for "the bad rate is at most ``limit``", against a rise above it
    at any time."""
    batch = np.asarray(a, float)
    theta = _estimate(evidence.recent or (0.0, 0.0), limit)
    bets = [theta, *(min(MOST_SHARE, ratio * limit) for ratio in RATIOS)]
    gains = [_find_gain(batch, bet, limit) if bet > limit else 0.0 for bet in bets]
    after = with_batch_any_onset(evidence, batch, np.zeros(2), gains, [1 / len(bets)] * len(bets))
    return replace(after, recent=with_recent(evidence, batch))


def share_below(evidence: Evidence, a: ArrayLike, limit: float) -> Evidence:
    """One batch of (bad, other) counts of one sample for "the bad rate is at least ``limit``"."""
    batch = np.asarray(a, float)
    theta = _estimate(evidence.canary or (0.0, 0.0), limit / 2)
    return with_batch(evidence, batch, np.zeros(2), [_find_gain(batch, theta, limit) if theta < limit else 0.0])


def _estimate(counts: tuple[float, ...], start: float) -> float:
    bad, other = counts
    return (bad + ESTIMATE_PRIOR * start) / (bad + other + ESTIMATE_PRIOR)


def _find_gain(batch: Counts, theta: float, null: float) -> float:
    bad, other = batch.tolist()
    won = bad * math.log(theta / null)
    return float(won + other * math.log((1 - theta) / max(TINY, 1 - null)))


def ratio_mismatch(evidence: Evidence, a: float, b: float, share: float) -> Evidence:
    """One batch of how many requests canary and control got, for "the canary's share is ``share``".

    Dirichlet mixture against a known split (Lindon and Malek, "Anytime-valid inference for multinomial count data"),
    centred on the split with concentration ``SPLIT_PRIOR``.
    """
    canary = SPLIT_PRIOR * share + (evidence.canary[0] if evidence.canary else 0.0)
    control = SPLIT_PRIOR * (1 - share) + (evidence.control[0] if evidence.control else 0.0)
    gain = _log_beta(canary + a, control + b) - _log_beta(canary, control)
    gain -= a * math.log(share) + b * math.log(1 - share)
    return with_batch(evidence, np.asarray([a], float), np.asarray([b], float), [gain])


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
