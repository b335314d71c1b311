"""Operators that take parts of values, or put values together: every row is treated alike, whatever its place."""

from collections.abc import Sequence

from penstock.engine.row_independence.operation import Operation, SliceBounds, crosses, cuts_of, rows_at
from penstock.engine.row_independence.sizes import ONE, SymbolicSize, multiply_sizes
from penstock.engine.row_independence.values import GraphValue, NotProven, RowAxis, laid_out, make_fixed, normalise_axis

TO_THE_END = 1_000_000_000
"""A Slice that ends here or later goes to the end: exporters state this or the largest number there is."""

_CHOOSES = "chooses among"


def gather(op: Operation) -> list[GraphValue]:
    """Gather: the same places of each row, or what the rows name from a constant."""
    data, indices = op.tensor(0), op.tensor(1)
    axis = normalise_axis(op.integer("axis", 0), data.rank)
    dims = [*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]]
    if data.rows is None:
        rows = indices.rows
        return [laid_out(dims, None if rows is None else rows.at(rows.axis + axis))]
    op.fixed(1)
    crosses(data, [axis], _CHOOSES)
    moved = data.rows.axis if data.rows.axis < axis else data.rows.axis + indices.rank - 1
    return [laid_out(dims, data.rows.at(moved))]


def gather_elements(op: Operation) -> list[GraphValue]:
    """GatherElements, with an index for each place of the rows."""
    data, indices = op.tensor(0), op.tensor(1)
    if data.rows != indices.rows:
        raise NotProven("looks rows up by their position")
    crosses(data, [normalise_axis(op.integer("axis", 0), data.rank)], _CHOOSES)
    return [GraphValue(indices.dims, indices.rows)]


def gather_nd(op: Operation) -> list[GraphValue]:
    """GatherND: what the rows name, from a constant or, where the first axes go together, from the rows themselves."""
    data, indices = op.tensor(0), op.tensor(1)
    together, depth = op.integer("batch_dims", 0), indices.shape[-1].number
    crosses(indices, [indices.rank - 1], "looks up by")
    if depth is None or together < 0:
        raise NotProven("looks values up by indices of unknown depth")
    if data.rows is not None and (data.rows != indices.rows or data.rows.axis >= together):
        raise NotProven("looks rows up by their position")
    if indices.rows is not None and data.rows is None and indices.rows.axis < together:
        raise NotProven("looks rows up by their position")
    return [laid_out([*indices.shape[:-1], *data.shape[together + depth :]], indices.rows)]


def scatter_elements(op: Operation) -> list[GraphValue]:
    """ScatterElements, where data, indices and updates are of the same rows."""
    data, indices, updates = (op.tensor(index) for index in range(3))
    if not data.rows == indices.rows == updates.rows:
        raise NotProven("writes rows by their position")
    crosses(data, [normalise_axis(op.integer("axis", 0), data.rank)], "writes along")
    return [GraphValue(data.dims, data.rows)]


def slice_rows(op: Operation) -> list[GraphValue]:
    """Slice: the same part of each row."""
    value = op.tensor(0)
    op.require_fixed(3, 4)
    dims = list(value.shape)
    for cut in cuts_of(op):
        if value.rows is not None and cut.axis == value.rows.axis:
            _check_whole(cut, value.rows)
        elif any(bound is not None and bound.counts_rows for bound in (cut.start, cut.end, cut.step)):
            raise NotProven("takes a part of each row whose size is the number of rows")
        else:
            dims[cut.axis] = _measure_cut(cut, dims[cut.axis]) or op.fresh()
    return [laid_out(dims, value.rows)]


def _check_whole(cut: SliceBounds, rows: RowAxis) -> None:
    reaches = cut.end == rows.size or (
        cut.end is not None and cut.end.number is not None and cut.end.number >= TO_THE_END
    )
    if cut.start != SymbolicSize(0) or cut.step != ONE or not reaches:
        raise NotProven("takes some of the rows by their position")


def _measure_cut(cut: SliceBounds, size: SymbolicSize) -> SymbolicSize | None:
    """How much is left of an axis, None where that is not known."""
    numbers = [None if item is None else item.number for item in (cut.start, cut.end, cut.step, size)]
    start, end, step, length = numbers
    if start is None or end is None or not step or length is None:
        return None
    return SymbolicSize(len(range(length)[slice(start, end if step > 0 or end >= -length else None, step)]))


def split(op: Operation) -> list[GraphValue]:
    """Split: parts of each row."""
    value = op.tensor(0)
    op.require_fixed(1)
    axis = normalise_axis(op.integer("axis", 0), value.rank)
    crosses(value, [axis], "takes apart")
    parts = _find_parts(op, value.shape[axis])
    return [laid_out([*value.shape[:axis], part, *value.shape[axis + 1 :]], value.rows) for part in parts]


