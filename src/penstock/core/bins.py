"""Fixed bins for what goes into a model and comes out of it: made once from a reference, the same ever after.

Numbers fall into bins of about equal probability, with bins of their own for values that come again and again (zero, a
default), for what lies below or above everything the reference had, for both infinities and for what is missing. Texts
and other labels have a bin for each frequent value, one for the rest of what the reference had, one for what it did not
have, and one for what is missing.
"""

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

BINS = 10
"""Number of bins of equal probability."""

MOST_DISCRETE = 16
"""A column with at most this many different numbers gets a bin for each."""

MOST_VALUES = 20
"""Maximum values of a text with a bin each."""

MOST_LISTED = 2000
"""Maximum infrequent values that are known by name; with more, the rest and the unseen share a bin."""


SMALL_NUMBERS = 1024
"""Whole numbers below this are found by a table."""

_SMALL_TEXTS = frozenset(map(str, range(SMALL_NUMBERS)))


class FeatureKind(StrEnum):
    """The type of a feature."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"


@dataclass(frozen=True, slots=True)
class FeatureBins:
    """One feature's bins.

    Numeric: ``edges`` ascend; the places are below the first, then one between each two, above the last, minus
    infinity, plus infinity, missing. Categorical: ``values`` have a place each, then come the rest (``known`` by name),
    the unseen, the missing.
    """

    name: str
    kind: FeatureKind
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    known: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Return the number of places."""
        return len(self.edges) + 4 if self.kind is FeatureKind.NUMERIC else len(self.values) + 3

    @property
    def inner(self) -> slice:
        """Return the places of values within the reference."""
        return slice(1, len(self.edges)) if self.kind is FeatureKind.NUMERIC else slice(0, len(self.values) + 1)

    @property
    def missing(self) -> int:
        """Return the place of missing values."""
        return self.width - 1

    @property
    def out_of_range(self) -> tuple[int, ...]:
        """Return the places of numbers beyond the range of the reference, without infinities."""
        return (0, len(self.edges)) if self.kind is FeatureKind.NUMERIC else ()

    @property
    def infinite(self) -> tuple[int, ...]:
        """Return the places of infinities."""
        return (len(self.edges) + 1, len(self.edges) + 2) if self.kind is FeatureKind.NUMERIC else ()

    @property
    def constants(self) -> tuple[int, ...]:
        """Return the places of single values that are frequent among others."""
        single = _single_values(self.edges)
        return () if all(single) else tuple([index + 1 for index, item in enumerate(single) if item])

    @property
    def unseen(self) -> tuple[int, ...]:
        """Return the place of values that are not in the reference."""
        return () if self.kind is FeatureKind.NUMERIC else (len(self.values) + 1,)

    def labels(self) -> list[str]:
        """Return a text for each place."""
        if self.kind is FeatureKind.CATEGORICAL:
            return [*self.values, "(rest)", "(unseen)", "(missing)"]
        pairs = zip(self.edges, self.edges[1:], _single_values(self.edges), strict=False)
        between = [
            _edge_text(low) if single else f"{_edge_text(low)}..{_edge_text(high)}" for low, high, single in pairs
        ]
        return ["(below)", *between, "(above)", "-inf", "+inf", "(missing)"]

    def value_labels(self) -> list[str]:
        """Return a text for each place: the value alone, where the reference had one value in each bin."""
        values, labels = self.single_numbers(), self.labels()
        return [labels[0], *map(_edge_text, values), *labels[len(values) + 1 :]] if values else labels

    def single_numbers(self) -> tuple[float, ...]:
        """Return the number of each inner place where the reference had few different ones, () otherwise."""
        return () if self.kind is FeatureKind.CATEGORICAL else _discrete_values(self.edges)

    def public_labels(self) -> list[str]:
        """Return the texts without values, which may come from callers."""
        if self.kind is FeatureKind.NUMERIC:
            return self.labels()
        return [f"value {number}" for number in range(len(self.values))] + self.labels()[-3:]


def _edge_text(edge: float) -> str:
    """Return an edge for people: the number after 0 is shown as 0."""
    return f"{edge:.6g}" if abs(edge) >= sys.float_info.min else "0"


@lru_cache(maxsize=4096)  # the monitor needs them at every look
def _single_values(edges: tuple[float, ...]) -> tuple[bool, ...]:
    """Return for each bin between two edges whether it has place for one number only."""
    bounds = np.asarray(edges, float)
    return tuple((np.nextafter(bounds[:-1], np.inf) == bounds[1:]).tolist())


