"""What is said of one column from look to look."""

from dataclasses import dataclass
from enum import StrEnum

LEAST_ROWS = 100
"""Rows before which no state is reported."""


class ColumnPhase(StrEnum):
    """What is known of one column."""

    OK = "ok"
    DRIFT = "drift"
    INSUFFICIENT_DATA = "insufficient_data"


@dataclass(frozen=True, slots=True)
class ColumnState:
    """What is said of one feature; ``since`` is when a drift began, by the evidence."""

    state: ColumnPhase = ColumnPhase.INSUFFICIENT_DATA
    since: float = 0.0


def next_column_state(column: ColumnState, rows: float, alarmed: bool, since: float, over: bool) -> ColumnState:
    """What is said after one more look, at which there was an alarm, or evidence that a drift is ``over``."""
    if column.state is ColumnPhase.DRIFT:
        return ColumnState(ColumnPhase.OK) if over and not alarmed else column
    if alarmed:
        return ColumnState(ColumnPhase.DRIFT, since)
    return ColumnState(ColumnPhase.OK if rows >= LEAST_ROWS else ColumnPhase.INSUFFICIENT_DATA)
