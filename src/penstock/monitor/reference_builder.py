"""Builds a reference from rows: its columns, their variation over time, and the slices."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from penstock.core.bins import MOST_DISCRETE, FeatureBins, FeatureKind, Floats, Places
from penstock.core.statistics.seasons import chunk_places, distinguishable_hours, hours_of, seasonal_variation
from penstock.monitor.columns import RowValues
from penstock.monitor.joint_distance import joint_of, joint_places
from penstock.monitor.reference import Feature, Reference, ReferenceSlice
from penstock.monitor.reference_columns import distinct_names, features_of

MOST_KEYS = 8
"""Categorical features that rows can be sliced by."""

MOST_SLICE_CELLS = 100_000
"""Counts of all slices together."""


def build(
    names: tuple[Sequence[str], Sequence[str]],
    inputs: RowValues,
    outputs: RowValues | None,
    source: str,
    times: Floats | None = None,
) -> Reference:
    """Return the reference of these rows.

    ``names`` are those of the input columns and of the output columns, numbers first. ``times`` [rows] are the times of
    the rows (seconds since the epoch); without them the rows are taken to be in the order of time.
    """
    if times is not None:
        order = np.argsort(times, kind="stable")
        inputs, times = inputs.at(order), times[order]
        outputs = None if outputs is None else outputs.at(order)
    features, places = features_of(distinct_names(names), inputs)
    answers, answer_places = ((), []) if outputs is None else features_of(names[1], outputs)
    slices = _build_slices(features, (*features, *answers), [*places, *answer_places])
    joint = joint_of(inputs.numbers)
    reference = Reference(source, len(inputs), features, answers, joint, slices=slices)
    distances = [] if joint is None else [joint_places(joint, inputs.numbers)]
    return _with_variation(reference, [*places, *answer_places, *distances], times)


def _with_variation(reference: Reference, places: Sequence[Places], times: Floats | None) -> Reference:
    """Add the variation of each column over time: by the hours of its rows, or else by their order."""
    features = reference.features
    variation = [
        seasonal_variation(chunk_places(column, feature.bins.width))
        for column, feature in zip(places, features, strict=True)
    ]
    if not any(variation):
        return reference
    hours = 0 if times is None else distinguishable_hours(times)
    if times is None or not hours:
        return _with_features(
            reference, [replace(item, seasonal_variation=by) for item, by in zip(features, variation, strict=True)]
        )
    which = hours_of(times, hours)
    counted = [
        _rows_of(_count_groups(column, which, feature.bins.width, hours))
        for column, feature in zip(places, features, strict=True)
    ]
    return _with_features(reference, [replace(item, hours=by) for item, by in zip(features, counted, strict=True)])


def _count_groups(places: Places, which: Places, width: int, groups: int) -> Places:
    """Return the number of rows of each group in each place [groups, width]; ``which`` is each row's group."""
    return np.bincount(which * width + places, minlength=groups * width).reshape(groups, width)


def _rows_of(counts: Places) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, counts.tolist()))


def _with_features(reference: Reference, features: Sequence[Feature]) -> Reference:
    inputs, outputs = len(reference.inputs), len(reference.outputs)
    joint = None if reference.joint is None else replace(reference.joint, feature=features[-1])
    own_inputs, own_outputs = tuple(features[:inputs]), tuple(features[inputs : inputs + outputs])
    return replace(reference, inputs=own_inputs, outputs=own_outputs, joint=joint)


def _build_slices(
    inputs: Sequence[Feature], features: Sequence[Feature], places: Sequence[Places]
) -> tuple[ReferenceSlice, ...]:
    """Return the counts of all columns for each value of each input that has few values."""
    total = sum(feature.bins.width for feature in features)
    slices: list[ReferenceSlice] = []
    cells = 0
    for feature, own in zip(inputs, places, strict=False):
        width = feature.bins.width
        if not is_key(feature.bins) or len(slices) >= MOST_KEYS or cells + width * total > MOST_SLICE_CELLS:
            continue
        cells += width * total
        counts = [_count_groups(at, own, item.bins.width, width) for item, at in zip(features, places, strict=True)]
        slices.append(ReferenceSlice(feature.bins.name, _rows_of(np.hstack(counts))))
    return tuple(slices)


def is_key(bins: FeatureBins) -> bool:
    """Return whether a feature has so few values that rows can be sliced by it."""
    return bins.kind is FeatureKind.CATEGORICAL or (len(bins.edges) - 1 <= MOST_DISCRETE and not bins.constants)
