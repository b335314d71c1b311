"""Watches the versions that this gateway serves: assembles the parts of the monitor, and runs their tasks.

References and policies are in the registry's database; the gateway has a local copy, so it continues while the database
is unreachable. A version without a reference learns one from the first rows of all gateways.
"""

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from penstock.control.calls.blocking import READ_S, BlockingPool
from penstock.control.calls.repeated_read import RepeatedRead
from penstock.control.monitoring.attributions import AttributionDrift
from penstock.control.monitoring.drift.detection import DriftDetection
from penstock.control.monitoring.drift.regions import CounterRegions
from penstock.control.monitoring.event_queue import EventQueue
from penstock.control.monitoring.events import relearned_event
from penstock.control.monitoring.feedback import NO_VERSION, FeedbackMonitor
from penstock.control.monitoring.fleet_evidence import FleetEvidence
from penstock.control.monitoring.monitor_queries import MonitorQueries
from penstock.control.monitoring.policies import Policies
from penstock.control.monitoring.references.files import ReferenceFiles
from penstock.control.monitoring.references.learning import ReferenceLearning, learn_spec
from penstock.control.monitoring.references.references import References
from penstock.control.monitoring.references.submission import RowSubmission
from penstock.control.monitoring.references.uploads import ReferenceUploads
from penstock.control.monitoring.short_state import short_state
from penstock.control.monitoring.terms import WatchTerms
from penstock.control.monitoring.watch_specs import WatchSpecs
from penstock.control.monitoring.watched_versions import WatchedVersions
from penstock.control.monitoring.workers import MonitoredWorkers
from penstock.control.periodic import PeriodicTask
from penstock.control.workers.protocol import ATTRIBUTIONS, Message
from penstock.core.access.callers import ANONYMOUS, Caller
from penstock.core.errors import InvalidInput, NotFound, NotReady, Unsupported, unknown_model
from penstock.core.frames.terms import ExtraColumns
from penstock.core.masking import SecretMask
from penstock.core.policies import NO_FLEET_BOUND, FleetAlarms
from penstock.core.policy_faults import PolicyText, ReadPolicyText, UnreadableText, locate_faults
from penstock.core.sink_rules import SinkRules
from penstock.core.versions import VersionKey
from penstock.monitor.answer_budget import DEFAULT_BUDGET, AnswerBudget
from penstock.monitor.performance import PerformanceChange
from penstock.monitor.reference import Reference, decode_reference
from penstock.registry.records import Author, Document
from penstock.registry.stores.evidence import EvidenceStore
from penstock.registry.stores.feedback import FeedbackStore
from penstock.registry.stores.monitor import MonitorStore
from penstock.registry.stores.traffic import TrafficStore
from penstock.telemetry import capture_metrics, metrics
from penstock.telemetry.readings import Point, Reading

LOOK_S = 1.0

THREADS = 2


