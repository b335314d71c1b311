"""Detects changes in the errors of a version: right and wrong answers, or numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penstock.core.statistics.column_state import ColumnPhase
from penstock.core.statistics.error_dependence import BLOCK, Floats, LabelIndices
from penstock.core.statistics.error_rates import BURSTS, RateWatch

BASELINE = 19 * BLOCK
"""Labels that set the usual errors before any are tested, if the reference does not."""

MOST_WAITED = 20 * BASELINE
"""Labels after which errors that are too few to know their dependence do not delay the tests."""

QUANTILES = (0.5, 0.8, 0.95)
"""Numeric errors are tested as the rates at which they exceed these quantiles of the baseline."""


@dataclass(frozen=True, slots=True)
class ErrorChange:
    """A change that begins, or is over (``begins`` False): its first label (from 0), to more errors or to fewer, and
    the logarithm of the evidence.
    """

    begins: bool
    since: int
    worse: bool
    log_e: float


class ErrorWatch:
    """One version's errors in the order in which their labels came; one thread.

    ``known`` are the wrong and the right answers of a reference. While nothing has changed, changes begin at most once
    in ``budget`` labels on average, and once one has begun the next begins only after evidence (of the same strength)
    that it is over.
    """

    def __init__(self, known: tuple[int, int] | None, budget: float) -> None:
        self._budget = budget
        self._edges: list[float] = []
        self._rates: list[RateWatch] = []
        self._pending: list[float] = []
        self._begun: list[float] = []
        self._labels = 0
        self._change = ErrorChange(False, 0, False, 0.0)
        self.state = ColumnPhase.INSUFFICIENT_DATA
        self.alarms = 0
        if known is not None:
            self._edges, self._rates = [0.5], [RateWatch(known)]

    def take(self, errors: Sequence[float], onset_probability: float = 1.0) -> list[ErrorChange]:
        """Add some more errors, finite numbers, of which a change may begin at the share ``onset_probability``; return
        the changes.
        """
        self._pending += errors
        self._begun += [onset_probability] * len(errors)
        if not self._rates:
            if len(self._pending) < BASELINE:
                return []
            self._set_usual(np.array(self._pending[:BASELINE]))
        changes, whole = [], len(self._pending) - len(self._pending) % BLOCK
        for start in range(0, whole, BLOCK):
            block = slice(start, start + BLOCK)
            result = self._step(self._split(np.array(self._pending[block])), sum(self._begun[block]) / BLOCK)
            changes += [] if result is None else [result]
        del self._pending[:whole], self._begun[:whole]
        return changes

    def _set_usual(self, errors: Floats) -> None:
        """Set the collected errors as the usual ones."""
        values = np.unique(errors)
        self._edges = [0.5]
        if not set(values.tolist()) <= {0.0, 1.0}:
            self._edges = np.unique(np.quantile(errors, QUANTILES)).tolist()
        self._rates = [RateWatch((0, 0)) for _ in self._edges]
        for block in errors.reshape(-1, BLOCK):
            for rate, labels in zip(self._rates, self._split(block), strict=True):
                rate.learn(labels)
        self._labels += len(errors)
        del self._pending[: len(errors)], self._begun[: len(errors)]

    def _split(self, errors: Floats) -> list[LabelIndices]:
        """Return which errors of a block exceed each edge."""
        return [(errors > edge).astype(np.intp) for edge in self._edges]

    def _step(self, blocks: Sequence[LabelIndices], onset_probability: float) -> ErrorChange | None:
        self._labels += BLOCK
        if self.state is ColumnPhase.DRIFT:
            return self._recover(blocks)
        for rate, block in zip(self._rates, blocks, strict=True):
            rate.measure()
            rate.watch(block, onset_probability)
        if self.evidence() >= self._budget:
            return self._begin()
        if self.state is ColumnPhase.INSUFFICIENT_DATA and self._is_informed():
            self.state = ColumnPhase.OK
        return None

    def _begin(self) -> ErrorChange:
        log_e = math.log(self.evidence())
        since, worse = max(self._rates, key=RateWatch.evidence).top()
        for rate in self._rates:
            rate.begin(worse)
        self.alarms += 1
        self.state = ColumnPhase.DRIFT
        self._change = ErrorChange(True, since, worse, log_e)
        return self._change

    def _recover(self, blocks: Sequence[LabelIndices]) -> ErrorChange | None:
        for rate, block in zip(self._rates, blocks, strict=True):
            rate.watch_recovery(block)
        least = min(rate.recovered() for rate in self._rates)
        if least < self._budget:
            return None
        for rate in self._rates:
            rate.restart()
        self.state = ColumnPhase.OK
        return ErrorChange(False, self._labels, self._change.worse, math.log(least))

    def _is_informed(self) -> bool:
        return self._labels >= MOST_WAITED or all(rate.bursts() >= BURSTS for rate in self._rates)

    def evidence(self) -> float:
        """Return the e-SR statistic of all rates together: their mean."""
        return sum(rate.evidence() for rate in self._rates) / len(self._rates) if self._rates else 0.0

    @property
    def rate(self) -> RateWatch | None:
        """Return the rate of wrong answers; None for numeric errors, or while it is unknown."""
        return self._rates[0] if self._edges == [0.5] else None

    def spacing(self) -> int:
        """Return the spacing in labels at which errors are compared, because they depend on each other; 0 without a
        test.
        """
        return max((rate.spacing for rate in self._rates), default=0)

    def baseline(self) -> int:
        """Return the number of labels (and rows of the reference) in the usual rate."""
        return int(self._rates[0].usual()[1]) if self._rates else 0
