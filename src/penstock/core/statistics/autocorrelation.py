"""The effect of autocorrelation on the information in rows."""

import numpy as np

MOST = 0.98
"""Maximum correlation; greater ones are replaced by it."""

MOST_CROSSING_LAGS = 400
"""Lags beyond which neighbours at ``MOST`` are uncorrelated."""


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
