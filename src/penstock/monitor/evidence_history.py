"""Remembers the evidence and the effect size of each column over time: a bounded series of one version."""

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

POINTS: Final = 60
"""The most points of a column."""

FIRST_STEP_S: Final = 5.0
LONGEST_STEP_S: Final = 320.0
"""The first and the longest distance of two points; 60 of the longest are five hours."""

Floats32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """A time (seconds since the epoch), the greatest evidence of each column since the point before (nats), and the PSI
    of the window then; both [columns]."""

    at: float
    log_e: Floats32
    psi: Floats32


class ColumnHistories:
    """The points of one version in the order of time. A full history drops every second point and doubles its step, up
    to ``LONGEST_STEP_S``; then it drops its oldest point. It takes 8 bytes for each column and point."""

    def __init__(self) -> None:
        self.step_s = FIRST_STEP_S
        self._points: deque[HistoryPoint] = deque()
        self._greatest: Floats32 | None = None

    def __len__(self) -> int:
        return len(self._points)

    def see(self, log_e: ArrayLike) -> None:
        """Take the evidence [columns] of a look; an alarm resets it, so the next point has the greatest of all looks
        since the last one."""
        seen = np.maximum(np.asarray(log_e, np.float32), 0.0)
        self._greatest = seen if self._greatest is None else np.maximum(self._greatest, seen)

    def is_due(self, now: float) -> bool:
        """Whether it is time for the next point. Points after ``now`` are dropped: the clock was set back."""
        while self._points and self._points[-1].at > now:
            self._points.pop()
        return not self._points or now - self._points[-1].at >= self.step_s

    def add(self, now: float, psi: ArrayLike) -> None:
        """Add a point with the evidence seen since the last one, and the PSI [columns] of the window."""
        if self._greatest is None:
            return
        if len(self._points) == POINTS:
            self._thin_out()
        self._points.append(HistoryPoint(now, self._greatest, np.asarray(psi, np.float32)))
        self._greatest = None

    def _thin_out(self) -> None:
        if self.step_s >= LONGEST_STEP_S:
            self._points.popleft()
            return
        self.step_s *= 2
        self._points = deque(list(self._points)[1::2])

    def document(self, column: int) -> dict[str, Any]:
        """Return the series of a column as JSON values."""
        points = self._points
        return {
            "step_seconds": self.step_s,
            "at": [round(point.at, 3) for point in points],
            "log_e": [round(float(point.log_e[column]), 3) for point in points],
            "psi": [round(float(point.psi[column]), 6) for point in points],
        }
