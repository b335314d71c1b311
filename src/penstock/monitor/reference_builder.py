"""Builds a reference from rows: its columns, their course over time, and the slices."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from penstock.core.bins import MOST_DISCRETE, Bins, Floats, Kind, Places
from penstock.core.statistics.seasons import chunk_places, distinguishable_hours, hours_of, seasonal_variation
from penstock.monitor.columns import Rows
from penstock.monitor.joint_distance import joint_of, joint_places
from penstock.monitor.reference import Feature, Reference, Slice
from penstock.monitor.reference_columns import counts_of, distinct_names, features_of

MOST_KEYS = 8
"""Categorical features that rows can be sliced by."""

MOST_SLICE_CELLS = 100_000
"""Counts of all slices together."""


def build(
    names: tuple[Sequence[str], Sequence[str]],
    inputs: Rows,
    outputs: Rows | None,
    source: str,
    times: Floats | None = None,
) -> Reference:
    """The reference of these rows; ``names`` are those of the input's and the output's columns, numbers first, and
    ``times`` [rows] when each was seen (seconds since the epoch). Rows are taken to be in the order of time."""
    if times is not None:
        order = np.argsort(times, kind="stable")
        inputs, times = inputs.at(order), times[order]
        outputs = None if outputs is None else outputs.at(order)
    features, places = features_of(distinct_names(names), inputs)
    answered, told = ((), []) if outputs is None else features_of(names[1], outputs)
    slices = _slices(features, (*features, *answered), [*places, *told])
    joint = joint_of(inputs.numbers)
    found = Reference(source, len(inputs), features, answered, joint, slices=slices)
    together = [] if joint is None else [joint_places(joint, inputs.numbers)]
    return _over_time(found, [*places, *told, *together], times)


def _over_time(reference: Reference, places: Sequence[Places], times: Floats | None) -> Reference:
    """A reference that knows what its columns do over time, by the hours of its rows or else by their order."""
    features = reference.features
    moved = [
        seasonal_variation(chunk_places(one, feature.bins.width)) for one, feature in zip(places, features, strict=True)
    ]
    if not any(moved):
        return reference
    hours = 0 if times is None else distinguishable_hours(times)
    if times is None or not hours:
        return _with_features(reference, [replace(one, wander=by) for one, by in zip(features, moved, strict=True)])
    which = hours_of(times, hours)
    counted = [_by_hour(one, which, feature.bins.width, hours) for one, feature in zip(places, features, strict=True)]
    return _with_features(reference, [replace(one, hours=by) for one, by in zip(features, counted, strict=True)])


def _by_hour(places: Places, which: Places, width: int, hours: int) -> tuple[tuple[int, ...], ...]:
    counts = np.bincount(which * width + places, minlength=hours * width).reshape(hours, width)
    return tuple(tuple(row) for row in counts.tolist())


def _with_features(reference: Reference, features: Sequence[Feature]) -> Reference:
    inputs, outputs = len(reference.inputs), len(reference.outputs)
    joint = None if reference.joint is None else replace(reference.joint, feature=features[-1])
    given, answered = tuple(features[:inputs]), tuple(features[inputs : inputs + outputs])
    return replace(reference, inputs=given, outputs=answered, joint=joint)


def _slices(inputs: Sequence[Feature], features: Sequence[Feature], places: Sequence[Places]) -> tuple[Slice, ...]:
    """The counts of all columns for each value of each input that has few of them."""
    total = sum(feature.bins.width for feature in features)
    found: list[Slice] = []
    cells = 0
    for feature, own in zip(inputs, places, strict=False):
        width = feature.bins.width
        if not is_key(feature.bins) or len(found) >= MOST_KEYS or cells + width * total > MOST_SLICE_CELLS:
            continue
        cells += width * total
        chosen = [own == place for place in range(width)]
        counts = [
            tuple(count for one, at in zip(features, places, strict=True) for count in counts_of(at[rows], one.bins))
            for rows in chosen
        ]
        found.append(Slice(feature.bins.name, tuple(counts)))
    return tuple(found)


def is_key(bins: Bins) -> bool:
    """Whether a feature has few enough values that rows can be sliced by it."""
    return bins.kind is Kind.CATEGORICAL or (len(bins.edges) - 1 <= MOST_DISCRETE and not bins.constants)
