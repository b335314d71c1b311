"""Counts of several features by validity are those of each feature."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.bins import FeatureBins, FeatureKind
from penstock.monitor.quality import KINDS, KindCounts, counts_by_kind
from penstock.monitor.reference import Feature

BINS = (
    FeatureBins("spread", FeatureKind.NUMERIC, (0.0, 1.0, 2.0)),
    FeatureBins("frequent", FeatureKind.NUMERIC, (0.0, float(np.nextafter(0.0, 1.0)), 2.0)),
    FeatureBins("same", FeatureKind.NUMERIC, (1.0, float(np.nextafter(1.0, 2.0)))),
    FeatureBins("colour", FeatureKind.CATEGORICAL, values=("red", "blue")),
)


@given(st.lists(st.sampled_from(BINS), max_size=6), st.data())
def test_many_features_are_counted_as_each_of_them(bins: list[FeatureBins], data: st.DataObject) -> None:
    features = [Feature(item, (0,) * item.width) for item in bins]
    counts = [data.draw(st.lists(st.integers(0, 1 << 40), min_size=item.width, max_size=item.width)) for item in bins]
    flat = [count for some in counts for count in some]
    found = KindCounts(features)([*flat, 7, 8])  # of features that are not asked for
    assert found.shape == (len(features), 1 + len(KINDS))
    for feature, some, row in zip(features, counts, found, strict=True):
        assert row.tolist() == counts_by_kind(feature, some).tolist()


@pytest.mark.parametrize(("bins", "constants"), list(zip(BINS, [(), (1,), (), ()], strict=True)))
def test_single_values_among_others_are_constants(bins: FeatureBins, constants: tuple[int, ...]) -> None:
    assert bins.constants == constants
