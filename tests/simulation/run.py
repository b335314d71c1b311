"""One run of the simulation: what people ask for and what goes wrong, in steps, until everything comes to rest."""

import asyncio
from collections import Counter
from contextlib import suppress
from functools import partial
from hashlib import sha256

from penstock.control.sinks import SinkContext, SinkFault
from penstock.core.errors import Fault
from penstock.core.sinks import SinkSpec
from penstock.registry.db.lease import NotLeading
from penstock.registry.records import Author, Document
from tests.simulation import invariants
from tests.simulation.checks import Checks
from tests.simulation.gateway import Gateway, World
from tests.simulation.operations import MODELS, OPERATIONS, Asked, Operation, harmful, train

STEPS = 40
LOAD_S = 1.0
REWARD = (0.9, 0.5)
"""Mean rewards, of most versions and of every third one."""

REQUESTS = 200
"""Requests for each model and gateway in that time."""

QUIET_S = 90.0
"""Within this time after the last fault everything is as it should be."""

SETTLE_S = 14.0
"""What was counted last is published within this time, and what is told rests on it."""


class Run:
    """A run of some gateways in a world of their own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loop = world.loop
        self._chance = world.chance
        self._sink_down = False
        self._received: Counter[str] = Counter()
        self._arrived: list[str] = []
        self._asked: list[Asked] = []
        self.step = 0
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        self.checks = Checks(world, self.counts, self._asked)
        self._gateways = self.checks.gateways

    def _gateway(self) -> Gateway:
        name = f"g{self.counts['gateways']}"
        self.counts["gateways"] += 1
        return Gateway(self._world, name)

    # What happens.

    async def live(self) -> None:
        """Do the steps, then let everything come to rest."""
        self._gateways += [self._gateway() for _ in range(self._chance.choice((1, 2, 2, 3)))]
        serving = self._loop.create_task(self._serve())
        for self.step in range(STEPS):
            self._act()
            await asyncio.sleep(self._chance.random() * 2)
            self.checks.check()
        self.step = STEPS
        await self._come_to_rest()
        serving.cancel()
        await self._settle()

    async def _serve(self) -> None:
        while True:
            await asyncio.sleep(LOAD_S)
            for gateway in self._gateways:
                self._answer(gateway)

    def _answer(self, gateway: Gateway) -> None:
        labels, now = self._world.labels, self._loop.wall()
        reported = gateway.workers.answer(self._chance, REQUESTS, harmful)
        if gateway.machine.frozen:
            return  # people tell it nothing
        for key, right in reported:
            reward = float(self._chance.random() < REWARD[int(key[1]) % 3 == 0])
            gateway.send_feedback(key[0], labels.joined(key, right, now), labels.rewarded(key, reward, now))

    def _act(self) -> None:
        if self._chance.random() < 0.3:
            self._fault()
        operation = self._chance.choices(*zip(*OPERATIONS, strict=True))[0]
        self._begin(operation, f"op{self.step}")

    def _begin(self, operation: Operation, actor: str) -> None:
        asked = Asked(actor, operation.__name__)
        self._asked.append(asked)
        gateway = self._chance.choice(self._gateways)
        self._say(f"{asked.what} by {asked.actor} at {gateway.name}")
        gateway.operate(partial(self._ask, operation, gateway, asked))

    async def _ask(self, operation: Operation, gateway: Gateway, asked: Asked) -> None:
        try:
            await operation(gateway, Author(asked.actor), self._chance)
        except Fault as fault:
            asked.outcome = type(fault).__name__
            self._say(f"  {asked.actor}: {asked.outcome}: {fault}")
        else:
            asked.outcome = "done"
            self._say(f"  {asked.actor}: done")
        self.counts[f"{asked.what} {asked.outcome}"] += 1

    def _fault(self) -> None:
        kinds = (
            self._flaky,
            self._slow,
            self._freeze,
            self._restart,
            self._replace,
            self._worker,
            self._crash_loop,
            self._sink,
            self._full,
            self._forgetful,
        )
        kind = self._chance.choice((*kinds, self._heal, self._heal, self._heal))
        gateway = self._chance.choice(self._gateways)
        self._say(f"fault {kind.__name__} {gateway.name}")
        self.counts[f"fault {kind.__name__[1:]}"] += 1
        kind(gateway)

    def _flaky(self, gateway: Gateway) -> None:
        gateway.flaky = self._chance.choice((0.1, 0.4, 1.0))

    def _slow(self, gateway: Gateway) -> None:
        gateway.slow = True

    def _freeze(self, gateway: Gateway) -> None:
        gateway.machine.frozen = True

    def _restart(self, gateway: Gateway) -> None:
        gateway.restart()

    def _replace(self, gateway: Gateway) -> None:
        gateway.kill()
        self.checks.gone.append(gateway)
        self._gateways[self._gateways.index(gateway)] = self._gateway()

    def _worker(self, gateway: Gateway) -> None:
        gateway.workers.restart_one(self._loop.wall())

    def _crash_loop(self, gateway: Gateway) -> None:
        for _ in range(3):
            gateway.workers.restart_one(self._loop.wall())

    def _sink(self, _: Gateway) -> None:
        self._sink_down = True

    def _full(self, _: Gateway) -> None:
        self._world.bucket.full = True

    def _forgetful(self, _: Gateway) -> None:
        self._world.bucket.forgetful = True

    def _heal(self, _: Gateway) -> None:
        self._sink_down = self._world.bucket.full = self._world.bucket.forgetful = False
        for gateway in self._gateways:
            gateway.flaky, gateway.slow = 0.0, False
            gateway.machine.thaw()

    def send(self, _spec: SinkSpec, event: Document, _context: SinkContext) -> None:
        """What the sink does with an event: it trains; some attempts fail after it has arrived."""
        if self._sink_down:
            raise SinkFault("the sink is away")
        self._received[event["id"]] += 1
        if self._received[event["id"]] == 1:
            self._arrived.append(event["id"])
            number = len(self._arrived)
            training = train(event["data"]["model"], number)
            self._loop.call_later(1 + 3 * self._chance.random(), self._begin, training, f"training{number}")
        if self._chance.random() < 0.1:
            raise SinkFault("the connection was lost")

    async def _come_to_rest(self) -> None:
        self._heal(self._gateways[0])
        state, until = self.checks.state, self._loop.time() + QUIET_S
        while self._loop.time() < until:
            for model in MODELS:
                with suppress(Fault):
                    state.outbox.replay(model, Author("rest"))
            await asyncio.sleep(2)
            self.checks.check()
            led = any(gateway.lease.term is not None for gateway in self._gateways)
            if led and not state.pending() and not self.checks.harmful:
                break
        invariants.nothing_waits(state.pending())
        self._all_arrived()

    async def _settle(self) -> None:
        """Nobody asks for anything any more, but what goes on by itself does."""
        known = self.checks.served()
        await asyncio.sleep(SETTLE_S)
        self.checks.check()
        for gateway in self._gateways:
            with suppress(NotLeading):
                gateway.retention.observations()
        self.checks.at_rest(known)

    def _all_arrived(self) -> None:
        for model in MODELS:
            invariants.sent_events_have_arrived(self.checks.state.outbox.deliveries(model), self._received)
            addressed = [item["event"] for item in self.checks.state.addressed() if item["model"] == model]
            arrived = [item for item in self._arrived if item in set(addressed)]
            invariants.events_arrive_in_order(model, arrived, addressed)

    def _say(self, text: str) -> None:
        self.trace.append(f"{self._loop.time():8.3f} {self.step:3d} {text}")

    def digest(self) -> str:
        """Names everything that has happened."""
        reported = "\n".join((*self.trace, *map(repr, self.checks.audit.entries)))
        return sha256(reported.encode()).hexdigest()[:16]

    def close(self) -> None:
        """End all gateways."""
        for gateway in self._gateways:
            gateway.kill()
