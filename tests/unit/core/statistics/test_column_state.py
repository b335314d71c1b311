"""What is said of a column from look to look."""

from penstock.core.statistics.column_state import ColumnState, State, judged


def test_what_is_said() -> None:
    column = judged(ColumnState(), 50, alarmed=False, since=0.0, over=False)
    assert column.state is State.INSUFFICIENT_DATA
    column = judged(column, 100, alarmed=False, since=0.0, over=False)
    assert column.state is State.OK
    column = judged(column, 200, alarmed=True, since=7.0, over=False)
    assert (column.state, column.since) == (State.DRIFT, 7.0)


def test_a_drift_keeps_its_beginning_and_ends_by_evidence_alone() -> None:
    column = ColumnState(State.DRIFT, 7.0)
    for alarmed in (False, True):
        assert judged(column, 10_000, alarmed=alarmed, since=90.0, over=False) == column
    assert judged(column, 300, alarmed=True, since=90.0, over=True) == column
    assert judged(column, 300, alarmed=False, since=90.0, over=True) == ColumnState(State.OK)
