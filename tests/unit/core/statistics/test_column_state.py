"""What is said of a column from look to look."""

from penstock.core.statistics.column_state import ColumnPhase, ColumnState, next_column_state


def test_what_is_said() -> None:
    column = next_column_state(ColumnState(), 50, alarmed=False, since=0.0, over=False)
    assert column.state is ColumnPhase.INSUFFICIENT_DATA
    column = next_column_state(column, 100, alarmed=False, since=0.0, over=False)
    assert column.state is ColumnPhase.OK
    column = next_column_state(column, 200, alarmed=True, since=7.0, over=False)
    assert (column.state, column.since) == (ColumnPhase.DRIFT, 7.0)


def test_a_drift_keeps_its_beginning_and_ends_by_evidence_alone() -> None:
    column = ColumnState(ColumnPhase.DRIFT, 7.0)
    for alarmed in (False, True):
        assert next_column_state(column, 10_000, alarmed=alarmed, since=90.0, over=False) == column
    assert next_column_state(column, 300, alarmed=True, since=90.0, over=True) == column
    assert next_column_state(column, 300, alarmed=False, since=90.0, over=True) == ColumnState(ColumnPhase.OK)
