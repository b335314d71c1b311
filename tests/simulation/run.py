"""One run of the simulation: everything in it follows from its seed."""

import asyncio
import logging
import random
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch

from penstock.control.blocking import BlockingPool
from penstock.control.retraining import dispatcher
from penstock.control.sinks import SinkContext, SinkFault
from penstock.core.errors import Fault
from penstock.core.sinks import SinkSpec
from penstock.core.versions import CHAMPION
from penstock.registry import registry
from penstock.registry.db.database import Database
from penstock.registry.db.lease import NotLeading
from penstock.registry.records import By, Document, VersionRecord
from penstock.registry.stores.traffic import Trial
from penstock.registry.stores.versions import Store
from tests.simulation import invariants
from tests.simulation.database import Databases
from tests.simulation.faults import Bucket
from tests.simulation.gateway import Gateway, World
from tests.simulation.loop import EPOCH, VirtualLoop, call
from tests.simulation.operations import MODELS, OPERATIONS, Asked, Operation, content_of, harmful, octets_of
from tests.simulation.true_state import TrueState

STEPS = 40
LOAD_S = 0.5
REQUESTS = 30
"""Requests for each model and gateway in that time."""

QUIET_S = 90.0
"""Within this time after the last fault everything is as it should be."""

FIRST = tuple((model, version) for model in MODELS for version in ("1", "2", "3"))
"""The versions there are at the beginning."""

MEMORY = Path("/dev/shm")


class Breach(AssertionError):
    """An invariant does not hold; says the seed and the step, and what happened before."""


def does_harm(trial: Trial) -> bool:
    """Whether an open rollout gives traffic to a version that fails requests."""
    told = trial.document["told"]
    return bool(told["weight"]) and harmful((trial.model, told["to"]))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that went well: a digest of everything it left in the audit, and how often each thing happened."""

    digest: str
    counts: Counter[str]


class Run:
    """A run of some gateways in a world of their own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loop = loop = world.loop
        self._chance = world.chance
        self._bucket = world.bucket
        self._bucket.contents = {content_of(*key).digest: octets_of(*key) for key in FIRST}
        self._sink_down = False
        self._received: Counter[str] = Counter()
        self._arrived: list[str] = []
        self._asked: list[Asked] = []
        self._audit = invariants.Audit()
        self._harm = invariants.Harm()
        self._ended: set[str] = set()
        self._harmful: list[str] = []
        self._revision = -1
        self._checked_at = 0.0
        self.step = 0
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        self.state = TrueState(world.opened(), loop.wall)
        self._gateways: list[Gateway] = []

    def _gateway(self) -> Gateway:
        name = f"g{self.counts['gateways']}"
        self.counts["gateways"] += 1
        return Gateway(self._world, name)

    # What happens.

    async def live(self) -> None:
        """Do the steps, then let everything come to rest."""
        self._gateways = [self._gateway() for _ in range(self._chance.choice((1, 2, 2, 3)))]
        serving = self._loop.create_task(self._serve())
        for self.step in range(STEPS):
            self._act()
            await asyncio.sleep(self._chance.random() * 2)
            self.check()
        self.step = STEPS
        await self._come_to_rest()
        serving.cancel()

    async def _serve(self) -> None:
        while True:
            await asyncio.sleep(LOAD_S)
            for gateway in self._gateways:
                gateway.workers.answer(self._chance, REQUESTS, harmful)

    def _act(self) -> None:
        if self._chance.random() < 0.3:
            self._fault()
        operation = self._chance.choices(*zip(*OPERATIONS, strict=True))[0]
        asked = Asked(f"op{self.step}", operation.__name__)
        self._asked.append(asked)
        gateway = self._chance.choice(self._gateways)
        self._say(f"{asked.what} by {asked.actor} at {gateway.name}")
        gateway.operate(partial(self._ask, operation, gateway, asked))

    async def _ask(self, operation: Operation, gateway: Gateway, asked: Asked) -> None:
        try:
            await operation(gateway, By(asked.actor), self._chance)
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
            self._sink,
            self._full,
        )
        kind = self._chance.choice((*kinds, self._heal, self._heal, self._heal))
        gateway = self._chance.choice(self._gateways)
        self._say(f"fault {kind.__name__} {gateway.name}")
        self.counts[kind.__name__] += 1
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
        self._gateways[self._gateways.index(gateway)] = self._gateway()

    def _worker(self, gateway: Gateway) -> None:
        gateway.workers.restart_one(self._loop.wall())

    def _sink(self, _: Gateway) -> None:
        self._sink_down = True

    def _full(self, _: Gateway) -> None:
        self._bucket.full = True

    def _heal(self, _: Gateway) -> None:
        self._sink_down = self._bucket.full = False
        for gateway in self._gateways:
            gateway.flaky, gateway.slow = 0.0, False
            gateway.machine.thaw()

    def send(self, _spec: SinkSpec, event: Document, _context: SinkContext) -> None:
        """What the sink does with an event; some attempts fail after it has arrived."""
        if self._sink_down:
            raise SinkFault("the sink is away")
        self._received[event["id"]] += 1
        if self._received[event["id"]] == 1:
            self._arrived.append(event["id"])
        if self._chance.random() < 0.1:
            raise SinkFault("the connection was lost")

    async def _come_to_rest(self) -> None:
        self._heal(self._gateways[0])
        until = self._loop.time() + QUIET_S
        while self._loop.time() < until:
            for model in MODELS:
                with suppress(Fault):
                    self.state.outbox.replay(model, By("rest"))
            await asyncio.sleep(2)
            self.check()
            led = any(gateway.lease.term is not None for gateway in self._gateways)
            if led and not self.state.pending() and not self._harmful:
                break
        assert not self.state.pending(), "events still wait"
        assert not self._harmful, "a harmful canary still has traffic"
        self._all_arrived()
        for gateway in self._gateways:
            with suppress(NotLeading):
                gateway.retention.observations()
        opened = len(self.state.traffic.open_trials())
        invariants.counts_belong_to_open_trials(self.state.observations(), opened, self.counts["gateways"])

    def _all_arrived(self) -> None:
        for model in MODELS:
            invariants.sent_events_have_arrived(self.state.outbox.deliveries(model), self._received)
            expected = [one["event"] for one in self.state.addressed() if one["model"] == model]
            arrived = [one for one in self._arrived if one in set(expected)]
            assert arrived == expected, f"of model {model} arrived {arrived}, for {expected}"

    # What holds.

    def check(self) -> None:
        """Check every invariant."""
        invariants.one_leads_in_a_term(one.lease.term for one in self._gateways)
        self._check_harm()
        revision = self.state.store.revision()
        if revision != self._revision:
            self._revision = revision
            self._check_changes()

    def _check_harm(self) -> None:
        passed, self._checked_at = self._loop.time() - self._checked_at, self._loop.time()
        if all(gateway.sound for gateway in self._gateways):
            self._harm.add(self._harmful, passed)

    def _check_changes(self) -> None:
        models = self.state.store.models()
        invariants.aliases_lead_to_versions(models)
        invariants.routes_are_whole(models)
        invariants.contents_are_kept(models, self._bucket.contents)
        self._audit.read(self.state)
        invariants.answers_are_true(self._asked, self._audit)
        self._check_rollouts()

    def _check_rollouts(self) -> None:
        self._harmful = []
        for trial in self.state.trials(but=self._ended):
            if trial.open:
                self._harmful += [trial.id] if does_harm(trial) else []
            else:
                invariants.ends_restore_the_route(trial, self._audit)
                self._ended.add(trial.id)
                self.counts[f"rollout {trial.document['rollout']['state']}"] += 1

    def _say(self, text: str) -> None:
        self.trace.append(f"{self._loop.time():8.3f} {self.step:3d} {text}")

    def digest(self) -> str:
        """Names everything that has happened."""
        told = "\n".join((*self.trace, *map(repr, self._audit.entries)))
        return sha256(told.encode()).hexdigest()[:16]

    def close(self) -> None:
        """End all gateways."""
        for gateway in self._gateways:
            gateway.kill()


