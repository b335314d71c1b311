"""Learns the reference of a version that has none: of the rows that all gateways have handed in, at the one that
leads."""

import logging
from collections.abc import Awaitable, Callable, Mapping

from penstock.control.calls.blocking import BlockingPool
from penstock.control.monitoring.policies import Policies
from penstock.control.monitoring.references.gathered_rows import (
    GatheredRows,
    drawn,
    in_turns,
    learned,
    seed_of,
    unpack,
)
from penstock.control.monitoring.references.hand_ins import HandIns
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.core.desired import LearnSpec
from penstock.core.errors import NotReady
from penstock.core.live_references import Discard, Gathering, Learn, decide, draw_counts
from penstock.core.policies import MonitorPolicy
from penstock.core.versions import VersionKey
from penstock.monitor.reference import Reference
from penstock.registry.records import By
from penstock.registry.stores.gathered import GatheredStore

log = logging.getLogger("penstock.control")

MONITOR = "monitor"
"""Who gives a version the reference that was learned, in the audit log."""


GiveReference = Callable[[VersionKey, Reference, By], Awaitable[object]]
"""Gives a version a reference, unless it has one."""


def learn_spec(policy: MonitorPolicy, workers: int = 1, is_awaited: bool = False) -> LearnSpec:
    """What one of so many workers is to gather for a reference; ``is_awaited`` says that others wait for its rows."""
    rows = -(-policy.live_rows // workers)
    return LearnSpec(rows, policy.live_requests, policy.live_s, policy.live_share, is_awaited)


class ReferenceLearning:
    """One gateway's part in it. ``give`` is called where it leads, ``renew`` where its workers are awaited, or no
    longer; ``task`` goes on where nothing can be learned of one version. Of one event loop."""

    def __init__(
        self,
        pool: BlockingPool,
        task: PeriodicTask,
        store: GatheredStore,
        policies: Policies,
        rows: HandIns,
        give: GiveReference,
        renew: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._due: KeyedWork[VersionKey] = KeyedWork(task, "no reference is learned of", shared=(NotReady,))
        self._store = store
        self._policies = policies
        self._rows = rows
        self._give = give
        self._renew = renew
        self._awaited: frozenset[VersionKey] = frozenset()
        self.gathered = rows.gathered
        self.forget = rows.forget

    def is_awaited(self, key: VersionKey) -> bool:
        """Whether other gateways wait for the rows that the workers have gathered of a version, however few."""
        return key in self._awaited

    def problem(self, key: VersionKey) -> str:
        """Why no reference is learned of a version, "" for nothing."""
        return self._due.problem(key) or self._rows.problem(key)

    async def step(self) -> None:
        """Hand in rows; where this gateway leads, learn each reference that all have handed in for.

        Raises:
            NotReady: the database is away.
        """
        standing = await self._pool.call(self._store.open)
        if await self._rows.step(standing):
            standing = await self._pool.call(self._store.open)
        if standing:
            await self._lead(standing)
        self._await(standing)

    async def _lead(self, standing: Mapping[VersionKey, Gathering]) -> None:
        leads = await self._pool.call(self._store.lead)
        for key in self._due.due(standing) if leads else ():
            with self._due.isolated(key):
                await self._decide(key, standing[key])

    def _await(self, standing: Mapping[VersionKey, Gathering]) -> None:
        awaited = self._rows.awaited(standing)
        if awaited != self._awaited:
            self._awaited = awaited
            self._renew()

    async def _decide(self, key: VersionKey, gathering: Gathering) -> None:
        most = self._policies.of(key[0]).live_rows
        match decide(gathering, most):
            case Learn(missing=missing):
                reference, number = await self._pool.call(self._learned, key, gathering, most)
                rows = reference.rows
                told = f"learned from {rows} rows" + (f" of {number} gateways" if number > 1 else "")
                await self._give(key, reference, By(MONITOR, told))
                log.info("model %s version %s: a reference was %s", *key, told)
                if missing:
                    log.warning("model %s version %s: its reference is without %s", *key, ", ".join(missing))
            case Discard():
                await self._pool.call(self._store.discard, key)

    def _learned(self, key: VersionKey, gathering: Gathering, most: int) -> tuple[Reference, int]:
        """The reference of what gateways have handed in, and how many they are. What cannot be read is left out.

        Raises:
            ValueError: nothing can be read.
        """
        parts: dict[str, GatheredRows] = {}
        for gateway, number in draw_counts(gathering.contributions, most).items():
            try:
                rows = unpack(self._store.rows(key, gateway) or b"")
            except ValueError as fault:
                log.error("model %s version %s: gateway %s is left out: %s", *key, gateway, fault)
                return self._learned(key, gathering.without(gateway), most)
            parts[gateway] = drawn(rows, number, seed_of(*key, gateway))
        if not parts:
            raise ValueError("no gateway has handed in rows that can be read")
        return learned(in_turns([parts[name] for name in sorted(parts)])), len(parts)
