"""The evidence of all gateways: each publishes what it has counted, and the one that leads looks at the sum.

What is concluded is kept in the database with the counts that it was drawn from, in one transaction with the events of
it. So another gateway goes on exactly there, an event is told once, and a gateway that has led without knowing that
another one does now can change nothing.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from penstock.control.calls.blocking import READ_S
from penstock.control.monitoring.drift.resuming import resumed
from penstock.control.monitoring.fleet_performance import FleetPerformance
from penstock.control.monitoring.label_batches import LabelBatches
from penstock.control.monitoring.publication import Counts, Shape, ended, summed
from penstock.control.monitoring.publisher import Publisher
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.core.errors import Conflict, NotReady
from penstock.core.policies import MonitorPolicy
from penstock.core.versions import VersionKey
from penstock.monitor.counters.totals import Totals
from penstock.monitor.drift_changes import DriftChange
from penstock.monitor.performance import NO_LABELS, PerformanceChange
from penstock.monitor.reference import Reference
from penstock.monitor.rows import Counted
from penstock.monitor.verdicts import VersionMonitor
from penstock.registry.records import Document
from penstock.registry.stores.evidence import EvidenceStore, LabelBatch, Verdict
from penstock.registry.stores.traffic import Event

log = logging.getLogger("penstock.control")

INTERVAL_S = 5.0
"""Counts are published and looked at that often: what a gateway that ends had counted since is lost."""

KEEP_S = 10.0
"""What is concluded is written down that often, and at every change."""

MOST_LABELS = 10_000
"""Labelled rows of a version that a gateway which begins to lead learns anew from."""

RETIRE_EVERY = 12
"""Steps between two times at which the rows of gateways that have ended are added up."""

T = TypeVar("T")
Run = Callable[..., Awaitable[Any]]


class Watched(Protocol):
    """What the gateway knows of the versions that it watches."""

    def own_counts(self) -> dict[VersionKey, Counts]:
        """What it has counted of every version that it serves."""

    def terms(self, key: VersionKey) -> tuple[Reference | None, MonitorPolicy]:
        """A version's reference, and its policy with the keys that rows are sliced by."""

    def event_of(self, key: VersionKey, change: DriftChange, monitor: VersionMonitor) -> Event:
        """What is told of a change."""

    def performance_event_of(self, key: VersionKey, change: PerformanceChange) -> Event:
        """What is told of a change that labels show."""

    def document_of(
        self, key: VersionKey, monitor: VersionMonitor | None, totals: Totals, performance: Document | None = None
    ) -> Document:
        """What is shown of a version."""


@dataclass(slots=True)
class _Version:
    """What this gateway concludes of a version while it leads: of ``counts``, the last ones that were looked at;
    ``events`` are not written down yet. ``told`` is how many alarms each gateway has told of, ``alarms`` how many
    of the monitor's are in it."""

    shape: Shape
    monitor: VersionMonitor | None
    counts: Counts
    performance: FleetPerformance
    revision: int
    concluded_at: float = float("-inf")
    alarms: int = 0
    told: dict[str, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)