@cache
def _databases() -> Databases:
    return Databases(_fill)


def _fill(database: Database) -> None:
    """Write some versions down."""
    store = Store(database, lambda: EPOCH)
    for model, version in FIRST:
        store.add_version(VersionRecord(model, version, content_of(model, version), "", "setup"), By("setup"))
        store.move_alias(model, CHAMPION, "1", By("setup"))


@contextmanager
def _seeded(chance: random.Random) -> Iterator[None]:
    """Let everything random follow from the seed, and keep the log still."""
    state, disabled = random.getstate(), logging.root.manager.disable
    random.seed(chance.getrandbits(64))
    logging.disable(logging.CRITICAL)
    try:
        with (
            patch.object(uuid, "uuid4", lambda: uuid.UUID(int=chance.getrandbits(128), version=4)),
            patch.object(BlockingPool, "call", call),
            patch.object(registry, "COMMIT_PAUSE_S", 0.0),
        ):
            yield
    finally:
        random.setstate(state)
        logging.disable(disabled)


def simulate(seed: int) -> Outcome:
    """Do one run; the same seed is the same run.

    Raises:
        Breach: an invariant does not hold.
    """
    chance, loop = random.Random(seed), VirtualLoop()
    with (
        closing(loop),
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder,
        _databases().begun(loop.wall) as opened,
        _seeded(chance),
    ):
        return _ran(seed, Run(World(loop, chance, Path(folder), opened, Bucket())), loop)


def _ran(seed: int, run: Run, loop: VirtualLoop) -> Outcome:
    try:
        with patch.object(dispatcher, "send", run.send):
            loop.run_until_complete(run.live())
    except Exception as error:
        told = "\n".join(run.trace[-40:])
        raise Breach(f"seed {seed}, step {run.step}: {error!r}\n{told}") from error
    finally:
        run.close()
        remaining = asyncio.all_tasks(loop)
        for task in remaining:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*remaining, return_exceptions=True))
    return Outcome(run.digest(), run.counts)
