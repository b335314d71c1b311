"""Watches every version's rows: gives each its reference and its words, and says what was counted means.

References and policies lie in the registry's database; what is known of them is kept beside it, so that watching goes
on while the database is away. A version without a reference learns one from its first rows.
"""

import json
import logging
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from penstock.control.blocking import BlockingPool
from penstock.control.monitoring.answering import answering_shares
from penstock.control.monitoring.event_queue import EventQueue
from penstock.control.monitoring.feedback import NOBODY, Labels
from penstock.control.monitoring.fleet_evidence import FleetEvidence
from penstock.control.monitoring.profiling import profiled
from penstock.control.monitoring.publication import Counts, Shape, layout_id
from penstock.control.monitoring.resuming import resumed
from penstock.control.monitoring.sentences import sentence
from penstock.control.monitoring.version_series import Carried, VersionSeries, carried_in, carried_out
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.control.schedules import schedule_in
from penstock.control.workers.protocol import Message, rows_in
from penstock.core.desired import Desired, LearnSpec, VersionSpec, VersionStatus, WatchSpec
from penstock.core.errors import InvalidInput, NotFound, NotReady
from penstock.core.objectives import answered, kept
from penstock.core.policies import NO_FLEET_BOUND, FleetAlarms, MonitorPolicy, policy_in, policy_out, refuse_unreachable
from penstock.engine.durable_files import write_atomically
from penstock.monitor.answer_room import DEFAULT_ROOM, AnswerRoom
from penstock.monitor.answer_segments import ANSWERS
from penstock.monitor.capture import CAPTURES
from penstock.monitor.columns import Rows, joined
from penstock.monitor.counters import REGION_WORDS, Totals, Words
from penstock.monitor.drift_changes import DRIFT, QUALITY, SLICE, DriftChange
from penstock.monitor.performance import PerformanceChange, estimate_out
from penstock.monitor.reference import (
    LIVE,
    ConfidenceHistogram,
    Reference,
    build,
    confidence_in,
    reference_in,
    reference_out,
)
from penstock.monitor.rows import Counted, Layout
from penstock.monitor.verdicts import VersionMonitor
from penstock.registry.records import By, Document
from penstock.registry.stores.evidence import EvidenceStore
from penstock.registry.stores.feedback import FeedbackStore
from penstock.registry.stores.monitor import MonitorStore, ReferenceRecord
from penstock.registry.stores.traffic import Event, TrafficStore
from penstock.telemetry import metrics
from penstock.telemetry.metrics import Point, Reading

log = logging.getLogger("penstock.control")

LOOK_S = 1.0
KEEP_S = 10.0
"""Evidence is written down that often, and at every change."""

LONGEST_S = 60.0
"""A policy or a reference that cannot be read is tried again at least that often."""

LEARNING_S = 20.0
"""Rows of some workers are waited for that long after the first worker's."""

THREADS = 2
PROFILES = 2
PROFILE_S = 600.0
"""Files that references are made of at a time, and the deadline of each."""

MONITOR = "monitor"
FLEET, GATEWAY = "fleet", "gateway"
"""Whose counts are asked for: those of all gateways, or of this one."""

_EVENTS = {
    (DRIFT, True): "drift.detected.v1",
    (DRIFT, False): "drift.cleared.v1",
    (SLICE, True): "drift.detected.v1",
    (SLICE, False): "drift.cleared.v1",
    (QUALITY, True): "quality.violated.v1",
    (QUALITY, False): "quality.restored.v1",
}

Key = tuple[str, str]
Gathered = tuple[Rows, Rows, ConfidenceHistogram | None]
"""Rows of inputs and of outputs, and how sure the answers were."""

Names = tuple[Sequence[str], Sequence[str]]
"""Of the inputs' and the outputs' columns, numbers first."""


