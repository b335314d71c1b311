"""The workers of one simulated gateway: they serve what it last read of the registry, and count what they answer."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from mmap import mmap

from penstock.control.monitoring.label_comparisons import LabelComparisons
from penstock.core.desired import Desired, ModelSpec, ReadyState, VersionSpec, VersionStatus
from penstock.core.errors import NotReady
from penstock.core.labels import OUTCOME_INDEX, PROTOCOL_NAMES, Route
from penstock.core.routing import POINTS
from penstock.core.versions import CHAMPION, VersionKey
from penstock.monitor.counters.layout import LAST_MS_AT, SLOT_BYTES, Cells
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.registry.records import Document, ModelRecord, VersionState
from penstock.registry.stores.versions import VersionStore
from tests.counted import count_success

BAD = 0.5
"""The share of requests that a harmful version fails."""

RIGHT = (0.9, 0.3)
"""The shares of answers that are right, of a sound version and of a harmful one."""

LABELS = 2
"""Answers of each version that are labelled and rewarded, of those that are given at a time."""

RELOAD_S = 1.5
MS = 1_000_000


@cache
def _counts(route: Route) -> tuple[Cells, Cells]:
    """What one request that is answered adds to a block, and one that fails: thousands of them are added at once."""
    slot, series = Slot(memoryview(mmap(-1, SLOT_BYTES))), route * len(PROTOCOL_NAMES)
    count_success(slot.block(0), series, 1, MS, 1000, 0, MS // 2, 1000)
    slot.block(1).count_failure(series, OUTCOME_INDEX["internal"], MS, attributed=True)
    answered, failed = slot.read(0), slot.read(1)
    answered[LAST_MS_AT] = 0  # the time of this machine
    return answered, failed


def _divided(model: ModelSpec) -> tuple[str | None, Mapping[str, int]]:
    """The version that answers what the split does not decide, and the weights."""
    if model.route is not None:
        return model.route.stable, model.route.split
    champion = model.aliases.get(CHAMPION)
    return champion, {} if champion is None else {champion: POINTS}


class Workers:
    """What outlives a control process: counters, and what is served."""

    def __init__(self) -> None:
        self.slot = Slot(memoryview(mmap(-1, SLOT_BYTES)))  # of which only what is used takes memory
        self.blocks: dict[VersionKey, int] = {}
        self.answered: Counter[VersionKey] = Counter()
        self.losses: Counter[VersionKey] = Counter()
        self.desired = Desired()
        self.reloaded_at = float("-inf")

    def block(self, key: VersionKey) -> int:
        """The counter block of a version."""
        return self.blocks.setdefault(key, len(self.blocks) + 1)

    def answer(
        self, chance: random.Random, requests: int, harmful: Callable[[VersionKey], bool]
    ) -> list[tuple[VersionKey, bool]]:
        """Answer so many requests for each model, as its route divides them; some of what was answered, and whether
        that was right."""
        reported: list[tuple[VersionKey, bool]] = []
        for model in self.desired.models:
            stable, split = _divided(model)
            for version, weight in sorted(split.items()):
                key, number = (model.name, version), requests * weight // POINTS
                bad = int(number * BAD + chance.random()) if harmful(key) else 0
                self._count(key, number - bad, bad, Route.STABLE if version == stable else Route.CANARY)
                reported += [(key, chance.random() < RIGHT[harmful(key)]) for _ in range(min(LABELS, number))]
        return reported

    def _count(self, key: VersionKey, good: int, bad: int, route: Route) -> None:
        answered, failed = _counts(route)
        texts = self.slot.read(self.block(key))
        texts += good * answered + bad * failed
        self.answered[key] += good + bad

    def restart_one(self, now: float) -> None:
        """One worker ends with calls in hand, and loads everything anew."""
        self.losses.update(
            (model.name, item) for model in self.desired.models if model.route for item in model.route.split
        )
        self.reloaded_at = now


class SimFleet:
    """What a control process knows of its workers; reads the registry through ``store``."""

    def __init__(self, store: VersionStore, workers: Workers, now: Callable[[], float]) -> None:
        self._store = store
        self.workers = workers
        self._now = now
        self.labels = LabelComparisons(now)
        self.decorate: Callable[[Desired], Desired] = lambda desired: desired
        self._models: list[ModelRecord] = []
        self._revision: int | None = None

    @property
    def desired(self) -> Desired:
        """What they are to serve."""
        return self.workers.desired

    def is_applied(self) -> bool:
        """Whether all of them do."""
        return self._now() >= self.workers.reloaded_at + RELOAD_S

    def statuses(self) -> list[VersionStatus]:
        """Every version of every model."""
        state = ReadyState.READY if self.is_applied() else ReadyState.LOADING
        return [VersionStatus(m.name, version.version, state) for m in self.desired.models for version in m.versions]

    def totals(self, model: str, version: str) -> Totals:
        """What a version was counted by."""
        return Totals.of([self.workers.slot], self.workers.block((model, version)))

    def losses(self, model: str, version: str) -> int:
        """How many workers have ended with calls of a version in hand."""
        return self.workers.losses[model, version]

    def outputs(self, model: str, version: str) -> int:
        """How many outputs it has."""
        return 0

    def samples(self, model: str, version: str) -> list[Document]:
        """None: nothing is mirrored."""
        return []

    async def serve_changes(self) -> bool:
        """Read the registry, and serve that; what is served goes on while the database is away."""
        with suppress(NotReady):
            await asyncio.get_running_loop().run_in_executor(None, self._read)
            self.renew()
            return True
        return False

    def _read(self) -> None:
        revision = self._store.revision()
        if revision != self._revision:
            self._models, self._revision = self._store.models(), revision

    async def refresh(self) -> None:
        """As ``serve_changes``."""
        await self.serve_changes()

    def renew(self) -> None:
        """Serve what is different now."""
        models = tuple(self._spec(record) for record in self._models)
        self.workers.desired = self.decorate(Desired(self.desired.revision + 1, models))

    def _spec(self, record: ModelRecord) -> ModelSpec:
        served = [name for name, version in record.versions.items() if version.state is VersionState.ADMITTED]
        versions = tuple(VersionSpec(name, "", block=self.workers.block((record.name, name))) for name in served)
        aliases: Mapping[str, str] = {alias.alias: alias.version for alias in record.aliases.values()}
        return ModelSpec(record.name, versions, dict(aliases), route=record.route)
