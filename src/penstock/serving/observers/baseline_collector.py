"""Gathers the first rows of a version that has no reference, from which one is made."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from penstock.core.tensors import Tensor
from penstock.monitor.columns import Columns, Rows
from penstock.monitor.reference import SCORE_BINS, ConfidenceHistogram, confidence_of, score_bins
from penstock.monitor.rows import Exchange

Learned = Callable[[list[Rows], list[Rows], ConfidenceHistogram | None], None]
"""Takes the rows of requests and of answers that were gathered, and how sure the answers were."""

MAX_GATHERED_BYTES: Final = 4 << 20
"""Rows are handed over once they take so much, however few they are."""


class BaselineCollector:
    """Gathers the first rows of a version that has no reference, and hands them over once there are enough."""

    def __init__(self, columns: tuple[Columns, Columns], enough: int, learned: Learned) -> None:
        self._inputs, self._outputs = columns
        self._enough = enough
        self._learned = learned
        self._gathered: tuple[list[Rows], list[Rows]] = [], []
        self._rows = 0
        self._classes = 0
        self._sure = np.zeros(SCORE_BINS, np.intp)
        self._done = False

    def count(self, exchanges: Sequence[Exchange]) -> None:
        """See ``row_sampler.Counter``."""
        for inputs, outputs in () if self._done else exchanges:
            self._take(inputs, outputs)
            if self._rows >= self._enough or self._rows * self._width >= MAX_GATHERED_BYTES:
                self._done = True
                self._learned(*self._gathered, self._confidence())
                self._gathered = [], []
                return

    def drop(self, rows: int) -> None:
        """See ``row_sampler.Counter``: rows that were not gathered are missed by nobody."""

    @property
    def _width(self) -> int:
        return 8 * (len(self._inputs.numbers) + len(self._outputs.numbers)) + 32 * len(self._inputs.labels)

    def _take(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        given, answered = self._inputs(inputs), self._outputs(outputs)
        if given is not None and answered is not None and len(given) == len(answered):
            self._gathered[0].append(given)
            self._gathered[1].append(answered)
            self._rows += len(given)
            self._take_scores(outputs)

    def _take_scores(self, outputs: Sequence[Tensor]) -> None:
        scores = self._outputs.scores(outputs)
        sure = None if scores is None or scores.shape[1] < 2 else confidence_of(scores)
        if scores is None or sure is None:
            self._classes = -1  # no probabilities, once and for all
        elif self._classes >= 0:
            self._classes = scores.shape[1]
            self._sure += np.bincount(score_bins(sure), minlength=SCORE_BINS)

    def _confidence(self) -> ConfidenceHistogram | None:
        return ConfidenceHistogram(self._classes, tuple(self._sure.tolist())) if self._classes > 0 else None
