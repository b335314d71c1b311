"""The evidence of the fleet: each gateway publishes its counts, and the leader looks at their sum.

A verdict, the counts that it rests on and its events are stored in one transaction. So the next leader continues
exactly there, an event is emitted once, and a deposed leader can change nothing.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from penstock.control.calls.blocking import READ_S
from penstock.control.monitoring.drift.resuming import resume_monitor
from penstock.control.monitoring.fleet_performance import FleetPerformance
from penstock.control.monitoring.label_batches import LabelBatches
from penstock.control.monitoring.publication import CountsLayout, VersionCounts, add_ended, sum_published
from penstock.control.monitoring.publisher import Publisher
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.core.errors import Conflict, NotReady
from penstock.core.policies import MonitorPolicy
from penstock.core.versions import VersionKey
from penstock.monitor.counters.totals import Totals
from penstock.monitor.drift_changes import DriftChange
from penstock.monitor.performance import NO_LABELS, PerformanceChange
from penstock.monitor.reference import Reference
from penstock.monitor.rows import RegionCounts
from penstock.monitor.shown_columns import ALL_COLUMNS, ShownColumns
from penstock.monitor.verdicts import VersionMonitor
from penstock.registry.records import Document
from penstock.registry.stores.evidence import EvidenceStore, LabelBatch, VersionVerdict
from penstock.registry.stores.traffic import TrialEvent

log = logging.getLogger("penstock.control")

INTERVAL_S = 5.0
"""Interval of publications and looks; a gateway that ends loses its counts since the last one."""

KEEP_S = 10.0
"""Verdicts are stored at this interval, and at every change."""

MOST_LABELS = 10_000
"""The most labelled rows of a version that a new leader replays."""

RETIRE_EVERY = 12
"""Steps between two additions of the rows of ended gateways."""

EMITTED = "told"
"""The field of a stored summary with the number of alarms that each gateway has emitted."""

Run = Callable[..., Awaitable[Any]]


class VersionWatcher(Protocol):
    """The versions that the gateway watches."""

    def own_counts(self) -> dict[VersionKey, VersionCounts]:
        """Return the gateway's counts of every served version."""

    def terms(self, key: VersionKey) -> tuple[Reference | None, MonitorPolicy]:
        """Return a version's reference, and its policy with the keys that rows are sliced by."""

    def event_of(self, key: VersionKey, change: DriftChange, monitor: VersionMonitor) -> TrialEvent:
        """Return the event of a drift change."""

    def performance_event_of(self, key: VersionKey, change: PerformanceChange) -> TrialEvent:
        """Return the event of a performance change."""

    def document_of(
        self,
        key: VersionKey,
        monitor: VersionMonitor | None,
        totals: Totals,
        performance: Document | None = None,
        shown: ShownColumns = ALL_COLUMNS,
    ) -> Document:
        """Return the document of a version."""


@dataclass(slots=True)
class _FleetVersion:
    """The leader's conclusions on a version. ``counts`` are the last ones looked at; ``events`` are not stored yet.
    ``emitted`` is the number of alarms that each gateway has emitted; it includes ``alarms`` of the monitor's."""

    shape: CountsLayout
    monitor: VersionMonitor | None
    counts: VersionCounts
    performance: FleetPerformance
    revision: int
    concluded_at: float = float("-inf")
    alarms: int = 0
    emitted: dict[str, int] = field(default_factory=dict)
    events: list[TrialEvent] = field(default_factory=list)


