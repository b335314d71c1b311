"""Tracks the performance of a version by the labels of all gateways, in the order in which they were stored."""

import logging
import math
from collections.abc import Sequence
from itertools import groupby

from penstock.control.monitoring.label_batches import unpack_rows
from penstock.core.policies import MonitorPolicy
from penstock.monitor.feedback import LabelledRow
from penstock.monitor.performance import Performance, PerformanceChange
from penstock.monitor.reference import Reference
from penstock.registry.records import Document
from penstock.registry.stores.evidence import LabelBatch

log = logging.getLogger("penstock.control")


class FleetPerformance:
    """The performance of one version; one thread at a time may use it. ``emitted`` is the number of the last batch
    whose changes a leader has emitted, ``labels`` the number of labels until then; the database has only the latest.
    ``unreadable`` counts the labels of batches that cannot be read and are left out."""

    def __init__(self, emitted: int = 0, labels: int = 0) -> None:
        self._emitted = self._seen = emitted
        self._labels = labels
        self._performance: Performance | None = None
        self._replayed = False
        self._learned_at: float | None = None
        self.document: Document | None = None
        self.unreadable = 0

    def learn(
        self, batches: Sequence[LabelBatch], reference: Reference | None, policy: MonitorPolicy, now: float
    ) -> list[PerformanceChange]:
        """Learn further batches, and return the changes that have not been emitted yet.

        The first call gets all stored batches; earlier ones among them cause no change.
        """
        changes: list[PerformanceChange] = []
        fresh = [batch for batch in batches if batch.seq > self._seen or not self._replayed]
        self._replayed = True
        self._seen = max([self._seen, *(item.seq for item in fresh)])
        read = [(item.seq <= self._emitted, rows) for item in fresh if (rows := self._rows(item))]
        self._emitted = self._seen
        if not read:
            return changes
        if self._performance is None:
            self._performance = Performance(reference, policy.budget, policy.daily)
        for is_old, group in groupby(read, lambda item: item[0]):
            rows = sorted((row for _, part in group for row in part), key=lambda row: row.at)
            passed_s = self._passed_s(rows, is_old, now)
            before = self._performance.labels
            new_changes = self._performance.learn(rows, passed_s)
            if not is_old:
                self._labels += self._performance.labels - before
                changes += new_changes
        self.document = {**self._performance.document(), "labels": self._labels}
        return changes

    def export_state(self) -> tuple[int, int]:
        """Return the arguments with which another gateway continues: the last emitted batch and the labels."""
        return self._emitted, self._labels

    def _rows(self, batch: LabelBatch) -> list[LabelledRow]:
        """Return the rows of a batch; none if they cannot be read."""
        try:
            return unpack_rows(batch.version, batch.rows)
        except ValueError as fault:
            if not self.unreadable:
                details = batch.model, batch.version, batch.number, batch.gateway, fault
                log.error("model %s version %s: %d labels of gateway %s cannot be read and are left out: %s", *details)
            self.unreadable += batch.number
            return []

    def _passed_s(self, rows: Sequence[LabelledRow], is_old: bool, now: float) -> float:
        if is_old:
            return rows[-1].at - rows[0].at
        before, self._learned_at = self._learned_at, now
        return math.inf if before is None else now - before
