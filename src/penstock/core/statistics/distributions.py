"""Distributions over fixed bins: shares from counts, and the distance between two of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.float64]

SMOOTHING = 0.5
"""Rows added to every bin of a reference, so that nothing is impossible."""


def find_shares(counts: ArrayLike) -> Counts:
    """Return the reference's probabilities, none of them zero."""
    smoothed = np.asarray(counts, float) + SMOOTHING
    return np.asarray(smoothed / smoothed.sum(), float)


def total_variation(a: Sequence[float], b: Sequence[float]) -> float:
    """Return half the sum of the differences between two sets of shares; 0 while either is empty."""
    x, y = np.asarray(a, float), np.asarray(b, float)
    if not x.sum() or not y.sum():
        return 0.0
    return float(np.abs(x / x.sum() - y / y.sum()).sum() / 2)
