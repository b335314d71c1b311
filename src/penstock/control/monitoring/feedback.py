"""Joins labels and rewards with the answers of versions, and tracks the performance of each version."""

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from penstock.control.calls.blocking import BlockingPool
from penstock.control.monitoring.feedback_spool import FeedbackSpool
from penstock.control.monitoring.label_comparisons import LabelComparisons
from penstock.control.periodic import KeyedWork, PeriodicTask, ProblemLog
from penstock.core.errors import NotReady
from penstock.core.policies import MonitorPolicy
from penstock.core.versions import VersionKey
from penstock.engine.durable_files import write_atomically
from penstock.monitor.answer_budget import DEFAULT_BUDGET, AnswerBudget
from penstock.monitor.answer_segments import ANSWERS
from penstock.monitor.answer_store import AnswerStore
from penstock.monitor.answers import prefix_of
from penstock.monitor.capture import CAPTURES, sweep
from penstock.monitor.feedback import Feedback, FeedbackResult, JoinResult, LabelledRow
from penstock.monitor.performance import NO_LABELS, RATIOS, Performance, PerformanceChange
from penstock.monitor.reference import Reference
from penstock.registry.records import Document
from penstock.registry.stores.feedback import FeedbackStore
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point, Reading

log = logging.getLogger("penstock.control")

RETRY_DELAYS_S = (0.02, 0.2)
"""Delays before each new search for an answer that was not found: another worker may be about to write it."""

REPLAYED = 10_000
"""The most stored labels of a version that a new control process replays."""

SWEEP_S = 30.0
LEARN_S = 60.0
"""Deadline of a call: the replay of ten thousand labels takes seconds."""

NO_VERSION = ""
"""The version under which labels without an answer are counted."""

WatchedLookup = Callable[[VersionKey], tuple[Reference | None, MonitorPolicy]]
"""Returns a version's reference and its model's policy."""

Share = Callable[[str, Sequence[LabelledRow]], None]
"""Receives the joined rows of a model."""

EmitChange = Callable[[VersionKey, PerformanceChange], Awaitable[None]]
"""Emits the event of a performance change."""


@dataclass(slots=True)
class _FeedbackState:
    """The state of one version. ``performance`` is None until the first label; only the labels' thread uses it.

    ``document`` and ``values`` are its latest results, for all other threads. ``replayed`` is set once stored labels
    have been read. ``learned_at`` is the time of the last labels, or of the creation.
    """

    learned_at: float
    performance: Performance | None = None
    replayed: bool = False
    document: Document = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)

    def learn(self, rows: Sequence[LabelledRow], now: float) -> list[PerformanceChange]:
        """Learn new rows, and return the changes that they cause."""
        passed_s, self.learned_at = now - self.learned_at, now
        return self._update(rows, passed_s)

    def replay(self, rows: Sequence[LabelledRow]) -> None:
        """Learn stored rows in the order in which they were labelled."""
        self._update(rows, rows[-1].at - rows[0].at)

    def _update(self, rows: Sequence[LabelledRow], passed_s: float) -> list[PerformanceChange]:
        if self.performance is None:
            raise RuntimeError
        changes = self.performance.learn(rows, passed_s)
        self.document, self.values = self.performance.document(), self.performance.values()
        return changes


