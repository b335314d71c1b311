"""A fleet without processes: counters in memory, and a route that holds as soon as it is stored."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from penstock.control.calls.blocking import BlockingCall
from penstock.control.delivery.questions import QUERIES, WEBHOOKS, GateQueries
from penstock.control.monitoring.label_comparisons import LabelComparisons
from penstock.core.desired import Desired, ModelSpec, ReadyState, VersionSpec, VersionStatus
from penstock.core.errors import NotFound
from penstock.core.labels import OUTCOME_INDEX, PROTOCOL_NAMES, Route
from penstock.monitor.answers import CLASS
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.monitor.feedback import LabelledRow, RewardedAnswer
from penstock.registry.db.database import open_database
from penstock.registry.records import Author, Document
from penstock.registry.stores.traffic import TrafficStore
from penstock.registry.stores.versions import VersionStore
from tests.counted import count_alike, count_success
from tests.leases import leading

VERSIONS = ("1", "2", "3")
ME = Author("me", "a test")
MS = 1_000_000


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class AtOnce:
    """Does everything when it is submitted."""

    def submit(self, work: Callable[[], Any]) -> BlockingCall:
        job = BlockingCall(work, Future(), returned=True)
        try:
            job.future.set_result(work())
        except Exception as error:
            job.future.set_exception(error)
        return job

    def abandon(self, job: BlockingCall) -> None:
        raise AssertionError(job)


def at_once(clock: Clock) -> GateQueries:
    """Questions that are answered when they are put."""
    return GateQueries({QUERIES: AtOnce(), WEBHOOKS: AtOnce()}, clock)


class FakeFleet:
    """One gateway's workers; ``lagging`` ones do not take changes over, ``ill`` versions do not answer,
    ``loading`` ones are not in every worker."""

    def __init__(self, store: VersionStore, clock: Clock) -> None:
        self._store = store
        self.slot = Slot.in_process()
        self.desired = Desired(1, (self._spec(),))
        self.lagging = False
        self.lost: Counter[str] = Counter()
        self.ill: set[str] = set()
        self.loading: set[str] = set()
        self.labels = LabelComparisons(clock)
        self.decorate: Callable[[Desired], Desired] = lambda desired: desired
        self._clock = clock

    def _spec(self) -> ModelSpec:
        route, aliases = None, {}
        with suppress(NotFound):
            record = self._store.model("m")
            route, aliases = record.route, {alias.alias: alias.version for alias in record.aliases.values()}
        versions = tuple(VersionSpec(version, "", block=int(version)) for version in VERSIONS)
        return ModelSpec("m", versions, aliases, route=route)

    def is_applied(self) -> bool:
        return not self.lagging

    def statuses(self) -> list[VersionStatus]:
        return [VersionStatus("m", version, self._state(version)) for version in VERSIONS]

    def _state(self, version: str) -> ReadyState:
        if version in self.ill:
            return ReadyState.UNAVAILABLE
        return ReadyState.LOADING if version in self.loading else ReadyState.READY

    def totals(self, model: str, version: str) -> Totals:
        return Totals.of([self.slot], int(version))

    def losses(self, model: str, version: str) -> int:
        return self.lost[version]

    def outputs(self, model: str, version: str) -> int:
        return 1

    def samples(self, model: str, version: str) -> list[Document]:
        return []

    async def serve_changes(self) -> bool:
        self.renew()
        return not self.lagging

    def renew(self) -> None:
        if not self.lagging:
            self.desired = self.decorate(Desired(self.desired.revision + 1, (self._spec(),)))

    def answer(
        self, version: str, good: int, bad: int = 0, ms: float = 1.0, canary: bool = False, run_ms: float = 0.001
    ) -> None:
        """Count requests that the split sent to a version, and how long they and their runs took."""
        block, series = self.slot.block(int(version)), (Route.CANARY if canary else Route.STABLE) * len(PROTOCOL_NAMES)
        cells, total, run = self.slot.read(int(version)), int(ms * MS), int(run_ms * MS)
        count_alike(cells, good, lambda: count_success(block, series, 1, total, 1000, 0, run, 1000))
        internal = OUTCOME_INDEX["internal"]
        count_alike(cells, bad, lambda: block.count_failure(series, internal, total, attributed=True))

    def mirror(self, version: str, pairs: int, disagreements: int = 0) -> None:
        """Count compared shadow requests."""
        block = self.slot.block(int(version))
        count_alike(self.slot.read(int(version)), pairs, block.count_mirrored)
        block.add_shadow("pairs", pairs)
        block.add_shadow("disagreements", disagreements)

    def reward(self, version: str, values: Iterable[float], age_s: float = 0.1, by_split: bool = True) -> None:
        """Tell rewards of answers that a version gave a moment ago."""
        answered_at = self._clock() - age_s
        self.labels.take("m", (), [RewardedAnswer(version, value, answered_at, by_split) for value in values])

    def label(self, version: str, right: int, wrong: int = 0, age_s: float = 0.1, by_split: bool = True) -> None:
        """Tell labels of answers that a version gave a moment ago."""
        answered_at = self._clock() - age_s
        row = LabelledRow(version, CLASS, 1.0, (), 1.0, 0.0, answered_at, by_split)
        self.labels.take("m", [*[row] * right, *[replace(row, label=0.0)] * wrong], ())


class World:
    """A database (by default one in the folder), a fleet and a clock."""

    def __init__(self, folder: Path, url: str = "", clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.database = leading(open_database(url or f"sqlite:///{folder / 'registry.db'}", 5.0))
        self.store = VersionStore(self.database, self.clock)
        self.traffic = TrafficStore(self.database, self.clock)
        self.fleet = FakeFleet(self.store, self.clock)

    def champion(self) -> str | None:
        """Where the alias leads."""
        found = self.store.model("m").aliases.get("champion")
        return None if found is None else found.version

    def promote_champion(self, version: str) -> None:
        """Move the alias."""
        self.store.aliases.move("m", "champion", version, ME, in_registry=False)
        asyncio.run(self.fleet.serve_changes())

    def split(self) -> dict[str, int] | None:
        """The route's weights."""
        route = self.store.model("m").route
        return None if route is None else dict(route.split)
