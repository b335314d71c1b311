"""Joins labels and rewards to what versions answered, and knows how good each version has been."""

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
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

AGAIN_S = (0.02, 0.2)
"""What is not found is looked for again after these times: another worker may be about to write it down."""

REPLAYED = 10_000
"""Labels of a version that a successor of this process learns anew from."""

SWEEP_S = 30.0
LEARN_S = 60.0
"""Deadline of a call: ten thousand labels that a successor learns from anew take seconds."""

NOBODY = ""
"""The version of labels that belong to no answer."""

Watched = Callable[[VersionKey], tuple[Reference | None, MonitorPolicy]]
"""A version's reference and its model's policy."""

Share = Callable[[str, Sequence[LabelledRow]], None]
"""Takes the rows of a model that were joined."""

Tell = Callable[[VersionKey, PerformanceChange], Awaitable[None]]


@dataclass(slots=True)
class _Version:
    """What is known of one version; ``performance`` is None until somebody has labelled it, and only the thread touches
    it: ``told`` and ``values`` are what it said last, for everybody else. ``replayed``: earlier labels were looked for.
    ``learned_at`` is the time at which it took labels in last, or was made.
    """

    learned_at: float
    performance: Performance | None = None
    replayed: bool = False
    told: Document = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)

    def learn(self, rows: Sequence[LabelledRow], now: float) -> list[PerformanceChange]:
        """Take rows in; what has changed by it."""
        passed_s, self.learned_at = now - self.learned_at, now
        return self._take(rows, passed_s)

    def replay(self, rows: Sequence[LabelledRow]) -> None:
        """Take rows in that were labelled before, in the order in which they were."""
        self._take(rows, rows[-1].at - rows[0].at)

    def _take(self, rows: Sequence[LabelledRow], passed_s: float) -> list[PerformanceChange]:
        if self.performance is None:
            raise RuntimeError
        changes = self.performance.learn(rows, passed_s)
        self.told, self.values = self.performance.document(), self.performance.values()
        return changes


