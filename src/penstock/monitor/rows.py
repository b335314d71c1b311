"""Counts rows of inputs and outputs into fixed bins in shared memory, in batches, after the answers are written.

The region of a version holds five cells (``HEAD``), the places of each feature, the histogram of the confidence, the
places again for each value of the keys that rows are sliced by, and sums of floats for the autocorrelation of rows: for
each number its sum, the sum of its squares, and that of its products with the row before. Everything adds up over
workers and gateways. Last come the surpluses of constants, which make the counter of constant values monotonic.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import random
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.core.bins import CategoricalBinFinder, FeatureKind, Floats, NumericBinFinder, Places
from penstock.core.tensors import Tensor
from penstock.monitor.columns import Columns, RowValues
from penstock.monitor.confidence import SCORE_BINS, confidence_of, score_bins
from penstock.monitor.counters.layout import Cells
from penstock.monitor.joint_distance import round_distances
from penstock.monitor.reference import Feature, Reference

HEAD: Final = ("seen", "counted", "dropped", "odd", "paired")
"""The first cells: rows seen, counted and dropped, requests of an unexpected form, and rows in the sums."""

SUMMED: Final = ((64, 8), (0, 2))
"""(rows, n): of batches with at least so many rows, one in n goes into the sums, which are costly and may be rough."""

ALL_SUMMED: Final = 3000
"""Neighbours that each worker sums before it leaves batches out, because thresholds depend on them from the start."""

SUMS: Final = 3
SURPLUS: Final = 3
"""Floats of each input with constants: the present surplus, its maximum since it was last zero, and the sum of all
maxima."""

CLIPPED: Final = 5.0
"""Numbers are clipped in the sums at this many standard deviations from the mean."""

MOST_VALUES: Final = 100_000
"""Values of one batch that are counted; of a larger batch a random sample of rows is."""

InputsAndOutputs = tuple[Sequence[Tensor], Sequence[Tensor]]
"""The inputs of a request and the outputs of its answer."""

Signed: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SliceCells:
    """The cells of one key that rows are sliced by: its column, its number of values, and its first cell."""

    column: int
    values: int
    at: int


@dataclass(frozen=True, slots=True)
class RegionLayout:
    """The layout of a reference's region: the first cell of each feature, of the confidence histogram, the slices, the
    sums and the surpluses, and the size in cells. ``columns`` is the number of cells of all inputs and outputs,
    ``numbers`` that of numeric inputs, and ``constants`` are the indexes of inputs that have constants."""

    places: tuple[int, ...]
    columns: int
    confidence: int
    slices: tuple[SliceCells, ...]
    sums: int
    numbers: int
    surpluses: int
    constants: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, reference: Reference, keys: Sequence[str] = ()) -> "RegionLayout":
        """Return the layout for a reference whose rows are sliced by these of its keys."""
        at, places = len(HEAD), []
        for feature in reference.features:
            places.append(at)
            at += feature.bins.width
        columns = sum(feature.bins.width for feature in (*reference.inputs, *reference.outputs))
        confidence, slices = at, []
        at += 0 if reference.confidence is None else SCORE_BINS
        names = [feature.bins.name for feature in reference.inputs]
        for slice_ in reference.slices:
            if slice_.key in keys:
                slices.append(SliceCells(names.index(slice_.key), len(slice_.counts), at))
                at += len(slice_.counts) * columns
        numbers = sum(feature.bins.kind is FeatureKind.NUMERIC for feature in reference.inputs)
        constants = tuple(index for index, feature in enumerate(reference.inputs) if feature.bins.constants)
        end = at + SUMS * numbers
        size = end + SURPLUS * len(constants)
        return cls(tuple(places), columns, confidence, tuple(slices), at, numbers, end, constants, size)


class RowCounter:
    """Counts the rows of one version in one worker. ``cells`` is the version's region in the worker's slot, ``columns``
    those of inputs and outputs, and ``sample`` the share of rows to count. Of one thread at a time."""

    def __init__(
        self,
        reference: Reference,
        cells: Cells,
        columns: tuple[Columns, Columns],
        sample: float,
        keys: Sequence[str] = (),
    ) -> None:
        layout = RegionLayout.of(reference, keys)
        self._cells: Signed = cells.view(np.int64)
        self._sums: NDArray[np.float64] = (
            cells[layout.sums : layout.surpluses].view(np.float64).reshape(SUMS, layout.numbers)
        )
        self._surplus = ConstantSurplus(reference, layout, cells) if layout.constants else None
        self._sample = sample
        self._random = np.random.default_rng()
        self._layout = layout
        self._inputs, self._outputs = columns
        offsets = iter(layout.places)
        self._features = [_FeatureCells(reference.inputs, offsets), _FeatureCells(reference.outputs, offsets)]
        self._confidence = reference.confidence is not None
        self._joint = reference.joint
        if self._joint is not None:
            directions = np.array(self._joint.directions)
            self._directions, self._centre = directions, np.array(self._joint.middle) @ directions
            self._joint_edges = np.array(self._joint.feature.bins.edges)
            self._joint_at = next(offsets)
        numeric = [feature for feature in reference.inputs if feature.bins.kind is FeatureKind.NUMERIC]
        self._means = np.array([feature.mean for feature in numeric])
        self._scales = np.array([1 / feature.std if feature.std > 0 else 0.0 for feature in numeric])
        self._before: Floats = np.zeros((0, len(numeric)))

    def count(self, batch: Sequence[InputsAndOutputs]) -> None:
        """Count the rows of some requests and their answers."""
        values = sum([tensor.data.size for inputs, _ in batch for tensor in inputs])
        share = self._sample if values <= MOST_VALUES else min(self._sample, MOST_VALUES / values)
        for inputs, outputs in batch:
            self._count(inputs, outputs, share)
        if self._surplus is not None:
            self._surplus.update()

    def drop(self, rows: int) -> None:
        """Count rows that were dropped because the queue was full."""
        self._cells[0] += rows
        self._cells[2] += rows

    def _count(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], share: float) -> None:
        cells, size = self._cells, rows_of(inputs)
        cells[0] += size
        if share < 1:
            chosen = np.flatnonzero(self._random.random(size) < share)
            cells[2] += size - len(chosen) if share < self._sample else 0
            if not len(chosen):
                return
            if self._inputs.batching and len(chosen) < size:  # one wide row need not be copied
                inputs, outputs = _select(inputs, chosen, size), _select(outputs, chosen, size)
        rows = self._inputs(inputs)
        if rows is None:
            cells[3] += 1
            return
        counted = len(rows)
        cells[1] += counted
        if counted:
            self._count_rows(rows, outputs)

    def _count_rows(self, rows: RowValues, outputs: Sequence[Tensor]) -> None:
        answers = self._outputs(outputs)
        if answers is not None and len(answers) != len(rows):
            answers = None
        finite = bool(np.isfinite(rows.numbers).all())
        input_places = self._features[0].places(rows, finite)
        output_places = [] if answers is None else self._features[1].places(answers)
        self._add(0, [*input_places, *output_places])
        if self._confidence and answers is not None:
            self._count_confidence(outputs)
        for part in self._layout.slices:
            self._count_slices(part, input_places, output_places)
        if rows.numbers.shape[1]:
            self._count_jointly(rows.numbers, finite)

    def _add(self, at: int, places: Sequence[Places]) -> None:
        """Add one at each of these places of single columns [rows] or of several columns [rows, columns]."""
        if not places:
            return
        flat = places[0].ravel() if len(places) == 1 else np.concatenate([column.ravel() for column in places])
        counts = np.bincount(flat)
        part = self._cells[at : at + len(counts)]
        np.add(part, counts, out=part)

    def _count_confidence(self, outputs: Sequence[Tensor]) -> None:
        scores = self._outputs.scores(outputs)
        probabilities = None if scores is None else confidence_of(scores)
        if probabilities is not None:
            self._add(self._layout.confidence, [score_bins(probabilities)])

    def _count_slices(self, part: SliceCells, inputs: Sequence[Places], outputs: Sequence[Places]) -> None:
        values = self._features[0].location_of(part.column, inputs)
        offset = values * self._layout.columns
        shifted = [places + (offset if places.ndim == 1 else offset[:, None]) for places in (*inputs, *outputs)]
        self._add(part.at - len(HEAD), shifted)

    def _count_jointly(self, numbers: Floats, finite: bool) -> None:
        if self._joint is not None:
            filled = numbers if finite else np.where(np.isfinite(numbers), numbers, self._joint.middle)
            projected = filled @ self._directions - self._centre
            distances = round_distances(np.einsum("ij,ij->i", projected, projected) / projected.shape[1])
            self._add(self._joint_at, [self._joint_edges.searchsorted(distances, side="right")])
        before, self._before = self._before, numbers[-1:]
        if not self._leaves_out(len(numbers)):
            self._count_neighbours(np.concatenate([before, numbers]))

    def _leaves_out(self, rows: int) -> bool:
        if int(self._cells[4]) < ALL_SUMMED:
            return False
        one_in = next(number for least, number in SUMMED if rows >= least)
        return random() * one_in >= 1

    def _count_neighbours(self, numbers: Floats) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            z = np.nan_to_num(np.clip((numbers - self._means) * self._scales, -CLIPPED, CLIPPED))
        self._cells[4] += len(z) - 1
        self._sums[0] += z[1:].sum(axis=0)
        self._sums[1] += (z[1:] * z[1:]).sum(axis=0)
        self._sums[2] += (z[1:] * z[:-1]).sum(axis=0)


class ConstantSurplus:
    """Counts how many more constants the inputs had than the reference's share of the rows, as monotonic counters.

    The surplus (constants seen, minus those expected) fluctuates about zero while nothing has changed, but a counter
    must never fall. So it is kept at or above zero as in a CUSUM (Page, "Continuous inspection schemes", 1954): rows
    with few constants do not cancel later ones. The counter is the sum of the maxima that the surplus reached before
    each return to zero. It grows with the square root of the rows if nothing has changed, and with the rows if a
    constant has become more frequent.
    """

    def __init__(self, reference: Reference, layout: RegionLayout, cells: Cells) -> None:
        places: list[int] = []
        owners: list[int] = []
        expected: list[float] = []
        for owner, index in enumerate(layout.constants):
            feature = reference.inputs[index]
            constants = list(feature.bins.constants)
            places += [layout.places[index] + position for position in constants]
            owners += [owner] * len(constants)
            expected.append(sum([feature.counts[position] for position in constants]) / max(1, feature.rows))
        self._cells: Signed = cells.view(np.int64)
        self._state: NDArray[np.float64] = cells[layout.surpluses : layout.size].view(np.float64).reshape(SURPLUS, -1)
        self._places = np.array(places, np.intp)
        self._owners = np.array(owners, np.intp)
        self._expected = np.array(expected)
        self._rows = int(self._cells[1])
        self._seen = self._constants()

    def _constants(self) -> NDArray[np.float64]:
        counts = self._cells[self._places].astype(np.float64)
        return np.asarray(np.bincount(self._owners, counts, len(self._expected)), np.float64)

    def update(self) -> None:
        """Take the rows that were counted since the last call."""
        rows, counts = int(self._cells[1]), self._constants()
        if rows == self._rows:
            return
        now, highest, total = self._state
        now[:] = np.maximum(now + (counts - self._seen) - self._expected * (rows - self._rows), 0.0)
        total += np.maximum(now - highest, 0.0)
        highest[:] = np.where(now > 0, np.maximum(highest, now), 0.0)
        self._rows, self._seen = rows, counts


class _FeatureCells:
    """The cells of the features of the inputs, or of the outputs."""

    def __init__(self, features: Sequence[Feature], offsets: Iterator[int]) -> None:
        numeric = [feature.bins for feature in features if feature.bins.kind is FeatureKind.NUMERIC]
        self._width = len(numeric)
        self._numbers = NumericBinFinder(numeric)
        self._offsets = np.array([next(offsets) for _ in numeric], np.intp)
        labels = [feature.bins for feature in features if feature.bins.kind is FeatureKind.CATEGORICAL]
        self._labels = [(CategoricalBinFinder(bins), next(offsets)) for bins in labels]

    def places(self, rows: RowValues, finite: bool | None = None) -> list[Places]:
        """Return the cell of each value: of the numbers [rows, columns], then of each column of labels [rows]."""
        cells = []
        if self._width and rows.numbers.shape[1] == self._width:
            cells.append(self._numbers(rows.numbers, finite) + self._offsets)
        for (places, at), values in zip(self._labels, rows.labels, strict=False):
            cells.append(places(values) + at)
        return cells

    def location_of(self, column: int, cells: Sequence[Places]) -> Places:
        """Return the place [rows] of each row in one column, given the result of ``places``."""
        index = column - self._width
        if index < 0:
            own: Places = cells[0][:, column]
            return own - int(self._offsets[column])
        return cells[index + (1 if self._width else 0)] - self._labels[index][1]


def _select(tensors: Sequence[Tensor], chosen: NDArray[np.intp], rows: int) -> list[Tensor]:
    fitting = (tensor for tensor in tensors if tensor.data.ndim and len(tensor.data) == rows)
    return [Tensor(tensor.name, tensor.datatype, tensor.data[chosen]) for tensor in fitting]


def rows_of(tensors: Sequence[Tensor]) -> int:
    """Return how many rows a request's tensors have, if the first axis is rows, else 1."""
    return len(tensors[0].data) if tensors and tensors[0].data.ndim else 1


