"""Estimates the autocorrelation of rows, by which thresholds and evidence are corrected."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.statistics.autocorrelation import MOST, variance_inflation
from penstock.monitor.rows import RegionCounts

Floats = NDArray[np.float64]

PAIRED = 300
"""Least number of neighbouring rows in a stretch."""

DECAY = (0.5, 0.9)
"""Factors by which two exponential averages discount earlier stretches. The greater correlation counts, so that the
estimate rises soon when rows begin to follow each other."""

NOISE = 2.5
"""A correlation below this many standard errors counts as zero."""

AT_FIRST = 0.6
"""The autocorrelation that is assumed until enough neighbours have been compared."""

_ROUNDS = 8


class RowAutocorrelation:
    """The lag-1 autocorrelation of a version's columns, from the sums that its workers count.

    Each stretch of rows is centred by its own mean, so that a change between stretches does not look like a
    correlation. The mean takes ``f s^2`` from the stretch's sums of squares and of products, where ``f`` is the
    variance inflation (the variance of a mean of n rows is ``f s^2 / n``); the estimate is biased downwards by that
    (Marriott and Pope, "Bias in the estimation of autocorrelations", 1954). So many stretches are added up before the
    ratio is taken, and the bias is corrected.
    """

    def __init__(self, first: RegionCounts) -> None:
        self._last = first
        self._rows, self._stretches = np.zeros(len(DECAY)), np.zeros(len(DECAY))
        self._sums = np.zeros((len(DECAY), 2, first.sums.shape[1]))  # squares and products [averages, 2, columns]
        self.correlation = AT_FIRST

    def take(self, counted: RegionCounts) -> None:
        """Take the counts so far, once there are enough neighbours since the last time."""
        rows = counted.head["paired"] - self._last.head["paired"]
        # The first row of each worker has no predecessor: the number of rows needed must not depend on the workers.
        if rows + counted.workers - self._last.workers < PAIRED:
            return
        total, squares, products = counted.sums - self._last.sums
        self._last, decay = counted, np.array(DECAY)
        self._rows, self._stretches = decay * self._rows + rows, decay * self._stretches + 1
        self._sums = decay[:, None, None] * self._sums + np.array([squares, products]) - total * total / rows
        self.correlation = float(self.correlations(max(1, counted.workers)).max(initial=0.0))

    def correlations(self, workers: int) -> Floats:
        """Return the autocorrelation of each column [columns], the greater one of both averages.

        A worker sees only a part of the rows, so its neighbours lie further apart: if a first-order autoregression with
        coefficient ``r`` is spread evenly over ``w`` workers, each sees ``(r/w) / (1 - r(1 - 1/w))``. The estimate
        inverts that.
        """
        squares, products = self._sums[:, 0], self._sums[:, 1]
        varies = squares > 1e-9 * self._rows[:, None]
        ratio = np.divide(products, squares, out=np.zeros_like(squares), where=varies)
        estimate, stretch_share = ratio, (self._stretches / np.maximum(self._rows, 1.0))[:, None]
        for _ in range(_ROUNDS):
            bounded = np.clip(estimate, 0.0, MOST)
            bias = np.minimum(0.5, stretch_share * (1 + bounded) / (1 - bounded))
            estimate = np.where(varies, ratio * (1 - bias) + bias, 0.0)
        noise = NOISE / np.sqrt(np.maximum(self._rows, 1.0))[:, None]
        per_worker = np.where(estimate > noise, np.minimum(estimate, 1.0), 0.0).max(axis=0)
        overall: Floats = per_worker / (1 / workers + per_worker * (1 - 1 / workers))
        return overall

    @property
    def inflation(self) -> float:
        """The variance inflation: how many rows carry as much evidence as one independent row."""
        return variance_inflation(self.correlation)

    def export_state(self) -> dict[str, Any]:
        """Return the estimate and its sums as JSON values."""
        sums = [self._rows.tolist(), self._stretches.tolist(), self._sums.tolist()]
        return {"correlation": self.correlation, "sums": sums}

    def restore_state(self, saved: Mapping[str, Any]) -> None:
        """Continue with saved sums, if they have as many columns."""
        self.correlation = float(saved["correlation"])
        rows, stretches, sums = (np.asarray(values, float) for values in saved["sums"])
        if sums.shape == self._sums.shape:
            self._rows, self._stretches, self._sums = rows, stretches, sums
