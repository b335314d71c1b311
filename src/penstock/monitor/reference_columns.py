"""Builds the columns of a reference from rows: bins, counts and moments."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from penstock.core.bins import (
    MOST_DISCRETE,
    CategoricalBinFinder,
    FeatureBins,
    Floats,
    NumericBinFinder,
    Places,
    categorical_bins,
    numeric_bins,
)
from penstock.monitor.columns import RowValues
from penstock.monitor.reference import Feature

JOINT = "(joint)"


def distinct_names(names: tuple[Sequence[str], Sequence[str]]) -> list[str]:
    """Return distinct names of inputs, which also differ from the outputs and the joint distance: metrics and events
    identify a column by its name."""
    taken, distinct = {*names[1], JOINT}, []
    for name in names[0]:
        tries = (name, *(f"{name} (input{number})" for number in ("", *range(2, len(names[0]) + 2))))
        chosen = next(item for item in tries if item not in taken)
        taken.add(chosen)
        distinct.append(chosen)
    return distinct


def features_of(names: Sequence[str], rows: RowValues) -> tuple[tuple[Feature, ...], list[Places]]:
    """Return the columns of these rows, and the places [rows] of each one's values."""
    width = rows.numbers.shape[1]
    numeric = [numeric_bins(name, rows.numbers[:, index]) for index, name in enumerate(names[:width])]
    features, arrays = [], []
    if numeric:
        places = NumericBinFinder(numeric)(rows.numbers)
        for index, bins in enumerate(numeric):
            column = rows.numbers[:, index]
            finite = column[np.isfinite(column)]
            moments = (float(finite.mean()), float(finite.std())) if len(finite) else (0.0, 0.0)
            own = leave_range_out(bins, column, places[:, index])
            features.append(Feature(bins, counts_of(own, bins), *moments))
            arrays.append(own)
    for name, values in zip(names[width:], rows.labels, strict=True):
        bins = categorical_bins(name, values)
        arrays.append(CategoricalBinFinder(bins)(values))
        features.append(Feature(bins, counts_of(arrays[-1], bins)))
    return tuple(features), arrays


def leave_range_out(bins: FeatureBins, column: Floats, places: Places) -> Places:
    """Return the places [rows] of a column's numbers, with the least and the greatest counted as out of range.

    No number of a sample lies out of the sample's own range, but of ``rows + 1`` more numbers one is expected below it
    and one above, and the reference must have that many. Columns of few distinct values have no such ends.
    """
    finite = column[np.isfinite(column)]
    if len(bins.edges) - 1 <= MOST_DISCRETE and len(np.unique(finite)) <= MOST_DISCRETE:
        return places
    moved = places.copy()
    for end, out_bin in zip((finite.min(), finite.max()), bins.out_of_range, strict=True):
        at = np.flatnonzero(column == end)
        if len(at) == 1:
            moved[at] = out_bin
    return moved


def counts_of(places: Any, bins: FeatureBins) -> tuple[int, ...]:
    """Return the number of rows in each place [places] of a column."""
    return tuple(np.bincount(places, minlength=bins.width).tolist())