@dataclass(frozen=True, slots=True)
class RegionCounts:
    """The cells of a region added up over workers.

    ``head`` has the rows by ``HEAD``, ``counts`` those of each feature [features][places], ``sums`` are [3, numbers],
    ``confidence`` is [SCORE_BINS], and ``slices`` has for each key the counts [values, columns]. ``workers`` is the
    number of workers that counted any row, ``surplus`` the monotonic surplus of constants of each input [inputs], and
    ``cells`` one region with the same totals.
    """

    head: Mapping[str, int]
    counts: tuple[tuple[int, ...], ...]
    sums: Floats
    confidence: Signed
    slices: tuple[Signed, ...]
    workers: int
    surplus: tuple[int, ...]
    cells: Cells

    @classmethod
    def of(cls, reference: Reference, regions: Sequence[Cells], keys: Sequence[str] = ()) -> "RegionCounts":
        """Add up any number of regions, also none."""
        layout = RegionLayout.of(reference, keys)
        cells = add_regions(layout, regions)
        total, numbers = cells[: layout.sums].view(np.int64), cells[layout.sums :].view(np.float64)
        sums_size = layout.surpluses - layout.sums
        sums = numbers[:sums_size].reshape(SUMS, layout.numbers)
        surplus = [0.0] * len(reference.inputs)
        for index, value in zip(layout.constants, numbers[sums_size:].reshape(SURPLUS, -1)[-1].tolist(), strict=True):
            surplus[index] = value
        values: list[int] = total[: layout.confidence].tolist()
        widths = [feature.bins.width for feature in reference.features]
        counts = tuple(tuple(values[at : at + width]) for at, width in zip(layout.places, widths, strict=True))
        confidence = total[layout.confidence :][: SCORE_BINS if reference.confidence is not None else 0]
        slices = tuple(
            total[part.at : part.at + part.values * layout.columns].reshape(part.values, layout.columns)
            for part in layout.slices
        )
        workers = sum(bool(region[1]) for region in regions)
        head, whole_surplus = dict(zip(HEAD, values, strict=False)), tuple([int(value) for value in surplus])
        return cls(head, counts, sums, confidence, slices, workers, whole_surplus, cells)

    def covers(self, before: "RegionCounts") -> bool:
        """Return whether no count is below that of ``before``, so that the difference is what was counted since."""
        if len(self.cells) != len(before.cells) or self.head["counted"] < before.head["counted"]:
            return False
        pairs = zip(self.counts, before.counts, strict=True)
        return all(after >= earlier for now, then in pairs for after, earlier in zip(now, then, strict=True))


def add_regions(layout: RegionLayout, regions: Sequence[Cells]) -> Cells:
    """Return the sum [size] of regions of one layout."""
    cells = np.zeros(layout.size, np.uint64)
    total, numbers = cells[: layout.sums].view(np.int64), cells[layout.sums :].view(np.float64)
    for region in regions:
        total += region[: layout.sums].view(np.int64)
        numbers += region[layout.sums : layout.size].view(np.float64)
    return cells


def subtract_region(layout: RegionLayout, region: Cells, before: Cells) -> Cells:
    """Return the region that ``add_regions`` adds to ``before`` to give ``region``."""
    cells = np.zeros(layout.size, np.uint64)
    cells[: layout.sums] = region[: layout.sums] - before[: layout.sums]
    now, then = (part[layout.sums : layout.size].view(np.float64) for part in (region, before))
    cells[layout.sums :].view(np.float64)[:] = now - then
    return cells
