"""The sequential test of "the canary fails no more often than the control", given how many failed in each batch.

If both fail alike, which of a batch's failures fell on the canary is a draw without replacement: hypergeometric,
whatever the common rate is. If the odds of failing are ``w`` times as high, it is Fisher's noncentral hypergeometric
distribution. The ratio of the two probabilities is an e-value for the null hypothesis ``w <= 1`` (monotone likelihood
ratio), exact for every batch, even the first, as no rate has to be estimated; and rates may rise and fall together from
batch to batch, as each batch is a stratum of its own (Turner and Grünwald, "Safe sequential testing and effect
estimation in stratified count data", AISTATS 2023). The evidence is the mean over a few odds ratios and over all
onsets.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from penstock.core.statistics.evidence import Counts, Evidence, with_batch_any_onset
from penstock.core.statistics.special_functions import log_gamma

ODDS_RATIOS = (1.5, 2.5, 5.0, 12.0, 40.0)
WEIGHTS = (1 / 9, 2 / 9, 3 / 9, 2 / 9, 1 / 9)
"""How many times higher the canary's odds of failing may be, and the weight of each bet."""

_TILTS = tuple(math.log(ratio) for ratio in ODDS_RATIOS)

KEPT = 4096
"""Batches of the same sizes come again and again; so many are remembered."""


def rate_rises(evidence: Evidence, a: ArrayLike, b: ArrayLike) -> Evidence:
    """One batch of (bad, other) counts for "the canary's bad rate is at most the control's", against a rise at any
    time."""
    canary, control = np.asarray(a, float), np.asarray(b, float)
    return with_batch_any_onset(evidence, canary, control, _find_gains(canary, control), WEIGHTS)


def _find_gains(a: Counts, b: Counts) -> list[float]:
    bad, n_a, n_b = round(float(a[0])), round(float(a.sum())), round(float(b.sum()))
    total = bad + round(float(b[0]))
    if not n_a or not n_b or not total or total >= n_a + n_b:
        return [0.0] * len(ODDS_RATIOS)
    return [bad * tilt - cost for tilt, cost in zip(_TILTS, _log_means(n_a, n_b, total), strict=True)]


@lru_cache(KEPT)
def _log_means(n_a: int, n_b: int, total: int) -> tuple[float, ...]:
    """``log E[exp(tilt x)]`` of the hypergeometric distribution, for each tilt."""
    plain = _log_normaliser(n_a, n_b, total, 0.0)
    return tuple(_log_normaliser(n_a, n_b, total, tilt) - plain for tilt in _TILTS)


def _log_normaliser(n_a: int, n_b: int, total: int, tilt: float) -> float:
    """``log sum_x C(n_a, x) C(n_b, total - x) exp(tilt x)``, up to a term that does not depend on the tilt."""
    low, high = max(0, total - n_b), min(n_a, total)
    middle = _find_mode(n_a, n_b, total, math.exp(tilt))
    reach = 50 + 12 * math.sqrt(high - low + 1)  # the terms are log-concave: beyond this they add less than 1e-16
    x = np.arange(max(low, int(middle - reach)), min(high, math.ceil(middle + reach)) + 1, dtype=float)
    terms = tilt * x - log_gamma(x + 1) - log_gamma(n_a - x + 1) - log_gamma(total - x + 1)
    terms -= log_gamma(n_b - total + x + 1)
    top = float(terms.max())
    return top + math.log(float(np.exp(terms - top).sum()))


def _find_mode(n_a: int, n_b: int, total: int, ratio: float) -> float:
    """Where the terms are greatest: the root of ``x (n_b - total + x) = ratio (n_a - x) (total - x)``."""
    a, b = 1 - ratio, n_b - total + ratio * (n_a + total)
    c = -ratio * n_a * total
    if not a:
        return -c / b
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return (-b + root) / (2 * a)
