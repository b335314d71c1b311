"""What a version's data looked like when it was trained, or when it was first met: the measure for everything after.

A reference holds no rows: bins and their counts, means and spreads, and a matrix that turns a row's numbers into one
distance from the middle of them all, by which a change of how they belong together shows.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.core.bins import (
    Bins,
    CategoricalPlaces,
    Floats,
    Kind,
    NumericPlaces,
    categorical_bins,
    numeric_bins,
)
from penstock.monitor.columns import Rows

TRAINING, LIVE = "training", "live"
VERSION = 1
"""Changes when the same data would give other bins."""

JOINT = "(joint)"
MOST_JOINT = 32
"""Dimensions of the joint distance; more numbers than that are projected on so many random directions first."""

RIDGE = 1e-3
SMALL = 10_000
"""A reference of fewer rows is small: its own noise would raise alarms, so thresholds rise with it."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the reference: its bins, the rows in each place, and the moments of its finite numbers."""

    bins: Bins
    counts: tuple[int, ...]
    mean: float = 0.0
    std: float = 0.0

    @property
    def rows(self) -> int:
        """How many rows there were."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class Joint:
    """How a row's numbers belong together: ``middle`` [numbers] and ``directions`` [numbers, k] give the distance
    ``|(x - middle) @ directions|^2 / k``; ``feature`` is its distribution."""

    middle: tuple[float, ...]
    directions: tuple[tuple[float, ...], ...]
    feature: Feature


@dataclass(frozen=True, slots=True)
class Reference:
    """A whole reference; the order of features is numbers first, then labels, of inputs and of outputs."""

    source: str
    rows: int
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    joint: Joint | None = None

    @property
    def digest(self) -> str:
        """Names it by its content."""
        text = json.dumps(reference_out(self), sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    @property
    def features(self) -> tuple[Feature, ...]:
        """All columns that are counted, in the order of their counters."""
        return (*self.inputs, *self.outputs, *([] if self.joint is None else [self.joint.feature]))

    @property
    def is_small(self) -> bool:
        """Whether it has so few rows that its own noise matters."""
        return self.rows < SMALL


def build(names: tuple[Sequence[str], Sequence[str]], inputs: Rows, outputs: Rows | None, source: str) -> Reference:
    """The reference of these rows; ``names`` are those of the input's and the output's columns, numbers first."""
    features = _features(names[0], inputs)
    answered = () if outputs is None else _features(names[1], outputs)
    return Reference(source, len(inputs), features, answered, _joint(inputs.numbers))


def _features(names: Sequence[str], rows: Rows) -> tuple[Feature, ...]:
    width = rows.numbers.shape[1]
    numeric = [numeric_bins(name, rows.numbers[:, index]) for index, name in enumerate(names[:width])]
    features = []
    if numeric:
        places = NumericPlaces(numeric)(rows.numbers)
        for index, bins in enumerate(numeric):
            column = rows.numbers[:, index]
            finite = column[np.isfinite(column)]
            moments = (float(finite.mean()), float(finite.std())) if len(finite) else (0.0, 0.0)
            features.append(Feature(bins, _counts(places[:, index], bins), *moments))
    for name, values in zip(names[width:], rows.labels, strict=True):
        bins = categorical_bins(name, values)
        features.append(Feature(bins, _counts(CategoricalPlaces(bins)(values), bins)))
    return tuple(features)


def _counts(places: Any, bins: Bins) -> tuple[int, ...]:
    return tuple(int(count) for count in np.bincount(places, minlength=bins.width))


def _joint(numbers: Floats) -> Joint | None:
    """The distance from the middle, whitened (Mahalanobis), of at least two numbers a row."""
    width = numbers.shape[1]
    whole = numbers[np.isfinite(numbers).all(axis=1)]
    if width < 2 or len(whole) < 10 * width:
        return None
    middle, spread = whole.mean(axis=0), whole.std(axis=0)
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
    turned = np.diag(scale)
    if width > MOST_JOINT:
        turned = turned @ np.random.default_rng(width).standard_normal((width, MOST_JOINT)) / np.sqrt(width)
    seen = (whole - middle) @ turned
    values, vectors = np.linalg.eigh(np.cov(seen, rowvar=False) + RIDGE * np.eye(seen.shape[1]))
    directions = np.round(turned @ vectors / np.sqrt(values), 9)
    middle = np.round(middle, 9)
    distances = distance(numbers, middle, directions)
    bins = numeric_bins(JOINT, distances)
    places = NumericPlaces([bins])(distances[:, None])[:, 0]
    feature = Feature(bins, _counts(places, bins), float(np.nanmean(distances)), float(np.nanstd(distances)))
    return Joint(tuple(middle.tolist()), tuple(tuple(row) for row in directions.tolist()), feature)


def distance(numbers: Floats, middle: Floats, directions: Floats) -> Floats:
    """Each row's distance from the middle; missing and infinite numbers count as lying in it."""
    apart = numbers - middle
    seen = np.where(np.isfinite(apart), apart, 0.0) @ directions
    found: Floats = np.einsum("ij,ij->i", seen, seen) / directions.shape[1]
    return found


# As JSON.


def reference_out(reference: Reference) -> Document:
    """A reference as JSON values."""
    joint = reference.joint
    return {
        "version": VERSION,
        "source": reference.source,
        "rows": reference.rows,
        "inputs": [_feature_out(one) for one in reference.inputs],
        "outputs": [_feature_out(one) for one in reference.outputs],
        "joint": None
        if joint is None
        else {
            "middle": list(joint.middle),
            "directions": [list(row) for row in joint.directions],
            "feature": _feature_out(joint.feature),
        },
    }


def reference_in(values: Mapping[str, Any]) -> Reference:
    """A reference from its JSON values."""
    joint = values["joint"]
    return Reference(
        values["source"],
        values["rows"],
        tuple(_feature_in(one) for one in values["inputs"]),
        tuple(_feature_in(one) for one in values["outputs"]),
        None
        if joint is None
        else Joint(
            tuple(joint["middle"]), tuple(tuple(row) for row in joint["directions"]), _feature_in(joint["feature"])
        ),
    )


def _feature_out(feature: Feature) -> Document:
    bins = feature.bins
    return {
        "name": bins.name,
        "kind": bins.kind.value,
        "edges": list(bins.edges),
        "values": list(bins.values),
        "known": list(bins.known),
        "counts": list(feature.counts),
        "mean": feature.mean,
        "std": feature.std,
    }


def _feature_in(values: Mapping[str, Any]) -> Feature:
    bins = Bins(
        values["name"], Kind(values["kind"]), tuple(values["edges"]), tuple(values["values"]), tuple(values["known"])
    )
    return Feature(bins, tuple(values["counts"]), values["mean"], values["std"])
