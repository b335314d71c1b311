"""Shapley weights: what a feature gets of a product of conditions, as the explained row or a background row fits them.

A leaf is reached by a coalition if each of its features fits: those of the coalition as the explained row has them, the
others as a background row has them. With U the features that the explained row misses and V those that the background
row misses, no coalition reaches the leaf if U and V meet; otherwise each feature of V gains (v-1)! u! / (v+u)! of the
leaf's weight, and each of U loses v! (u-1)! / (v+u)! (u and v are their sizes).
"""

from functools import lru_cache

import numpy as np

from penstock.explain.nodes import Floats

MOST_FEATURES = 64
"""Different features on a path: their sets are bits of 64-bit numbers."""


@lru_cache(maxsize=1)
def gain_and_loss() -> tuple[Floats, Floats]:
    """Return both weights for each v (row) and u (column); zero where there is no such feature."""
    size = MOST_FEATURES + 1
    gain = np.zeros((size, size))
    for missed_by_row in range(size):
        gain[1:, missed_by_row] = _beta_row(missed_by_row, size)
    return gain, gain.T.copy()


def _beta_row(u: int, size: int) -> Floats:
    """(v-1)! u! / (v+u)! for v = 1, 2, ...: 1/(u+1) first, and then each times (v-1)/(v+u) of the one before."""
    v = np.arange(2, size)
    return np.cumprod(np.concatenate([[1 / (u + 1)], (v - 1) / (v + u)]))


@lru_cache(maxsize=1)  # groups of leaves come by this number; all tables would be several megabytes
def subset_weights(features: int) -> Floats:
    """Return the weights for all V and U of a path [2^features, 2^features, features]: gains, and losses negative."""
    sets = np.arange(2**features)
    size = np.bitwise_count(sets)
    gain, loss = gain_and_loss()
    apart = (sets[:, None] & sets[None, :]) == 0
    each_gain = np.where(apart, gain[size[:, None], size[None, :]], 0.0)
    each_loss = np.where(apart, loss[size[:, None], size[None, :]], 0.0)
    has = ((sets[:, None] >> np.arange(features)) & 1).astype(np.float64)
    return each_gain[:, :, None] * has[:, None, :] - each_loss[:, :, None] * has[None, :, :]
