"""Learns the reference of a version without one: the leader builds it from the rows of all gateways."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from penstock.control.calls.blocking import BlockingPool
from penstock.control.calls.repeated_read import RepeatedRead
from penstock.control.monitoring.policies import Policies
from penstock.control.monitoring.references.gathered_rows import (
    GatheredRows,
    draw_rows,
    interleave,
    learn,
    seed_of,
    unpack,
)
from penstock.control.monitoring.references.submission import RowSubmission
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.core.desired import LearnSpec
from penstock.core.errors import NotReady
from penstock.core.live_references import DiscardContributions, GatheringState, LearnReference, decide, draw_counts
from penstock.core.policies import MonitorPolicy
from penstock.core.versions import VersionKey
from penstock.monitor.reference import Reference
from penstock.registry.records import Author
from penstock.registry.stores.gathered import GatheredStore

log = logging.getLogger("penstock.control")

MONITOR = "monitor"
"""The actor of learned references in the audit log."""


GiveReference = Callable[[VersionKey, Reference, Author], Awaitable[object]]
"""Sets a version's reference, unless it has one."""


def learn_spec(policy: MonitorPolicy, workers: int = 1, is_awaited: bool = False) -> LearnSpec:
    """Return what each of ``workers`` gathers for a reference; ``is_awaited``: other gateways wait for its rows."""
    rows = -(-policy.live_rows // workers)
    return LearnSpec(rows, policy.live_requests, policy.live_s, policy.live_share, is_awaited)


class ReferenceLearning:
    """One gateway's part in the learning, on one event loop. ``give`` is called by the leader, ``renew`` when the
    awaited versions change; ``task`` continues if one version fails."""

    def __init__(
        self,
        pool: BlockingPool,
        task: PeriodicTask,
        store: GatheredStore,
        policies: Policies,
        rows: RowSubmission,
        give: GiveReference,
        renew: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._due: KeyedWork[VersionKey] = KeyedWork(task, "cannot learn a reference of", shared=(NotReady,))
        self._store = store
        self._open = RepeatedRead(partial(pool.call, store.open), store.change_mark)
        self._policies = policies
        self._rows = rows
        self._give = give
        self._renew = renew
        self._awaited: frozenset[VersionKey] = frozenset()
        self.gathered = rows.add_message
        self.forget = rows.forget
        self.change_rows = rows.change_rows

    def is_awaited(self, key: VersionKey) -> bool:
        """Return whether other gateways wait for this gateway's rows of a version, however few."""
        return key in self._awaited

    def problem(self, key: VersionKey) -> str:
        """Return why no reference of a version is learned, "" for no problem."""
        return self._due.problem(key) or self._rows.problem(key)

    async def step(self) -> None:
        """Submit rows; as the leader, learn each reference for which all gateways have submitted.

        Raises:
            NotReady: the database is unreachable.
        """
        gatherings = await self._open.value()
        if await self._rows.step(gatherings):
            gatherings = await self._open.value()
        if gatherings:
            self._open.forget()  # it has their ages
            await self._learn_due(gatherings)
        self._await(gatherings)

    async def _learn_due(self, gatherings: Mapping[VersionKey, GatheringState]) -> None:
        leads = await self._pool.call(self._store.acquire_leadership)
        for key in self._due.due(gatherings) if leads else ():
            with self._due.isolated(key):
                await self._decide(key, gatherings[key])

    def _await(self, gatherings: Mapping[VersionKey, GatheringState]) -> None:
        awaited = self._rows.awaited_versions(gatherings)
        if awaited != self._awaited:
            self._awaited = awaited
            self._renew()

    async def _decide(self, key: VersionKey, gathering: GatheringState) -> None:
        most = self._policies.of(key[0]).live_rows
        match decide(gathering, most):
            case LearnReference(missing=missing):
                reference, number = await self._pool.call(self._learn, key, gathering, most)
                rows = reference.rows
                origin = f"learned from {rows} rows" + (f" of {number} gateways" if number > 1 else "")
                await self._give(key, reference, Author(MONITOR, origin))
                log.info("model %s version %s: a reference was %s", *key, origin)
                if missing:
                    log.warning("model %s version %s: its reference is without %s", *key, ", ".join(missing))
            case DiscardContributions():
                await self._pool.call(self._store.discard, key)

    def _learn(self, key: VersionKey, gathering: GatheringState, most: int) -> tuple[Reference, int]:
        """Return the reference of the submitted rows and the number of their gateways, without unreadable rows.

        Raises:
            ValueError: no rows can be read.
        """
        parts: dict[str, GatheredRows] = {}
        for gateway, number in draw_counts(gathering.contributions, most).items():
            try:
                rows = unpack(self._store.rows(key, gateway) or b"")
            except ValueError as fault:
                log.error("model %s version %s: gateway %s is left out: %s", *key, gateway, fault)
                return self._learn(key, gathering.without(gateway), most)
            parts[gateway] = draw_rows(rows, number, seed_of(*key, gateway))
        if not parts:
            raise ValueError("no gateway has submitted rows that can be read")
        return learn(interleave([parts[name] for name in sorted(parts)])), len(parts)
