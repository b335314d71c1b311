"""What a version's data looked like when it was trained, or when it was first met: the measure for everything after.

A reference holds no rows: bins and their counts, means and spreads, a matrix that changes a row's numbers into one
distance from the middle of them all, by which a change of how they belong together shows, how sure the model was and
how often it was right, and the same counts for each value of some categorical features.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from penstock.core.bins import (
    MOST_DISCRETE,
    Bins,
    CategoricalPlaces,
    Floats,
    Kind,
    NumericPlaces,
    Places,
    categorical_bins,
    numeric_bins,
)
from penstock.core.statistics.seasons import chunk_places, hours_of, hours_told_apart, wander
from penstock.monitor.columns import Rows

TRAINING, LIVE = "training", "live"
VERSION = 2
"""Changes when the same data would give other bins."""

JOINT = "(joint)"
DIGITS = 6
"""Decimals of a joint distance, whose mean is about 1."""

MOST_JOINT = 32
"""Dimensions of the joint distance; more numbers than that are projected on so many random directions first."""

RIDGE = 1e-3
LEAST_LEFT = 0.05
"""Of the covariance in a row's direction what the other rows are taken to have at least."""

SMALL = 10_000
"""A reference of fewer rows is small: its own noise would raise alarms, so thresholds rise with it."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the reference: its bins, the rows in each place, and the moments of its finite numbers.

    ``wander`` are the nats a row that it moves by itself from time to time, ``hours`` [hours, places] the rows by the
    hour of the week or of the day, where their times are known and matter.
    """

    bins: Bins
    counts: tuple[int, ...]
    mean: float = 0.0
    std: float = 0.0
    wander: float = 0.0
    hours: tuple[tuple[int, ...], ...] = ()

    @property
    def rows(self) -> int:
        """How many rows there were."""
        return sum(self.counts)


SCORE_BINS = 50
"""Bins of a probability, evenly from 0 to 1."""

MOST_KEYS = 8
"""Categorical features that rows can be sliced by."""

MOST_SLICE_WORDS = 100_000
"""Counts of all slices together."""


@dataclass(frozen=True, slots=True)
class ConfidenceHistogram:
    """How sure the model was: ``counts`` [SCORE_BINS] of the probability of the second class of two, or of the class
    with the greatest of more (``classes``); ``right`` says how many of those came true (the second class did; the
    answer was right), where the data had labels."""

    classes: int
    counts: tuple[int, ...]
    right: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Slice:
    """One categorical feature's values apart: for each place of it, the counts of all columns one after the other."""

    key: str
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Joint:
    """How a row's numbers belong together: ``middle`` [numbers] and ``directions`` [numbers, k] give the distance
    ``|(x - middle) @ directions|^2 / k``; ``feature`` is its distribution."""

    middle: tuple[float, ...]
    directions: tuple[tuple[float, ...], ...]
    feature: Feature


