"""What is said of one column from look to look."""

from dataclasses import dataclass
from enum import StrEnum

LEAST_ROWS = 100
"""Rows before which no state is reported."""


class State(StrEnum):
    """What is known of one column."""

    OK = "ok"
    DRIFT = "drift"
    INSUFFICIENT_DATA = "insufficient_data"


@dataclass(frozen=True, slots=True)
class ColumnState:
    """What is said of one feature; ``since`` is when a drift began, by the evidence."""

    state: State = State.INSUFFICIENT_DATA
    since: float = 0.0


def judged(column: ColumnState, rows: float, alarmed: bool, since: float, over: bool) -> ColumnState:
    """What is said after one more look, at which there was an alarm, or evidence that a drift is ``over``."""
    if column.state is State.DRIFT:
        return ColumnState(State.OK) if over and not alarmed else column
    if alarmed:
        return ColumnState(State.DRIFT, since)
    return ColumnState(State.OK if rows >= LEAST_ROWS else State.INSUFFICIENT_DATA)