class Fleet(Protocol):
    """What is asked of this gateway's workers."""

    @property
    def workers(self) -> int:
        """How many there should be."""

    @property
    def desired(self) -> Desired:
        """What they are to serve."""

    def statuses(self) -> list[VersionStatus]:
        """Every version of every model."""

    def feature_names(self, model: str, version: str) -> Sequence[str]:
        """What a version's graph, or else its model card, calls its features."""

    def graph(self, model: str, version: str) -> tuple[Path, str, Path] | None:
        """A version's graph, its configuration (protobuf JSON), and where the files lie that this names."""

    def regions(self, offset: int, size: int) -> list[Words]:
        """A region of every worker's words."""

    def clear_region(self, offset: int, size: int) -> None:
        """Zero a region."""

    def totals(self, model: str, version: str) -> Totals:
        """What a version was counted by."""

    def renew(self) -> None:
        """Tell the workers what is different now."""


@dataclass(frozen=True, slots=True)
class Region:
    """Words that were given to a version's reference, and the keys that its rows are sliced by."""

    digest: str
    offset: int
    size: int
    keys: tuple[str, ...] = ()


class Monitoring:
    """One gateway's monitor; ``home`` keeps what is known of references, ``clock`` gives seconds since the epoch.

    ``evidence`` is where the gateways of a fleet put their counts together, and what this one's counters are called
    there; without it what this gateway counts is all there is.
    """

    def __init__(
        self,
        store: MonitorStore,
        events: TrafficStore,
        fleet: Fleet,
        home: Path,
        state: Path,
        clock: Callable[[], float] = time.time,
        alarms: FleetAlarms = NO_FLEET_BOUND,
        evidence: tuple[EvidenceStore, str] | None = None,
        room: AnswerRoom = DEFAULT_ROOM,
        feedback: FeedbackStore | None = None,
    ) -> None:
        self._fleet_alarms = alarms
        self._store = store
        self._fleet = fleet
        self._home = home / "references"
        self._state = state
        self._clock = clock
        self._pool = BlockingPool("monitor", THREADS)
        self._run = self._pool.call
        self._profiles = BlockingPool("profiles", PROFILES, "the profile of the data", PROFILE_S)
        self._references: dict[Key, Reference] = {}
        self._digests: dict[Key, str] = {}
        self._policies: dict[str, MonitorPolicy] = {}
        self._regions: dict[Key, Region] = self._read_regions()
        self._monitors: dict[Key, VersionMonitor] = {}
        self._gathered: dict[Key, tuple[float, Names, list[Gathered]]] = {}
        self._following = PeriodicTask(
            "monitor", self._follow, LOOK_S, meanwhile="the monitor goes on with what it knows"
        )
        self._looking = PeriodicTask("drift", self._look, LOOK_S)
        limits = (LOOK_S, LONGEST_S)
        self._references_due: KeyedWork[Key] = KeyedWork(self._following, "reference of", limits, (NotReady,))
        self._policies_due: KeyedWork[str] = KeyedWork(self._following, "policy of", limits)
        self._learning_due: KeyedWork[Key] = KeyedWork(
            self._following, "no reference is learned of", limits, (NotReady,)
        )
        self._telling: KeyedWork[Key] = KeyedWork(self._looking, "an event cannot be written of", limits)
        self._looks_due: KeyedWork[Key] = KeyedWork(self._looking, "drift is not judged of", limits)
        self._series: dict[Key, VersionSeries] = {}
        self._kept_at = 0.0
        self._alarms = 0
        self._kept = self._read_kept()
        self._carried = {key: carried_in(one.get("carried", [])) for key, one in self._kept.items()}
        self._queue = EventQueue(partial(self._run, events.tell), state.with_name("events.json"))
        told = state.with_name("labels.json")
        self.labels = Labels(home, told, self._label_terms, self._tell_performance, clock, room)
        self.labels.bound_by(self._served, self._capture_room)
        self._spool = None if feedback is None else self.labels.hand_over(feedback)
        notes = state.with_name("published.json")
        self.evidence = None if evidence is None else FleetEvidence(*evidence, self, self._run, notes)
        if self.evidence is not None:
            self.labels.share(self.evidence.labels.add)

    def _label_terms(self, key: Key) -> tuple[Reference | None, MonitorPolicy]:
        return self._references.get(key), self._bounded(self.policy_of(key[0]))

    def _bounded(self, policy: MonitorPolicy) -> MonitorPolicy:
        """The policy of one version, within the fleet's bound of false alarms."""
        return self._fleet_alarms.part(policy, len(self._served()))

    # How versions are to be watched.

    def decorate(self, desired: Desired) -> Desired:
        """The desired state with how each version is watched."""
        models = tuple(
            replace(model, versions=tuple(self._watched(model.name, spec) for spec in model.versions))
            for model in desired.models
        )
        return replace(desired, models=models)

    def _watched(self, model: str, spec: VersionSpec) -> VersionSpec:
        key, policy = (model, spec.version), self.policy_of(model)
        spec = replace(spec, latency_ns=int(policy.rules.get("slo", {}).get("latency_p99_ms", 0) * 1e6))
        watch = WatchSpec(
            sample=policy.sample,
            names=self.feature_names(key),
            keys=policy.slices,
            answers=str(self._home.parent / ANSWERS) if policy.horizon_s else "",
            captures=str(self._home.parent / CAPTURES) if policy.capture else "",
            capture=policy.capture,
            masked=policy.masked,
        )
        if not policy.sample:
            return replace(spec, watch=watch)
        if key not in self._references:
            return replace(spec, watch=replace(watch, learn=self._learn_spec(model, max(1, self._fleet.workers))))
        region = self._region(key)
        if region is not None:
            file = str(self._file(region.digest))
            watch = replace(watch, path=file, digest=region.digest, offset=region.offset, size=region.size)
        return replace(spec, watch=watch)

    def feature_names(self, key: Key) -> tuple[str, ...]:
        """What a version's features are called: by its graph, its model card, or the data its reference was made of."""
        stated, reference = tuple(self._fleet.feature_names(*key)), self._references.get(key)
        return stated or (() if reference is None else tuple(one.bins.name for one in reference.inputs))

    def _region(self, key: Key) -> Region | None:
        """The words of a version's reference; None when they have run out."""
        known, digest, keys = self._regions.get(key), self._digests[key], self.policy_of(key[0]).slices
        size = Layout.of(self._references[key], keys).size
        if known is not None and (known.digest, known.keys, known.size) == (digest, keys, size):
            return known
        served = {(model.name, one.version) for model in self._fleet.desired.models for one in model.versions}
        kept = {one: region for one, region in self._regions.items() if one != key and (one in served or not served)}
        # Words that were in use until now are the last to be given out: workers write to them until they hear of it.
        offset = _gap(self._regions.values(), size)
        if offset is None:
            offset = _gap(kept.values(), size)
        if offset is None:
            log.error("model %s version %s is not watched: no room for its counts", *key)
            return None
        region = Region(digest, offset, size, keys)
        self._monitors.pop(key, None)
        self._fleet.clear_region(offset, size)
        self._regions = {**kept, key: region}
        self._write_regions()
        return region

    def policy_of(self, model: str) -> MonitorPolicy:
        """A model's policy, the usual one where none was set."""
        return self._policies.get(model, MonitorPolicy())

    # What people ask for.

    async def document(self, model: str, version: str | None, scope: str = FLEET) -> Document:
        """What the monitor says of a version, or of the one that answers most requests; ``answers`` has each version's
        share of the requests. Without a version ``versions`` has what is said of every other one, too.

        ``scope`` FLEET asks for what the counts of all gateways say, as far as that is known, GATEWAY for what those
        of this one do.

        Raises:
            InvalidInput: there is no such scope.
            NotFound: no such model or version.
        """
        served = [status.version for status in self._fleet.statuses() if status.model == model and status.version]
        if not served:
            raise NotFound(f"unknown model '{model[:128]}'")
        answers = self._answers(model)
        if version is not None and version not in served:
            raise NotFound(f"model '{model}' serves no version '{version[:64]}'")
        if scope not in (FLEET, GATEWAY):
            raise InvalidInput(f"scope is {FLEET} or {GATEWAY}")
        if version is not None:
            told = await self._seen(model, version, scope)
            return {"model": model, "version": version, "answers": answers, **told}
        told = {one: await self._seen(model, one, scope) for one in served}
        first = next((one for one in answers if one in told), None)
        shown = {} if first is None else told[first]
        return {"model": model, "version": first, "answers": answers, **shown, "versions": told}

    def _answers(self, model: str) -> dict[str, float]:
        spec = next((one for one in self._fleet.desired.models if one.name == model), None)
        return {} if spec is None else answering_shares(spec, self._fleet.statuses())

    async def _seen(self, model: str, version: str, scope: str) -> Document:
        key = (model, version)
        whole = None
        problem = {"problem": "; ".join(problems)} if (problems := self._problems(key)) else {}
        if self.evidence is not None and scope == FLEET:
            with suppress(NotReady):
                whole = await self.evidence.document(key)
        if whole is not None:
            return {"scope": FLEET, **problem, **whole}
        return {"scope": GATEWAY, **problem, **self.document_of(key, self._monitors.get(key), self._fleet.totals(*key))}

    def told(self, model: str, version: str) -> Document:
        """What is said of a version, by the counts of all gateways where this one leads; little where nothing is known
        of it."""
        key = (model, version)
        whole = None if self.evidence is None else self.evidence.told(key)
        return whole or self.document_of(key, self._monitors.get(key), self._fleet.totals(model, version))

    @property
    def can_judge(self) -> bool:
        """Whether ``told`` rests on the counts of all gateways."""
        return self.evidence is None or self.evidence.is_known

    def document_of(
        self, key: Key, monitor: VersionMonitor | None, totals: Totals, performance: Document | None = None
    ) -> Document:
        """What is said of a version by a monitor of its rows, the counts of its requests and labels (by default those
        that this gateway has joined)."""
        shadow = totals.shadow()
        told: Document = {"reference": None, "features": [], "outputs": []}
        if monitor is not None:
            told = monitor.document()
            told["multiplicity"]["fleet"] = self._fleet_alarms.out(len(self._served()))
        estimated = None if monitor is None else estimate_out(monitor.estimated())
        latency, outcomes = totals.quantiles_ms(), Counter[str]()
        for _, _, outcome, count in totals.requests():
            outcomes[outcome] += count
        objectives, (number, failed) = self.policy_of(key[0]).objectives, answered(outcomes)
        slow = totals.slower_than(objectives["latency_p99_ms"]) if "latency_p99_ms" in objectives else 0
        return {
            **told,
            "latency": latency,
            "slo": kept(objectives, latency["p99"], outcomes),
            "requests": {"answered": number, "failed": failed, "slow": slow},
            "performance": {**(performance or self.labels.document(key)), "estimated": estimated},
            "capture": totals.capture(),
            "shadow": {
                "pairs": int(shadow["pairs"]),
                "disagreements": int(shadow["disagreements"]),
                "max_abs_diff": shadow["max_abs_diff"],
            },
        }

    def _problems(self, key: Key) -> list[str]:
        """Why a version is not watched as it should be."""
        said = {
            "its policy cannot be read, and the one before it holds": self._policies_due.problem(key[0]),
            "its reference cannot be read": self._references_due.problem(key),
            "no reference is learned of its rows": self._learning_due.problem(key),
            "its drift is not judged": self._looks_due.problem(key),
            "its drift is not judged by all gateways": "" if self.evidence is None else self.evidence.problem(key),
        }
        return [f"{what}: {why}" for what, why in said.items() if why]

    async def policy(self, model: str) -> Document:
        """What is to be watched of a model; raises ``NotFound``."""
        self._refuse_unknown(model)
        problem = self._policies_due.problem(model)
        return {**policy_out(self.policy_of(model)), **({"problem": problem} if problem else {})}

    async def set_policy(self, model: str, document: Document, by: By, if_revision: int | None = None) -> Document:
        """Change what is to be watched of a model; raises ``InvalidInput``, ``NotFound`` and ``Conflict``."""
        policy = policy_in(document, schedule_in)
        refuse_unreachable(policy)
        self._refuse_unknown(model)
        revision = await self._run(self._store.set_policy, model, policy_out(policy), by, if_revision)
        self._policies[model] = policy
        self._policies_due.succeeded(model)
        for (name, _), monitor in self._monitors.items():
            if name == model:
                monitor.policy = policy
        self._fleet.renew()
        return {**policy_out(policy), "revision": revision}

    def _refuse_unknown(self, model: str) -> None:
        if not any(status.model == model for status in self._fleet.statuses()):
            raise NotFound(f"unknown model '{model[:128]}'")

    async def set_reference(self, model: str, version: str, document: Document, by: By) -> Document:
        """Give a version the reference in a document of ``profile``.

        Raises:
            InvalidInput: it is none.
            NotFound: no such version.
        """
        if not any((one.model, one.version) == (model, version) for one in self._fleet.statuses()):
            raise NotFound(f"model '{model}' serves no version '{version[:64]}'")
        try:
            reference = reference_in(document)
        except (KeyError, TypeError, ValueError):
            raise InvalidInput("the document is no reference; make one with: penstock profile") from None
        revision = await self._set(model, version, reference, by)
        return {"digest": reference.digest, "rows": reference.rows, "source": reference.source, "revision": revision}

    async def learn(self, model: str, version: str, chunks: AsyncIterator[bytes], by: By) -> Document:
        """Make a version's reference of training data (CSV, Parquet or npz).

        Raises:
            InvalidInput: the data does not fit the model.
            NotFound: no such version.
        """
        graph = self._fleet.graph(model, version)
        if graph is None:
            raise NotFound(f"model '{model}' serves no version '{version[:64]}'")
        await self._run(partial(self._home.mkdir, mode=0o700, parents=True, exist_ok=True))
        with tempfile.NamedTemporaryFile(dir=self._home, prefix=".data-") as file:
            async for chunk in chunks:
                await self._run(file.write, chunk)
            await self._run(file.flush)
            features = self._fleet.feature_names(model, version)
            document = await self._profiles.call(profiled, Path(file.name), *graph, features)
        return await self.set_reference(model, version, document, by)

    async def relearn(self, model: str, version: str | None, by: By) -> Document:
        """Take the reference of a version (of the one that answers for None) away, and learn a new one from traffic.

        Raises:
            NotFound: no such model or version, or it has no reference.
        """
        served = [one.version for one in self._fleet.statuses() if one.model == model and one.version]
        chosen = version or next(iter(self._answers(model)), None)
        if chosen not in served:
            raise NotFound(f"model '{model[:128]}' serves no version '{(version or 'that answers')[:64]}'")
        data = {"model": model, "version": chosen, "actor": by.actor, "reason": by.reason}
        data["reference"] = self._digests.get((model, chosen), "")
        event = Event("reference.relearned.v1", f"models/{model}/versions/{chosen}", f"{self._clock():.3f}", data)
        revision = await self._run(self._store.drop_reference, model, chosen, event, by)
        await self._refresh()
        learn = self._learn_spec(model)
        wanted = {"rows": learn.rows, "requests": learn.requests, "seconds": learn.seconds, "client_share": learn.share}
        return {"model": model, "version": chosen, "reference": None, "learning": wanted, "revision": revision}

    def _learn_spec(self, model: str, workers: int = 1) -> LearnSpec:
        """What one of so many workers is to gather for a reference."""
        policy = self.policy_of(model)
        return LearnSpec(-(-policy.live_rows // workers), policy.live_requests, policy.live_s, policy.live_share)

    async def _set(self, model: str, version: str, reference: Reference, by: By) -> int:
        record = ReferenceRecord(model, version, reference.digest, reference.source)
        revision = await self._run(self._store.set_reference, record, reference_out(reference), by)
        self._references_due.succeeded((model, version))
        await self._refresh()
        return revision

    # What happens by itself.

    def gathered(self, message: Message) -> None:
        """Rows that a worker gathered of a version without a reference."""
        key = message["model"], message["version"]
        _, _, gathered = self._gathered.setdefault(key, (self._clock(), message["names"], []))
        rows = rows_in(message["inputs"]), rows_in(message["outputs"])
        gathered.append((*rows, confidence_in(message.get("confidence"))))

    def _served(self) -> list[Key]:
        return [(model.name, one.version) for model in self._fleet.desired.models for one in model.versions]

    def _capture_room(self) -> int:
        wanted = [self.policy_of(model.name).capture_bytes for model in self._fleet.desired.models]
        return max(wanted, default=MonitorPolicy().capture_bytes)

    @property
    def tasks(self) -> list[PeriodicTask]:
        """What goes on by itself."""
        shared = [one.task for one in (self.evidence, self._spool) if one is not None]
        return [self._following, self._looking, self.labels.task, *shared]

    async def _follow(self) -> None:
        """Take over references and policies, and learn references of rows that were gathered."""
        await self._refresh()
        await self._learn()

    async def _look(self) -> None:
        changes = self.look()
        for key, change in changes if self.evidence is None else ():
            with self._telling.isolated(key):
                await self._tell(key, change)
        await self._queue.flush()

    async def start(self) -> None:
        """Read what is known, so that the first desired state already says how versions are watched."""
        await self._following.attempt()
        if self._spool is not None:
            with suppress(NotReady, OSError):  # its task comes to it
                await self._spool.register()

    async def _refresh(self) -> None:
        """Take over what the database says, and what it said last while it is away."""
        try:
            records = await self._run(self._store.references)
            policies = await self._run(self._store.policies)
            index = [[one.model, one.version, one.digest] for one in records]
            known: Document = {"references": index, "policies": policies}
            await self._run(self._keep_index, known)
        except NotReady:
            if self._digests:
                raise
            known = await self._run(self._recalled)
        changed = False
        digests = {(model, version): digest for model, version, digest in known["references"]}
        for key in self._references_due.due(digests):
            if self._digests.get(key) != digests[key]:
                with self._references_due.isolated(key):
                    await self._take(key, digests[key])
                    changed = True
        for key in self._digests.keys() - digests.keys():
            self._drop(key)
            changed = True
        found = self._read_policies(known["policies"])
        changed = changed or found != self._policies
        self._policies = found
        if changed:
            self._fleet.renew()

    def _read_policies(self, documents: Mapping[str, Document]) -> dict[str, MonitorPolicy]:
        """The policies that are stored; of a model whose policy cannot be read, the one before it."""
        found = {model: policy for model, policy in self._policies.items() if model in documents}
        for model in self._policies_due.due(documents):
            with self._policies_due.isolated(model):
                found[model] = policy_in(documents[model], schedule_in)
        return found

    async def _take(self, key: Key, digest: str) -> None:
        document = await self._run(self._recall, digest)
        if document is None:
            document = await self._run(self._store.reference, *key)
            if document is None:
                return
            await self._run(self._remember, digest, document)
        self._references[key], self._digests[key] = reference_in(document), digest
        self._monitors.pop(key, None)
        self.labels.forget(key)

    def _drop(self, key: Key) -> None:
        """A version's reference was taken away: a new one is to be learned."""
        del self._references[key], self._digests[key]
        self._monitors.pop(key, None)
        self._gathered.pop(key, None)
        self.labels.forget(key)

    async def _learn(self) -> None:
        for key in self._learning_due.due(self._gathered):
            since, names, rows = self._gathered[key]
            total = sum(len(inputs) for inputs, _, _ in rows)
            enough = self.policy_of(key[0]).live_rows
            if total < enough and self._clock() - since < LEARNING_S:
                continue
            if key not in self._references:
                with self._learning_due.isolated(key):
                    reference = await self._run(_learned, rows, names)
                    await self._set(*key, reference, By(MONITOR, f"learned from {total} rows"))
                    log.info("model %s version %s: a reference was learned from %d rows", *key, total)
            if key in self._references:
                self._gathered.pop(key, None)  # not before: rows are gathered once

    def look(self) -> list[tuple[Key, DriftChange]]:
        """Take what the workers have counted since the last look; what has changed by it."""
        changes: list[tuple[Key, DriftChange]] = []
        now = self._clock()
        for key in self._looks_due.due(self._regions):
            with self._looks_due.isolated(key):
                changes += [(key, change) for change in self._changes(key, now)]
        alarms = sum(one.alarms for one in self._monitors.values())
        if changes or alarms != self._alarms or now - self._kept_at >= KEEP_S:
            self._kept_at, self._alarms = now, alarms
            self._keep()
        return changes

    def _changes(self, key: Key, now: float) -> list[DriftChange]:
        """What has changed at one version since the last look."""
        region, reference = self._regions[key], self._references.get(key)
        if reference is None or self._digests[key] != region.digest:
            return []
        policy = self.policy_of(key[0])
        counted = Counted.of(reference, self._fleet.regions(region.offset, region.size), region.keys)
        policy = self._bounded(replace(policy, slices=region.keys))
        monitor = self._monitors.get(key)
        if monitor is None:
            monitor = self._monitors[key] = self._monitor(key, policy, counted, now)
        monitor.policy = policy
        return monitor.look(counted, now)

    def _monitor(self, key: Key, policy: MonitorPolicy, counted: Counted, now: float) -> VersionMonitor:
        """A version's monitor, which goes on where this process's predecessor was."""
        kept = self._kept.pop(key, None)
        evidence = kept["evidence"] if kept is not None and kept["digest"] == self._digests[key] else None
        return resumed(self._references[key], policy, counted, now, evidence)

    # What is concluded from the counts of all gateways (see ``fleet_evidence.Watched``).

    def own_counts(self) -> dict[Key, Counts]:
        """What this gateway has counted of every version that it serves."""
        return {key: self._own_counts(key) for key in self._served()}

    def _own_counts(self, key: Key) -> Counts:
        block, region = self._fleet.totals(*key).words, self._regions.get(key)
        reference, policy = self.terms(key)
        outcomes = self.labels.outcomes(key)
        if reference is None:
            return Counts(Shape(), np.zeros(0, np.uint64), 0, block, outcomes=outcomes)
        shape = Shape(layout_id(self._digests[key], policy.slices), Layout.of(reference, policy.slices))
        words: list[Words] = []
        if region is not None and layout_id(region.digest, region.keys) == shape.id:
            words = self._fleet.regions(region.offset, region.size)
        counted = Counted.of(reference, words, policy.slices)
        return Counts(shape, counted.words, counted.workers if words else 0, block, outcomes=outcomes)

    def terms(self, key: Key) -> tuple[Reference | None, MonitorPolicy]:
        """A version's reference, and its policy within the fleet's bound of false alarms."""
        reference = self._references.get(key)
        return reference, replace(self._fleet_alarms, gateways=1).part(self.policy_of(key[0]), len(self._served()))

    def event_of(self, key: Key, change: DriftChange, monitor: VersionMonitor) -> Event:
        """What is told of a change."""
        columns = monitor.affected(change.about)
        message = sentence(change, columns)
        log.warning("model %s version %s: %s", *key, message)
        about = {"reference": self._digests.get(key), "rows_between_false_alarms": self.policy_of(key[0]).budget}
        told = {**about, "columns": columns, "message": message, **change.evidence}
        return self._event(key, _EVENTS[change.about, change.begins], change.feature, told)

    async def _tell(self, key: Key, change: DriftChange) -> None:
        await self._queue.add(key[0], self.event_of(key, change, self._monitors[key]))

    def performance_event_of(self, key: Key, change: PerformanceChange) -> Event:
        """What is told of a change that labels show."""
        kind = "performance.degraded.v1" if change.begins else "performance.recovered.v1"
        log.warning("model %s version %s: %s %s", *key, change.what, "changed" if change.begins else "as before")
        about = {"what": change.what, "labels_between_false_alarms": self.policy_of(key[0]).budget}
        return self._event(key, kind, change.what, {**about, **change.evidence})

    async def _tell_performance(self, key: Key, change: PerformanceChange) -> None:
        if self.evidence is None:  # else the gateway that leads tells, by the labels of all
            await self._queue.add(key[0], self.performance_event_of(key, change))

    def _event(self, key: Key, kind: str, name: str, told: Document) -> Event:
        model, version = key
        data = {"model": model, "version": version, **told}
        return Event(kind, f"models/{model}/versions/{version}", f"{name} {self._clock():.0f}", data)

    # What is measured.

    def readings(self) -> Iterator[Reading]:
        """Counts, shares of the reference, evidence and states of every feature that is watched, and what labels say;
        of versions that are served only."""
        served = set(self._served())
        self._series = {key: one for key, one in self._series.items() if key in served}
        for key in served & self._monitors.keys():
            series = self._series_of(key)
            series.summary = None if self.evidence is None else self.evidence.summary(key)
            yield from series.readings()
        for key in served:
            kept = self._fleet.totals(*key).capture()
            if any(kept.values()):
                yield Point(metrics.CAPTURED, key, kept["captured"])
                yield Point(metrics.CAPTURED_BYTES, key, kept["bytes"])
                yield Point(metrics.CAPTURE_DROPPED, key, kept["dropped"])
        if self._queue.given_up:
            yield Point(metrics.EVENTS_DROPPED, (), self._queue.given_up)
        for model, count in () if self.evidence is None else self.evidence.labels.given_up.items():
            yield Point(metrics.LABELS, (model, NOBODY, "given_up"), count)
        models = {(model, NOBODY) for model, _ in served}
        names = {(model,) for model, _ in served}
        yield from (one for one in self.labels.readings() if one.labels[:2] in served | models | names)

    def _series_of(self, key: Key) -> VersionSeries:
        """A version's series; those of another reference before are carried on."""
        monitor, known = self._monitors[key], self._series.get(key)
        if known is not None and known.monitor is monitor:
            return known
        carried = self._carried.pop(key, None) if known is None else known.carried()
        self._kept_at = 0.0  # where they stood is written down with the next look
        found = self._series[key] = VersionSeries(key, monitor, carried)
        return found

    @property
    def pools(self) -> tuple[BlockingPool, ...]:
        """What its blocking calls run on."""
        return self._pool, self._profiles, *self.labels.pools

    def close(self) -> None:
        """Let the threads go."""
        self.labels.close()
        self._keep()
        for pool in self.pools:
            pool.close()

    # Files.

    def _file(self, digest: str) -> Path:
        return self._home / f"{digest.removeprefix('sha256:')}.json"

    def _remember(self, digest: str, document: Document) -> None:
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self._file(digest), json.dumps(document))

    def _recall(self, digest: str) -> Document | None:
        try:
            document: Document = json.loads(self._file(digest).read_text())
        except (OSError, ValueError):
            return None
        return document

    def _keep_index(self, known: Document) -> None:
        with suppress(OSError):
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
            file, text = self._home / "index.json", json.dumps(known)
            if not file.exists() or file.read_text() != text:
                write_atomically(file, text)

    def _recalled(self) -> Document:
        with suppress(OSError, ValueError):
            document: Document = json.loads((self._home / "index.json").read_text())
            return document
        return {"references": [], "policies": {}}

    def _keep(self) -> None:
        """Write the evidence down, so that a successor of this process goes on with it."""
        values = [
            {
                "model": model,
                "version": version,
                "digest": self._digests.get((model, version)),
                "evidence": one.kept(),
                "carried": carried_out(self._carried_of((model, version))),
            }
            for (model, version), one in self._monitors.items()
        ]
        with suppress(OSError):
            write_atomically(self._state.with_name("evidence.json"), json.dumps(values))

    def _carried_of(self, key: Key) -> Carried:
        """Where a version's counters stood before its reference."""
        known = self._series.get(key)
        return self._carried.get(key, {}) if known is None else known.before

    def _read_kept(self) -> dict[Key, Document]:
        try:
            values = json.loads(self._state.with_name("evidence.json").read_text())
            return {(one["model"], one["version"]): one for one in values}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _read_regions(self) -> dict[Key, Region]:
        try:
            values = json.loads(self._state.read_text())
            return {
                (one["model"], one["version"]): Region(**{**one["region"], "keys": tuple(one["region"]["keys"])})
                for one in values
            }
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _write_regions(self) -> None:
        values: list[Any] = [
            {
                "model": model,
                "version": version,
                "region": asdict(one),
            }
            for (model, version), one in self._regions.items()
        ]
        with suppress(OSError):
            write_atomically(self._state, json.dumps(values))


def _gap(regions: Iterable[Region], size: int) -> int | None:
    """The first place with room for so many words."""
    at = 0
    for region in sorted(regions, key=lambda one: one.offset):
        if region.offset - at >= size:
            return at
        at = max(at, region.offset + region.size)
    return at if REGION_WORDS - at >= size else None


def _learned(rows: list[Gathered], names: Names) -> Reference:
    inputs, outputs = joined([one for one, _, _ in rows]), joined([one for _, one, _ in rows])
    sure = [one for _, _, one in rows if one is not None]
    found = build((names[0], names[1]), inputs, outputs, LIVE)
    if len(sure) < len(rows):
        return found
    counts = tuple(sum(column) for column in zip(*(one.counts for one in sure), strict=True))
    return replace(found, confidence=ConfidenceHistogram(sure[0].classes, counts))
