"""Rows drawn from a reference have the distribution of each of its columns."""

import numpy as np

from penstock.core.bins import FeatureBins, FeatureKind, Floats, NumericBinFinder, numeric_bins
from penstock.core.signature import TensorSpec
from penstock.monitor.columns import input_columns
from penstock.monitor.reference import TRAINING, Feature, Reference
from penstock.monitor.reference_rows import draw_rows, draw_values


def feature_of(name: str, values: Floats) -> Feature:
    bins = numeric_bins(name, values)
    places = NumericBinFinder([bins])(values[:, None])[:, 0]
    return Feature(bins, tuple(np.bincount(places, minlength=bins.width).tolist()))


def reference_of(names: list[str]) -> Reference:
    rng = np.random.default_rng(1)
    features = tuple(feature_of(name, rng.normal(index, 1.0, 500)) for index, name in enumerate(names))
    return Reference(TRAINING, 500, features, ())


def test_numbers_follow_their_column() -> None:
    drawn = draw_rows(
        reference_of(["a", "b"]), input_columns([TensorSpec("x", "FP32", (-1, 2))], True, ["a", "b"]), 400, 3
    )
    assert drawn is not None and drawn["x"].shape == (400, 2)
    np.testing.assert_allclose(drawn["x"].mean(axis=0), [0, 1], atol=0.2)
    np.testing.assert_allclose(drawn["x"].std(axis=0), [1, 1], atol=0.5)  # numbers are even within the outer bins


def test_few_different_numbers_stay_those_numbers() -> None:
    feature = feature_of("a", np.repeat([0.0, 1.0, 5.0], [50, 30, 20]))
    drawn = draw_values(feature, 100, np.random.default_rng(2))
    assert {value: int((drawn == value).sum()) for value in (0.0, 1.0, 5.0)} == {0.0: 50, 1.0: 30, 5.0: 20}


def test_missing_values_and_texts_are_drawn_too() -> None:
    bins = FeatureBins("t", FeatureKind.CATEGORICAL, values=("u", "v"), known=("w",))
    drawn = draw_values(Feature(bins, (5, 3, 1, 0, 1)), 10, np.random.default_rng(2)).tolist()
    assert sorted(drawn) == ["", "u", "u", "u", "u", "u", "v", "v", "v", "w"]
    assert len(draw_values(Feature(bins, (0, 0, 0, 0, 0)), 4, np.random.default_rng(2))) == 4
    missing = Feature(FeatureBins("n", FeatureKind.NUMERIC, (0.0, 1.0)), (0, 0, 0, 0, 0, 4))
    assert np.isnan(draw_values(missing, 3, np.random.default_rng(2))).all()


def test_other_columns_than_those_of_the_reference_have_no_rows() -> None:
    reference = reference_of(["a", "b"])
    assert draw_rows(reference, input_columns([TensorSpec("x", "FP32", (-1, 2))], True), 5, 1) is None
    assert draw_rows(reference, input_columns([TensorSpec("x", "FP32", (-1, 300))], True), 5, 1) is None
