"""Remembers the evidence and the effect size of each column over time: a bounded series of one version."""

from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

POINTS: Final = 60
"""The most points of a column."""

FIRST_STEP_S: Final = 5.0
LONGEST_STEP_S: Final = 320.0
"""The first and the longest distance of two points; 60 of the longest are five hours."""

MOST_STORED: Final = 8192
"""The most numbers of evidence, and as many of PSI, that are stored: with more columns there are fewer points."""

_GREATEST_STORED: Final = 60_000.0
"""Numbers are stored in half precision (IEEE 754 binary16): three digits, up to 65,504."""

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
    to ``LONGEST_STEP_S``; then it drops its oldest point. It takes 8 bytes for each column and point. Stored points of
    another number of ``columns`` are left out."""

    def __init__(self, columns: int = 0) -> None:
        self._columns = columns
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

    def export_state(self) -> dict[str, Any]:
        """Return the points as JSON values, the older ones with more distance where there would be too many."""
        points = list(self._points)
        most = MOST_STORED // max(1, len(points[0].log_e)) if points else POINTS
        every = max(1, -(-len(points) // max(1, most)))
        kept = points[::-1][::every][::-1]
        return {
            "step_s": self.step_s * every,
            "at": [round(point.at, 3) for point in kept],
            "log_e": _pack_rows([point.log_e for point in kept]),
            "psi": _pack_rows([point.psi for point in kept]),
        }

    def restore_state(self, saved: Mapping[str, Any]) -> None:
        """Continue after stored points; those of another number of columns are left out."""
        columns = self._columns
        times = [float(at) for at in saved["at"]]
        log_e, psi = (np.frombuffer(b64decode(saved[name]), np.float16) for name in ("log_e", "psi"))
        if not times or not columns or not len(log_e) == len(psi) == len(times) * columns or len(times) > POINTS:
            return
        rows = zip(times, log_e.reshape(-1, columns), psi.reshape(-1, columns), strict=True)
        self._points = deque(
            HistoryPoint(at, one.astype(np.float32), other.astype(np.float32)) for at, one, other in rows
        )
        self.step_s = min(max(FIRST_STEP_S, float(saved["step_s"])), LONGEST_STEP_S)

    @classmethod
    def restored(cls, saved: Mapping[str, Any], columns: int) -> "ColumnHistories":
        """Return stored points, without any if they are of another number of columns."""
        histories = cls(columns)
        histories.restore_state(saved)
        return histories

    def document(self, column: int) -> dict[str, Any]:
        """Return the series of a column as JSON values."""
        points = self._points
        return {
            "step_seconds": self.step_s,
            "at": [round(point.at, 3) for point in points],
            "log_e": [round(float(point.log_e[column]), 3) for point in points],
            "psi": [round(float(point.psi[column]), 6) for point in points],
        }


def _pack_rows(rows: list[Floats32]) -> str:
    numbers = np.minimum(np.concatenate([np.zeros(0, np.float32), *rows]), _GREATEST_STORED)
    return b64encode(np.nan_to_num(numbers).astype(np.float16).tobytes()).decode("ascii")