class FleetEvidence:
    """One gateway's part in the fleet's evidence. ``run`` runs blocking calls on a thread; ``notes`` is a file that
    lives as long as the gateway's counters. Methods belong to the event loop."""

    def __init__(self, store: EvidenceStore, gateway: str, watched: VersionWatcher, run: Run, notes: Path) -> None:
        self._store = store
        self._gateway = gateway
        self._publisher = Publisher(store, gateway, notes)
        self.labels = LabelBatches(gateway)
        self._watched = watched
        self._run = run
        self._versions: dict[VersionKey, _FleetVersion] = {}
        self._summaries: dict[VersionKey, Document] = {}
        meanwhile = "the counts of all gateways are not summed"
        self.task = PeriodicTask("evidence", self.step, INTERVAL_S, meanwhile=meanwhile)
        self._keyed: KeyedWork[VersionKey] = KeyedWork(self.task, "no verdict by all gateways of", shared=(NotReady,))
        self._leads = self._known = False
        self._labels_upto: int | None = None
        self._steps = 0

    # Queries.

    @property
    def is_known(self) -> bool:
        """Whether this gateway leads and has looked at the counts of all gateways."""
        return self._known

    def describe(self, key: VersionKey, shown: ShownColumns = ALL_COLUMNS) -> Document | None:
        """Return the fleet's document of a version; None if this gateway does not lead, or there are no counts."""
        version = self._versions.get(key)
        return None if version is None else self._document(key, version, shown)

    def monitor(self, key: VersionKey) -> VersionMonitor | None:
        """Return the monitor of a version by the counts of all gateways; None if this gateway does not lead, or the
        version is not watched."""
        version = self._versions.get(key)
        return None if version is None else version.monitor

    def summary(self, key: VersionKey) -> Document | None:
        """Return the summary of a version's verdict, the same at every gateway, but for ``alarms``.

        ``alarms`` counts those that this gateway has emitted: the sum over all gateways is the total. None while there
        is not a verdict.
        """
        summary = self._summaries.get(key)
        return {**summary, "alarms": summary.get(EMITTED, {}).get(self._gateway, 0)} if summary else None

    def unreadable(self) -> dict[VersionKey, int]:
        """Return the number of labels by version that this leader cannot read."""
        return {
            key: version.performance.unreadable
            for key, version in self._versions.items()
            if version.performance.unreadable
        }

    async def document(self, key: VersionKey, shown: ShownColumns = ALL_COLUMNS) -> Document | None:
        """Return the fleet's document of a version, from the leader's last verdict, which has all columns; raises
        ``NotReady``."""
        if (document := self.describe(key, shown)) is not None:
            return document
        verdict = await self.verdict(key)
        return None if verdict is None else verdict.document

    async def verdict(self, key: VersionKey) -> VersionVerdict | None:
        """Return the leader's last verdict on a version, None without one; raises ``NotReady``."""
        verdict: VersionVerdict | None = await self._run(self._store.verdict, *key, deadline_s=READ_S)
        return verdict

    # The periodic task.

    async def step(self) -> None:
        """Publish this gateway's counts; as the leader, look at the counts of all gateways.

        Raises:
            NotReady: the database is unreachable.
            OSError: the publisher's notes cannot be written.
        """
        own = self._watched.own_counts()
        await self._run(self._publisher.publish, own)
        await self._run(self._publish_labels)
        self._leads = await self._run(self._store.acquire_leadership)
        if not self._leads:
            self._versions.clear()
            self._known, self._labels_upto = False, None
            self._summaries = await self._run(self._store.summaries)
            return
        await self._evaluate_fleet({key: item.shape for key, item in own.items()})

    def _publish_labels(self) -> None:
        if batches := self.labels.batches():
            self._store.add_labels(batches)
            self.labels.forget_current()

    async def _evaluate_fleet(self, shapes: Mapping[VersionKey, CountsLayout]) -> None:
        self._versions = {key: version for key, version in self._versions.items() if key in shapes}
        if self._labels_upto is None:
            self._labels_upto = await self._run(self._store.last_label)  # a new version reads its own labels
        batches: list[LabelBatch] = await self._run(self._store.labels, self._labels_upto)
        labels = _by_version(batches)
        counts: dict[VersionKey, VersionCounts] = await self._run(self._read, shapes)
        for key in self._keyed.due(counts):
            with self._keyed.isolated(key):
                await self._evaluate_or_restart(key, counts[key], labels.get(key, ()))
        # Only now: after a failed step the next one reads them again, and none is learned twice.
        self._labels_upto = max([self._labels_upto, *(batch.seq for batch in batches)])
        self._known = True
        self._steps += 1
        if self._steps % RETIRE_EVERY == 0:
            await self._run(self._store.trim_labels, MOST_LABELS)
            await self._run(self._store.retire, partial(add_ended, shapes))
            await self._run(self._store.forget, set(shapes))

    def _read(self, shapes: Mapping[VersionKey, CountsLayout]) -> dict[VersionKey, VersionCounts]:
        return sum_published(self._store.published(), shapes)

    def problem(self, key: VersionKey) -> str:
        """Return why a version has no verdict, "" if it has one."""
        return self._keyed.problem(key)

    async def _evaluate_or_restart(self, key: VersionKey, counts: VersionCounts, labels: Sequence[LabelBatch]) -> None:
        try:
            await self._evaluate(key, counts, labels)
        except NotReady:
            raise
        except Conflict as fault:
            log.warning("model %s version %s: this gateway restarts from the stored verdict: %s", *key, fault)
            self._versions.pop(key, None)
        except Exception:
            self._versions.pop(key, None)  # a look gets each label once: the next one reads all of them again
            raise

    async def _evaluate(self, key: VersionKey, counts: VersionCounts, labels: Sequence[LabelBatch]) -> None:
        version, now = self._versions.get(key), self._store.now()
        if version is None or version.shape.id != counts.shape.id:
            version = await self._open_version(key, counts, now)
            labels = await self._run(self._store.labels_of, *key)
        version.counts = counts
        reference, policy = self._watched.terms(key)
        if reference is not None and version.monitor is not None:
            version.monitor = self._evaluate_rows(key, version, version.monitor, reference, policy, now)
        learned = await self._run(version.performance.learn, labels, reference, policy, now)
        self._versions[key] = version  # only now: a version that starts without its labels would never learn them
        version.events += [self._watched.performance_event_of(key, item) for item in learned]
        alarms = 0 if version.monitor is None else version.monitor.alarms
        if version.events or alarms != version.alarms or now - version.concluded_at >= KEEP_S:
            await self._conclude(key, version, alarms, now)

    def _evaluate_rows(
        self,
        key: VersionKey,
        version: _FleetVersion,
        monitor: VersionMonitor,
        reference: Reference,
        policy: MonitorPolicy,
        now: float,
    ) -> VersionMonitor:
        """Return the monitor after a look; a new one if counts have become fewer."""
        counted = region_counts(reference, policy, version.counts)
        if not counted.covers(monitor.last):
            monitor = resume_monitor(reference, policy, counted, now, monitor.export_state())
        monitor.policy = policy
        version.events += [self._watched.event_of(key, item, monitor) for item in monitor.evaluate(counted, now)]
        return monitor

    async def _open_version(self, key: VersionKey, counts: VersionCounts, now: float) -> _FleetVersion:
        """Continue with the verdict of the previous leader."""
        verdict: VersionVerdict | None = await self._run(self._store.verdict, *key)
        revision = 0 if verdict is None else verdict.revision
        (reference, policy), monitor = self._watched.terms(key), None
        evidence = {} if verdict is None else verdict.evidence
        if reference is not None and counts.shape.layout is not None:
            same = verdict is not None and verdict.layout == counts.shape.id
            rows = evidence.get("rows") if same else None
            monitor = resume_monitor(reference, policy, region_counts(reference, policy, counts), now, rows)
        version = _FleetVersion(
            counts.shape, monitor, counts, FleetPerformance(*evidence.get("labels", (0, 0))), revision
        )
        version.emitted = {} if verdict is None else dict(verdict.summary.get(EMITTED, {}))
        version.alarms = 0 if monitor is None else monitor.alarms
        return version

    async def _conclude(self, key: VersionKey, version: _FleetVersion, alarms: int, now: float) -> None:
        monitor, document = version.monitor, self._document(key, version)
        emitted = self._emitted_with(version, alarms)
        summary = {**_summarise(monitor), EMITTED: emitted}
        evidence = {
            "rows": None if monitor is None else monitor.export_state(),
            "labels": version.performance.export_state(),
        }
        verdict = VersionVerdict(version.shape.id, version.revision + 1, evidence, summary, document)
        await self._run(self._store.conclude, key, verdict, tuple(version.events))
        version.revision, version.concluded_at = verdict.revision, now
        version.alarms, version.emitted = alarms, emitted
        version.events.clear()
        self._summaries[key] = summary

    def _emitted_with(self, version: _FleetVersion, alarms: int) -> dict[str, int]:
        """Return the number of alarms that each living gateway has emitted, including those of this verdict."""
        living = {name: number for name, number in version.emitted.items() if name in version.counts.gateways}
        own = version.emitted.get(self._gateway, 0) + max(0, alarms - version.alarms)
        return {**living, self._gateway: own} if own else living

    def _document(self, key: VersionKey, version: _FleetVersion, shown: ShownColumns = ALL_COLUMNS) -> Document:
        counts = version.counts
        performance = {**(version.performance.document or NO_LABELS), "outcomes": dict(counts.outcomes)}
        if version.performance.unreadable:
            performance["unreadable"] = version.performance.unreadable
        document = self._watched.document_of(key, version.monitor, counts.totals, performance, shown)
        return {**document, "gateways": list(counts.gateways)}


def _by_version(batches: Sequence[LabelBatch]) -> dict[VersionKey, list[LabelBatch]]:
    by_version: dict[VersionKey, list[LabelBatch]] = {}
    for batch in batches:
        by_version.setdefault((batch.model, batch.version), []).append(batch)
    return by_version


def region_counts(reference: Reference, policy: MonitorPolicy, counts: VersionCounts) -> RegionCounts:
    """Return counts as a monitor takes them."""
    return replace(RegionCounts.of(reference, [counts.cells], policy.slices), workers=counts.workers)


def _summarise(monitor: VersionMonitor | None) -> Document:
    """Return the state of each column and its log evidence of change."""
    if monitor is None:
        return {"columns": {}}
    names = [feature.bins.name for feature in monitor.reference.features]
    states, evidence = [item.value for item in monitor.states()], monitor.evidence()
    columns = {name: [state, log_e] for name, state, log_e in zip(names, states, evidence, strict=True)}
    return {"columns": columns}
