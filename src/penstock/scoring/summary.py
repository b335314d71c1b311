"""Adds up what a scoring run reports: rows, failed rows, metrics, drift, and disagreements with another version."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from penstock.scoring.drift import BatchDrift
from penstock.scoring.metrics import LabelMetrics
from penstock.scoring.rows import ScoredRows

SHOWN_ROWS: Final = 20
"""Disagreeing rows that are named."""

Document = dict[str, Any]


class RunSummary:
    """The summary of one run. Of one thread at a time; ``clock`` is monotonic, in seconds."""

    def __init__(
        self, drift: BatchDrift | None = None, against: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._drift = drift
        self._against = against
        self._metrics: LabelMetrics | None = None
        self._clock, self._began = clock, clock()
        self.rows = self.failed = self.resumed = 0
        self.disagreeing = 0
        self._first_disagreeing: list[int] = []
        self._max_abs_diff = 0.0

    @property
    def needs_inputs(self) -> bool:
        """Whether the inputs of rows are needed that were scored before."""
        return self._drift is not None

    @property
    def disagreement(self) -> float:
        """Return the share of the scored rows with which the other version disagrees."""
        return self.disagreeing / max(1, self.rows - self.failed)

    def add(self, first: int, scored: ScoredRows, labels: Sequence[Any] | None, is_known: bool = False) -> None:
        """Add the rows from ``first`` on, with the labels of those that could be scored; ``is_known``: they were scored
        before."""
        self.rows += scored.rows
        self.failed += len(scored.faults)
        self.resumed += scored.rows if is_known else 0
        if labels is not None:
            self._metrics = self._metrics or LabelMetrics()
            self._metrics.add(scored.outputs, labels)
        if self._drift is not None:
            self._drift.add(scored.inputs, scored.outputs)
        if scored.disagreeing:
            self._disagree(first, scored, scored.disagreeing)
        self._max_abs_diff = max(self._max_abs_diff, scored.max_abs_diff)

    def _disagree(self, first: int, scored: ScoredRows, places: Sequence[int]) -> None:
        self.disagreeing += len(places)
        more = SHOWN_ROWS - len(self._first_disagreeing)
        if more > 0:
            good = scored.good if scored.faults else range(scored.rows)
            self._first_disagreeing += [first + good[place] for place in places[:more]]

    def drift(self) -> Document | None:
        """Return the drift report, None without a monitor."""
        return None if self._drift is None else self._drift.document()

    def document(self) -> Document:
        """Return the summary as JSON values."""
        seconds = self._clock() - self._began
        return {
            "rows": self.rows,
            "failed": self.failed,
            "resumed": self.resumed,
            "seconds": round(seconds, 3),
            "rows_per_second": round((self.rows - self.resumed) / seconds) if seconds > 0 else None,
            **({} if self._metrics is None else {"performance": self._metrics.document()}),
            **({} if not self._against else {"against": self._comparison()}),
        }

    def _comparison(self) -> Document:
        return {
            "version": self._against,
            "rows": self.rows - self.failed,
            "disagreements": self.disagreeing,
            "share": self.disagreement,
            "max_abs_diff": self._max_abs_diff,
            "first_rows": self._first_disagreeing,
        }
