"""The state of one column from look to look."""

from dataclasses import dataclass
from enum import StrEnum

LEAST_ROWS = 100
"""Minimum rows before a state is reported."""


class ColumnPhase(StrEnum):
    """The possible states of a column."""

    OK = "ok"
    DRIFT = "drift"
    INSUFFICIENT_DATA = "insufficient_data"


@dataclass(frozen=True, slots=True)
class ColumnState:
    """The state of one feature; ``since`` is the beginning of a drift, by the evidence."""

    state: ColumnPhase = ColumnPhase.INSUFFICIENT_DATA
    since: float = 0.0


def next_column_state(column: ColumnState, rows: float, alarmed: bool, since: float, over: bool) -> ColumnState:
    """Return the state after one more look, with an alarm, or with evidence that a drift is ``over``."""
    if column.state is ColumnPhase.DRIFT:
        return ColumnState(ColumnPhase.OK) if over and not alarmed else column
    if alarmed:
        return ColumnState(ColumnPhase.DRIFT, since)
    return ColumnState(ColumnPhase.OK if rows >= LEAST_ROWS else ColumnPhase.INSUFFICIENT_DATA)
