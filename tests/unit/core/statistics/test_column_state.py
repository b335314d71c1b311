"""What is said of a column from look to look."""

from penstock.core.statistics.column_state import ColumnState, State, judged
from penstock.core.statistics.effect_sizes import Scores, scores


def test_what_is_said() -> None:
    calm = scores([100] * 10, [50] * 10)
    wild = scores([100] * 10, [500, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    few = Scores(5, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    column = judged(ColumnState(), 50, few, False, 0.0)
    assert column.state is State.INSUFFICIENT_DATA
    column = judged(column, 100, calm, False, 0.0)
    assert column.state is State.OK
    column = judged(column, 200, wild, True, 7.0)
    assert (column.state, column.since) == (State.DRIFT, 7.0)
    for found in (wild, calm, calm, wild, calm, calm):
        column = judged(column, 300, found, False, 0.0)
        assert column.state is State.DRIFT
    assert judged(column, 300, calm, False, 0.0).state is State.OK
    assert judged(column, 300, few, False, 0.0).state is State.DRIFT