class FleetEvidence:
    """One gateway's part in it; ``run`` runs what blocks on a thread, ``notes`` is a file that lives as long as the
    gateway's counters."""

    def __init__(self, store: EvidenceStore, gateway: str, watched: Watched, run: Run, notes: Path) -> None:
        self._store = store
        self._gateway = gateway
        self._publisher = Publisher(store, gateway, notes)
        self.labels = LabelBatches(gateway)
        self._watched = watched
        self._run = run
        self._versions: dict[VersionKey, _Version] = {}
        self._summaries: dict[VersionKey, Document] = {}
        meanwhile = "the counts of all gateways cannot be put together"
        self.task = PeriodicTask("evidence", self.step, INTERVAL_S, meanwhile=meanwhile)
        self._keyed: KeyedWork[VersionKey] = KeyedWork(self.task, "no verdict by all gateways of", shared=(NotReady,))
        self._leads = self._known = False
        self._labels_upto: int | None = None
        self._steps = 0

    # What others ask.

    @property
    def is_known(self) -> bool:
        """Whether this gateway leads and has looked at the counts of all."""
        return self._known

    def told(self, key: VersionKey) -> Document | None:
        """What is concluded of a version from all counts; None where this gateway does not lead, or nobody has
        counted."""
        found = self._versions.get(key)
        return None if found is None else self._document(key, found)

    def summary(self, key: VersionKey) -> Document | None:
        """What every gateway shows of a version's verdict, with the ``alarms`` that this one has told of: those of all
        gateways add up to all alarms. None while nothing is known."""
        found = self._summaries.get(key)
        return {**found, "alarms": found.get("told", {}).get(self._gateway, 0)} if found else None

    def unreadable(self) -> dict[VersionKey, int]:
        """Labels of each version that this gateway has left out, while it leads, since they cannot be read."""
        return {key: one.performance.unreadable for key, one in self._versions.items() if one.performance.unreadable}

    async def document(self, key: VersionKey) -> Document | None:
        """The same, by whoever leads: as it was written down last. Raises ``NotReady``."""
        if (told := self.told(key)) is not None:
            return told
        verdict: Verdict | None = await self._run(self._store.verdict, *key, deadline_s=READ_S)
        return None if verdict is None else verdict.document

    # What happens by itself.

    async def step(self) -> None:
        """Publish what was counted here; where this gateway leads, look at what all have counted.

        Raises:
            NotReady: the database is away.
            OSError: what is published cannot be noted.
        """
        own = self._watched.own_counts()
        await self._run(self._publisher.publish, own)
        await self._run(self._publish_labels)
        self._leads = await self._run(self._store.lead)
        if not self._leads:
            self._versions.clear()
            self._known, self._labels_upto = False, None
            self._summaries = await self._run(self._store.summaries)
            return
        await self._lead({key: one.shape for key, one in own.items()})

    def _publish_labels(self) -> None:
        if batches := self.labels.batches():
            self._store.add_labels(batches)
            self.labels.written()

    async def _lead(self, shapes: Mapping[VersionKey, Shape]) -> None:
        self._versions = {key: one for key, one in self._versions.items() if key in shapes}
        if self._labels_upto is None:
            self._labels_upto = await self._run(self._store.last_label)  # a version that is begun with reads its own
        batches: list[LabelBatch] = await self._run(self._store.labels, self._labels_upto)
        labels = _by_version(batches)
        found: dict[VersionKey, Counts] = await self._run(self._read, shapes)
        for key in self._keyed.due(found):
            with self._keyed.isolated(key):
                await self._look_or_begin_anew(key, found[key], labels.get(key, ()))
        # Only now: where a step ends early, the next one gives them again, and none is learned twice.
        self._labels_upto = max([self._labels_upto, *(one.seq for one in batches)])
        self._known = True
        self._steps += 1
        if self._steps % RETIRE_EVERY == 0:
            await self._run(self._store.trim_labels, MOST_LABELS)
            await self._run(self._store.retire, partial(ended, shapes))
            await self._run(self._store.forget, set(shapes))

    def _read(self, shapes: Mapping[VersionKey, Shape]) -> dict[VersionKey, Counts]:
        return summed(self._store.published(), shapes)

    def problem(self, key: VersionKey) -> str:
        """Why nothing is concluded of a version, "" where something is."""
        return self._keyed.problem(key)

    async def _look_or_begin_anew(self, key: VersionKey, counts: Counts, labels: Sequence[LabelBatch]) -> None:
        try:
            await self._look(key, counts, labels)
        except NotReady:
            raise
        except Conflict as fault:
            log.warning("what is concluded is begun anew: %s", fault)
            self._versions.pop(key, None)
        except Exception:
            self._versions.pop(key, None)  # labels are given once: the next look reads all of them again
            raise

    async def _look(self, key: VersionKey, counts: Counts, labels: Sequence[LabelBatch]) -> None:
        known, now = self._versions.get(key), self._store.now()
        if known is None or known.shape.id != counts.shape.id:
            known = await self._opened(key, counts, now)
            labels = await self._run(self._store.labels_of, *key)
        known.counts = counts
        reference, policy = self._watched.terms(key)
        if reference is not None and known.monitor is not None:
            known.monitor = self._looked(key, known, known.monitor, reference, policy, now)
        learned = await self._run(known.performance.learn, labels, reference, policy, now)
        self._versions[key] = known  # only now: one that is begun without its labels would never learn of them
        known.events += [self._watched.performance_event_of(key, one) for one in learned]
        alarms = 0 if known.monitor is None else known.monitor.alarms
        if known.events or alarms != known.alarms or now - known.concluded_at >= KEEP_S:
            await self._conclude(key, known, alarms, now)

    def _looked(
        self,
        key: VersionKey,
        known: _Version,
        monitor: VersionMonitor,
        reference: Reference,
        policy: MonitorPolicy,
        now: float,
    ) -> VersionMonitor:
        """The monitor after a look, another one where counts are fewer than they were."""
        counted = counted_of(reference, policy, known.counts)
        if not counted.covers(monitor.last):
            monitor = resumed(reference, policy, counted, now, monitor.export_state())
        monitor.policy = policy
        known.events += [self._watched.event_of(key, one, monitor) for one in monitor.look(counted, now)]
        return monitor

    async def _opened(self, key: VersionKey, counts: Counts, now: float) -> _Version:
        """Go on where the gateway that led before has been."""
        verdict: Verdict | None = await self._run(self._store.verdict, *key)
        revision = 0 if verdict is None else verdict.revision
        (reference, policy), monitor = self._watched.terms(key), None
        evidence = {} if verdict is None else verdict.evidence
        if reference is not None and counts.shape.layout is not None:
            same = verdict is not None and verdict.layout == counts.shape.id
            rows = evidence.get("rows") if same else None
            monitor = resumed(reference, policy, counted_of(reference, policy, counts), now, rows)
        found = _Version(counts.shape, monitor, counts, FleetPerformance(*evidence.get("labels", (0, 0))), revision)
        found.told = {} if verdict is None else dict(verdict.summary.get("told", {}))
        found.alarms = 0 if monitor is None else monitor.alarms
        return found

    async def _conclude(self, key: VersionKey, known: _Version, alarms: int, now: float) -> None:
        monitor, document = known.monitor, self._document(key, known)
        told = self._told_with(known, alarms)
        summary = {**_summary(monitor), "told": told}
        evidence = {"rows": None if monitor is None else monitor.export_state(), "labels": known.performance.kept()}
        verdict = Verdict(known.shape.id, known.revision + 1, evidence, summary, document)
        await self._run(self._store.conclude, key, verdict, tuple(known.events))
        known.revision, known.concluded_at, known.alarms, known.told = verdict.revision, now, alarms, told
        known.events.clear()
        self._summaries[key] = summary

    def _told_with(self, known: _Version, alarms: int) -> dict[str, int]:
        """How many alarms each gateway has told of with those that are told now; without gateways that have ended."""
        living = {name: number for name, number in known.told.items() if name in known.counts.gateways}
        mine = known.told.get(self._gateway, 0) + max(0, alarms - known.alarms)
        return {**living, self._gateway: mine} if mine else living

    def _document(self, key: VersionKey, known: _Version) -> Document:
        counts = known.counts
        performance = {**(known.performance.document or NO_LABELS), "outcomes": dict(counts.outcomes)}
        if known.performance.unreadable:
            performance["unreadable"] = known.performance.unreadable
        whole = self._watched.document_of(key, known.monitor, counts.totals, performance)
        return {**whole, "gateways": list(counts.gateways)}


def _by_version(batches: Sequence[LabelBatch]) -> dict[VersionKey, list[LabelBatch]]:
    found: dict[VersionKey, list[LabelBatch]] = {}
    for one in batches:
        found.setdefault((one.model, one.version), []).append(one)
    return found


def counted_of(reference: Reference, policy: MonitorPolicy, counts: Counts) -> Counted:
    """What a monitor takes of counts."""
    return replace(Counted.of(reference, [counts.cells], policy.slices), workers=counts.workers)


def _summary(monitor: VersionMonitor | None) -> Document:
    """The state of each column and the evidence that it has changed."""
    if monitor is None:
        return {"columns": {}}
    names = [one.bins.name for one in monitor.reference.features]
    states, evidence = [one.value for one in monitor.states()], monitor.evidence()
    columns = {name: [state, log_e] for name, state, log_e in zip(names, states, evidence, strict=True)}
    return {"columns": columns}
