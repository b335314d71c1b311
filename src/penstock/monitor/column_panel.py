"""Columns that are watched together: their detectors' evidence, what tells that a change is over, and what is said of
each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penstock.core.statistics.change_detection import ChangeDetector
from penstock.core.statistics.column_state import ColumnState, State, judged
from penstock.core.statistics.distributions import shares
from penstock.core.statistics.recovery import Recoveries

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Change:
    """A column that has changed or is over it: the log evidence of the detector, since when (the caller's time), and
    what its rows lately looked like [places]."""

    index: int
    begins: bool
    log_e: float
    since: float
    recent: Floats


@dataclass(frozen=True, slots=True)
class Look:
    """What is known at one look: how many rows are worth one, the time, the rows between false alarms of all columns
    together, and the share of rows at which a change may begin, for the rate of false alarms of all models together."""

    inflation: float
    now: float
    budget: float
    onset_probability: float = 1.0


def _always(index: int, recent: Floats) -> bool:
    return True


class ColumnPanel:
    """``usual`` are each column's counts of the reference, ``forgiven`` the nats a row that are no evidence."""

    def __init__(self, usual: Sequence[ArrayLike], forgiven: Sequence[float]) -> None:
        self._usual, self._forgiven = [np.asarray(one, float) for one in usual], list(forgiven)
        self.detector = ChangeDetector([shares(one) for one in self._usual], self._forgiven)
        self.states = [ColumnState() for _ in self._usual]
        self.alarms = 0
        self._recoveries = Recoveries()
        self._rows = np.zeros(len(self._usual))

    def expect(self, usual: Sequence[ArrayLike], forgiven: Sequence[float]) -> None:
        """Hold what comes from now on against these counts, of as many columns and places as those before."""
        self._usual, self._forgiven = [np.asarray(one, float) for one in usual], list(forgiven)
        self.detector.expect([shares(one) for one in self._usual], self._forgiven)

    def look(
        self, fresh: Sequence[ArrayLike], look: Look, is_change: Callable[[int, Floats], bool] = _always
    ) -> list[Change]:
        """Take one more batch of each column's counts; what has changed by it.

        ``is_change`` says of a column that there is an alarm about, by what its rows lately looked like, whether that
        is a change that is looked for.
        """
        panel = self.detector
        panel.watch(panel.batch(fresh), look.inflation, look.now, look.onset_probability)
        self._rows += [float(np.sum(one)) for one in fresh]
        found, log_m, since, recent = panel.alarm(look.budget), panel.log_m, panel.since, panel.recent
        if found:
            self.alarms += 1
            panel.restart()
        alarmed = {index for index in found if is_change(index, recent[index])}
        over = self._recoveries.look(
            self.changed(), alarmed, fresh, self._usual, self._forgiven, look.inflation, look.budget
        )
        changes = []
        for index, before in enumerate(self.states):
            after = judged(before, self._rows[index], index in alarmed, float(since[index]), index in over)
            self.states[index] = after
            if (before.state is State.DRIFT) != (after.state is State.DRIFT):
                begins = after.state is State.DRIFT
                told = Change(index, begins, float(log_m[index]), float(since[index]), recent[index])
                changes.append(told)
        return changes

    def changed(self) -> list[int]:
        """The columns that have changed and are not over it."""
        return [index for index, one in enumerate(self.states) if one.state is State.DRIFT]

    # What outlives the process that watches.

    def kept(self) -> dict[str, Any]:
        """The evidence as JSON values."""
        states = [[one.state.value, one.since] for one in self.states]
        return {**self.detector.kept(), "states": states, "recoveries": self._recoveries.kept()}

    def take_up(self, kept: Mapping[str, Any]) -> None:
        """Go on with the evidence of ``kept``, if it is of as many columns."""
        self.detector.take_up(kept)
        states = kept.get("states", [])
        if len(states) == len(self.states):
            self.states = [ColumnState(State(state), float(since)) for state, since in states]
            self._recoveries.take_up(kept["recoveries"], [len(one) for one in self._usual])
