"""Bins: equal probability, places of their own for what is odd, and counts that add up."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.bins import (
    CategoricalBinFinder,
    FeatureBins,
    FeatureKind,
    NumericBinFinder,
    categorical_bins,
    make_label,
    numeric_bins,
)

numbers = st.one_of(st.floats(-1e300, 1e300), st.sampled_from([np.nan, np.inf, -np.inf]))


def counted(bins: FeatureBins, values: Any) -> list[int]:
    places = NumericBinFinder([bins])(np.array(values, float)[:, None])[:, 0]
    return [int(count) for count in np.bincount(places, minlength=bins.width)]


def test_numbers_fall_into_bins_of_equal_probability() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    bins = numeric_bins("x", values)
    found = counted(bins, values)
    assert len(bins.edges) == 11
    assert bins.width == len(found) == len(bins.labels()) == 15
    assert found[bins.inner] == pytest.approx([1000] * 10, abs=2)
    assert sum(found[bins.inner]) == 10_000  # the least and the greatest are inside


def test_what_is_odd_has_its_own_place() -> None:
    bins = numeric_bins("x", np.linspace(0, 1, 100))
    found = counted(bins, [-1, 2, 2, -np.inf, np.inf, np.inf, np.nan, 0.0, 1.0])
    below, above = bins.out_of_range
    assert (found[below], found[above]) == (1, 2)
    assert [found[place] for place in bins.infinite] == [1, 2]
    assert found[bins.missing] == 1
    assert sum(found[bins.inner]) == 2


def test_a_few_kinds_of_number_have_a_bin_each() -> None:
    bins = numeric_bins("x", np.array([1.0, 2.0, 2.0, 5.0]))
    assert counted(bins, [1, 2, 2, 5])[bins.inner] == [1, 2, 1]
    assert counted(bins, [0, 9])[0] == 1
    constant = numeric_bins("c", np.full(50, 3.0))
    assert counted(constant, [3.0, 3.0, 4.0])[constant.inner] == [2]


def test_the_number_after_nothing_is_shown_as_nothing() -> None:
    often = np.concatenate([np.zeros(900), np.linspace(1, 200, 100)])
    assert numeric_bins("x", often).labels()[1:3] == ["0", "0..0.1"]


@given(st.lists(numbers, min_size=1, max_size=40), st.lists(numbers, min_size=1, max_size=40))
def test_every_number_has_a_place(reference: list[float], values: list[float]) -> None:
    bins = numeric_bins("x", np.array(reference))
    assert list(bins.edges) == sorted(set(bins.edges))
    found = counted(bins, values)
    assert sum(found) == len(values)
    assert found[bins.missing] == sum(np.isnan(values))
    inside = counted(bins, reference)
    assert sum(inside[place] for place in bins.out_of_range) == 0


def test_many_features_at_once_are_as_each_alone() -> None:
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(200, 3))
    features = [
        numeric_bins("a", rows[:, 0]),
        numeric_bins("b", np.round(rows[:, 1])),
        numeric_bins("c", rows[:, 2] * 9),
    ]
    rows[3, 1], rows[4, 2] = np.nan, np.inf
    together = NumericBinFinder(features)(rows)
    for index, feature in enumerate(features):
        assert together[:, index].tolist() == NumericBinFinder([feature])(rows[:, index : index + 1])[:, 0].tolist()


def test_texts_fall_into_bins_of_their_own() -> None:
    values = ["red"] * 50 + ["green"] * 30 + [f"rare {number}" for number in range(40)]
    bins = categorical_bins("colour", values)
    assert (bins.kind, bins.values[:2], len(bins.values)) == (FeatureKind.CATEGORICAL, ("red", "green"), 20)
    places = CategoricalBinFinder(bins)(["green", "rare 39", "never", "", None, b"red", float("nan")]).tolist()
    rest = len(bins.values)
    assert places == [1, rest, *bins.unseen, bins.missing, bins.missing, 0, bins.missing]
    assert len(bins.labels()) == bins.width


@pytest.mark.parametrize(
    ("value", "expected"), [("a", "a"), (b"a", "a"), (3, "3"), (True, "True"), ("", None), (None, None), (np.nan, None)]
)
def test_labels_fall_into_bins_of_their_own(value: Any, expected: str | None) -> None:
    assert make_label(value) == expected


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 1, 2], ["0", "1", "2"]),
        ([-1.0, 0.5, 7.25], ["-1", "0.5", "7.25"]),
        ([3.0], ["3"]),
        ([0.1, 0.2, 0.3, 1e6], ["0.1", "0.2", "0.3", "1e+06"]),
    ],
)
def test_bins_of_discrete_numbers_have_the_names_of_their_values(values: list[float], labels: list[str]) -> None:
    bins = numeric_bins("n", np.array(values * 3, float))
    assert bins.value_labels() == ["(below)", *labels, "(above)", "-inf", "+inf", "(missing)"]
    assert len(bins.value_labels()) == bins.width


def test_other_bins_keep_their_ranges() -> None:
    for bins in (numeric_bins("n", np.linspace(0, 1, 1000)), categorical_bins("c", ["a", "b"])):
        assert bins.value_labels() == bins.labels()
