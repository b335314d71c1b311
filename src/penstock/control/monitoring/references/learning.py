"""Learns the reference of a version that has none from the rows that its workers gather."""

import logging
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import replace

from penstock.control.blocking import BlockingPool
from penstock.control.monitoring.policies import Policies
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.control.workers.protocol import Message, rows_in
from penstock.core.desired import LearnSpec
from penstock.core.errors import NotReady
from penstock.core.policies import MonitorPolicy
from penstock.monitor.columns import Rows, joined
from penstock.monitor.confidence import ConfidenceHistogram, confidence_in
from penstock.monitor.reference import LIVE, Reference
from penstock.monitor.reference_builder import build
from penstock.registry.records import By

log = logging.getLogger("penstock.control")

MONITOR = "monitor"
"""Who gives a version the reference that was learned, in the audit log."""

LEARNING_S = 20.0
"""Rows of some workers are waited for that long after the first worker's."""

Key = tuple[str, str]
Gathered = tuple[Rows, Rows, ConfidenceHistogram | None]
"""Rows of inputs and of outputs, and how sure the answers were."""

Names = tuple[Sequence[str], Sequence[str]]
"""Of the inputs' and the outputs' columns, numbers first."""

GiveReference = Callable[[Key, Reference, By], Awaitable[object]]
"""Gives a version a reference, unless it has one."""


def learn_spec(policy: MonitorPolicy, workers: int = 1) -> LearnSpec:
    """What one of so many workers is to gather for a reference."""
    return LearnSpec(-(-policy.live_rows // workers), policy.live_requests, policy.live_s, policy.live_share)


def learned(rows: Sequence[Gathered], names: Names) -> Reference:
    """The reference that all workers' rows make together."""
    inputs, outputs = joined([one for one, _, _ in rows]), joined([one for _, one, _ in rows])
    sure = [one for _, _, one in rows if one is not None]
    found = build((names[0], names[1]), inputs, outputs, LIVE)
    if len(sure) < len(rows):
        return found
    counts = tuple(sum(column) for column in zip(*(one.counts for one in sure), strict=True))
    return replace(found, confidence=ConfidenceHistogram(sure[0].classes, counts))


class ReferenceLearning:
    """Rows that wait to become references. ``present`` has the versions with a reference; ``task`` goes on where
    none can be learned of one; ``clock`` gives seconds since the epoch. Of one event loop."""

    def __init__(
        self,
        pool: BlockingPool,
        task: PeriodicTask,
        policies: Policies,
        present: Container[Key],
        give: GiveReference,
        clock: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._due: KeyedWork[Key] = KeyedWork(task, "no reference is learned of", shared=(NotReady,))
        self._policies = policies
        self._present = present
        self._give = give
        self._clock = clock
        self._gathered: dict[Key, tuple[float, Names, list[Gathered]]] = {}

    def gathered(self, message: Message) -> None:
        """Rows that a worker gathered of a version without a reference."""
        key = message["model"], message["version"]
        _, _, gathered = self._gathered.setdefault(key, (self._clock(), message["names"], []))
        rows = rows_in(message["inputs"]), rows_in(message["outputs"])
        gathered.append((*rows, confidence_in(message.get("confidence"))))

    def forget(self, key: Key) -> None:
        """The rows of a version are of no use any more."""
        self._gathered.pop(key, None)

    def problem(self, key: Key) -> str:
        """Why no reference is learned of a version, "" for nothing."""
        return self._due.problem(key)

    async def learn(self) -> None:
        """Give each version a reference whose rows are enough, or whose other workers were waited for long enough."""
        for key in self._due.due(self._gathered):
            if key in self._gathered and self._is_ripe(key):
                await self._learn(key)

    def _is_ripe(self, key: Key) -> bool:
        since, _, rows = self._gathered[key]
        enough = _total(rows) >= self._policies.of(key[0]).live_rows
        return enough or self._clock() - since >= LEARNING_S

    async def _learn(self, key: Key) -> None:
        _, names, rows = self._gathered[key]
        if key not in self._present:
            with self._due.isolated(key):
                reference, total = await self._pool.call(learned, rows, names), _total(rows)
                await self._give(key, reference, By(MONITOR, f"learned from {total} rows"))
                log.info("model %s version %s: a reference was learned from %d rows", *key, total)
        if key in self._present:
            self.forget(key)  # not before: rows are gathered once


def _total(rows: Sequence[Gathered]) -> int:
    return sum(len(inputs) for inputs, _, _ in rows)
