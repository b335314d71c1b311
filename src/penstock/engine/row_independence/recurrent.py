"""RNN, GRU and LSTM: with their usual layout the rows lie along the second axis."""

from penstock.engine.row_independence.operation import Operation, OperatorRule, rows_at
from penstock.engine.row_independence.sizes import SymbolicSize
from penstock.engine.row_independence.values import GraphValue, NotProven, RowAxis, laid_out

_ROWS_AXIS = 1


def recurrent(cell_state: bool) -> OperatorRule:
    """RNN and GRU, or LSTM, which has a state more: X, W, R, bias, lengths, initial state(s), peepholes."""

    def rule(op: Operation) -> list[GraphValue]:
        value = op.tensor(0)
        if op.flag("layout"):
            raise NotProven("has a layout without a rule")
        rows = rows_at(value, _ROWS_AXIS)
        op.require_fixed(1, 2, 3, 7)
        _check_lengths(op, rows)
        for index in (5, 6) if cell_state else (5,):
            _check_state(op, index, rows)
        return _make_results(op, value, rows, 2 if cell_state else 1)

    return rule


def _check_lengths(op: Operation, rows: RowAxis | None) -> None:
    lengths = op.tensor(4).rows if op.has(4) else rows
    if rows != (None if lengths is None else lengths.at(_ROWS_AXIS)):
        raise NotProven("has lengths that do not belong to the rows")


def _check_state(op: Operation, index: int, rows: RowAxis | None) -> None:
    if op.has(index) and op.tensor(index).rows != rows:
        raise NotProven("begins with a state that does not belong to the rows")


def _make_results(op: Operation, value: GraphValue, rows: RowAxis | None, states: int) -> list[GraphValue]:
    directions = SymbolicSize(2 if op.text("direction", "forward") == "bidirectional" else 1)
    hidden = SymbolicSize(op.integer("hidden_size", 0)) if "hidden_size" in op.node.attributes else op.fresh()
    steps, batch = value.shape[:2]
    moved = None if rows is None else rows.at(2)
    state = laid_out([directions, batch, hidden], rows)
    return [laid_out([steps, directions, batch, hidden], moved), *[state] * states]
