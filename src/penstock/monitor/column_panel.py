"""A panel of columns that are tested together: the evidence of change, the recoveries, and the state of each column."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penstock.core.statistics.change_detection import ChangeDetector
from penstock.core.statistics.column_state import ColumnPhase, ColumnState, next_column_state
from penstock.core.statistics.distributions import find_shares
from penstock.core.statistics.recovery import Recoveries

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """A change of the column with this index that ``begins`` or is over: the log evidence of the detector, the time
    since when (the caller's time), and the counts of its recent rows [places]."""

    index: int
    begins: bool
    log_e: float
    since: float
    recent: Floats


@dataclass(frozen=True, slots=True)
class EvaluationTerms:
    """The terms of one look: the variance inflation, the time, the budget (rows between false alarms of all columns
    together) and the share of rows at which a change may begin, which bounds the daily false alarms of all models."""

    inflation: float
    now: float
    budget: float
    onset_probability: float = 1.0


def _always_change(index: int, recent: Floats) -> bool:
    return True


class ColumnPanel:
    """Tests columns against ``usual`` counts [columns][places]; ``tolerance`` [columns] are nats for each row that are
    no evidence. ``log_m`` [columns] is the evidence at the last look, before an alarm has discarded it."""

    def __init__(self, usual: Sequence[ArrayLike], tolerance: Sequence[float]) -> None:
        self._usual, self._tolerance = [np.asarray(counts, float) for counts in usual], list(tolerance)
        self.detector = ChangeDetector([find_shares(counts) for counts in self._usual], self._tolerance)
        self.states = [ColumnState() for _ in self._usual]
        self.alarms = 0
        self.log_m: Floats = self.detector.log_m
        self._recoveries = Recoveries()
        self._rows = np.zeros(len(self._usual))

    def expect(self, usual: Sequence[ArrayLike], tolerance: Sequence[float]) -> None:
        """Test later rows against these counts, of as many columns and places as before."""
        self._usual, self._tolerance = [np.asarray(counts, float) for counts in usual], list(tolerance)
        self.detector.expect([find_shares(counts) for counts in self._usual], self._tolerance)

    def evaluate(
        self,
        fresh: Sequence[ArrayLike],
        look: EvaluationTerms,
        is_change: Callable[[int, Floats], bool] = _always_change,
    ) -> list[ColumnChange]:
        """Take one more batch of counts [columns][places], and return the changes.

        ``is_change`` decides for a column with an alarm, by the counts of its recent rows, whether that is a change of
        the kind that this panel reports.
        """
        panel = self.detector
        batch = panel.batch(fresh)
        panel.watch(batch, look.inflation, look.now, look.onset_probability)
        self._rows += batch.sum(axis=1)
        alarm, log_m, since, recent = panel.find_alarm(look.budget), panel.log_m, panel.since, panel.recent
        self.log_m = log_m
        if alarm:
            self.alarms += 1
            panel.restart()
        alarmed = {index for index in alarm if is_change(index, recent[index])}
        over = self._recoveries.find_recovered(
            self.changed(), alarmed, fresh, self._usual, self._tolerance, look.inflation, look.budget
        )
        changes = []
        for index, before in enumerate(self.states):
            after = next_column_state(before, self._rows[index], index in alarmed, float(since[index]), index in over)
            self.states[index] = after
            if (before.state is ColumnPhase.DRIFT) != (after.state is ColumnPhase.DRIFT):
                begins = after.state is ColumnPhase.DRIFT
                changes.append(ColumnChange(index, begins, float(log_m[index]), float(since[index]), recent[index]))
        return changes

    def changed(self) -> list[int]:
        """Return the columns that have changed and have not recovered."""
        return [index for index, column in enumerate(self.states) if column.state is ColumnPhase.DRIFT]

    # The state that outlives the process.

    def export_state(self) -> dict[str, Any]:
        """Return the evidence as JSON values."""
        states = [[column.state.value, column.since] for column in self.states]
        return {**self.detector.export_state(), "states": states, "recoveries": self._recoveries.export_state()}

    def restore_state(self, saved: Mapping[str, Any]) -> None:
        """Continue with saved evidence, if it has as many columns."""
        self.detector.restore_state(saved)
        states = saved.get("states", [])
        if len(states) == len(self.states):
            self.states = [ColumnState(ColumnPhase(state), float(since)) for state, since in states]
            self._recoveries.restore_state(saved["recoveries"], [len(counts) for counts in self._usual])
