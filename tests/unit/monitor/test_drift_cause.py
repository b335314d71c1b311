"""What is behind a drift: values that are not sound, with the sound ones as they were, or a world that has changed."""

import numpy as np
import pytest

from penstock.core.bins import FeatureBins, FeatureKind
from penstock.monitor.drift_cause import BROKEN_FEED, CHANGED_WORLD, cause_of
from penstock.monitor.reference import Feature

FEATURE = Feature(FeatureBins("x", FeatureKind.NUMERIC, edges=(0.0, 1.0, 2.0)), (0, 500, 500, 0, 0, 0, 0))
"""Places: below, two bins, above, minus and plus infinity, missing."""


@pytest.mark.parametrize(
    ("recent", "cause"),
    [
        ((0, 50, 50, 0, 0, 0, 100), BROKEN_FEED),
        ((0, 2, 2, 0, 0, 0, 196), BROKEN_FEED),
        ((0, 95, 5, 0, 0, 0, 0), CHANGED_WORLD),
        ((0, 95, 5, 0, 0, 0, 100), CHANGED_WORLD),
        ((60, 20, 20, 0, 0, 0, 0), BROKEN_FEED),
        ((0, 0, 0, 0, 0, 0, 0), CHANGED_WORLD),
    ],
)
def test_a_feed_is_broken_where_sound_values_are_as_they_were(recent: tuple[int, ...], cause: str) -> None:
    assert cause_of(FEATURE, np.array([*recent, 7.0, 7.0])) == cause
