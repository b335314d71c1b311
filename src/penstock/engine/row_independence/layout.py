"""Operators that only move, repeat or regroup places: where the rows lie afterwards, and that none is cut."""

from collections.abc import Sequence
from dataclasses import replace

from penstock.engine.row_independence.graph import ConstantTensor
from penstock.engine.row_independence.operation import Operation
from penstock.engine.row_independence.sizes import ONE, ROWS, SymbolicSize, multiply_sizes
from penstock.engine.row_independence.values import (
    UNKNOWN,
    GraphValue,
    NotProven,
    RowAxis,
    laid_out,
    make_fixed,
    normalise_axis,
)


def constant(op: Operation) -> list[GraphValue]:
    """Constant."""
    return [UNKNOWN if op.node.constant is None else constant_value(op.node.constant)]


def constant_value(tensor: ConstantTensor) -> GraphValue:
    """A tensor of the file."""
    dims = tuple(map(SymbolicSize, tensor.dims))
    elements = None if tensor.elements is None or len(dims) > 1 else tuple(map(SymbolicSize, tensor.elements))
    return GraphValue(dims, None, elements, tensor.decimals if len(dims) == 1 else None)


def transpose(op: Operation) -> list[GraphValue]:
    """Transpose."""
    value = op.tensor(0)
    order = [normalise_axis(axis, value.rank) for axis in op.integers("perm") or range(value.rank - 1, -1, -1)]
    if sorted(order) != list(range(value.rank)):
        raise NotProven("has an order of axes that does not match its input")
    rows = None if value.rows is None else value.rows.at(order.index(value.rows.axis))
    return [laid_out([value.shape[axis] for axis in order], rows)]


def reshape(op: Operation) -> list[GraphValue]:
    """Reshape: rows stay whole, and are not mixed with what lies before them."""
    value, target = op.tensor(0), op.shape_input(1)
    if value.rows is None and (target.elements is None or None in target.elements):
        return [_of_unknown_shape(op, target)]
    wanted = [_stated_size(op, value, axis, size) for axis, size in enumerate(op.sizes(1))]
    return [regroup(value, wanted, op.fresh())]


def _of_unknown_shape(op: Operation, target: GraphValue) -> GraphValue:
    """A fixed value whose shape is a vector of known length."""
    if target.counts_rows or target.shape[0].number is None:
        raise NotProven("gives a constant a shape that depends on the number of rows or is not known")
    return make_fixed([op.fresh() for _ in range(target.shape[0].number)])


def _stated_size(op: Operation, value: GraphValue, axis: int, size: SymbolicSize | None) -> SymbolicSize | None:
    """One dimension of the target; None for the one that follows from the others."""
    if size is None or (size.names and size.factor < 0):
        raise NotProven("has a target shape with an unknown dimension")
    if size.number == 0 and not op.flag("allowzero"):
        return value.shape[axis] if axis < value.rank else _unknown_size()
    return None if size.number == -1 else size


def _unknown_size() -> SymbolicSize:
    raise NotProven("copies a dimension that its input does not have")


def regroup(value: GraphValue, wanted: Sequence[SymbolicSize | None], spare: SymbolicSize) -> GraphValue:
    """The same elements in the same order in other dimensions; None stands for the one that follows from the others.

    Raises:
        NotProven: the rows would not stay whole, or it is not known.
    """
    stated = multiply_sizes([size for size in wanted if size is not None])
    free = multiply_sizes(value.shape).divided_by(stated)
    if value.rows is None:
        if stated.counts_rows:
            raise NotProven("gives a constant a shape that depends on the number of rows")
        return make_fixed([size or free or spare for size in wanted])
    dims = [size or free or spare for size in wanted]
    if None in wanted and free is None and not stated.counts_rows:
        raise NotProven("may split a row: its size is not a multiple of the target shape's")
    places = [axis for axis, size in enumerate(dims) if size.counts_rows]
    if len(places) != 1:
        raise NotProven("has a target shape that fixes the number of rows")
    rows = _regroup_rows(value, value.rows, dims, places[0])
    return laid_out(dims, rows)


def _regroup_rows(value: GraphValue, rows: RowAxis, dims: Sequence[SymbolicSize], axis: int) -> RowAxis:
    before = multiply_sizes(list(value.shape[: rows.axis])) * rows.outer
    outer = before.divided_by(multiply_sizes(list(dims[:axis])))
    width = dims[axis].divided_by(ROWS)
    inner = None if outer is None or width is None else width.divided_by(outer)
    if outer is None or inner is None:
        raise NotProven("splits rows, or mixes them with the axes before them")
    return RowAxis(axis, outer, inner)


def flatten(op: Operation) -> list[GraphValue]:
    """Flatten to a matrix."""
    value = op.padded_tensor(0)
    axis = op.integer("axis", 1)
    axis = axis if axis == value.rank else normalise_axis(axis, value.rank)
    if value.padding is not None:
        return [_flatten_padded(value, axis)]
    return [regroup(value, [multiply_sizes(list(value.shape[:axis])), multiply_sizes(list(value.shape[axis:]))], ONE)]


def _flatten_padded(value: GraphValue, axis: int) -> GraphValue:
    """A padded value as a matrix whose padding is still at the end of each line: one sequence of texts for each row."""
    if axis != 1 or value.rows != RowAxis(0) or any(size != ONE for size in value.shape[1:-1]):
        raise NotProven("puts texts after padding whose length depends on the longest row")
    return replace(value, dims=(value.shape[0], value.shape[-1]))


