"""The state of a watched version in short: whether its columns drift or have too many invalid values, and how many."""

from typing import Final

from penstock.core.statistics.column_state import ColumnPhase
from penstock.monitor.drift_changes import QUALITY
from penstock.monitor.reference_columns import JOINT
from penstock.monitor.verdicts import VersionMonitor
from penstock.registry.records import Document

VIOLATED: Final = "violated"


def short_state(monitor: VersionMonitor | None, of_fleet: Document | None) -> Document | None:
    """Return ``drift`` and ``quality``, each with ``state`` and the number of ``columns`` affected; None if the version
    is not watched. Drift is the verdict ``of_fleet``, the stored summary, where there is one; quality is what this
    gateway sees."""
    if monitor is None and not of_fleet:
        return None
    states = [] if monitor is None else [state.value for state in monitor.column_states()]
    rows = [] if monitor is None else [state.value for state in monitor.states()[len(states) :]]
    if of_fleet:
        states = [state for name, (state, _) in of_fleet["columns"].items() if name != JOINT]
        rows = [state for name, (state, _) in of_fleet["columns"].items() if name == JOINT]
    violated = 0 if monitor is None else len(monitor.affected_columns(QUALITY))
    return {
        "drift": _describe_drift(states, rows),
        "quality": {"state": VIOLATED if violated else "ok", "columns": violated},
    }


def _describe_drift(states: list[str], rows: list[str]) -> Document:
    """Return the state in short; ``rows`` has that of the distance of whole rows, which is a drift and no column."""
    drifting = states.count(ColumnPhase.DRIFT.value)
    if drifting or ColumnPhase.DRIFT.value in rows:
        return {"state": ColumnPhase.DRIFT.value, "columns": drifting}
    known = any(state == ColumnPhase.OK.value for state in states)
    return {"state": (ColumnPhase.OK if known else ColumnPhase.INSUFFICIENT_DATA).value, "columns": 0}
