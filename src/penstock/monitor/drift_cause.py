"""What is behind the drift of an input: a feed that is broken, or a world that has changed."""

import numpy as np
from numpy.typing import NDArray

from penstock.core.statistics.effect_sizes import scores
from penstock.monitor.quality import most_risen, sorted_out
from penstock.monitor.reference import Feature

BROKEN_FEED, CHANGED_WORLD = "broken feed", "changed world"

FEW_SOUND = 10
"""Sound rows among the recent ones below which nothing can be said of them."""


def cause_of(feature: Feature, recent: NDArray[np.float64]) -> str:
    """Whether a drift lies in values that are not sound alone, by the counts of recent rows ``recent`` [places or
    more]: then a feed is broken, and the world is as it was."""
    counts = recent[: feature.bins.width]
    if not most_risen(sorted_out(feature, feature.counts), sorted_out(feature, counts)):
        return CHANGED_WORLD
    inner = np.zeros(feature.bins.width, bool)
    inner[feature.bins.inner] = True
    sound = np.where(inner, counts, 0)
    found = scores(np.where(inner, feature.counts, 0).tolist(), sound.tolist())
    return BROKEN_FEED if found.rows < FEW_SOUND or found.within_threshold else CHANGED_WORLD
