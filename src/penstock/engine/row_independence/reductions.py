"""Operators that work along axes of a value: none of them may be that of the rows."""

from penstock.engine.row_independence.operation import Operation, OperatorRule, crosses, rows_at
from penstock.engine.row_independence.sizes import ONE, SymbolicSize
from penstock.engine.row_independence.values import GraphValue, NotProven, laid_out, normalise_axis

MODERN_SOFTMAX = 13
"""The operator set since which Softmax works along one axis, not along all from that one on."""


def reduction(axes_are_input: int) -> OperatorRule:
    """Reduce...; its axes are an input since the operator set ``axes_are_input``."""

    def rule(op: Operation) -> list[GraphValue]:
        value = op.tensor(0)
        axes = _read_axes(op, axes_are_input)
        if not axes and op.version >= axes_are_input and op.flag("noop_with_empty_axes"):
            return [GraphValue(value.dims, value.rows)]
        gone = sorted({normalise_axis(axis, value.rank) for axis in axes or range(value.rank)})
        crosses(value, gone, "reduces over")
        return [reduce_axes(value, gone, keep=op.stated_flag("keepdims", default=True))]

    return rule


def _read_axes(op: Operation, axes_are_input: int) -> tuple[int, ...] | None:
    if op.version < axes_are_input:
        return op.integers("axes")
    return op.numbers(1) if op.has(1) else None


def reduce_axes(value: GraphValue, axes: list[int], keep: bool) -> GraphValue:
    """A value reduced along axes that are not those of the rows, which are kept as 1 or dropped."""
    if keep:
        return laid_out([ONE if axis in axes else size for axis, size in enumerate(value.shape)], value.rows)
    kept = [axis for axis in range(value.rank) if axis not in axes]
    rows = None if value.rows is None else value.rows.at(kept.index(value.rows.axis))
    return laid_out([value.shape[axis] for axis in kept], rows)


def arg_extreme(op: Operation) -> list[GraphValue]:
    """ArgMax and ArgMin."""
    value = op.tensor(0)
    axis = normalise_axis(op.integer("axis", 0), value.rank)
    crosses(value, [axis], "looks for the largest or smallest of")
    return [reduce_axes(value, [axis], keep=op.stated_flag("keepdims", default=True))]


def softmax(op: Operation) -> list[GraphValue]:
    """Softmax, LogSoftmax and Hardmax; before operator set 13 they flattened all axes from the stated one on."""
    value = op.tensor(0)
    modern = op.version >= MODERN_SOFTMAX
    axis = normalise_axis(op.integer("axis", -1 if modern else 1), value.rank)
    crosses(value, [axis] if modern else range(axis, value.rank), "normalises over")
    return [GraphValue(value.dims, value.rows)]


def along_axis_attribute(default: int) -> OperatorRule:
    """Operators of one input that keep its shape and work along the axis of an attribute."""

    def rule(op: Operation) -> list[GraphValue]:
        value = op.tensor(0)
        crosses(value, [normalise_axis(op.integer("axis", default), value.rank)], "works along")
        return [GraphValue(value.dims, value.rows)]

    return rule


def cumulative(op: Operation) -> list[GraphValue]:
    """CumSum and CumProd."""
    value = op.tensor(0)
    crosses(value, [normalise_axis(axis, value.rank) for axis in op.numbers(1)], "adds up along")
    return [GraphValue(value.dims, value.rows)]


def top_k(op: Operation) -> list[GraphValue]:
    """TopK: the largest of each row, and where they are in it."""
    value = op.tensor(0)
    axis = normalise_axis(op.integer("axis", -1), value.rank)
    crosses(value, [axis], "chooses among")
    dims = list(value.shape)
    dims[axis] = _chosen_count(op)
    return [laid_out(dims, value.rows)] * 2


def _chosen_count(op: Operation) -> SymbolicSize:
    if op.version < 10:
        return SymbolicSize(op.integer("k", 1))
    numbers = op.fixed(1).numbers
    return SymbolicSize(numbers[0]) if numbers else op.fresh()


def layer_normalization(op: Operation) -> list[GraphValue]:
    """LayerNormalization and RMSNormalization: over all axes from the stated one on; mean and deviation on request."""
    value = op.tensor(0)
    axis = normalise_axis(op.integer("axis", -1), value.rank)
    crosses(value, range(axis, value.rank), "normalises over")
    for index in (1, 2):
        if op.has(index) and op.fixed(index).rank > value.rank - axis:
            raise NotProven("scales by a value with more dimensions than it normalises over")
    statistics = reduce_axes(value, list(range(axis, value.rank)), keep=True)
    return [GraphValue(value.dims, value.rows), statistics, statistics]


def mean_variance(op: Operation) -> list[GraphValue]:
    """MeanVarianceNormalization; by default over the first axis too."""
    value = op.tensor(0)
    axes = op.integers("axes")
    crosses(value, [normalise_axis(axis, value.rank) for axis in (axes or (0, 2, 3))], "normalises over")
    return [GraphValue(value.dims, value.rows)]


def batch_normalization(op: Operation) -> list[GraphValue]:
    """BatchNormalization as it is when it is not trained: with the statistics of the file."""
    value = op.tensor(0)
    if op.flag("training_mode") or any(op.gives(index) for index in range(1, len(op.node.outputs))):
        raise NotProven("normalises by the statistics of all rows (training mode)")
    op.require_fixed(1, 2, 3, 4)
    rows_at(value, 0)
    return [GraphValue(value.dims, value.rows)]


def per_row_normalization(op: Operation) -> list[GraphValue]:
    """InstanceNormalization, GroupNormalization and LRN: each entry of the first axis by itself."""
    value = op.tensor(0)
    op.require_fixed(1, 2)
    rows_at(value, 0)
    return [GraphValue(value.dims, value.rows)]


def upper_triangle(op: Operation) -> list[GraphValue]:
    """Trilu: what lies on one side of a diagonal of the last two axes."""
    value = op.tensor(0)
    op.require_fixed(1)
    crosses(value, [value.rank - 2, value.rank - 1], "cuts a triangle out of")
    return [GraphValue(value.dims, value.rows)]