def _discrete_values(edges: tuple[float, ...]) -> tuple[float, ...]:
    """Return the values between which edges of discrete numbers are the middles (see ``numeric_bins``), () if the edges
    are others."""
    values = list(edges[:1])
    for middle in edges[1:-1]:
        values.append(2 * middle - values[-1])
    grow = all(low < high for low, high in pairwise(values))
    ends = bool(values) and math.isclose(values[-1], edges[-1], rel_tol=1e-9, abs_tol=1e-12)
    return tuple(values) if grow and ends and len(values) == len(edges) - 1 else ()


def numeric_bins(name: str, values: Floats, most: int = BINS) -> FeatureBins:
    """Return bins for numbers like these; infinite and missing ones are ignored."""
    finite = np.sort(values[np.isfinite(values)])
    if not len(finite):
        return FeatureBins(name, FeatureKind.NUMERIC, (0.0, 1.0))
    kinds = np.unique(finite)
    if len(kinds) <= MOST_DISCRETE:
        middles = kinds[:-1] / 2 + kinds[1:] / 2
        edges = [kinds[0], *middles, np.nextafter(kinds[-1], np.inf)]
    else:
        inner = np.quantile(finite, np.linspace(0, 1, most + 1)[1:-1])
        edges = [finite[0], *inner, np.nextafter(finite[-1], np.inf)]
        for often in _frequent_values(finite, most):
            edges += [often, np.nextafter(often, np.inf)]
    return FeatureBins(name, FeatureKind.NUMERIC, tuple(float(edge) for edge in np.unique(edges) if np.isfinite(edge)))


def _frequent_values(ordered: Floats, most: int) -> list[float]:
    """Return values that make up half a bin's share or more by themselves."""
    values, counts = np.unique(ordered, return_counts=True)
    return [float(value) for value in values[counts >= len(ordered) / most / 2]]


def categorical_bins(name: str, values: Iterable[Any]) -> FeatureBins:
    """Return bins for labels like these."""
    counts = Counter(text for value in values if (text := make_label(value)) is not None)
    frequent = [value for value, _ in counts.most_common(MOST_VALUES)]
    rest = sorted(counts.keys() - set(frequent))
    return FeatureBins(name, FeatureKind.CATEGORICAL, values=tuple(frequent), known=tuple(rest[:MOST_LISTED]))


def make_label(value: Any) -> str | None:
    """Return a label as text, None if it is missing."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    text = str(value)
    return None if value is None or text in ("", "nan", "NaN", "None") else text


class NumericBinFinder:
    """Finds the places of many numeric features at once: rows [n, features] to places [n, features]."""

    def __init__(self, features: Sequence[FeatureBins]) -> None:
        longest = max((len(feature.edges) for feature in features), default=0)
        self._edges = np.full((longest, len(features)), np.inf)
        for index, feature in enumerate(features):
            self._edges[: len(feature.edges), index] = feature.edges
        self._edges = self._edges[:, None, :]
        self._ends = np.array([len(feature.edges) for feature in features], np.intp)

    def __call__(self, rows: Floats, finite: bool | None = None) -> Places:
        """Return the place of every number; ``finite`` says whether all are finite, if known."""
        if rows.shape[1] == 1:
            places: Places = np.searchsorted(self._edges[:, 0, 0], rows, side="right")
        else:
            places = np.add.reduce((rows >= self._edges).view(np.uint8), axis=0, dtype=np.uint8).astype(np.intp)
        if not (np.isfinite(rows).all() if finite is None else finite):
            ends = np.broadcast_to(self._ends, rows.shape)
            for test, offset in ((np.isneginf(rows), 1), (np.isposinf(rows), 2), (np.isnan(rows), 3)):
                places[test] = ends[test] + offset
        return places


class CategoricalBinFinder:
    """Finds the places of one categorical feature."""

    def __init__(self, bins: FeatureBins) -> None:
        rest, self._unseen = len(bins.values), len(bins.values) + 1
        self._missing = bins.missing
        self._places: Mapping[str, int] = {
            **dict.fromkeys(bins.known, rest),
            **{value: index for index, value in enumerate(bins.values)},
        }
        self._small = np.full(SMALL_NUMBERS, self._unseen, np.intp)
        for text, place in self._places.items():
            if text in _SMALL_TEXTS:
                self._small[int(text)] = place

    def __call__(self, values: Iterable[Any]) -> Places:
        """Return the place of every value."""
        if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
            if len(values) and values.min() >= 0 and values.max() < SMALL_NUMBERS:
                places: Places = self._small[values]
                return places
            values = values.tolist()
        labels = (make_label(value) for value in values)
        return np.array(
            [self._missing if item is None else self._places.get(item, self._unseen) for item in labels], np.intp
        )
