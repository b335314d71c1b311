"""Decides the cause of an input's drift: a broken feed or a changed world."""

import numpy as np
from numpy.typing import NDArray

from penstock.core.statistics.effect_sizes import compare_counts
from penstock.monitor.quality import counts_by_kind, most_increased
from penstock.monitor.reference import Feature

BROKEN_FEED, CHANGED_WORLD = "broken feed", "changed world"

FEW_VALID = 10
"""With fewer valid rows among the recent ones, these say nothing about the world."""


def cause_of(feature: Feature, recent: NDArray[np.float64]) -> str:
    """Return the cause of a drift, given counts of recent rows [places or more].

    If only invalid values have become more frequent and the valid ones are distributed as before, a feed is broken.
    """
    counts = recent[: feature.bins.width]
    if not most_increased(counts_by_kind(feature, feature.counts), counts_by_kind(feature, counts)):
        return CHANGED_WORLD
    inner = np.zeros(feature.bins.width, bool)
    inner[feature.bins.inner] = True
    valid = compare_counts(np.where(inner, feature.counts, 0).tolist(), np.where(inner, counts, 0).tolist())
    return BROKEN_FEED if valid.rows < FEW_VALID or valid.within_threshold else CHANGED_WORLD
