"""Counts rows of inputs and outputs into fixed bins, in shared memory: in bunches, after the answers are written.

A version's region holds five words (rows seen, counted, dropped, requests not as expected, rows in the sums), then each
feature's places, how sure the model was, the places once more for each value of the keys that rows are sliced by, and
sums of floats that give the autocorrelation of rows: for each number its sum, its square's, and its product with
the number of the row before. Everything adds up over workers and gateways. Last come the constants' surpluses: what a
counter of values that come again and again needs so that it never falls.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import random
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penstock.core.bins import CategoricalPlaces, Floats, Kind, NumericPlaces, Places
from penstock.core.tensors import Tensor
from penstock.monitor.columns import Columns, Rows
from penstock.monitor.confidence import SCORE_BINS, confidence_of, score_bins
from penstock.monitor.counters.layout import Cells
from penstock.monitor.joint_distance import rounded
from penstock.monitor.reference import Feature, Reference

HEAD: Final = ("seen", "counted", "dropped", "odd", "paired")
SUMMED: Final = ((64, 8), (0, 2))
"""Of bunches of at least so many rows one of so many goes into the sums: they are wanted roughly and cost most."""

ALL_SUMMED: Final = 3000
"""Neighbours of each worker that are compared before bunches are left out: thresholds rest on them from the start."""

SUMS: Final = 3
SURPLUS: Final = 3
"""Floats of each input with constants: its surplus now, the surplus's highest since it was nothing, and the sum of all
highest ones."""

CLIPPED: Final = 5.0
"""Standard deviations from the mean beyond which a number counts no further in the sums."""

MOST_VALUES: Final = 100_000
"""Numbers of one bunch that are looked at; of more, a part of the rows is taken by chance."""

Exchange = tuple[Sequence[Tensor], Sequence[Tensor]]
"""What a request brought, and what was answered."""

Signed = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """One key that rows are sliced by: its feature's place among the columns, its values, and its first word."""

    column: int
    values: int
    at: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a reference's words lie in its region: the first place of each feature, of the probabilities, of the
    slices, of the sums, of the surpluses; and the size. ``columns`` are the words of all inputs and outputs together,
    ``constants`` the inputs that have constants."""

    places: tuple[int, ...]
    columns: int
    sure: int
    slices: tuple[Part, ...]
    sums: int
    numbers: int
    surpluses: int
    constants: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, reference: Reference, keys: Sequence[str] = ()) -> "Layout":
        """The layout for a reference, where rows are sliced by these of its keys."""
        at, places = len(HEAD), []
        for feature in reference.features:
            places.append(at)
            at += feature.bins.width
        columns = sum(feature.bins.width for feature in (*reference.inputs, *reference.outputs))
        sure, slices = at, []
        at += 0 if reference.confidence is None else SCORE_BINS
        names = [feature.bins.name for feature in reference.inputs]
        for one in reference.slices:
            if one.key in keys:
                slices.append(Part(names.index(one.key), len(one.counts), at))
                at += len(one.counts) * columns
        numbers = sum(feature.bins.kind is Kind.NUMERIC for feature in reference.inputs)
        constants = tuple(index for index, feature in enumerate(reference.inputs) if feature.bins.constants)
        end = at + SUMS * numbers
        size = end + SURPLUS * len(constants)
        return cls(tuple(places), columns, sure, tuple(slices), at, numbers, end, constants, size)


class RowCounter:
    """One worker's counter of one version; ``cells`` is the version's region in its slot."""

    def __init__(
        self,
        reference: Reference,
        cells: Cells,
        columns: tuple[Columns, Columns],
        sample: float,
        keys: Sequence[str] = (),
    ) -> None:
        layout = Layout.of(reference, keys)
        self._cells: Signed = cells.view(np.int64)
        self._sums: NDArray[np.float64] = (
            cells[layout.sums : layout.surpluses].view(np.float64).reshape(SUMS, layout.numbers)
        )
        self._surplus = Surplus(reference, layout, cells) if layout.constants else None
        self._sample = sample
        self._layout = layout
        self._inputs, self._outputs = columns
        offsets = iter(layout.places)
        self._sides = [_Side(reference.inputs, offsets), _Side(reference.outputs, offsets)]
        self._sure = reference.confidence is not None
        self.joint_of = reference.joint
        if self.joint_of is not None:
            directions = np.array(self.joint_of.directions)
            self._directions, self._centre = directions, np.array(self.joint_of.middle) @ directions
            self._joint_edges = np.array(self.joint_of.feature.bins.edges)
            self._joint_at = next(offsets)
        numeric = [feature for feature in reference.inputs if feature.bins.kind is Kind.NUMERIC]
        self._means = np.array([feature.mean for feature in numeric])
        self._scales = np.array([1 / feature.std if feature.std > 0 else 0.0 for feature in numeric])
        self._before: Floats = np.zeros((0, len(numeric)))

    def count(self, bunch: Sequence[Exchange]) -> None:
        """Count the rows of some requests and their answers."""
        values = sum([tensor.data.size for inputs, _ in bunch for tensor in inputs])
        share = self._sample if values <= MOST_VALUES else min(self._sample, MOST_VALUES / values)
        for inputs, outputs in bunch:
            self._count(inputs, outputs, share)
        if self._surplus is not None:
            self._surplus.update()

    def drop(self, rows: int) -> None:
        """Rows that there was no room for."""
        self._cells[0] += rows
        self._cells[2] += rows

    def _count(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], share: float) -> None:
        cells, seen = self._cells, rows_of(inputs)
        cells[0] += seen
        if share < 1:
            chosen = np.flatnonzero(np.random.default_rng().random(seen) < share)
            cells[2] += seen - len(chosen) if share < self._sample else 0
            if not len(chosen):
                return
            if self._inputs.batching:
                inputs, outputs = _taken(inputs, chosen, seen), _taken(outputs, chosen, seen)
        rows = self._inputs(inputs)
        if rows is None:
            cells[3] += 1
            return
        counted = len(rows)
        cells[1] += counted
        if counted:
            self._count_rows(rows, outputs)

    def _count_rows(self, rows: Rows, outputs: Sequence[Tensor]) -> None:
        answered = self._outputs(outputs)
        if answered is not None and len(answered) != len(rows):
            answered = None
        finite = bool(np.isfinite(rows.numbers).all())
        given = self._sides[0].places(rows, finite)
        told = [] if answered is None else self._sides[1].places(answered)
        self._add(0, [*given, *told])
        if self._sure and answered is not None:
            self._count_sure(outputs)
        for part in self._layout.slices:
            self._count_slices(part, given, told)
        if rows.numbers.shape[1]:
            self._count_together(rows.numbers, finite)

    def _add(self, at: int, places: Sequence[Places]) -> None:
        """Add ones at all these places of columns [rows] or of many columns [rows, columns]."""
        if not places:
            return
        whole = places[0].ravel() if len(places) == 1 else np.concatenate([one.ravel() for one in places])
        counts = np.bincount(whole)
        part = self._cells[at : at + len(counts)]
        np.add(part, counts, out=part)

    def _count_sure(self, outputs: Sequence[Tensor]) -> None:
        scores = self._outputs.scores(outputs)
        sure = None if scores is None else confidence_of(scores)
        if sure is not None:
            self._add(self._layout.sure, [score_bins(sure)])

    def _count_slices(self, part: Part, given: Sequence[Places], told: Sequence[Places]) -> None:
        own = self._sides[0].location_of(part.column, given)
        moved = own * self._layout.columns
        shifted = [one + (moved if one.ndim == 1 else moved[:, None]) for one in (*given, *told)]
        self._add(part.at - len(HEAD), shifted)

    def _count_together(self, numbers: Floats, finite: bool) -> None:
        if self.joint_of is not None:
            whole = numbers if finite else np.where(np.isfinite(numbers), numbers, self.joint_of.middle)
            seen = whole @ self._directions - self._centre
            distances = rounded(np.einsum("ij,ij->i", seen, seen) / seen.shape[1])
            self._add(self._joint_at, [self._joint_edges.searchsorted(distances, side="right")])
        before, self._before = self._before, numbers[-1:]
        if not self._leaves_out(len(numbers)):
            self._count_neighbours(np.concatenate([before, numbers]))

    def _leaves_out(self, rows: int) -> bool:
        if int(self._cells[4]) < ALL_SUMMED:
            return False
        share = next(one for least, one in SUMMED if rows >= least)
        return random() * share >= 1

    def _count_neighbours(self, numbers: Floats) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            z = np.nan_to_num(np.clip((numbers - self._means) * self._scales, -CLIPPED, CLIPPED))
        self._cells[4] += len(z) - 1
        self._sums[0] += z[1:].sum(axis=0)
        self._sums[1] += (z[1:] * z[1:]).sum(axis=0)
        self._sums[2] += (z[1:] * z[:-1]).sum(axis=0)


class Surplus:
    """How many more constants the inputs had than the reference lets expect, as a number that never falls.

    The surplus (constants seen, less the reference's share of the rows) wanders about nothing while nothing has
    changed, and what it once was must stay counted. As a CUSUM it is kept above nothing, so that rows with few
    constants pay for none that come later; counted is the highest it came to each time before it was nothing again.
    While nothing has changed that grows as the square root of the rows, with a constant that has become more frequent
    as the rows do.
    """

    def __init__(self, reference: Reference, layout: Layout, cells: Cells) -> None:
        places: list[int] = []
        owners: list[int] = []
        expected: list[float] = []
        for owner, index in enumerate(layout.constants):
            feature = reference.inputs[index]
            inner = list(feature.bins.constants)
            places += [layout.places[index] + place for place in inner]
            owners += [owner] * len(inner)
            expected.append(sum([feature.counts[place] for place in inner]) / max(1, feature.rows))
        self._cells: Signed = cells.view(np.int64)
        self._state: NDArray[np.float64] = cells[layout.surpluses : layout.size].view(np.float64).reshape(SURPLUS, -1)
        self._places = np.array(places, np.intp)
        self._owners = np.array(owners, np.intp)
        self._expected = np.array(expected)
        self._rows = int(self._cells[1])
        self._seen = self._constants()

    def _constants(self) -> NDArray[np.float64]:
        seen = self._cells[self._places].astype(np.float64)
        return np.asarray(np.bincount(self._owners, seen, len(self._expected)), np.float64)

    def update(self) -> None:
        """Take in the rows that were counted since the last time."""
        rows, seen = int(self._cells[1]), self._constants()
        if rows == self._rows:
            return
        now, highest, total = self._state
        now[:] = np.maximum(now + (seen - self._seen) - self._expected * (rows - self._rows), 0.0)
        total += np.maximum(now - highest, 0.0)
        highest[:] = np.where(now > 0, np.maximum(highest, now), 0.0)
        self._rows, self._seen = rows, seen


class _Side:
    """The columns of the inputs, or of the outputs."""

    def __init__(self, features: Sequence[Feature], offsets: Iterator[int]) -> None:
        numeric = [feature.bins for feature in features if feature.bins.kind is Kind.NUMERIC]
        self._width = len(numeric)
        self._numbers = NumericPlaces(numeric)
        self._offsets = np.array([next(offsets) for _ in numeric], np.intp)
        labels = [feature.bins for feature in features if feature.bins.kind is Kind.CATEGORICAL]
        self._labels = [(CategoricalPlaces(bins), next(offsets)) for bins in labels]

    def places(self, rows: Rows, finite: bool | None = None) -> list[Places]:
        """The words of every value: of the numbers [rows, columns], and of each column of labels [rows]."""
        found = []
        if self._width and rows.numbers.shape[1] == self._width:
            found.append(self._numbers(rows.numbers, finite) + self._offsets)
        for (places, at), values in zip(self._labels, rows.labels, strict=False):
            found.append(places(values) + at)
        return found

    def location_of(self, column: int, found: Sequence[Places]) -> Places:
        """Each row's place in one column, of what ``places`` found."""
        index = column - self._width
        if index < 0:
            cells: Places = found[0][:, column]
            return cells - int(self._offsets[column])
        return found[index + (1 if self._width else 0)] - self._labels[index][1]


def _taken(tensors: Sequence[Tensor], chosen: NDArray[np.intp], rows: int) -> list[Tensor]:
    fitting = (tensor for tensor in tensors if tensor.data.ndim and len(tensor.data) == rows)
    return [Tensor(tensor.name, tensor.datatype, tensor.data[chosen]) for tensor in fitting]


def rows_of(tensors: Sequence[Tensor]) -> int:
    """How many rows a request's tensors have, where the first axis is rows."""
    return len(tensors[0].data) if tensors and tensors[0].data.ndim else 1


@dataclass(frozen=True, slots=True)
class Counted:
    """A region's words added up over workers: rows by ``HEAD``, each feature's counts, the probabilities [SCORE_BINS],
    the slices' counts (key after key, value after value, each [columns]), the sums [3, numbers], how many workers
    counted any, and the surplus of constants of each input [inputs], which never falls. ``cells`` are those of one
    region that would say the same."""

    head: Mapping[str, int]
    counts: tuple[tuple[int, ...], ...]
    sums: Floats
    sure: Signed
    slices: tuple[Signed, ...]
    workers: int
    surplus: tuple[int, ...]
    cells: Cells

    @classmethod
    def of(cls, reference: Reference, regions: Sequence[Cells], keys: Sequence[str] = ()) -> "Counted":
        """Add regions up; of none, nothing was counted."""
        layout = Layout.of(reference, keys)
        cells = added(layout, regions)
        total, numbers = cells[: layout.sums].view(np.int64), cells[layout.sums :].view(np.float64)
        apart = layout.surpluses - layout.sums
        sums = numbers[:apart].reshape(SUMS, layout.numbers)
        surplus = [0.0] * len(reference.inputs)
        for index, one in zip(layout.constants, numbers[apart:].reshape(SURPLUS, -1)[-1].tolist(), strict=True):
            surplus[index] = one
        values: list[int] = total[: layout.sure].tolist()
        widths = [feature.bins.width for feature in reference.features]
        counts = tuple(tuple(values[at : at + width]) for at, width in zip(layout.places, widths, strict=True))
        sure = total[layout.sure :][: SCORE_BINS if reference.confidence is not None else 0]
        slices = tuple(
            total[part.at : part.at + part.values * layout.columns].reshape(part.values, layout.columns)
            for part in layout.slices
        )
        workers = sum(bool(region[1]) for region in regions)
        head, whole = dict(zip(HEAD, values, strict=False)), tuple([int(one) for one in surplus])
        return cls(head, counts, sums, sure, slices, workers, whole, cells)

    def covers(self, before: "Counted") -> bool:
        """Whether nothing is fewer than it was before, so that the difference is what was counted since."""
        if len(self.cells) != len(before.cells) or self.head["counted"] < before.head["counted"]:
            return False
        pairs = zip(self.counts, before.counts, strict=True)
        return all(after >= earlier for now, then in pairs for after, earlier in zip(now, then, strict=True))


def added(layout: Layout, regions: Sequence[Cells]) -> Cells:
    """The words of regions of one layout added up."""
    cells = np.zeros(layout.size, np.uint64)
    total, numbers = cells[: layout.sums].view(np.int64), cells[layout.sums :].view(np.float64)
    for region in regions:
        total += region[: layout.sums].view(np.int64)
        numbers += region[layout.sums : layout.size].view(np.float64)
    return cells


def without(layout: Layout, region: Cells, before: Cells) -> Cells:
    """The words of a region that, added to what it said before, say what it says now."""
    cells = np.zeros(layout.size, np.uint64)
    cells[: layout.sums] = region[: layout.sums] - before[: layout.sums]
    now, then = (one[layout.sums : layout.size].view(np.float64) for one in (region, before))
    cells[layout.sums :].view(np.float64)[:] = now - then
    return cells