class Labels:
    """One gateway's; ``state`` is a file that outlives the control process, ``clock`` gives seconds since the epoch.

    ``room`` bounds what is remembered of answers; ``comparisons`` are what open rollouts and experiments may conclude
    from labels.
    """

    def __init__(
        self,
        home: Path,
        state: Path,
        watched: Watched,
        tell: Tell,
        clock: Callable[[], float] = time.time,
        room: AnswerBudget = DEFAULT_BUDGET,
    ) -> None:
        self._home = home
        self._store = AnswerStore(home / ANSWERS)
        self._state = state
        self._watched = watched
        self._tell = tell
        self._clock = clock
        self._served: Callable[[], Sequence[VersionKey]] = tuple
        self._room: Callable[[], int] = lambda: MonitorPolicy().capture_bytes
        self.task = PeriodicTask("labels", self.step, SWEEP_S, meanwhile="files of answers are not swept")
        self._keyed: KeyedWork[VersionKey] = KeyedWork(self.task, "labels of an earlier process cannot be taken up:")
        self._pool = BlockingPool("labels", 1, "the answers kept for labels", LEARN_S)  # one: river is nobody else's
        self._run = self._pool.call
        self.pools: tuple[BlockingPool, ...] = (self._pool,)
        self._versions: dict[VersionKey, _Version] = {}
        self._outcomes: Counter[tuple[str, str, str]] = Counter()
        self._answer_room = room
        self._dropped: Counter[str] = Counter()
        self._problem_log = ProblemLog()
        self.comparisons = LabelComparisons(clock)
        self._share: Share = lambda model, rows: None
        self._spool: FeedbackSpool | None = None
        self._read()

    def share(self, share: Share) -> None:
        """Hand what is joined on from now on; this is called on the thread of labels."""
        self._share = share

    def hand_over(self, store: FeedbackStore) -> FeedbackSpool:
        """Let other gateways look for what is not remembered here from now on, and take what is from them."""
        self._spool = FeedbackSpool(store, self._store.name, self._take_waiting, self._count, self._clock)
        self.pools = (self._pool, self._spool.pool)
        return self._spool

    async def take(self, model: str, told: Sequence[Feedback]) -> FeedbackResult:
        """Join what was told, here or at the gateway that gave the answer.

        Raises:
            NotReady: some could not be looked for or written down; what was, is told of twice when all is sent again.
        """
        taken, changes = await self._run(self._join, model, told)
        fleet = self._spool is not None and bool(taken.unknown) and await self._spool.has_others()
        for pause in () if fleet else AGAIN_S:
            if not taken.unknown:
                break
            await asyncio.sleep(pause)
            again, more = await self._run(self._join, model, taken.unknown)
            taken.unknown = again.unknown
            taken.expired += again.expired
            taken.failed += again.failed
            changes += more
        for key, change in changes:
            await self._tell(key, change)
        if not fleet:
            self._count(model, "unknown", len(taken.unknown))
        await self._run(self._write)
        if taken.failed:
            raise NotReady(f"{len(taken.failed)} labels could not be joined now; send them again later")
        pending = await self._spool.put(model, taken.unknown) if fleet and self._spool is not None else 0
        return FeedbackResult(len(taken.unknown) - pending + len(taken.expired), pending)

    async def _take_waiting(self, model: str, told: Sequence[Feedback]) -> list[bool | None]:
        """Join what came at other gateways; of each whether it belongs to an answer here, None where that could not be
        written down."""
        taken, changes = await self._run(self._join, model, told)
        for key, change in changes:
            await self._tell(key, change)
        if taken.joined or taken.rewards or taken.expired or taken.duplicates or taken.unusable:
            await self._run(self._write)
        unknown, failed = {id(one) for one in taken.unknown}, {id(one) for one in taken.failed}
        return [None if id(one) in failed else id(one) not in unknown for one in told]

    def _count(self, model: str, outcome: str, number: int) -> None:
        """Count what belongs to no version's answer."""
        self._outcomes[model, NOBODY, outcome] += number

    def document(self, key: VersionKey) -> Document:
        """What labels say of a version."""
        known = self._versions.get(key)
        told = known.told if known is not None and known.told else NO_LABELS
        return {**told, "outcomes": self.outcomes(key)}

    def outcomes(self, key: VersionKey) -> dict[str, int]:
        """What became of a version's labels."""
        counted = list(self._outcomes.items())  # the thread may add to them
        return {outcome: count for (model, version, outcome), count in counted if (model, version) == key}

    def forget(self, key: VersionKey) -> None:
        """A version has another reference: what its labels say is to be learned anew."""
        known = self._versions.get(key)
        if known is not None:
            known.performance, known.replayed = None, False

    def bound_by(self, served: Callable[[], Sequence[VersionKey]], room: Callable[[], int]) -> None:
        """Keep files of these versions from now on, and of captures no more than this room (bytes)."""
        self._served, self._room = served, room

    async def step(self) -> None:
        """Take up what was labelled before, and keep the files within their room."""
        versions = self._served()
        try:
            await self._run(self._sweep, versions, self._room())  # first: it makes room for all that is written
        finally:
            for key in self._keyed.due(versions):
                with self._keyed.isolated(key):
                    await self._run(self._performance, key)
            await self._run(self._write)

    def readings(self) -> Iterator[Reading]:
        """Metrics of performance, and what became of labels."""
        for (model, version, outcome), count in list(self._outcomes.items()):
            yield Point(metrics.LABELS, (model, version, outcome), count)
        for model, count in list(self._dropped.items()):
            yield Point(metrics.ANSWERS_DROPPED, (model,), count)
        for key, known in list(self._versions.items()):  # the thread may add to them
            for name, value in known.values.items():
                metric = metrics.PERFORMANCE_RATIO if name in RATIOS else metrics.PERFORMANCE_VALUE
                yield Point(metric, (*key, name), value)

    def close(self) -> None:
        """Let the threads go."""
        for pool in self.pools:
            pool.close()

    # On the thread.

    def _join(
        self, model: str, told: Sequence[Feedback]
    ) -> tuple[JoinResult, list[tuple[VersionKey, PerformanceChange]]]:
        horizon = self._watched((model, NOBODY))[1].horizon_s
        changes: list[tuple[VersionKey, PerformanceChange]] = []
        for version in self._store.versions(model):
            self._performance((model, version))  # before the new labels are written down, lest they count twice
        taken = self._store.take(model, told, self._clock(), horizon)
        by_version: dict[str, list[LabelledRow]] = {}
        for row in taken.joined:
            by_version.setdefault(row.version, []).append(row)
        for version, rows in by_version.items():
            known = self._versions.setdefault((model, version), _Version(self._clock()))
            if known.performance is None:
                known.performance = Performance(*self._terms((model, version)))
            self._outcomes[model, version, "joined"] += len(rows)
            changes += [((model, version), change) for change in known.learn(rows, self._clock())]
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
        """Take up what was labelled before this process began, or before the version had its reference."""
        known = self._versions.setdefault(key, _Version(self._clock()))
        if known.replayed:
            return
        known.replayed = True
        rows = self._store.labelled(*key, REPLAYED)
        if rows:
            known.performance = Performance(*self._terms(key))
            known.replay(rows)

    def _sweep(self, versions: Sequence[VersionKey], room: int) -> None:
        horizons = [self._watched(key)[1].horizon_s for key in versions]
        horizon_s = max(horizons, default=MonitorPolicy().horizon_s)
        try:
            dropped = self._store.sweep(self._clock(), horizon_s, self._answer_room)
            for model in {model for model, _ in versions}:
                self._dropped[model] += dropped[prefix_of(model)]
        finally:
            sweep(self._home / CAPTURES, room)
        self._forget_all_but(versions)

    def _forget_all_but(self, versions: Sequence[VersionKey]) -> None:
        """Forget versions that are not served and of which no answer is remembered: no label can come for them."""
        models = {model for model, *_ in (*self._versions, *self._outcomes)}
        kept = {*versions, *((model, version) for model in models for version in self._store.versions(model))}
        for key in self._versions.keys() - kept:
            del self._versions[key]
        for outcome in [one for one in list(self._outcomes) if one[1] != NOBODY and one[:2] not in kept]:
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
            self._problem_log.report(self._state, f"counts of labels could not be kept: {error.strerror}")

    def _read(self) -> None:
        try:
            values = json.loads(self._state.read_text())
            self._outcomes.update({(model, version, one): count for model, version, one, count in values["outcomes"]})
            self.comparisons.restore(values["comparisons"])
            self._dropped.update(values.get("dropped", {}))
        except (OSError, ValueError, KeyError, TypeError):
            return
