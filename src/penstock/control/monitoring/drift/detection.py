"""Detects drift from the rows that this gateway's workers have counted; its evidence outlives the process."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from penstock.control.monitoring.drift.evidence_file import (
    EvidenceSnapshot,
    ModelEvent,
    VersionEvidence,
    read_evidence,
    write_evidence,
)
from penstock.control.monitoring.drift.history_file import read_histories, write_histories
from penstock.control.monitoring.drift.regions import CounterRegions
from penstock.control.monitoring.drift.resuming import resume_monitor
from penstock.control.monitoring.drift.series import MonitorSeries
from penstock.control.monitoring.terms import WatchTerms
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.core.policies import MonitorPolicy
from penstock.core.versions import VersionKey
from penstock.monitor.counters.layout import Cells
from penstock.monitor.drift_changes import DriftChange
from penstock.monitor.reference import Reference
from penstock.monitor.row_autocorrelation import AT_FIRST
from penstock.monitor.rows import RegionCounts
from penstock.monitor.verdicts import VersionMonitor
from penstock.registry.stores.traffic import TrialEvent

KEEP_S = 10.0
"""Evidence is written at this interval, and at every change."""

FIRST_HISTORY_S = 10.0
HISTORY_S = 300.0
"""The evidence over time is written to the disk after the first of these times, then after twice as long each time,
up to the second one, and at the end: a killed gateway loses the newer half of its line, and at most five minutes."""

ReadRegion = Callable[[int, int], list[Cells]]
"""Returns the region with an offset and a size (cells) of every worker."""

EventOf = Callable[[VersionKey, DriftChange, VersionMonitor], TrialEvent]
"""Returns the event of a change."""


class DriftDetection:
    """The monitors of the versions with a region, for one event loop. ``file`` stores the evidence and, with
    ``event_of``, the events of changes; ``history`` the evidence over time, for the next instance. ``task`` continues
    if one version fails; ``clock`` gives seconds since the epoch."""

    def __init__(
        self,
        terms: WatchTerms,
        regions: CounterRegions,
        read: ReadRegion,
        file: Path,
        history: Path,
        task: PeriodicTask,
        clock: Callable[[], float],
        event_of: EventOf | None = None,
    ) -> None:
        self._terms = terms
        self._regions = regions
        self._read = read
        self._file = file
        self._due: KeyedWork[VersionKey] = KeyedWork(task, "drift is not judged of")
        self._clock = clock
        self._event_of = event_of
        snapshot = read_evidence(file)
        self._kept, self._events = snapshot.versions, list(snapshot.events)
        self.series = MonitorSeries({key: item.carried for key, item in self._kept.items()})
        self._monitors: dict[VersionKey, VersionMonitor] = {}
        self._history = history
        self._earlier = dict(read_histories(history))
        self._history_at, self._history_pause_s = clock(), FIRST_HISTORY_S
        self._kept_at = 0.0
        self._alarms = 0

    def monitor(self, key: VersionKey) -> VersionMonitor | None:
        """Return a version's monitor, None before the first look."""
        return self._monitors.get(key)

    def correlation(self, key: VersionKey) -> float:
        """Return the autocorrelation of a version's rows, as it is assumed before the first look."""
        monitor = self._monitors.get(key)
        return AT_FIRST if monitor is None else monitor.correlation

    def problem(self, key: VersionKey) -> str:
        """Return why a version has no verdict, "" if it has one."""
        return self._due.problem(key)

    def forget(self, key: VersionKey) -> None:
        """Drop the monitor of a version, whose reference or region has changed."""
        self._monitors.pop(key, None)

    def update_policy(self, model: str, policy: MonitorPolicy) -> None:
        """Use a new policy of a model."""
        for (name, _), monitor in self._monitors.items():
            if name == model:
                monitor.policy = policy

    def evaluate(self) -> list[tuple[VersionKey, DriftChange]]:
        """Evaluate the counts of all workers, and return the changes since the last look."""
        changes: list[tuple[VersionKey, DriftChange]] = []
        now = self._clock()
        for key in self._due.due(self._regions):
            with self._due.isolated(key):
                new = self._changes(key, now)
                changes += [(key, change) for change in new]
                self._note_events(key, new)
        alarms = sum(monitor.alarms for monitor in self._monitors.values())
        if changes or alarms != self._alarms or self.series.is_unsaved or now - self._kept_at >= KEEP_S:
            self._kept_at, self._alarms = now, alarms
            self.write_evidence()
        if now - self._history_at >= self._history_pause_s and self._monitors:
            self._history_at, self._history_pause_s = now, min(2 * self._history_pause_s, HISTORY_S)
            self.write_history()
        return changes

    def take_events(self) -> list[ModelEvent]:
        """Return the stored events of changes, once; an earlier process may have emitted some of them."""
        events, self._events = self._events, []
        return events

    def _note_events(self, key: VersionKey, changes: Sequence[DriftChange]) -> None:
        monitor = self._monitors.get(key)
        if monitor is not None and self._event_of is not None:
            self._events += [(key[0], self._event_of(key, change, monitor)) for change in changes]

    def _changes(self, key: VersionKey, now: float) -> list[DriftChange]:
        """Return the changes of one version since the last look."""
        region, (reference, policy) = self._regions.get(key), self._terms.of_gateway(key)
        if region is None or reference is None or self._terms.references.digest(key) != region.digest:
            return []
        policy = replace(policy, slices=region.keys)
        counted = RegionCounts.of(reference, self._read(region.offset, region.size), region.keys)
        monitor = self._monitors.get(key)
        if monitor is None:
            monitor = self._monitors[key] = self._opened(key, reference, policy, counted, now)
        monitor.policy = policy
        return monitor.evaluate(counted, now)

    def _opened(
        self, key: VersionKey, reference: Reference, policy: MonitorPolicy, counted: RegionCounts, now: float
    ) -> VersionMonitor:
        """Return a monitor that continues with the evidence of the previous process."""
        snapshot = self._kept.pop(key, None)
        digest, (before, history) = self._terms.references.digest(key), self._earlier.pop(key, (None, None))
        same = snapshot is not None and snapshot.digest == digest
        monitor = resume_monitor(
            reference, policy, counted, now, snapshot.evidence if snapshot is not None and same else None
        )
        if snapshot is None and history is not None and before == digest:
            monitor.history.restore_state(history)
        return monitor

    def write_evidence(self) -> None:
        """Write the evidence to the file, for the next process."""
        self.series.is_unsaved = False
        digest, before = self._terms.references.digest, self.series.before
        snapshot = {
            key: VersionEvidence(digest(key), monitor.export_state(), before(key))
            for key, monitor in self._monitors.items()
        }
        write_evidence(self._file, EvidenceSnapshot(snapshot, tuple(self._events)))

    def write_history(self) -> None:
        """Write the evidence over time to the disk, for the next instance; served versions that have yet to be looked
        at keep what the last one has written."""
        digest, served = self._terms.references.digest, self._terms.served()
        earlier = {key: item for key, item in self._earlier.items() if key in served}
        shown = {key: (digest(key), monitor.history.export_state()) for key, monitor in self._monitors.items()}
        if earlier or shown:
            write_histories(self._history, {**earlier, **shown})
