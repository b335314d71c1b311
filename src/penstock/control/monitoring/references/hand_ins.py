"""Hands in what this gateway's workers have gathered of versions without a reference, for the one that is learned."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from penstock.control.calls.blocking import BlockingPool
from penstock.control.monitoring.policies import Policies
from penstock.control.monitoring.references.gathered_rows import GatheredRows, below_each_other, gathered_in, pack
from penstock.control.monitoring.workers import Workers
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.control.workers.protocol import Message
from penstock.core.errors import NotReady
from penstock.core.live_references import Contribution, Gathering
from penstock.core.versions import VersionKey
from penstock.registry.stores.gathered import GatheredStore

LEARNING_S = 20.0
"""Rows of some workers are waited for that long after the first worker's."""


@dataclass(slots=True)
class _Gathered:
    """What the workers have told of a version since a time: their rows, by how many messages, of how many requests."""

    since: float
    parts: list[GatheredRows] = field(default_factory=list)
    messages: int = 0
    seen: int = 0

    @property
    def total(self) -> int:
        return sum(map(len, self.parts))


class HandIns:
    """One gateway's rows. ``present`` has the versions with a reference; ``task`` goes on where those of one cannot be
    handed in; ``clock`` gives seconds since the epoch. Of one event loop."""

    def __init__(
        self,
        pool: BlockingPool,
        task: PeriodicTask,
        store: GatheredStore,
        workers: Workers,
        policies: Policies,
        present: Container[VersionKey],
        clock: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._due: KeyedWork[VersionKey] = KeyedWork(task, "rows are not handed in of", shared=(NotReady,))
        self._store = store
        self._workers = workers
        self._policies = policies
        self._present = present
        self._clock = clock
        self._gathered: dict[VersionKey, _Gathered] = {}
        self._handed_in: dict[VersionKey, int] = {}
        self._answered_before: dict[VersionKey, int] = {}

    def gathered(self, message: Message) -> None:
        """Rows that a worker gathered of a version without a reference, or none where it was asked for some."""
        key = message["model"], message["version"]
        known = self._gathered.setdefault(key, _Gathered(self._clock()))
        known.messages += 1
        if (rows := gathered_in(message)) is not None:
            known.parts.append(rows)
            known.seen += message.get("seen", len(rows))  # a worker of before does not tell

    def forget(self, key: VersionKey) -> None:
        """The rows of a version are of no use any more."""
        self._gathered.pop(key, None)
        self._handed_in.pop(key, None)
        self._answered_before.pop(key, None)

    def problem(self, key: VersionKey) -> str:
        """Why the rows of a version are not handed in, "" for nothing."""
        return self._due.problem(key)

    async def step(self, standing: Mapping[VersionKey, Gathering]) -> bool:
        """Hand in what is ripe and not there, by where each version stands; whether there was something."""
        self._begin()
        ripe = [key for key in self._due.due(self._gathered) if self._is_wanted(key, standing.get(key))]
        for key in ripe:
            with self._due.isolated(key):
                await self._hand_in(key)
        for key, gathering in standing.items():
            mine = gathering.contributions.get(self._store.gateway)
            if mine is not None and key in self._handed_in and mine.answered < self._answered(key):
                await self._pool.call(self._store.update_answered, key, self._answered(key))
        return bool(ripe)

    def awaited(self, standing: Mapping[VersionKey, Gathering]) -> frozenset[VersionKey]:
        """The versions of which others have handed in rows, and this gateway has not."""
        mine = self._store.gateway
        return frozenset(
            key for key, one in standing.items() if mine not in one.contributions and key not in self._present
        )

    def _begin(self) -> None:
        """Note how many requests each version had answered when the workers began to gather."""
        before, served = self._answered_before, self._workers.desired.models
        keys = [(model.name, one.version) for model in served for one in model.versions]
        self._answered_before = {
            key: before[key] if key in before else self._total(key) for key in keys if key not in self._present
        }

    def _total(self, key: VersionKey) -> int:
        return sum(count for *_, count in self._workers.totals(*key).requests())

    def _answered(self, key: VersionKey) -> int:
        """The requests that rows were gathered out of: what the workers say, or what was counted in the meantime."""
        known, total = self._gathered.get(key), self._total(key)
        return max(0 if known is None else known.seen, total - self._answered_before.get(key, total))

    def _is_wanted(self, key: VersionKey, gathering: Gathering | None) -> bool:
        if key in self._present:
            self.forget(key)  # not before: rows are gathered once
            return False
        known = self._gathered[key]
        is_there = gathering is not None and self._store.gateway in gathering.contributions
        if is_there and self._handed_in.get(key, known.total) == known.total:
            return False
        return self._is_ripe(known, self._policies.of(key[0]).live_rows, gathering is not None)

    def _is_ripe(self, known: _Gathered, enough: int, is_asked: bool) -> bool:
        all_told = is_asked and known.messages >= self._workers.workers
        return known.total >= enough or all_told or (known.total > 0 and self._clock() - known.since >= LEARNING_S)

    async def _hand_in(self, key: VersionKey) -> None:
        known = self._gathered[key]
        total, parts = known.total, tuple(known.parts)
        number, packed = await self._pool.call(_packed, parts) if parts else (0, b"")
        await self._pool.call(self._store.submit, key, Contribution(number, self._answered(key)), packed)
        self._handed_in[key] = total


def _packed(parts: tuple[GatheredRows, ...]) -> tuple[int, bytes]:
    return pack(below_each_other(parts))
