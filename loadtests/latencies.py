"""Percentiles of the durations of one window."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Latencies:
    """Median, 99th and 99.9th percentile in milliseconds, and how many requests they stand on."""

    p50: float
    p99: float
    p999: float
    count: int

    @classmethod
    def of(cls, microseconds: NDArray[np.int64], missed: int = 0) -> "Latencies":
        """Percentiles that are durations seen, not in between; NaN where nothing was measured.

        ``missed`` requests have no duration. They rank beyond all others, and a percentile among them is infinite.
        """
        count = len(microseconds) + missed
        if not count:
            return cls(float("nan"), float("nan"), float("nan"), 0)
        ranked = np.concatenate([microseconds, np.full(missed, np.inf)])
        p50, p99, p999 = (float(np.percentile(ranked, at, method="higher")) / 1000 for at in (50, 99, 99.9))
        return cls(p50, p99, p999, count)