@dataclass(frozen=True)
class Reference:
    """A whole reference; the order of features is numbers first, then labels, of inputs and of outputs.

    ``errors`` are the wrong and the right answers to the data, where it had labels.
    """

    source: str
    rows: int
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    joint: Joint | None = None
    confidence: ConfidenceHistogram | None = None
    slices: tuple[Slice, ...] = ()
    errors: tuple[int, int] | None = None

    @cached_property
    def digest(self) -> str:
        """Names it by its content."""
        text = json.dumps(reference_out(self), sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    @property
    def features(self) -> tuple[Feature, ...]:
        """All columns that are counted, in the order of their counters."""
        return (*self.inputs, *self.outputs, *([] if self.joint is None else [self.joint.feature]))

    @property
    def hours(self) -> int:
        """How many hours it tells apart, 0 for none."""
        return len(self.features[0].hours) if self.features else 0

    @property
    def is_small(self) -> bool:
        """Whether it has so few rows that its own noise matters."""
        return self.rows < SMALL


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
        inputs, times = _ordered(inputs, order), times[order]
        outputs = None if outputs is None else _ordered(outputs, order)
    features, places = _features(_distinct(names), inputs)
    answered, told = ((), []) if outputs is None else _features(names[1], outputs)
    slices = _slices(features, (*features, *answered), [*places, *told])
    joint = _joint(inputs.numbers)
    found = Reference(source, len(inputs), features, answered, joint, slices=slices)
    together = [] if joint is None else [_joint_places(joint, inputs.numbers)]
    return _over_time(found, [*places, *told, *together], times)


def _ordered(rows: Rows, order: Any) -> Rows:
    labels = tuple(np.asarray(column, object)[order] for column in rows.labels)
    return Rows(rows.numbers[order], labels)


def _over_time(reference: Reference, places: Sequence[Places], times: Floats | None) -> Reference:
    """A reference that knows what its columns do over time, by the hours of its rows or else by their order."""
    features = reference.features
    moved = [wander(chunk_places(one, feature.bins.width)) for one, feature in zip(places, features, strict=True)]
    if not any(moved):
        return reference
    hours = 0 if times is None else hours_told_apart(times)
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


def _distinct(names: tuple[Sequence[str], Sequence[str]]) -> list[str]:
    """The names of inputs, each told apart from the others, from the outputs and from the joint distance: metrics and
    events have one column of each name."""
    taken, found = {*names[1], JOINT}, []
    for name in names[0]:
        tries = (name, *(f"{name} (input{number})" for number in ("", *range(2, len(names[0]) + 2))))
        chosen = next(one for one in tries if one not in taken)
        taken.add(chosen)
        found.append(chosen)
    return found


def _features(names: Sequence[str], rows: Rows) -> tuple[tuple[Feature, ...], list[Places]]:
    """The columns of these rows, and the places of each one's values."""
    width = rows.numbers.shape[1]
    numeric = [numeric_bins(name, rows.numbers[:, index]) for index, name in enumerate(names[:width])]
    features, found = [], []
    if numeric:
        places = NumericPlaces(numeric)(rows.numbers)
        for index, bins in enumerate(numeric):
            column = rows.numbers[:, index]
            finite = column[np.isfinite(column)]
            moments = (float(finite.mean()), float(finite.std())) if len(finite) else (0.0, 0.0)
            own = _range_left_out(bins, column, places[:, index])
            features.append(Feature(bins, _counts(own, bins), *moments))
            found.append(own)
    for name, values in zip(names[width:], rows.labels, strict=True):
        bins = categorical_bins(name, values)
        found.append(CategoricalPlaces(bins)(values))
        features.append(Feature(bins, _counts(found[-1], bins)))
    return tuple(features), found


def _range_left_out(bins: Bins, column: Floats, places: Places) -> Places:
    """The places of a column's numbers, where the least and the greatest lie out of the range of all others.

    No number of a sample lies out of its own range, but one of ``rows + 1`` more numbers will lie below it, and one
    above: that many the reference has to let expect. Numbers of few kinds have no such ends.
    """
    finite = column[np.isfinite(column)]
    if len(bins.edges) - 1 <= MOST_DISCRETE and len(np.unique(finite)) <= MOST_DISCRETE:
        return places
    found = places.copy()
    for end, place in zip((finite.min(), finite.max()), bins.out_of_range, strict=True):
        at = np.flatnonzero(column == end)
        if len(at) == 1:
            found[at] = place
    return found


def _slices(inputs: Sequence[Feature], features: Sequence[Feature], places: Sequence[Places]) -> tuple[Slice, ...]:
    """The counts of all columns for each value of each input that has few of them."""
    total = sum(feature.bins.width for feature in features)
    found: list[Slice] = []
    words = 0
    for feature, own in zip(inputs, places, strict=False):
        width = feature.bins.width
        if not is_key(feature.bins) or len(found) >= MOST_KEYS or words + width * total > MOST_SLICE_WORDS:
            continue
        words += width * total
        chosen = [own == place for place in range(width)]
        counts = [
            tuple(count for one, at in zip(features, places, strict=True) for count in _counts(at[rows], one.bins))
            for rows in chosen
        ]
        found.append(Slice(feature.bins.name, tuple(counts)))
    return tuple(found)


def is_key(bins: Bins) -> bool:
    """Whether a feature has few enough values that rows can be sliced by it."""
    return bins.kind is Kind.CATEGORICAL or (len(bins.edges) - 1 <= MOST_DISCRETE and not bins.constants)


def confidence_of(scores: Floats) -> Floats | None:
    """The probability that is counted: of the second class of two, of the greatest of more; None where the scores are
    no probabilities."""
    if not ((scores >= 0) & (scores <= 1)).all():
        return None
    if scores.shape[1] > 1 and (np.abs(scores.sum(axis=1) - 1) > 1e-3).any():
        return None
    found: Floats = scores[:, -1] if scores.shape[1] <= 2 else scores.max(axis=1)
    return found


def score_bins(sure: Floats) -> Places:
    """The bin of each probability."""
    return np.minimum((sure * SCORE_BINS).astype(np.intp), SCORE_BINS - 1)


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
    places = _row_left_out(bins, distances, directions.shape[1])
    feature = Feature(bins, _counts(places, bins), float(np.nanmean(distances)), float(np.nanstd(distances)))
    return Joint(tuple(middle.tolist()), tuple(tuple(row) for row in directions.tolist()), feature)


def _joint_places(joint: Joint, numbers: Floats) -> Places:
    distances = distance(numbers, np.array(joint.middle), np.array(joint.directions))
    return _row_left_out(joint.feature.bins, distances, len(joint.directions[0]))


def _row_left_out(bins: Bins, distances: Floats, directions: int) -> Places:
    """The places of the rows' distances, each measured by the middle and the covariance of all other rows.

    A row lies nearer to a middle that it has a part in than new rows do: of m rows in d directions by about ``d / m``.
    Without a row its squared distance is ``D m^2 (m - 2) / (m - 1)^3 / (1 - m D / (m - 1)^2)``, by the formula of
    Sherman and Morrison (1950). Distances that many rows share are told as they are, for new rows lie there too.
    """
    places = _places_of(bins, distances)
    rows = max(3.0, float(np.isfinite(distances).sum()))
    whole = distances * directions
    left = np.maximum(1 - rows * whole / (rows - 1) ** 2, LEAST_LEFT)
    apart = whole * rows**2 * (rows - 2) / (rows - 1) ** 3 / left / directions
    _, which, rows_there = np.unique(distances, return_inverse=True, return_counts=True)
    places = np.where(rows_there[which] > 1, places, _places_of(bins, apart))
    return _range_left_out(bins, distances, places)


def _places_of(bins: Bins, values: Floats) -> Places:
    found: Places = NumericPlaces([bins])(values[:, None])[:, 0]
    return found


def distance(numbers: Floats, middle: Floats, directions: Floats) -> Floats:
    """Each row's distance from the middle; missing and infinite numbers count as lying in it."""
    apart = numbers - middle
    seen = np.where(np.isfinite(apart), apart, 0.0) @ directions
    return rounded(np.einsum("ij,ij->i", seen, seen) / directions.shape[1])


def rounded(distances: Floats) -> Floats:
    """The same without their last digits, which depend on how many rows a product of matrices has: where columns have
    few values many rows lie at the same distance, and edges there."""
    found: Floats = np.round(distances, DIGITS)
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
        "confidence": None if reference.confidence is None else asdict(reference.confidence),
        "slices": [asdict(one) for one in reference.slices],
        "errors": reference.errors,
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
        confidence_in(values.get("confidence") or values.get("sureness")),
        tuple(Slice(one["key"], tuple(map(tuple, one["counts"]))) for one in values.get("slices", [])),
        None if values.get("errors") is None else (values["errors"][0], values["errors"][1]),
    )


def confidence_in(values: Mapping[str, Any] | None) -> ConfidenceHistogram | None:
    """How sure a model was, from its JSON values."""
    if values is None:
        return None
    return ConfidenceHistogram(values["classes"], tuple(values["counts"]), tuple(values["right"]))


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
        **({"wander": feature.wander} if feature.wander else {}),
        **({"hours": [list(row) for row in feature.hours]} if feature.hours else {}),
    }


def _feature_in(values: Mapping[str, Any]) -> Feature:
    bins = Bins(
        values["name"], Kind(values["kind"]), tuple(values["edges"]), tuple(values["values"]), tuple(values["known"])
    )
    hours = tuple(tuple(row) for row in values.get("hours", []))
    return Feature(bins, tuple(values["counts"]), values["mean"], values["std"], values.get("wander", 0.0), hours)
