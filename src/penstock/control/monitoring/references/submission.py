"""Submits the rows that this gateway's workers have gathered for a version without a reference."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from penstock.control.calls.blocking import BlockingPool
from penstock.control.monitoring.policies import Policies
from penstock.control.monitoring.references.gathered_rows import (
    GatheredRows,
    concatenate_gathered,
    decode_gathered_rows,
    pack,
)
from penstock.control.monitoring.workers import MonitoredWorkers
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.control.workers.protocol import Message
from penstock.core.errors import NotReady
from penstock.core.live_references import Contribution, GatheringState
from penstock.core.versions import VersionKey
from penstock.registry.stores.gathered import GatheredStore

LEARNING_S = 20.0
"""Time that a gateway waits for the rows of other workers after those of the first."""


@dataclass(slots=True)
class _SubmittedRows:
    """The rows of a version from the workers since a time, the number of messages, and of sampled requests."""

    since: float
    parts: list[GatheredRows] = field(default_factory=list)
    messages: int = 0
    seen: int = 0

    @property
    def total(self) -> int:
        return sum(map(len, self.parts))


class RowSubmission:
    """Submits one gateway's rows, on one event loop. ``present`` has the versions with a reference; ``task`` continues
    if one version fails; ``clock`` gives seconds since the epoch."""

    def __init__(
        self,
        pool: BlockingPool,
        task: PeriodicTask,
        store: GatheredStore,
        workers: MonitoredWorkers,
        policies: Policies,
        present: Container[VersionKey],
        clock: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._due: KeyedWork[VersionKey] = KeyedWork(task, "cannot submit rows of", shared=(NotReady,))
        self._store = store
        self._workers = workers
        self._policies = policies
        self._present = present
        self._clock = clock
        self._gathered: dict[VersionKey, _SubmittedRows] = {}
        self._submitted: dict[VersionKey, int] = {}
        self._answered_before: dict[VersionKey, int] = {}

    def add_message(self, message: Message) -> None:
        """Add a worker's rows of a version without a reference; a requested message may have none."""
        key = message["model"], message["version"]
        submitted = self._gathered.setdefault(key, _SubmittedRows(self._clock()))
        submitted.messages += 1
        if (rows := decode_gathered_rows(message)) is not None:
            submitted.parts.append(rows)
            submitted.seen += message.get("seen", len(rows))  # an older worker does not send the number

    def forget(self, key: VersionKey) -> None:
        """Drop the rows of a version."""
        self._gathered.pop(key, None)
        self._submitted.pop(key, None)
        self._answered_before.pop(key, None)

    def change_rows(self, change: Callable[[VersionKey, GatheredRows], GatheredRows]) -> int:
        """Replace the rows that wait here by ``change`` of them; return how many are gone."""
        gone = 0
        for key, submitted in self._gathered.items():
            changed = [change(key, part) for part in submitted.parts]
            gone += submitted.total - sum(map(len, changed))
            submitted.parts = [part for part in changed if len(part)]
        return gone

    def problem(self, key: VersionKey) -> str:
        """Return why the rows of a version are not submitted, "" for no problem."""
        return self._due.problem(key)

    async def step(self, gatherings: Mapping[VersionKey, GatheringState]) -> bool:
        """Submit rows that are ready and not yet in the database, and return whether there were any."""
        self._begin()
        ready = [key for key in self._due.due(self._gathered) if self._is_wanted(key, gatherings.get(key))]
        for key in ready:
            with self._due.isolated(key):
                await self._submit(key)
        for key, gathering in gatherings.items():
            own = gathering.contributions.get(self._store.gateway)
            if own is not None and key in self._submitted and own.answered < self._count_sampled(key):
                await self._pool.call(self._store.update_answered, key, self._count_sampled(key))
        return bool(ready)

    def awaited_versions(self, gatherings: Mapping[VersionKey, GatheringState]) -> frozenset[VersionKey]:
        """Return the versions for which other gateways have submitted rows, and this one has not."""
        gateway = self._store.gateway
        return frozenset(
            key
            for key, gathering in gatherings.items()
            if gateway not in gathering.contributions and key not in self._present
        )

    def _begin(self) -> None:
        """Record the number of requests of each version when its workers started to gather."""
        before, served = self._answered_before, self._workers.desired.models
        keys = [(model.name, version.version) for model in served for version in model.versions]
        self._answered_before = {
            key: before[key] if key in before else self._total(key) for key in keys if key not in self._present
        }

    def _total(self, key: VersionKey) -> int:
        return self._workers.totals(*key).live_outcomes().total()

    def _count_sampled(self, key: VersionKey) -> int:
        """Return the number of requests that rows were sampled from: by the workers' messages, or by the counters."""
        submitted, total = self._gathered.get(key), self._total(key)
        return max(0 if submitted is None else submitted.seen, total - self._answered_before.get(key, total))

    def _is_wanted(self, key: VersionKey, gathering: GatheringState | None) -> bool:
        if key in self._present:
            self.forget(key)  # not earlier: rows are gathered once
            return False
        submitted = self._gathered[key]
        is_there = gathering is not None and self._store.gateway in gathering.contributions
        if is_there and self._submitted.get(key, submitted.total) == submitted.total:
            return False
        return self._is_ready(submitted, self._policies.of(key[0]).live_rows, gathering is not None)

    def _is_ready(self, submitted: _SubmittedRows, enough: int, is_asked: bool) -> bool:
        is_complete = is_asked and submitted.messages >= self._workers.workers
        return (
            submitted.total >= enough
            or is_complete
            or (submitted.total > 0 and self._clock() - submitted.since >= LEARNING_S)
        )

    async def _submit(self, key: VersionKey) -> None:
        submitted = self._gathered[key]
        total, parts = submitted.total, tuple(submitted.parts)
        number, packed = await self._pool.call(_pack, parts) if parts else (0, b"")
        await self._pool.call(self._store.submit, key, Contribution(number, self._count_sampled(key)), packed)
        self._submitted[key] = total


def _pack(parts: tuple[GatheredRows, ...]) -> tuple[int, bytes]:
    return pack(concatenate_gathered(parts))
