"""Measures how long after their answers labels become known, over the newest labels of a version."""

from collections import deque
from typing import Any, Final

import numpy as np

from penstock.monitor.feedback import LabelledRow

MOST: Final = 1000
"""The newest labels that count."""


class LabelDelays:
    """The delays of one version's newest labels, in seconds. Labels whose answer has no time do not count."""

    def __init__(self) -> None:
        self._delays_s: deque[float] = deque(maxlen=MOST)

    def add(self, row: LabelledRow) -> None:
        """Take one more label."""
        if row.answered_at > 0:
            self._delays_s.append(max(0.0, row.at - row.answered_at))

    def document(self) -> dict[str, Any] | None:
        """Return the number of labels and the quantiles of their delays in seconds, None before the first."""
        if not self._delays_s:
            return None
        p50, p90, p99 = np.quantile(np.array(self._delays_s), (0.5, 0.9, 0.99)).tolist()
        return {
            "labels": len(self._delays_s),
            "p50_seconds": round(p50, 3),
            "p90_seconds": round(p90, 3),
            "p99_seconds": round(p99, 3),
            "longest_seconds": round(max(self._delays_s), 3),
        }
