"""What is said of one column from look to look."""

from dataclasses import dataclass, replace
from enum import StrEnum

from penstock.core.statistics.effect_sizes import Scores

LEAST_ROWS = 100
"""Before so many rows nothing is said."""

CALM_LOOKS = 3
"""Windows in a row that have to look like the reference before a drift is over."""


class State(StrEnum):
    """What is known of one column."""

    OK = "ok"
    DRIFT = "drift"
    INSUFFICIENT_DATA = "insufficient_data"


@dataclass(frozen=True, slots=True)
class ColumnState:
    """What is said of one feature; ``calm`` counts the windows in a row that looked like the reference, ``since`` is
    when a drift began, by the evidence."""

    state: State = State.INSUFFICIENT_DATA
    calm: int = 0
    since: float = 0.0


def judged(column: ColumnState, rows: int, found: Scores, alarmed: bool, since: float) -> ColumnState:
    """What is said after one more look."""
    if alarmed:
        return ColumnState(State.DRIFT, 0, since)
    if column.state is State.DRIFT:
        enough = found.rows >= LEAST_ROWS
        calm = column.calm + 1 if enough and found.calm else 0
        return ColumnState(State.OK, 0, 0.0) if calm >= CALM_LOOKS else replace(column, calm=calm)
    return ColumnState(State.OK if rows >= LEAST_ROWS else State.INSUFFICIENT_DATA)
