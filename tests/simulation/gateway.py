"""One simulated gateway: the production classes of a control process over a faulty database, in virtual time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.control.delivery.rollouts import Rollouts
from penstock.control.delivery.routes import Traffic
from penstock.control.periodic import PeriodicTask, Tasks
from penstock.control.retraining.dispatcher import Dispatcher
from penstock.control.sinks import SinkContext
from penstock.core.sinks import SinkSpec
from penstock.registry.db.database import Database
from penstock.registry.db.lease import LeaseHolder
from penstock.registry.db.shared_clock import SharedClock
from penstock.registry.location import location_of
from penstock.registry.registry import Registry
from penstock.registry.stores.outbox import Outbox
from penstock.registry.stores.retention import RetentionStore
from penstock.registry.stores.traffic import TrafficStore
from penstock.registry.stores.versions import Store
from tests.simulation.faults import Bucket, FaultyDatabase, Trouble
from tests.simulation.fleet import SimFleet, Workers
from tests.simulation.loop import MACHINE, Machine, VirtualLoop

SINK = "train"
SINKS = {SINK: SinkSpec("webhook", {"url": "http://sink.invalid/"})}
TICK_S = 2.0
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


class Gateway:
    """A gateway called ``name``. Its workers outlive its control process."""

    def __init__(self, world: World, name: str) -> None:
        self._loop = world.loop
        self._chance = chance = world.chance
        self._world = world
        self.name = name
        self.workers = Workers()
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
        self.store = Store(faulty)
        place = location_of("", self._world.folder, "")
        self.registry = Registry(place, self.store, self._world.bucket, 1 << 20)
        self.traffic_store = TrafficStore(faulty)
        self.outbox = Outbox(faulty, self.traffic_store)
        self.retention = RetentionStore(faulty)
        self.fleet = SimFleet(self.store, self.workers, self._loop.wall)
        self.rollouts = Rollouts(self.traffic_store, self.fleet, self.name, self.fleet.labels)
        self.traffic = Traffic(self.store, self.traffic_store, self.fleet)
        self.fleet.decorate = self.rollouts.decorate
        context = SinkContext(self._world.folder, trusted=False)
        self.dispatcher = Dispatcher(
            self.outbox.as_leader(), lambda _: SINKS, context, self.run, self.traffic_store.now
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
        self.rollouts.task.clock = self._loop.time
        self._tasks.start(
            self._task("registry", self.fleet.refresh),
            self._task("rollouts", self.rollouts.step),
            self._task("outbox", self._send),
        )

    def _task(self, name: str, step: Callable[[], Awaitable[object]]) -> PeriodicTask:
        timed, now = self._loop.time, self._loop.wall
        return PeriodicTask(name, step, TICK_S, clock=timed, now=now, chance=self._chance.random)

    async def _send(self) -> None:
        if await self.run(self.outbox.lead):
            await self.dispatcher.step()

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
        for task in (*self._tasks.running.values(), *self._operations, *self.dispatcher._sending.values()):
            task.cancel()
        self.lease._term = None  # a process that is killed releases nothing
        for closing in (self.rollouts, self.traffic, self.dispatcher):
            closing.close()
