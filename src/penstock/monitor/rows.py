"""Counts rows of inputs and outputs into fixed bins, in shared memory: in bunches, after the answers are written.

A version's region holds five words (rows seen, counted, dropped, requests not as expected, rows in the sums), then each
feature's places, then sums of floats by which neighbouring rows can be told alike: for each number its sum, its
square's, and its product with the number of the row before. Everything adds up over workers and gateways.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import random

import numpy as np
from numpy.typing import NDArray

from penstock.core.bins import CategoricalPlaces, Floats, Kind, NumericPlaces
from penstock.core.tensors import Tensor
from penstock.monitor.columns import Columns, Rows, joined
from penstock.monitor.counters import Words
from penstock.monitor.reference import Feature, Reference, distance

HEAD = ("seen", "counted", "dropped", "odd", "paired")
SUMMED = 8
"""One bunch of so many goes into the sums: they are wanted roughly and cost most."""

SUMS = 3
CLIPPED = 5.0
"""Standard deviations from the mean beyond which a number counts no further in the sums."""

MOST_CELLS = 100_000
"""Numbers of one bunch that are looked at; of more, a part of the rows is taken by chance."""

Exchange = tuple[Sequence[Tensor], Sequence[Tensor]]
"""What a request brought, and what was answered."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a reference's words lie in its region: the first place of each feature, where the sums begin, the size."""

    places: tuple[int, ...]
    sums: int
    numbers: int
    size: int

    @classmethod
    def of(cls, reference: Reference) -> "Layout":
        """The layout for a reference."""
        at, places = len(HEAD), []
        for feature in reference.features:
            places.append(at)
            at += feature.bins.width
        numbers = sum(feature.bins.kind is Kind.NUMERIC for feature in reference.inputs)
        return cls(tuple(places), at, numbers, at + SUMS * numbers)


class RowCounter:
    """One worker's counter of one version; ``words`` is the version's region in its slot."""

    def __init__(self, reference: Reference, words: Words, columns: tuple[Columns, Columns], sample: float) -> None:
        layout = Layout.of(reference)
        self._words = words
        self._layout = layout
        self._sums: NDArray[np.float64] = (
            words[layout.sums : layout.size].view(np.float64).reshape(SUMS, layout.numbers)
        )
        self._sample = sample
        self._inputs, self._outputs = columns
        offsets = iter(layout.places)
        self._sides = [_Side(reference.inputs, offsets), _Side(reference.outputs, offsets)]
        self._joint = reference.joint
        if self._joint is not None:
            self._middle, self._directions = np.array(self._joint.middle), np.array(self._joint.directions)
            self._distance = NumericPlaces([self._joint.feature.bins])
            self._joint_at = next(offsets)
        numeric = [feature for feature in reference.inputs if feature.bins.kind is Kind.NUMERIC]
        self._means = np.array([feature.mean for feature in numeric])
        self._scales = np.array([1 / feature.std if feature.std > 0 else 0.0 for feature in numeric])

    def count(self, bunch: Sequence[Exchange]) -> None:
        """Count the rows of some requests and their answers."""
        words = self._words
        words[0] += sum(_rows_of(inputs) for inputs, _ in bunch)
        chosen = bunch if self._sample >= 1 else [one for one in bunch if random() < self._sample]
        if self._inputs.batching:
            chosen, dropped = _thinned(chosen)
            words[2] += dropped
        inputs, odd = _columns(self._inputs, [one for one, _ in chosen])
        words[3] += odd
        if inputs is None or not len(inputs):
            return
        words[1] += len(inputs)
        self._sides[0].count(inputs, words)
        outputs, _ = _columns(self._outputs, [one for _, one in chosen])
        if outputs is not None:
            self._sides[1].count(outputs, words)
        if inputs.numbers.shape[1]:
            self._count_together(inputs.numbers)

    def drop(self, rows: int) -> None:
        """Rows that there was no room for."""
        self._words[0] += rows
        self._words[2] += rows

    def _count_together(self, numbers: Floats) -> None:
        if self._joint is not None:
            distances = distance(numbers, self._middle, self._directions)
            _add(self._words, self._joint_at, self._distance(distances[:, None])[:, 0])
        if random() * SUMMED >= 1 or len(numbers) < 2:
            return
        with np.errstate(invalid="ignore", over="ignore"):
            z = np.nan_to_num(np.clip((numbers - self._means) * self._scales, -CLIPPED, CLIPPED))
        self._words[4] += len(z) - 1
        self._sums[0] += z[1:].sum(axis=0)
        self._sums[1] += (z[1:] * z[1:]).sum(axis=0)
        self._sums[2] += (z[1:] * z[:-1]).sum(axis=0)