def _find_parts(op: Operation, size: SymbolicSize) -> list[SymbolicSize]:
    number = len(op.node.outputs)
    stated = op.integers("split") if op.version < 13 else op.fixed(1).numbers if op.has(1) else None
    if stated is not None:
        return [SymbolicSize(item) for item in stated]
    each = size.divided_by(SymbolicSize(number))
    if op.has(1) or each is None:
        return [op.fresh() for _ in range(number)]
    return [each] * number


def concatenate(op: Operation) -> list[GraphValue]:
    """Concat along another axis than that of the rows."""
    values = op.tensors()
    rank = values[0].rank
    axis = normalise_axis(op.integer("axis", 1 if op.version < 4 else 0), rank)
    if len({value.rows for value in values}) > 1 or any(value.rank != rank for value in values):
        raise NotProven("concatenates rows with a value of other rows")
    crosses(values[0], [axis], "concatenates values along")
    dims = list(values[0].shape)
    dims[axis] = _sum([value.shape[axis] for value in values]) or op.fresh()
    return [laid_out(dims, values[0].rows)]


def _sum(sizes: Sequence[SymbolicSize]) -> SymbolicSize | None:
    numbers = [size.number for size in sizes]
    fixed = [number for number in numbers if number is not None]
    return SymbolicSize(sum(fixed)) if len(fixed) == len(numbers) else None


def pad(op: Operation) -> list[GraphValue]:
    """Pad: nothing is added before the first row or after the last."""
    value = op.tensor(0)
    amounts = op.integers("pads") or () if op.version < 11 else op.numbers(1)
    op.single(2)
    axes = [normalise_axis(axis, value.rank) for axis in (op.numbers(3) if op.has(3) else range(value.rank))]
    dims = list(value.shape)
    for index, axis in enumerate(axes):
        added = amounts[index] + amounts[index + len(axes)]
        if value.rows is not None and axis == value.rows.axis:
            _check_unpadded(amounts[index], amounts[index + len(axes)])
        elif added:
            number = dims[axis].number
            dims[axis] = op.fresh() if number is None else SymbolicSize(number + added)
    return [laid_out(dims, value.rows)]


def _check_unpadded(before: int, after: int) -> None:
    if before or after:
        raise NotProven("adds or removes rows")


def one_hot(op: Operation) -> list[GraphValue]:
    """OneHot: a new axis for each index."""
    indices = op.tensor(0)
    op.require_fixed(1, 2)
    axis = normalise_axis(op.integer("axis", -1), indices.rank + 1)
    depth = op.fixed(1).numbers
    size = SymbolicSize(depth[0]) if depth else op.fresh()
    rows = indices.rows
    if rows is not None and rows.axis >= axis:
        rows = rows.at(rows.axis + 1)
    return [laid_out([*indices.shape[:axis], size, *indices.shape[axis:]], rows)]


def reverse_sequences(op: Operation) -> list[GraphValue]:
    """ReverseSequence, with a length for each row."""
    value, lengths = op.tensor(0), op.tensor(1)
    axis = normalise_axis(op.integer("batch_axis", 1), value.rank)
    if rows_at(value, axis) is None or lengths.rows is None or lengths.rows.at(axis) != value.rows:
        raise NotProven("reverses sequences that do not belong to the rows")
    return [GraphValue(value.dims, value.rows)]


def feature_vector(op: Operation) -> list[GraphValue]:
    """FeatureVectorizer: matrices with a line for each row, side by side."""
    values = op.tensors()
    if any(value.rank != 2 for value in values) or len({rows_at(value, 0) for value in values}) > 1:
        raise NotProven("concatenates rows with a value of other rows")
    return [laid_out([values[0].shape[0], op.fresh()], values[0].rows)]


def array_feature_extractor(op: Operation) -> list[GraphValue]:
    """ArrayFeatureExtractor: the same places of each row, or what the rows name from a constant."""
    data, indices = op.tensor(0), op.tensor(1)
    leading = list(data.shape[:-1]) or [ONE]
    count = multiply_sizes(indices.shape)
    if data.rows is not None:
        op.fixed(1)
        crosses(data, [data.rank - 1], _CHOOSES)
        return [laid_out([*leading, count], data.rows)]
    rows = indices.rows
    if rows is None:
        return [make_fixed([*leading, count])]
    before, after = multiply_sizes(indices.shape[: rows.axis]), multiply_sizes(indices.shape[rows.axis + 1 :])
    return [laid_out([*leading, count], RowAxis(len(leading), before * rows.outer, rows.inner * after))]
