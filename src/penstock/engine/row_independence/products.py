"""Matrix products: no row may be summed up with another, and none may stand where one is multiplied with all others."""

from collections.abc import Sequence
from dataclasses import replace

from penstock.engine.row_independence.broadcasting import broadcast
from penstock.engine.row_independence.operation import Operation, crosses
from penstock.engine.row_independence.sizes import ONE, SymbolicSize
from penstock.engine.row_independence.values import GraphValue, NotProven, RowAxis, laid_out

_SUMS = "sums over"


def matrix_product(op: Operation) -> list[GraphValue]:
    """MatMul."""
    return [multiply(op, op.tensor(0), op.tensor(1))]


def multiply(op: Operation, left: GraphValue, right: GraphValue) -> GraphValue:
    """The product of two values as NumPy's ``matmul`` forms it."""
    crosses(left, [left.rank - 1], _SUMS)
    crosses(right, [max(0, right.rank - 2)], _SUMS)
    one, other = _as_matrix(left, front=True), _as_matrix(right, front=False)
    batch = broadcast([_batch_part(one), _batch_part(other)], op.fresh)
    rows = _result_rows(one, other, batch)
    product = laid_out((*batch.shape, one.shape[-2], other.shape[-1]), rows)
    return _without_added(product, left.rank == 1, right.rank == 1)


def _as_matrix(value: GraphValue, front: bool) -> GraphValue:
    """A vector as a matrix of one row, or of one column."""
    if value.rank != 1:
        return value
    return GraphValue((ONE, *value.shape) if front else (*value.shape, ONE))


def _batch_part(value: GraphValue) -> GraphValue:
    """The dimensions before the last two, with the rows if they lie there."""
    rows = value.rows if value.rows is not None and value.rows.axis < value.rank - 2 else None
    return GraphValue(value.shape[:-2], rows)


def _result_rows(one: GraphValue, other: GraphValue, batch: GraphValue) -> RowAxis | None:
    """Where the rows of a product lie: in the batch part, or as rows of the left or columns of the right matrix."""
    in_matrix = [
        value.rows.at(value.rows.axis - value.rank + len(batch.shape) + 2)
        for value in (one, other)
        if value.rows is not None and value.rows.axis >= value.rank - 2
    ]
    axes = [*in_matrix, *([] if batch.rows is None else [batch.rows])]
    if len(axes) > 1:
        raise NotProven("multiplies every row with every other")
    return next(iter(axes), None)


def _without_added(value: GraphValue, front: bool, back: bool) -> GraphValue:
    """Without the dimensions that were added to vectors."""
    dims = list(value.shape)
    rows = value.rows
    if back:
        del dims[-1]
    if front:
        axis = value.rank - 2
        del dims[axis]
        rows = rows.at(rows.axis - 1) if rows is not None and rows.axis > axis else rows
    return laid_out(dims, rows)


def integer_matrix_product(op: Operation) -> list[GraphValue]:
    """MatMulInteger; zero points of several elements are for places of the weights."""
    op.single(2)
    op.require_fixed(3)
    if op.tensor(1).rows is not None:
        op.single(3)
    return matrix_product(op)


def quantized_matrix_product(op: Operation) -> list[GraphValue]:
    """QLinearMatMul (a, a's scale and zero point, b, b's, the result's)."""
    op.single(1, 2, 6, 7)
    op.require_fixed(4, 5)
    right = op.tensor(3)
    if right.rows is not None:
        op.single(4, 5)
    return [multiply(op, op.tensor(0), right)]


def general_product(op: Operation) -> list[GraphValue]:
    """Gemm: two matrices, either of them perhaps transposed, and a third one that is added."""
    left = _transpose(op.tensor(0), op.flag("transA"))
    right = _transpose(op.tensor(1), op.flag("transB"))
    result = multiply(op, left, right)
    if not op.has(2):
        return [result]
    added = broadcast([result, op.tensor(2)], op.fresh)
    if added.rows != result.rows or (added.rows is not None and added.rank != 2):
        raise NotProven("adds rows to a value without rows")
    return [added]


def _transpose(value: GraphValue, wanted: bool) -> GraphValue:
    if value.rank != 2:
        raise NotProven("takes a matrix of another rank than 2")
    if not wanted:
        return value
    return GraphValue(value.shape[::-1], None if value.rows is None else value.rows.at(1 - value.rows.axis))


def transposable_product(op: Operation) -> list[GraphValue]:
    """com.microsoft FusedMatMul: MatMul with the last two dimensions of either side perhaps exchanged."""
    if op.flag("transBatchA") or op.flag("transBatchB"):
        raise NotProven("moves the first dimension of an operand")
    left, right = (_exchange_last(op.tensor(index), op.flag(name)) for index, name in _SIDES)
    return [multiply(op, left, right)]


_SIDES = ((0, "transA"), (1, "transB"))


def _exchange_last(value: GraphValue, wanted: bool) -> GraphValue:
    if not wanted or value.rank < 2:
        return value
    last, before = value.rank - 1, value.rank - 2
    moved = {last: before, before: last}
    rows = value.rows and value.rows.at(moved.get(value.rows.axis, value.rows.axis))
    return replace(value, dims=(*value.shape[:-2], value.shape[-1], value.shape[-2]), rows=rows)


def einsum(op: Operation) -> list[GraphValue]:
    """Einsum: the letter of the rows stands for nothing else, and stays in the result."""
    operands, result = _parse_letters(op.text("equation", ""), len(op.values))
    values = op.tensors()
    sizes: dict[str, SymbolicSize] = {}
    row_axes: dict[str, RowAxis] = {}
    for letters, value in zip(operands, values, strict=True):
        if value.rank != len(letters):
            raise NotProven("has an equation that does not match its operands")
        sizes |= dict(zip(letters, value.shape, strict=True))
        if value.rows is not None:
            row_axes[letters[value.rows.axis]] = value.rows
    if not row_axes:
        return [GraphValue(tuple(sizes[letter] for letter in result))]
    _check_row_letter(operands, result, values, row_axes)
    letter, rows = next(iter(row_axes.items()))
    return [laid_out([sizes[item] for item in result], rows.at(result.index(letter)))]


def _parse_letters(equation: str, operands: int) -> tuple[list[str], str]:
    left, arrow, right = equation.replace(" ", "").partition("->")
    names = left.split(",")
    if not arrow or "." in equation or len(names) != operands:
        raise NotProven("has an equation without a result, or with an ellipsis")
    return names, right


def _check_row_letter(
    operands: Sequence[str], result: str, values: Sequence[GraphValue], row_axes: dict[str, RowAxis]
) -> None:
    if len(row_axes) > 1:
        raise NotProven("multiplies every row with every other")
    letter = next(iter(row_axes))
    if result.count(letter) != 1:
        raise NotProven("sums over the rows")
    for letters, value in zip(operands, values, strict=True):
        expected = 0 if value.rows is None else 1
        if letters.count(letter) != expected or (expected and value.rows != row_axes[letter].at(letters.index(letter))):
            raise NotProven("combines the rows with other places of the same letter")