def squeeze(op: Operation) -> list[GraphValue]:
    """Squeeze; without stated axes a single row would lose its dimension."""
    value, axes = op.tensor(0), _stated_axes(op)
    if axes is None:
        return [_squeeze_ones(value)]
    gone = {normalise_axis(axis, value.rank) for axis in axes}
    if value.rows is not None and value.rows.axis in gone:
        raise NotProven("drops the dimension of the rows")
    kept = [axis for axis in range(value.rank) if axis not in gone]
    rows = None if value.rows is None else value.rows.at(kept.index(value.rows.axis))
    return [laid_out([value.shape[axis] for axis in kept], rows)]


def _squeeze_ones(value: GraphValue) -> GraphValue:
    if value.rows is not None or any(size.number is None for size in value.shape):
        raise NotProven("drops every dimension of 1, and with it that of a single row")
    return make_fixed([size for size in value.shape if size != ONE])


def _stated_axes(op: Operation) -> tuple[int, ...] | None:
    if op.version >= 13:
        return op.numbers(1) if op.has(1) else None
    return op.integers("axes")


def unsqueeze(op: Operation) -> list[GraphValue]:
    """Unsqueeze."""
    value, axes = op.tensor(0), _stated_axes(op)
    if axes is None:
        raise NotProven("states no axes")
    rank = value.rank + len(axes)
    added = {normalise_axis(axis, rank) for axis in axes}
    kept = [axis for axis in range(rank) if axis not in added]
    dims = [ONE] * rank
    for axis, size in zip(kept, value.shape, strict=True):
        dims[axis] = size
    return [laid_out(dims, None if value.rows is None else value.rows.at(kept[value.rows.axis]))]


def expand(op: Operation) -> list[GraphValue]:
    """Expand: a constant that is repeated for each row is one for each row."""
    value = op.tensor(0)
    wanted = [size or op.fresh() for size in op.sizes(1)]
    rank = max(value.rank, len(wanted))
    have = [ONE] * (rank - value.rank) + list(value.shape)
    want = [ONE] * (rank - len(wanted)) + wanted
    rows = _expanded_rows(value, have, want)
    return [laid_out([_choose_larger(one, other, op) for one, other in zip(have, want, strict=True)], rows)]


def _expanded_rows(value: GraphValue, have: Sequence[SymbolicSize], want: Sequence[SymbolicSize]) -> RowAxis | None:
    counting = [axis for axis, size in enumerate(want) if size.counts_rows]
    if value.rows is not None:
        axis = value.rows.axis + len(have) - value.rank
        if set(counting) - {axis} or want[axis] not in (ONE, value.rows.size):
            raise NotProven("is expanded along the rows, or to their number along another axis")
        return value.rows.at(axis)
    if not counting:
        return None
    width = want[counting[0]].divided_by(ROWS)
    if len(counting) > 1 or have[counting[0]] != ONE or width is None:
        raise NotProven("gives each row its own position in a constant")
    return RowAxis(counting[0], ONE, width)


def _choose_larger(one: SymbolicSize, other: SymbolicSize, op: Operation) -> SymbolicSize:
    if ONE in (one, other) or one == other:
        return one if other == ONE else other
    return one if one.number is not None else other if other.number is not None else op.fresh()


def tile(op: Operation) -> list[GraphValue]:
    """Tile; rows are not repeated, and a constant that is repeated for each row is one for each row."""
    value, times = op.tensor(0), op.sizes(1)
    if len(times) != value.rank or (value.rows is not None and times[value.rows.axis] != ONE):
        raise NotProven("repeats the rows")
    counting = [axis for axis, size in enumerate(times) if size is not None and size.counts_rows]
    if not counting:
        return [laid_out(_tile_dims(op, value, times), value.rows)]
    axis = counting[0]
    if value.rows is not None or counting[1:] or times[axis] != ROWS:
        raise NotProven("repeats a value once per row along several axes")
    return [laid_out(_tile_dims(op, value, times), RowAxis(axis, ONE, value.shape[axis]))]


def _tile_dims(op: Operation, value: GraphValue, times: Sequence[SymbolicSize | None]) -> list[SymbolicSize]:
    return [op.fresh() if time is None else size * time for size, time in zip(value.shape, times, strict=True)]


def constant_of_shape(op: Operation) -> list[GraphValue]:
    """ConstantOfShape: the same number everywhere, perhaps for each row."""
    target = op.shape_input(0)
    if target.elements is None:
        return [_of_unknown_shape(op, target)]
    counting = [axis for axis, size in enumerate(target.elements) if size is not None and size.counts_rows]
    dims = [size or op.fresh() for size in target.elements]
    if not counting:
        return [make_fixed(dims)]
    width = dims[counting[0]].divided_by(ROWS)
    if len(counting) > 1 or width is None:
        raise NotProven("makes a constant whose shape has the number of rows twice")
    return [laid_out(dims, RowAxis(counting[0], ONE, width))]


def number_range(op: Operation) -> list[GraphValue]:
    """Range: numbers that are the same for all rows; as long as there are rows, each row would get its place."""
    op.require_fixed(0, 1, 2)
    return [make_fixed([op.fresh()])]
