"""Operators that work place by place on values of different shapes: the rows of all of them must lie side by side."""

from collections.abc import Callable, Sequence

from penstock.engine.row_independence.operation import Operation
from penstock.engine.row_independence.sizes import ONE, SymbolicSize
from penstock.engine.row_independence.values import GraphValue, Nondeterministic, NotProven, RowAxis

Fresh = Callable[[], SymbolicSize]


def broadcast(values: Sequence[GraphValue], fresh: Fresh) -> GraphValue:
    """What an operator gives that works place by place: shapes are aligned at the last dimension, and ones repeated.

    Raises:
        NotProven: the rows do not meet the rows, or meet something else than a single place.
    """
    rank = max(value.rank for value in values)
    rows = _common_rows(values, rank)
    dims = [_join_dimension([_from_left(value, axis, rank) for value in values], fresh) for axis in range(rank)]
    if rows is None:
        return GraphValue(tuple(dims))
    for value in values:
        if value.rows is None and _from_left(value, rows.axis, rank) != ONE:
            raise NotProven("combines the rows with a value that may have one element per row")
    dims[rows.axis] = rows.size
    return GraphValue(tuple(dims), rows)


def _common_rows(values: Sequence[GraphValue], rank: int) -> RowAxis | None:
    """Where the rows of the result lie."""
    rows = {value.rows.at(value.rows.axis + rank - value.rank) for value in values if value.rows is not None}
    if len(rows) > 1:
        raise NotProven("combines values whose rows lie along different axes, which mixes rows")
    return next(iter(rows), None)


def _from_left(value: GraphValue, axis: int, rank: int) -> SymbolicSize:
    """The dimension at a place of the result; missing ones are 1."""
    axis -= rank - value.rank
    return ONE if axis < 0 else value.shape[axis]


def _join_dimension(sizes: Sequence[SymbolicSize], fresh: Fresh) -> SymbolicSize:
    others = {size for size in sizes if size != ONE}
    if len(others) <= 1:
        return next(iter(others), ONE)
    numbers = {size for size in others if size.number is not None}
    return next(iter(numbers)) if numbers else fresh()


def elementwise(op: Operation) -> list[GraphValue]:
    """Operators whose result at a place depends on what their inputs have at that place."""
    return [broadcast(op.tensors(), op.fresh)]


def same_shape(op: Operation) -> list[GraphValue]:
    """Operators of one input that change each element by itself."""
    value = op.tensor(0)
    return [GraphValue(value.dims, value.rows)]


def with_single_bounds(op: Operation) -> list[GraphValue]:
    """Operators of one input that change each element by itself, with further inputs of one number each."""
    op.single(*range(1, len(op.values)))
    return same_shape(op)


def cast_like(op: Operation) -> list[GraphValue]:
    """CastLike: of its second input only the type matters."""
    op.any_value(1)
    return same_shape(op)


def dropout(op: Operation) -> list[GraphValue]:
    """Dropout while it is not trained: nothing is dropped, and the mask says so."""
    if op.has(2) and op.numbers(2) != (0,):
        raise Nondeterministic("drops elements at random (training mode)")
    op.require_fixed(1)
    return same_shape(op) * 2


def quantized_by_constants(op: Operation) -> list[GraphValue]:
    """QuantizeLinear and DequantizeLinear: the scale is one number, or one for each place of an axis."""
    value = op.tensor(0)
    scale = op.fixed(1)
    op.require_fixed(2)
    if value.rows is None or scale.is_single:
        return same_shape(op)
    if scale.rank != 1:
        raise NotProven("is quantised in blocks")
    axis = op.integer("axis", 1)
    if axis % value.rank == value.rows.axis:
        raise NotProven("has a scale for each row")
    return same_shape(op)