class FeedbackMonitor:
    """The feedback of one gateway. ``state`` is a file that outlives the control process; ``clock`` gives seconds since
    the epoch.

    ``budget`` limits the stored answers. ``comparisons`` are the label comparisons of open rollouts and experiments.
    Methods belong to the event loop, unless they say otherwise; blocking work runs on one thread of its own.
    """

    def __init__(
        self,
        home: Path,
        state: Path,
        watched: WatchedLookup,
        emit: EmitChange,
        clock: Callable[[], float] = time.time,
        budget: AnswerBudget = DEFAULT_BUDGET,
    ) -> None:
        self._home = home
        self._store = AnswerStore(home / ANSWERS)
        self._state = state
        self._watched = watched
        self._emit = emit
        self._clock = clock
        self._served: Callable[[], Sequence[VersionKey]] = tuple
        self._capture_bytes: Callable[[], int] = lambda: MonitorPolicy().capture_bytes
        self.task = PeriodicTask("labels", self.step, SWEEP_S, meanwhile="old answer files are not removed")
        self._keyed: KeyedWork[VersionKey] = KeyedWork(self.task, "cannot replay stored labels:")
        self._pool = BlockingPool(
            "labels", 1, "the stored answers", LEARN_S
        )  # one thread: river objects are not thread-safe
        self._run = self._pool.call
        self.pools: tuple[BlockingPool, ...] = (self._pool,)
        self._versions: dict[VersionKey, _FeedbackState] = {}
        self._outcomes: Counter[tuple[str, str, str]] = Counter()
        self._answer_budget = budget
        self._dropped: Counter[str] = Counter()
        self._problem_log = ProblemLog()
        self.comparisons = LabelComparisons(clock)
        self._share: Share = lambda model, rows: None
        self._spool: FeedbackSpool | None = None
        self._read()

    def share(self, share: Share) -> None:
        """Pass all joined rows to ``share`` from now on; it is called on the labels' thread."""
        self._share = share

    def connect_spool(self, store: FeedbackStore) -> FeedbackSpool:
        """Exchange feedback without a local answer with other gateways from now on."""
        self._spool = FeedbackSpool(store, self._store.name, self._take_waiting, self._count, self._clock)
        self.pools = (self._pool, self._spool.pool)
        return self._spool

    async def take(self, model: str, feedback: Sequence[Feedback]) -> FeedbackResult:
        """Join feedback with its answers, here or at the gateway that gave them.

        Raises:
            NotReady: some feedback could not be joined or stored. If the caller sends all of it again, the joined part
                counts as a duplicate.
        """
        taken, changes = await self._run(self._join, model, feedback)
        fleet = self._spool is not None and bool(taken.unknown) and await self._spool.has_others()
        for pause in () if fleet else RETRY_DELAYS_S:
            if not taken.unknown:
                break
            await asyncio.sleep(pause)
            again, more = await self._run(self._join, model, taken.unknown)
            taken.unknown = again.unknown
            taken.expired += again.expired
            taken.failed += again.failed
            changes += more
        for key, change in changes:
            await self._emit(key, change)
        if not fleet:
            self._count(model, "unknown", len(taken.unknown))
        await self._run(self._write)
        if taken.failed:
            raise NotReady(f"{len(taken.failed)} labels could not be joined now; send them again later")
        pending = await self._spool.put(model, taken.unknown) if fleet and self._spool is not None else 0
        return FeedbackResult(len(taken.unknown) - pending + len(taken.expired), pending)

    async def _take_waiting(self, model: str, feedback: Sequence[Feedback]) -> list[bool | None]:
        """Join feedback that other gateways received.

        Returns, for each item, whether it belongs to an answer of this gateway; None if the join could not be stored.
        """
        taken, changes = await self._run(self._join, model, feedback)
        for key, change in changes:
            await self._emit(key, change)
        if taken.joined or taken.rewards or taken.expired or taken.duplicates or taken.unusable:
            await self._run(self._write)
        unknown, failed = {id(item) for item in taken.unknown}, {id(item) for item in taken.failed}
        return [None if id(item) in failed else id(item) not in unknown for item in feedback]

    def _count(self, model: str, outcome: str, number: int) -> None:
        """Count feedback that belongs to no answer."""
        self._outcomes[model, NO_VERSION, outcome] += number

    def erase(self, model: str, rows: Mapping[str, frozenset[int]]) -> int:
        """Erase the remembered answers to these rows, by the ids of their requests, and return how many there were.
        Blocks; not for the event loop.

        Raises:
            NotReady: too many calls wait.
            OSError: a file cannot be read or written.
        """
        erased: int = self._pool.submit(partial(self._store.erase, model, rows)).future.result()
        return erased

    def document(self, key: VersionKey) -> Document:
        """Return the performance document of a version, by its labels."""
        state = self._versions.get(key)
        performance = state.document if state is not None and state.document else NO_LABELS
        return {**performance, "outcomes": self.outcomes(key)}

    def outcomes(self, key: VersionKey) -> dict[str, int]:
        """Return the number of a version's labels by outcome."""
        counted = list(self._outcomes.items())  # the thread may add to them
        return {outcome: count for (model, version, outcome), count in counted if (model, version) == key}

    def forget(self, key: VersionKey) -> None:
        """Drop the performance of a version, whose reference has changed; its stored labels are replayed."""
        state = self._versions.get(key)
        if state is not None:
            state.performance, state.replayed = None, False

    def limit_files(self, served: Callable[[], Sequence[VersionKey]], capture_bytes: Callable[[], int]) -> None:
        """Keep the files of ``served`` versions alone from now on, and at most ``capture_bytes`` of captures."""
        self._served, self._capture_bytes = served, capture_bytes

    async def step(self) -> None:
        """Replay stored labels, and keep the files within their limits."""
        versions = self._served()
        try:
            await self._run(
                self._sweep, versions, self._capture_bytes()
            )  # first: it frees disk space for all that is written
        finally:
            for key in self._keyed.due(versions):
                with self._keyed.isolated(key):
                    await self._run(self._performance, key)
            await self._run(self._write)

    def readings(self) -> Iterator[Reading]:
        """Yield the metrics of performance and of label outcomes."""
        for (model, version, outcome), count in list(self._outcomes.items()):
            yield Point(metrics.LABELS, (model, version, outcome), count)
        for model, count in list(self._dropped.items()):
            yield Point(metrics.ANSWERS_DROPPED, (model,), count)
        for key, state in list(self._versions.items()):  # the thread may add to them
            for name, value in state.values.items():
                metric = metrics.PERFORMANCE_RATIO if name in RATIOS else metrics.PERFORMANCE_VALUE
                yield Point(metric, (*key, name), value)

    def close(self) -> None:
        """Stop the threads."""
        for pool in self.pools:
            pool.close()

    # Methods below run on the labels' thread.

    def _join(
        self, model: str, feedback: Sequence[Feedback]
    ) -> tuple[JoinResult, list[tuple[VersionKey, PerformanceChange]]]:
        horizon = self._watched((model, NO_VERSION))[1].horizon_s
        changes: list[tuple[VersionKey, PerformanceChange]] = []
        for version in self._store.versions(model):
            self._performance((model, version))  # before the new labels are stored, or they would count twice
        taken = self._store.join_feedback(model, feedback, self._clock(), horizon)
        by_version: dict[str, list[LabelledRow]] = {}
        for row in taken.joined:
            by_version.setdefault(row.version, []).append(row)
        for version, rows in by_version.items():
            state = self._versions.setdefault((model, version), _FeedbackState(self._clock()))
            if state.performance is None:
                state.performance = Performance(*self._terms((model, version)))
            self._outcomes[model, version, "joined"] += len(rows)
            changes += [((model, version), change) for change in state.learn(rows, self._clock())]
        self.comparisons.take(model, taken.joined, taken.rewards)
        self._share(model, taken.joined)
        for outcome, versions in (
            ("late", taken.expired),
            ("doubled", taken.duplicates),
            ("unusable", taken.unusable),
        ):
            for version in versions:
                self._outcomes[model, version, outcome] += 1
        return taken, changes

    def _terms(self, key: VersionKey) -> tuple[Reference | None, float, float]:
        reference, policy = self._watched(key)
        return reference, policy.budget, policy.daily

    def _performance(self, key: VersionKey) -> None:
        """Replay labels from before this process, or from before the version's reference."""
        state = self._versions.setdefault(key, _FeedbackState(self._clock()))
        if state.replayed:
            return
        state.replayed = True
        rows = self._store.labelled(*key, REPLAYED)
        if rows:
            state.performance = Performance(*self._terms(key))
            state.replay(rows)

    def _sweep(self, versions: Sequence[VersionKey], capture_bytes: int) -> None:
        horizons = [self._watched(key)[1].horizon_s for key in versions]
        horizon_s = max(horizons, default=MonitorPolicy().horizon_s)
        try:
            dropped = self._store.sweep(self._clock(), horizon_s, self._answer_budget)
            for model in {model for model, _ in versions}:
                self._dropped[model] += dropped[prefix_of(model)]
        finally:
            sweep(self._home / CAPTURES, capture_bytes)
        self._forget_all_but(versions)

    def _forget_all_but(self, versions: Sequence[VersionKey]) -> None:
        """Forget versions that are not served and have no stored answer: no label can arrive for them."""
        models = {model for model, *_ in (*self._versions, *self._outcomes)}
        kept = {*versions, *((model, version) for model in models for version in self._store.versions(model))}
        for key in self._versions.keys() - kept:
            del self._versions[key]
        for outcome in [key for key in list(self._outcomes) if key[1] != NO_VERSION and key[:2] not in kept]:
            del self._outcomes[outcome]

    def _write(self) -> None:
        values = {
            "dropped": dict(self._dropped),
            "outcomes": [[*key, count] for key, count in list(self._outcomes.items())],
            "comparisons": self.comparisons.out(),
        }
        try:
            write_atomically(self._state, json.dumps(values))
            self._problem_log.clear(self._state)
        except OSError as error:
            self._problem_log.report(self._state, f"cannot write the label counts: {error.strerror}")

    def _read(self) -> None:
        try:
            values = json.loads(self._state.read_text())
            self._outcomes.update(
                {(model, version, outcome): count for model, version, outcome, count in values["outcomes"]}
            )
            self.comparisons.restore(values["comparisons"])
            self._dropped.update(values.get("dropped", {}))
        except (OSError, ValueError, KeyError, TypeError):
            return