class Monitoring:
    """The monitor of one gateway. ``home`` has the copies of references; ``clock`` gives seconds since the epoch.

    ``evidence`` is the store in which a fleet sums its counts, with the name of this gateway's counters there; without
    it verdicts rest on the counts of this gateway. Methods belong to the event loop.
    """

    def __init__(
        self,
        store: MonitorStore,
        events: TrafficStore,
        workers: MonitoredWorkers,
        home: Path,
        state: Path,
        clock: Callable[[], float] = time.time,
        alarms: FleetAlarms = NO_FLEET_BOUND,
        evidence: tuple[EvidenceStore, str] | None = None,
        budget: AnswerBudget = DEFAULT_BUDGET,
        feedback: FeedbackStore | None = None,
        sinks: SinkRules | None = None,
        mask: SecretMask | None = None,
        read_text: ReadPolicyText | None = None,
        extra_columns: ExtraColumns = "refuse",
    ) -> None:
        self._store = store
        self._read_text = read_text
        self._workers = workers
        self._clock = clock
        self._pool = BlockingPool("monitor", THREADS)
        self._stored = RepeatedRead(partial(self._pool.call, self._read), store.change_mark)
        self._following = PeriodicTask("monitor", self._follow, LOOK_S, meanwhile="the monitor uses its local copies")
        self._evaluating = PeriodicTask("drift", self._evaluate, LOOK_S)
        self._files = ReferenceFiles(home / "references")
        self._uploads = ReferenceUploads(self._files, self._pool)
        self._policies = Policies(store, self._pool, self._following, sinks, mask)
        self._references = References(store, self._files, self._pool, self._following, self._forget)
        shared = self._pool, self._following, store.gathered
        rows = RowSubmission(*shared, workers, self._policies, self._references, clock)
        self._learning = ReferenceLearning(*shared, self._policies, rows, self._set_learned_reference, workers.renew)
        self._terms = WatchTerms(workers, self._references, self._policies, alarms, extra_columns)
        self._regions = CounterRegions(state, workers.clear_region)
        self._queue = EventQueue(partial(self._pool.call, events.emit), state.with_name("events.json"))
        counts = state.with_name("labels.json")
        self.labels = FeedbackMonitor(home, counts, self._terms.of_gateway, self._emit_performance, clock, budget)
        self.labels.limit_files(self._terms.served, self._terms.capture_bytes)
        self._spool = None if feedback is None else self.labels.connect_spool(feedback)
        self._versions = WatchedVersions(workers, self._terms, self._regions, self.labels, clock)
        files = state.with_name("evidence.json"), home / "evidence-history.json"
        judged = workers.regions, *files, self._evaluating, clock
        event_of = self._versions.event_of if evidence is None else None  # else the leader emits the events
        self._detection = DriftDetection(self._terms, self._regions, *judged, event_of)
        attributions = state.with_name("attributions.json")
        self._attributions = AttributionDrift(self._terms, self._detection.correlation, attributions, clock)
        self._specs = WatchSpecs(
            workers, self._terms, self._regions, self._detection, self._learning, self._files, home
        )
        notes, run = state.with_name("published.json"), self._pool.call
        self.evidence = None if evidence is None else FleetEvidence(*evidence, self._versions, run, notes)
        if self.evidence is not None:
            self.labels.share(self.evidence.labels.add)
        self._queries = MonitorQueries(
            workers, self._versions, self._detection, self.evidence, self._problems, self._attributions
        )
        # Methods of single parts.
        self.document = self._queries.document
        self.column = self._queries.column
        self.importance = self._queries.importance
        self.describe = self._queries.describe
        self.decorate = self._specs.decorate
        self.feature_names = self._terms.feature_names
        self.column_names = self._terms.column_names
        self.change_rows = self._learning.change_rows
        self.look = self._detection.evaluate
        self.policy_of = self._policies.of

    def gathered(self, message: Message) -> None:
        """Take a worker's message with rows to learn a reference from, or with attributions of live rows."""
        take = self._attributions.take if message.get("type") == ATTRIBUTIONS else self._learning.gathered
        take(message)

    # Queries.

    def state_of(self, key: VersionKey) -> Document | None:
        """Return the drift and the quality of a version in short, None if it is not watched."""
        return short_state(self._detection.monitor(key), None if self.evidence is None else self.evidence.summary(key))

    @property
    def can_judge(self) -> bool:
        """Whether ``describe`` uses the counts of all gateways."""
        return self.evidence is None or self.evidence.is_known

    def _problems(self, key: VersionKey) -> list[str]:
        """Return the reasons for which a version is not watched as its policy says."""
        reasons = {
            "its policy cannot be read, and the one before it holds": self._policies.problem(key[0]),
            "its reference cannot be read": self._references.problem(key),
            "no reference is learned of its rows": self._learning.problem(key),
            "its drift is not judged": self._detection.problem(key),
            "its drift is not judged by all gateways": "" if self.evidence is None else self.evidence.problem(key),
        }
        return [f"{what}: {why}" for what, why in reasons.items() if why]

    # Policies and references.

    async def policy(self, model: str) -> Document:
        """Return the policy of a model, with the revision that a change of it may rest on unless the database is
        unreachable; raises ``NotFound``."""
        self._refuse_unknown(model)
        try:
            revision = {"revision": await self._pool.call(self._store.revision, model, deadline_s=READ_S)}
            await self._refresh()  # after the revision: a policy that is newer than it cannot be overwritten by mistake
        except NotReady:
            revision = {}
        return {**self._policies.document(model), **revision}

    async def set_policy(
        self, model: str, document: Document, by: Author, if_revision: int | None = None, caller: Caller = ANONYMOUS
    ) -> Document:
        """Set the policy of a model; raises ``NotFound``, and as ``Policies.set``."""
        self._refuse_unknown(model)
        stored = await self._policies.set(model, document, by, if_revision, self._terms.columns(model), caller)
        self._detection.update_policy(model, self._policies.of(model))
        self._workers.renew()
        return stored

    async def check_policy(self, model: str, text: str, caller: Caller = ANONYMOUS) -> Document:
        """Return why ``set_policy`` would refuse a policy's text (YAML or JSON), each fault with its line, and what the
        text states; nothing is stored.

        Raises:
            NotFound: the model is unknown.
            Unsupported: this gateway reads no texts.
        """
        self._refuse_unknown(model)
        if self._read_text is None:
            raise Unsupported("this gateway reads policies as JSON only")
        try:
            stated: PolicyText = await self._pool.call(self._read_text, text)
        except UnreadableText as fault:
            return {"valid": False, "faults": [fault.fault.to_api()], "policy": None}
        found = await self._policies.check(model, dict(stated.document), self._terms.columns(model), caller)
        faults = [fault.to_api() for fault in locate_faults(found, stated.lines)] if found else []
        return {"valid": not faults, "faults": faults, "policy": dict(stated.document)}

    def _refuse_unknown(self, model: str) -> None:
        if not any(status.model == model for status in self._workers.statuses()):
            raise unknown_model(model)

    async def set_reference(self, model: str, version: str, document: Document, by: Author) -> Document:
        """Set the reference of a version from a document of ``penstock profile``.

        Raises:
            InvalidInput: the document is not a reference.
            NotFound: the version is unknown.
        """
        if not any((status.model, status.version) == (model, version) for status in self._workers.statuses()):
            raise NotFound(f"model '{model}' serves no version '{version[:64]}'")
        try:
            reference = decode_reference(document)
        except (KeyError, TypeError, ValueError):
            raise InvalidInput("the document is not a reference; build one with: penstock profile") from None
        revision = await self._set_reference((model, version), reference, by)
        return {"digest": reference.digest, "rows": reference.rows, "source": reference.source, "revision": revision}

    async def learn(self, model: str, version: str, chunks: AsyncIterator[bytes], by: Author) -> Document:
        """Make and set the reference of a version from training data (CSV, Parquet or npz).

        Raises:
            InvalidInput: the data does not fit the model.
            NotFound: the version is unknown.
        """
        graph = self._workers.graph(model, version)
        if graph is None:
            raise NotFound(f"model '{model}' serves no version '{version[:64]}'")
        document = await self._uploads.profile(chunks, graph, self._workers.feature_names(model, version))
        return await self.set_reference(model, version, document, by)

    async def relearn(self, model: str, version: str | None, by: Author) -> Document:
        """Drop the reference of a version (None: of the one that answers), and learn a new one from traffic.

        Raises:
            NotFound: the model or version is unknown, or has no reference.
        """
        chosen = version or next(iter(self._queries.answers(model)), None)
        if chosen is None or chosen not in self._queries.versions_of(model):
            raise NotFound(f"model '{model[:128]}' serves no version '{(version or 'that answers')[:64]}'")
        event = relearned_event((model, chosen), self._references.digest((model, chosen)), by, self._clock())
        revision = await self._pool.call(self._store.drop_reference, model, chosen, event, by)
        await self._refresh()
        learn = learn_spec(self._policies.of(model))
        wanted = {"rows": learn.rows, "requests": learn.requests, "seconds": learn.seconds, "client_share": learn.share}
        return {"model": model, "version": chosen, "reference": None, "learning": wanted, "revision": revision}

    async def _set_reference(self, key: VersionKey, reference: Reference, by: Author) -> int:
        revision = await self._references.store(key, reference, by)
        await self._refresh()
        return revision

    async def _set_learned_reference(self, key: VersionKey, reference: Reference, by: Author) -> None:
        await self._references.store(key, reference, by, is_learned=True)
        await self._refresh()

    def _forget(self, key: VersionKey) -> None:
        """Forget the conclusions on a version, whose reference has changed or is gone."""
        self._detection.forget(key)
        self.labels.forget(key)
        if self._references.get(key) is None:
            self._learning.forget(key)

    # Periodic tasks.

    @property
    def tasks(self) -> list[PeriodicTask]:
        """The periodic tasks of the monitor."""
        shared = [item.task for item in (self.evidence, self._spool) if item is not None]
        return [self._following, self._evaluating, self.labels.task, *shared]

    async def start(self) -> None:
        """Read references and policies, so that the first desired state has the watch of each version."""
        await self._following.attempt()
        if self._spool is not None:
            with suppress(NotReady, OSError):  # its task registers later
                await self._spool.register()

    async def _follow(self) -> None:
        """Read references and policies, and learn references from gathered rows."""
        await self._refresh()
        await self._learning.step()

    async def _refresh(self) -> None:
        """Read references and policies from the database, or from the local index while it is unreachable."""
        before = self._policies.changes
        stored = await self._stored_state()
        digests = {(model, version): digest for model, version, digest in stored["references"]}
        changed = await self._references.take_over(digests)
        if self._policies.take_over(stored["policies"], before) or changed:
            self._workers.renew()

    async def _stored_state(self) -> Document:
        try:
            return await self._stored.value()
        except NotReady:
            if len(self._references):
                raise
            return await self._pool.call(self._files.read_index)

    def _read(self) -> Document:
        index = [[reference.model, reference.version, reference.digest] for reference in self._store.references()]
        stored: Document = {"references": index, "policies": self._store.policies()}
        self._files.write_index(stored)
        return stored

    async def _evaluate(self) -> None:
        self._detection.evaluate()
        for model, event in [*self._detection.take_events(), *self._attributions.evaluate()]:
            await self._queue.add(model, event)
        await self._queue.flush()

    async def _emit_performance(self, key: VersionKey, change: PerformanceChange) -> None:
        if self.evidence is None:  # else the leader emits it, by the labels of all gateways
            await self._queue.add(key[0], self._versions.performance_event_of(key, change))

    # Metrics.

    def readings(self) -> Iterator[Reading]:
        """Yield the metrics of all served versions: counts, reference shares, evidence, states and labels."""
        served = set(self._terms.served())
        yield from self._drift_readings(served)
        yield from self._attributions.readings(served)
        for key in served:
            yield from captured_readings(key, self._workers.totals(*key).capture())
        if self._queue.given_up:
            yield Point(metrics.EVENTS_DROPPED, (), self._queue.given_up)
        for model, count in () if self.evidence is None else self.evidence.labels.given_up.items():
            yield Point(metrics.LABELS, (model, NO_VERSION, "given_up"), count)
        for key, count in {} if self.evidence is None else self.evidence.unreadable().items():
            yield Point(metrics.LABELS, (*key, "unreadable"), count)
        models = {(model, NO_VERSION) for model, _ in served}
        names = {(model,) for model, _ in served}
        yield from (reading for reading in self.labels.readings() if reading.labels[:2] in served | models | names)

    def _drift_readings(self, served: Collection[VersionKey]) -> Iterator[Reading]:
        series = self._detection.series
        series.retain(served)
        for key in served:
            monitor = self._detection.monitor(key)
            if monitor is not None:
                version_series = series.of(key, monitor)
                version_series.summary = None if self.evidence is None else self.evidence.summary(key) or {}
                yield from version_series.readings()

    @property
    def pools(self) -> tuple[BlockingPool, ...]:
        """The thread pools of blocking calls."""
        return self._pool, self._uploads.pool, *self.labels.pools

    def close(self) -> None:
        """Store the evidence, and stop the threads."""
        self.labels.close()
        self._detection.write_evidence()
        self._detection.write_history()
        self._attributions.write()
        for pool in self.pools:
            pool.close()


def captured_readings(key: VersionKey, counts: Mapping[str, int]) -> Iterator[Reading]:
    """Yield the capture metrics of a version, if it captured anything."""
    if any(counts.values()):
        yield Point(capture_metrics.CAPTURED, key, counts["captured"])
        yield Point(capture_metrics.CAPTURED_BYTES, key, counts["bytes"])
        yield Point(capture_metrics.CAPTURE_DROPPED, key, counts["dropped"])
