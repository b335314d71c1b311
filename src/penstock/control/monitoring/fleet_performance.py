"""How good a version has been by the labels that all gateways have joined, in the order in which they were told."""

import math
from collections.abc import Sequence
from itertools import groupby

from penstock.control.monitoring.label_batches import unpack_rows
from penstock.core.policies import MonitorPolicy
from penstock.monitor.performance import Performance, PerformanceChange
from penstock.monitor.reference import Reference
from penstock.monitor.told import Joined
from penstock.registry.records import Document
from penstock.registry.stores.evidence import LabelBatch


class FleetPerformance:
    """One version's; one thread at a time may use it. ``told`` is the number of the last batch whose changes were told
    of, by whoever led then, and ``labels`` how many labels there had been: not all of them are kept."""

    def __init__(self, told: int = 0, labels: int = 0) -> None:
        self._told = self._seen = told
        self._labels = labels
        self._performance: Performance | None = None
        self._replayed = False
        self._learned_at: float | None = None
        self.document: Document | None = None

    def learn(
        self, batches: Sequence[LabelBatch], reference: Reference | None, policy: MonitorPolicy, now: float
    ) -> list[PerformanceChange]:
        """Take further batches in; what has changed by those that were not told of. The first ones are all that are
        kept; earlier ones among them teach without a word."""
        changes: list[PerformanceChange] = []
        fresh = [one for one in batches if one.seq > self._seen or not self._replayed]
        self._replayed = True
        if not fresh:
            return changes
        if self._performance is None:
            self._performance = Performance(reference, policy.budget, policy.daily)
        for is_old, group in groupby(fresh, lambda one: one.seq <= self._told):
            rows = _in_order(list(group))
            passed_s = self._passed_s(rows, is_old, now)
            before = self._performance.labels
            found = self._performance.learn(rows, passed_s)
            if not is_old:
                self._labels += self._performance.labels - before
                changes += found
        self._seen = max(self._seen, *(one.seq for one in fresh))
        self._told = self._seen
        self.document = {**self._performance.document(), "labels": self._labels}
        return changes

    def kept(self) -> tuple[int, int]:
        """What another gateway makes its own of."""
        return self._told, self._labels

    def _passed_s(self, rows: Sequence[Joined], is_old: bool, now: float) -> float:
        if is_old:
            return rows[-1].at - rows[0].at
        before, self._learned_at = self._learned_at, now
        return math.inf if before is None else now - before


def _in_order(batches: Sequence[LabelBatch]) -> list[Joined]:
    """The rows of batches of all gateways in the order in which they were told."""
    rows = [row for one in batches for row in unpack_rows(one.version, one.rows)]
    return sorted(rows, key=lambda row: row.at)
