"""One simulated gateway: the production classes of a control process over a faulty database, in virtual time."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.control.delivery.experiments import Experiments
from penstock.control.delivery.rollouts import Rollouts
from penstock.control.delivery.routes import RouteAdmin
from penstock.control.monitoring.label_batches import unpack_rows
from penstock.control.periodic import PeriodicTask, Tasks
from penstock.control.retraining.rules import Retraining
from penstock.control.sinks import SinkContext
from penstock.core.versions import VersionKey
from penstock.monitor.feedback import LabelledRow, RewardedAnswer
from penstock.registry.db.database import Database
from penstock.registry.db.lease import LeaseHolder
from penstock.registry.db.shared_clock import SharedClock
from penstock.registry.location import location_of
from penstock.registry.registry import Registry
from penstock.registry.stores.evidence import EvidenceStore
from penstock.registry.stores.outbox import Outbox
from penstock.registry.stores.retention import RetentionStore
from penstock.registry.stores.traffic import TrafficStore
from penstock.registry.stores.versions import VersionStore
from tests.simulation.faults import Bucket, FaultyDatabase, Trouble
from tests.simulation.fleet import SimFleet, Workers
from tests.simulation.labels import Labels
from tests.simulation.loop import MACHINE, Machine, VirtualLoop
from tests.simulation.monitoring import Monitoring, requests_of

PERIODS_S = {"registry": 2.0, "rollouts": 2.0, "experiments": 3.0, "rules": 2.0, "deliveries": 2.0, "evidence": 4.0}
"""How often the tasks of a control process run; in the product some do so more often."""

SLOW_S = (0.0, 0.0, 0.0, 3.0)
"""Pauses before a piece of work of a gateway whose database is slow, each as likely."""


@dataclass(frozen=True, slots=True)
class World:
    """What all gateways of a run share: its time, its chance, a folder, a way to the database, and the bucket."""

    loop: VirtualLoop
    chance: random.Random
    folder: Path
    opened: Callable[[], Database]
    bucket: Bucket
    labels: Labels = field(default_factory=Labels)
    drifting: set[VersionKey] = field(default_factory=set)


class Gateway:
    """A gateway called ``name``. Its workers outlive its control process."""

    def __init__(self, world: World, name: str) -> None:
        self._loop = world.loop
        self._chance = chance = world.chance
        self._world = world
        self.name = name
        self.workers = Workers()
        self.published: Counter[VersionKey] = Counter()
        self.skew_s = chance.choice((0.0, 0.0, -30.0, 3600.0))
        self.flaky = 0.0
        self.slow = False
        self._begin()

    def _begin(self) -> None:
        """Start a control process."""
        self.machine = Machine(self._delay_s)
        self._database = self._world.opened()
        self._database.lease = self.lease = LeaseHolder(self.name, self._loop.time)
        self._database.clock = self._clock()
        faulty = FaultyDatabase(self._database, self._trouble)
        self.store = VersionStore(faulty)
        place = location_of("", self._world.folder, "")
        self.registry = Registry(place, self.store, self._world.bucket, 1 << 20)
        self.traffic_store = TrafficStore(faulty)
        self.outbox = Outbox(faulty, self.traffic_store)
        self.retention = RetentionStore(faulty)
        self.fleet = SimFleet(self.store, self.workers, self._loop.wall)
        conducted = (self.traffic_store, self.fleet, self.name, self.fleet.labels)
        self.rollouts, self.experiments = Rollouts(*conducted), Experiments(*conducted)
        self.traffic = RouteAdmin(self.store, self.traffic_store, self.fleet)
        self.fleet.decorate = self.rollouts.decorate
        notes = self._world.folder / f"{self.name}.notes"
        counted = (self.fleet, self._world.drifting, self.run, notes)
        self.monitoring = Monitoring(EvidenceStore(faulty), self.name, *counted)
        self.evidence = self.monitoring.evidence
        home = SinkContext(self._world.folder)
        self.retraining = Retraining(
            self.outbox, self.store.model, self.fleet, self.monitoring, self.rollouts, home, self.traffic_store.now
        )
        self._operations: set[asyncio.Task[Any]] = set()
        self._context = copy_context()
        self._context.run(MACHINE.set, self.machine)
        self._tasks = Tasks()
        self._context.run(self._start)

    def _clock(self) -> SharedClock:
        """The database's clock as a gateway knows it that has asked, on a machine whose own clock is wrong."""
        clock = SharedClock(lambda: self._loop.wall() + self.skew_s, self._loop.time)
        clock._known, clock._asked = (self._loop.wall(), self._loop.time()), self._loop.time()
        return clock

    def _start(self) -> None:
        steps: dict[str, Callable[[], Awaitable[object]]] = {
            "registry": self.fleet.refresh,
            "rollouts": self.rollouts.step,
            "experiments": self.experiments.step,
            "evidence": self.evidence.step,
            "rules": self.retraining.judge_all,
            "deliveries": self.retraining.deliver_all,
        }
        for task in (self.rollouts.task, self.experiments.task, self.evidence.task, *self.retraining.tasks):
            task.clock = self._loop.time
        self._tasks.start(*(self._task(name, step) for name, step in steps.items()))

    def _task(self, name: str, step: Callable[[], Awaitable[object]]) -> PeriodicTask:
        timed, now = self._loop.time, self._loop.wall
        return PeriodicTask(name, step, PERIODS_S[name], clock=timed, now=now, chance=self._chance.random)

    def send_feedback(self, model: str, row: LabelledRow, reward: RewardedAnswer) -> None:
        """Give it the label and the reward of something that it has answered."""
        self.evidence.labels.add(model, [row])
        self.fleet.labels.take(model, [row], [reward])

    def _delay_s(self) -> float:
        pause = self._chance.choice(SLOW_S) if self.slow else 0.0
        return pause + self._chance.random() * 0.01

    def _trouble(self) -> Trouble:
        if self._chance.random() >= self.flaky:
            return Trouble.NONE
        return self._chance.choice((Trouble.REFUSED, Trouble.LOST))

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with it at present."""
        return self.machine.alive and not self.machine.frozen and not self.flaky and not self.slow

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do something that blocks."""
        return await self._loop.run_in_executor(None, work, *arguments)

    def drift(self, versions: Iterable[VersionKey]) -> None:
        """Rows drift away from these versions, at every gateway."""
        self._world.drifting.update(versions)

    def operate(self, work: Callable[[], Any]) -> "asyncio.Task[Any]":
        """Do what a person asks this gateway for; cancelled when the gateway is killed."""
        task = self._loop.create_task(work(), context=self._context)
        self._operations.add(task)
        task.add_done_callback(self._operations.discard)
        return task

    def restart(self) -> None:
        """Replace the control process; the workers go on."""
        self.kill()
        self._begin()

    def kill(self) -> None:
        """End the control process at once: what it has not written is gone."""
        self.machine.alive = self.machine.frozen = False
        self._tasks._stopped = True
        sending = self.retraining._dispatcher._sending.values()
        exams = self.retraining.candidates._exams.values()
        for task in (*self._tasks.running.values(), *self._operations, *sending, *exams):
            task.cancel()
        self.lease._term = None  # a process that is killed releases nothing
        written = self.evidence._publisher._written
        self.published |= Counter({key: requests_of(item.totals) for key, item in written.items()})
        labels = self.evidence.labels
        while batches := labels.batches():
            self._world.labels.lost |= {row.at for batch in batches for row in unpack_rows(batch.version, batch.rows)}
            labels.forget_current()
        for closing in (self.rollouts, self.experiments, self.traffic, self.retraining):
            closing.close()
