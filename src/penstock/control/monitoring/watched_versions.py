"""The watched versions of this gateway: their counts, their documents, and the events of changes."""

import logging
from collections.abc import Callable

import numpy as np

from penstock.control.monitoring.drift.regions import CounterRegions
from penstock.control.monitoring.events import drift_event, performance_event
from penstock.control.monitoring.feedback import FeedbackMonitor
from penstock.control.monitoring.publication import CountsLayout, VersionCounts, layout_id
from penstock.control.monitoring.terms import WatchTerms
from penstock.control.monitoring.version_document import version_document
from penstock.control.monitoring.workers import MonitoredWorkers
from penstock.core.policies import MonitorPolicy
from penstock.core.versions import VersionKey
from penstock.monitor.counters.layout import Cells
from penstock.monitor.counters.totals import Totals
from penstock.monitor.drift_changes import DriftChange
from penstock.monitor.performance import PerformanceChange
from penstock.monitor.reference import Reference
from penstock.monitor.rows import RegionCounts, RegionLayout
from penstock.monitor.shown_columns import ALL_COLUMNS, ShownColumns
from penstock.monitor.verdicts import VersionMonitor
from penstock.registry.records import Document
from penstock.registry.stores.traffic import TrialEvent

log = logging.getLogger("penstock.control")


class WatchedVersions:
    """Serves the verdicts of this gateway and those of the fleet (``fleet_evidence.Watched``). ``clock`` gives seconds
    since the epoch."""

    def __init__(
        self,
        workers: MonitoredWorkers,
        terms: WatchTerms,
        regions: CounterRegions,
        labels: FeedbackMonitor,
        clock: Callable[[], float],
    ) -> None:
        self._workers = workers
        self._terms = terms
        self._regions = regions
        self._labels = labels
        self._clock = clock

    def terms(self, key: VersionKey) -> tuple[Reference | None, MonitorPolicy]:
        """Return a version's reference, and its policy within the fleet's bound of false alarms."""
        return self._terms.of_fleet(key)

    def own_counts(self) -> dict[VersionKey, VersionCounts]:
        """Return this gateway's counts of every served version."""
        return {key: self._own_counts(key) for key in self._terms.served()}

    def _own_counts(self, key: VersionKey) -> VersionCounts:
        block, (reference, policy) = self._workers.totals(*key).cells, self.terms(key)
        digest, outcomes = self._terms.references.digest(key), self._labels.outcomes(key)
        if reference is None or digest is None:
            return VersionCounts(CountsLayout(), np.zeros(0, np.uint64), 0, block, outcomes=outcomes)
        shape = CountsLayout(layout_id(digest, policy.slices), RegionLayout.of(reference, policy.slices))
        cells = self._cells(key, shape)
        counted = RegionCounts.of(reference, cells, policy.slices)
        return VersionCounts(shape, counted.cells, counted.workers, block, outcomes=outcomes)

    def _cells(self, key: VersionKey, shape: CountsLayout) -> list[Cells]:
        """Return every worker's cells of a version's region; none if its counts have another shape."""
        region = self._regions.get(key)
        if region is None or layout_id(region.digest, region.keys) != shape.id:
            return []
        return self._workers.regions(region.offset, region.size)

    def event_of(self, key: VersionKey, change: DriftChange, monitor: VersionMonitor) -> TrialEvent:
        """Log a drift change, and return its event."""
        digest, budget = self._terms.references.digest(key), self._terms.policies.of(key[0]).budget
        event = drift_event(key, change, monitor.affected_columns(change.about), digest, budget, self._clock())
        log.warning("model %s version %s: %s", *key, event.data["message"])
        return event

    def performance_event_of(self, key: VersionKey, change: PerformanceChange) -> TrialEvent:
        """Log a performance change, and return its event."""
        log.warning(
            "model %s version %s: %s %s", *key, change.what, "has degraded" if change.begins else "has recovered"
        )
        return performance_event(key, change, self._terms.policies.of(key[0]).budget, self._clock())

    def document_of(
        self,
        key: VersionKey,
        monitor: VersionMonitor | None,
        totals: Totals,
        performance: Document | None = None,
        shown: ShownColumns = ALL_COLUMNS,
    ) -> Document:
        """Return the document of a version from its monitor, the counts of its requests, and its labels (by default
        those that this gateway has joined)."""
        labels = performance or self._labels.document(key)
        objectives = self._terms.policies.of(key[0]).objectives
        return version_document(monitor, totals, labels, objectives, self._terms.multiplicity(), shown)
