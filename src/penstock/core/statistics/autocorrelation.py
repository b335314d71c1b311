"""What autocorrelation takes from the worth of rows."""

import numpy as np
from numpy.typing import ArrayLike

MOST = 0.98
"""Greater correlations are taken for this one."""

NOISE = 2.5
"""Standard errors of a correlation below which it is taken for none."""

MOST_LAGS = 200
"""Lags that are looked at."""

MOST_CROSSING_LAGS = 400
"""Lags beyond which neighbours at ``MOST`` have nothing in common."""


def variance_inflation(correlation: float) -> float:
    """How many rows are worth one when neighbours correlate so.

    The variance of their mean over that of independent rows, for an autoregression of first order.
    """
    bounded = min(MOST, max(0.0, correlation))
    return (1 + bounded) / (1 - bounded)


def crossing_inflation(correlation: float) -> float:
    """The same for whether a number lies below a threshold, where that is greatest: at the median.

    Of two normal numbers with correlation r the indicators of that correlate by ``2 / pi arcsin r`` (Sheppard 1899).
    """
    bounded = min(MOST, max(0.0, correlation))
    lags = np.arange(1, MOST_CROSSING_LAGS)
    return 1 + 4 / np.pi * float(np.arcsin(bounded**lags).sum())


def measured_inflation(values: ArrayLike, caution: float = 1.0) -> float:
    """How many of these values, in the order they came, are worth one: the integrated autocorrelation time.

    One and twice the sum of the autocorrelations up to the first that chance alone would give (an initial sequence
    estimator: Geyer, "Practical Markov chain Monte Carlo", Statistical Science 1992), and the geometric tail beyond
    it; that sum is taken ``caution`` times. Unlike ``variance_inflation`` it supposes no autoregression of first order.
    """
    found = np.asarray(values, float)
    rows = len(found)
    centred = found - found.mean() if rows else found
    variance = float(centred @ centred)
    if rows < 3 or variance <= 0:
        return 1.0
    total, last, lags, least = 0.0, 1.0, 0, NOISE / rows**0.5
    for lag in range(1, min(MOST_LAGS, rows - 1)):
        one = float(centred[lag:] @ centred[:-lag]) / variance
        if one < least:
            break
        total, last, lags = total + one, one, lag
    decay = min(MOST, last ** (1 / lags)) if lags else 0.0
    tail = last * decay / (1 - decay) if lags else 0.0
    return min(variance_inflation(MOST), 1 + 2 * caution * (total + tail))
