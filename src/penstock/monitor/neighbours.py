"""How much rows are like their neighbours: the autocorrelation that thresholds and evidence rest on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.statistics.autocorrelation import MOST, variance_inflation
from penstock.monitor.rows import Counted

Floats = NDArray[np.float64]

PAIRED = 300
"""Neighbours of a stretch of rows, at least."""

KEPT = (0.5, 0.9)
"""What is left of the stretches before with each further one, of two memories: the greater correlation is taken, so
that rows that begin to follow each other count for less soon."""

NOISE = 2.5
"""Standard errors of a correlation below which it is taken for none."""

AT_FIRST = 0.6
"""The autocorrelation that is assumed until enough neighbours were compared."""

_ROUNDS = 8


class Neighbours:
    """The first autocorrelation of a version's columns, by the sums that its workers keep.

    Stretches of rows are centred by their own means, so that a change between them is no correlation. That takes
    ``f s^2`` from the sum of squares of a stretch, and from that of products, where ``f`` is the variance inflation
    (the variance of a mean of n rows is ``f s^2 / n``); a correlation of few rows is too small by that (Marriott and
    Pope, "Bias in the estimation of autocorrelations", 1954). So many stretches are added up before a ratio is taken,
    and what their means took is given back.
    """

    def __init__(self, first: Counted) -> None:
        self._last = first
        self._rows, self._stretches = np.zeros(len(KEPT)), np.zeros(len(KEPT))
        self._sums = np.zeros((len(KEPT), 2, first.sums.shape[1]))  # squares and products [memories, 2, columns]
        self.correlation = AT_FIRST

    def take(self, counted: Counted) -> None:
        """Take what has been counted so far, once there are enough neighbours since the last time."""
        rows = counted.head["paired"] - self._last.head["paired"]
        # The first row of each worker has none before it: how many rows are enough does not depend on the workers.
        if rows + counted.workers - self._last.workers < PAIRED:
            return
        total, squares, products = counted.sums - self._last.sums
        self._last, kept = counted, np.array(KEPT)
        self._rows, self._stretches = kept * self._rows + rows, kept * self._stretches + 1
        self._sums = kept[:, None, None] * self._sums + np.array([squares, products]) - total * total / rows
        self.correlation = float(self.correlations(max(1, counted.workers)).max(initial=0.0))

    def correlations(self, workers: int) -> Floats:
        """Of each column [columns], by the memory that says more.

        A worker sees some of the rows only, so that its neighbours lie further apart: of a first-order autoregression
        with ``r`` spread evenly over ``w`` workers each sees ``(r/w) / (1 - r(1 - 1/w))``, which is turned round here.
        """
        squares, products = self._sums[:, 0], self._sums[:, 1]
        some = squares > 1e-9 * self._rows[:, None]
        ratio = np.divide(products, squares, out=np.zeros_like(squares), where=some)
        found, taken = ratio, (self._stretches / np.maximum(self._rows, 1.0))[:, None]
        for _ in range(_ROUNDS):
            bounded = np.clip(found, 0.0, MOST)
            part = np.minimum(0.5, taken * (1 + bounded) / (1 - bounded))
            found = np.where(some, ratio * (1 - part) + part, 0.0)
        noise = NOISE / np.sqrt(np.maximum(self._rows, 1.0))[:, None]
        seen = np.where(found > noise, np.minimum(found, 1.0), 0.0).max(axis=0)
        whole: Floats = seen / (1 / workers + seen * (1 - 1 / workers))
        return whole

    @property
    def inflation(self) -> float:
        """How many rows are worth one."""
        return variance_inflation(self.correlation)

    def kept(self) -> dict[str, Any]:
        """What is known as JSON values."""
        sums = [self._rows.tolist(), self._stretches.tolist(), self._sums.tolist()]
        return {"correlation": self.correlation, "sums": sums}

    def take_up(self, kept: Mapping[str, Any]) -> None:
        """Go on with what is known, if it is of as many columns."""
        self.correlation = float(kept["correlation"])
        rows, stretches, sums = (np.asarray(one, float) for one in kept["sums"])
        if sums.shape == self._sums.shape:
            self._rows, self._stretches, self._sums = rows, stretches, sums
