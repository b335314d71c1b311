"""Attention and what surrounds it in transformers: each row attends to its own tokens."""

from penstock.engine.row_independence.operation import Operation, rows_at
from penstock.engine.row_independence.reductions import reduce_axes
from penstock.engine.row_independence.sizes import ONE, SymbolicSize
from penstock.engine.row_independence.values import GraphValue, NotProven, RowAxis, laid_out


def attention(op: Operation) -> list[GraphValue]:
    """Attention of ai.onnx without past tokens: query, key, value, and a mask."""
    query, value = op.tensor(0), op.tensor(2)
    rows = _common_rows(op, 0, 1, 2)
    op.absent(4, 5, 6)
    _check_mask(op, 3, rows)
    if query.rank == 4:
        return [laid_out([*query.shape[:3], value.shape[3]], rows)]
    return [laid_out([*query.shape[:2], op.fresh()], rows)]


def multi_head_attention(op: Operation) -> list[GraphValue]:
    """com.microsoft MultiHeadAttention of three separate inputs, without past tokens."""
    rows = _common_rows(op, 0, 1, 2)
    op.require_fixed(3)
    if op.has(4):
        _check_lines(op, 4, rows)
    _check_mask(op, 5, rows)
    op.absent(6, 7, 8, 9)
    query, value = op.tensor(0), op.tensor(2)
    if (query.rank, value.rank) != (3, 3):
        raise NotProven("takes its inputs in a layout without a rule")
    return [laid_out([*query.shape[:2], value.shape[2]], rows)]


def packed_attention(op: Operation) -> list[GraphValue]:
    """com.microsoft Attention: one input and the weights of query, key and value together."""
    value = op.tensor(0)
    rows = rows_at(value, 0)
    op.require_fixed(1, 2)
    op.absent(4, 6)
    if op.has(3):
        _check_lines(op, 3, rows)
    _check_mask(op, 5, rows)
    return [laid_out([*value.shape[:2], op.fresh()], rows)]


def _common_rows(op: Operation, *indices: int) -> RowAxis | None:
    rows = {rows_at(op.tensor(index), 0) for index in indices}
    if len(rows) > 1:
        raise NotProven("attends to values of other rows")
    return next(iter(rows))


def _check_lines(op: Operation, index: int, rows: RowAxis | None) -> None:
    """A mask with a line for each row; masks of other ranks mean lengths, in several forms."""
    mask = op.tensor(index)
    if mask.rank != 2 or rows_at(mask, 0) != rows:
        raise NotProven("has a mask that does not belong to the rows")


def _check_mask(op: Operation, index: int, rows: RowAxis | None) -> None:
    """A mask over heads, queries and keys: of each row, or the same for all."""
    if not op.has(index):
        return
    mask = op.tensor(index)
    own = mask.rank == 4 and mask.rows == rows
    shared = mask.rows is None and (mask.rank < 4 or mask.shape[0] == ONE)
    if not own and not shared:
        raise NotProven("has a mask that does not belong to the rows")


def rotary_embedding(op: Operation) -> list[GraphValue]:
    """RotaryEmbedding of ai.onnx, with positions for each row."""
    value = op.tensor(0)
    op.require_fixed(1, 2)
    if not op.has(3) or rows_at(op.tensor(3), 0) != rows_at(value, 0):
        raise NotProven("rotates by positions that do not belong to the rows")
    return [GraphValue(value.dims, value.rows)]


def skip_layer_normalization(op: Operation) -> list[GraphValue]:
    """com.microsoft SkipLayerNormalization and its simplified form: over the last axis of a sum."""
    value, skip = op.tensor(0), op.tensor(1)
    if skip.rows != value.rows or (value.rows is not None and (value.rank != 3 or value.rows.axis == 2)):
        raise NotProven("adds a value of other rows, or normalises over the rows")
    if skip.rank != value.rank:
        raise NotProven("adds a value of another rank")
    op.require_fixed(2, 3, 4)
    statistics = reduce_axes(value, [value.rank - 1], keep=True)
    whole = GraphValue(value.dims, value.rows)
    return [whole, statistics, statistics, whole]


def embedding(op: Operation) -> list[GraphValue]:
    """com.microsoft EmbedLayerNormalization: word, position and segment tables, normalised over the last axis."""
    rows = _common_rows(op, *[index for index in (0, 1, 7, 8) if op.has(index)])
    op.require_fixed(2, 3, 4, 5, 6)
    tokens, table = op.tensor(0), op.fixed(2)
    result = laid_out([*tokens.shape, table.shape[1]], rows)
    return [result, laid_out([tokens.shape[0]], rows), result]


def apply_bias(op: Operation) -> list[GraphValue]:
    """An activation, perhaps after a bias of one number for each place of the last axis was added."""
    value = op.tensor(0)
    if op.has(1) and (op.fixed(1).rank != 1 or (value.rows is not None and value.rows.axis == value.rank - 1)):
        raise NotProven("adds a bias along the rows")
    return [GraphValue(value.dims, value.rows)]


def quantized_weights_product(op: Operation) -> list[GraphValue]:
    """com.microsoft MatMulNBits: the last axis times a matrix of few bits."""
    value = op.tensor(0)
    op.require_fixed(1, 2, 3, 4, 5)
    if value.rows is not None and value.rows.axis == value.rank - 1:
        raise NotProven("sums over the rows")
    return [laid_out([*value.shape[:-1], SymbolicSize(op.integer("N", 0))], value.rows)]