class _Side:
    """The columns of the inputs, or of the outputs."""

    def __init__(self, features: Sequence[Feature], offsets: Iterator[int]) -> None:
        numeric = [feature.bins for feature in features if feature.bins.kind is Kind.NUMERIC]
        self._width = len(numeric)
        self._numbers = NumericPlaces(numeric)
        self._offsets = np.array([next(offsets) for _ in numeric], np.intp)
        labels = [feature.bins for feature in features if feature.bins.kind is Kind.CATEGORICAL]
        self._labels = [(CategoricalPlaces(bins), next(offsets)) for bins in labels]

    def count(self, rows: Rows, words: Words) -> None:
        if self._width and rows.numbers.shape[1] == self._width:
            _add(words, 0, (self._numbers(rows.numbers) + self._offsets).ravel())
        for (places, at), values in zip(self._labels, rows.labels, strict=False):
            _add(words, at, places(values))


def _add(words: Words, at: int, places: NDArray[np.intp]) -> None:
    if not len(places):
        return
    counts = np.bincount(places)
    words[at : at + len(counts)] += counts.astype(np.uint64)


def _thinned(bunch: Sequence[Exchange]) -> tuple[Sequence[Exchange], int]:
    """As many rows of a bunch, by chance, as can be counted without holding the loop up; how many were left out."""
    cells = sum(tensor.data.size for inputs, _ in bunch for tensor in inputs)
    if cells <= MOST_CELLS:
        return bunch, 0
    share, dropped, kept = MOST_CELLS / cells, 0, []
    for inputs, outputs in bunch:
        rows = _rows_of(inputs)
        chosen = np.flatnonzero(np.random.default_rng().random(rows) < share)
        dropped += rows - len(chosen)
        if len(chosen) and all(tensor.data.ndim and len(tensor.data) == rows for tensor in (*inputs, *outputs)):
            kept.append((_taken(inputs, chosen), _taken(outputs, chosen)))
    return kept, dropped


def _taken(tensors: Sequence[Tensor], rows: NDArray[np.intp]) -> list[Tensor]:
    return [Tensor(tensor.name, tensor.datatype, tensor.data[rows]) for tensor in tensors]


def _columns(columns: Columns, requests: Sequence[Sequence[Tensor]]) -> tuple[Rows | None, int]:
    """The rows of several requests, and how many requests were not as expected; alike ones are taken together."""
    if not requests:
        return None, 0
    if columns.batching and (merged := _merged(requests)) is not None:
        rows = columns(merged)
        return rows, 0 if rows is not None else len(requests)
    found = [rows for one in requests if (rows := columns(one)) is not None]
    return (joined(found) if found else None), len(requests) - len(found)


def _merged(requests: Sequence[Sequence[Tensor]]) -> Sequence[Tensor] | None:
    """The same tensors of all requests one below the other; None where they are not the same."""
    first = requests[0]
    if len(requests) == 1:
        return first
    names = [tensor.name for tensor in first]
    if any([tensor.name for tensor in one] != names for one in requests):
        return None
    try:
        stacked = [np.concatenate([one[index].data for one in requests]) for index in range(len(names))]
    except ValueError:
        return None
    return [Tensor(tensor.name, tensor.datatype, data) for tensor, data in zip(first, stacked, strict=True)]


def _rows_of(tensors: Sequence[Tensor]) -> int:
    return len(tensors[0].data) if tensors and tensors[0].data.ndim else 1


@dataclass(frozen=True, slots=True)
class Counted:
    """A region's words added up over workers: rows by ``HEAD``, each feature's counts, and the sums [3, numbers]."""

    head: Mapping[str, int]
    counts: tuple[tuple[int, ...], ...]
    sums: Floats

    @classmethod
    def of(cls, reference: Reference, regions: Sequence[Words]) -> "Counted":
        """Add regions up."""
        layout = Layout.of(reference)
        total = np.zeros(layout.sums, np.uint64)
        sums = np.zeros((SUMS, layout.numbers))
        for words in regions:
            total += words[: layout.sums]
            sums += words[layout.sums : layout.size].view(np.float64).reshape(SUMS, layout.numbers)
        values: list[int] = total.tolist()
        widths = [feature.bins.width for feature in reference.features]
        counts = tuple(tuple(values[at : at + width]) for at, width in zip(layout.places, widths, strict=True))
        return cls(dict(zip(HEAD, values, strict=False)), counts, sums)


def correlations(before: Counted, now: Counted) -> Floats:
    """How alike neighbouring rows were between two looks, for each number: the first autocorrelation, 0 for too few."""
    rows = now.head["paired"] - before.head["paired"]
    if rows < 30:
        return np.zeros(now.sums.shape[1])
    total, squares, products = (now.sums - before.sums) / rows
    variance = squares - total * total
    found: Floats = np.divide(products - total * total, variance, out=np.zeros_like(variance), where=variance > 1e-9)
    return np.clip(found, -1, 1)
