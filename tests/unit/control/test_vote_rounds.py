"""Each unit of a sticky split is counted once at each stage, whatever looks, restarts and pauses come between."""

import asyncio
from array import array
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.control.delivery.experiments import Experiments
from penstock.control.delivery.rollouts import Rollouts
from penstock.control.delivery.trial import STEP_S
from penstock.control.workers.protocol import decode_desired, encode_desired
from penstock.core.labels import OUTCOME_INDEX, PROTOCOL_NAMES, Route
from penstock.core.routing import parse_route
from penstock.monitor.unit_votes import CLOSED, COUNTS, PLACES, UnitVotes
from penstock.registry.records import Document
from penstock.serving.routing_table import tag_of
from tests.budgets import THOROUGH
from tests.unit.control.trials import ME, FakeFleet, World

UNITS, WORKERS = 8, 3
STICKY = {"split": {"1": 10_000}, "sticky": "header:x-user"}


class Gateway:
    """One gateway whose workers take votes as they are told to; ``begin_anew`` is another control process."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.fleet = FakeFleet(world.store, world.clock)
        tables = [memoryview(array("I", bytes(4 * PLACES))) for _ in range(WORKERS)]
        self.votes = [UnitVotes(own, [other for other in tables if other is not own]) for own in tables]
        self.begin_anew()

    def begin_anew(self) -> None:
        self.rollouts = Rollouts(self.world.traffic, self.fleet, self.name, self.fleet.labels, clock=self.world.clock)
        self.fleet.decorate = self.rollouts.decorate
        self.fleet.renew()

    @property
    def tag(self) -> int:
        vote_round = decode_desired(encode_desired(self.fleet.desired)).models[0].vote_round
        return tag_of("m", vote_round) if vote_round else CLOSED

    def fail(self, unit: int, worker: int) -> None:
        """A request of a unit fails; half of them are the canary's."""
        votes, tag = self.votes[worker], self.tag
        votes.live = frozenset({tag} - {CLOSED})
        series = (Route.CANARY if unit % 2 else Route.STABLE) * len(PROTOCOL_NAMES)
        block = self.fleet.slot.block(1 + unit % 2)
        block.count_failure(series, OUTCOME_INDEX["internal"], 1000, votes.failure(tag, unit))

    def step(self) -> None:
        self.world.clock.now += STEP_S
        asyncio.run(self.fleet.serve_changes())
        asyncio.run(self.rollouts.step())


def begun(folder: Path, gateways: int) -> tuple[list[Gateway], Document]:
    world = World(folder)
    world.promote_champion("1")
    world.traffic.set_route("m", lambda _: parse_route(STICKY), ME)
    found = [Gateway(world, name) for name in "abc"[:gateways]]
    asked = {"to": "2", "steps": [5000, 10_000], "min_step_seconds": 3600, "alpha": 1e-9, "guards": ["errors"]}
    return found, asyncio.run(found[0].rollouts.begin("m", asked, ME))


def failed_units(gateway: Gateway, trial: Document) -> float:
    """How many units have failed at the present stage, of both versions."""
    stored = gateway.world.traffic.trial("m", "rollout", trial["id"]).document["rollout"]
    assert stored["state"] == "running", stored
    harm = stored["guards"][0]["harm"]
    canary, control = (harm[side][0] if harm[side] else 0.0 for side in ("canary", "control"))
    return float(canary + control)


ACTIONS = st.one_of(
    st.tuples(st.just("fail"), st.integers(0, UNITS - 1), st.integers(0, WORKERS - 1)),
    st.tuples(st.sampled_from(["step", "restart", "lag", "resume"])),
)


def act(gateways: list[Gateway], trial: Document, at: int, action: tuple[Any, ...]) -> None:
    gateway = gateways[at % len(gateways)]
    if action[0] == "fail":
        gateway.fail(*action[1:])
    elif action[0] == "step":
        gateway.step()
    elif action[0] == "restart":
        gateway.begin_anew()
    elif action[0] == "lag":
        gateway.fleet.lagging = not gateway.fleet.lagging
    else:  # another stage under the same weights
        for verb in ("pause", "resume"):
            asyncio.run(gateway.rollouts.act("m", trial["id"], verb, ME))


def settle(gateways: list[Gateway]) -> None:
    for gateway in gateways:
        gateway.fleet.lagging = False
    for _ in range(5):
        for gateway in gateways:
            gateway.step()


@settings(max_examples=20 if THOROUGH else 3, deadline=None)
@example(1, [(0, ("step",)), (0, ("fail", 1, 0))])
@given(st.integers(1, 2), st.lists(st.tuples(st.integers(0, 1), ACTIONS), max_size=25))
def test_every_unit_that_comes_while_votes_are_taken_is_counted_once(
    many: int, story: list[tuple[int, tuple[Any, ...]]]
) -> None:
    with TemporaryDirectory() as folder:
        gateways, trial = begun(Path(folder), many)
        for at, action in story:
            act(gateways, trial, at, action)
        settle(gateways)
        for verb in ("pause", "resume"):
            asyncio.run(gateways[0].rollouts.act("m", trial["id"], verb, ME))
        before = failed_units(gateways[0], trial)
        for at, action in story:  # what comes while the stage begins
            if action[0] != "resume":
                act(gateways, trial, at, action)
        settle(gateways)
        for unit in range(UNITS):
            for worker in range(WORKERS):
                gateways[0].fail(unit, worker)
        if many > 1:
            gateways[0].begin_anew()  # nobody looks for a while
        settle(gateways)
        assert failed_units(gateways[0], trial) == before + UNITS


def test_a_bandits_votes_are_taken_from_its_first_look_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.promote_champion("1")
    experiments = Experiments(world.traffic, world.fleet, "a", world.fleet.labels, world.clock)
    world.fleet.decorate = experiments.decorate
    asked = {"arms": {"1": 5000, "2": 5000}, "sticky": "header:x-user"}
    trial = asyncio.run(experiments.begin("m", asked, ME))
    rounds = []
    for _ in range(12):
        world.clock.now += STEP_S
        asyncio.run(experiments.step())
        rounds.append(world.fleet.desired.models[0].vote_round)
    assert rounds[0] == ""
    assert rounds[-8:] == [f"{trial['id']}/1"] * 8  # and stays open
    asyncio.run(experiments.act("m", trial["id"], "stop", ME))
    asyncio.run(experiments.step())
    assert world.fleet.desired.models[0].vote_round == ""


@pytest.mark.parametrize("sticky", [True, False])
def test_only_sticky_splits_of_trials_take_votes(tmp_path: Path, sticky: bool) -> None:
    world = World(tmp_path)
    world.promote_champion("1")
    if sticky:
        world.traffic.set_route("m", lambda _: parse_route(STICKY), ME)
    gateway = Gateway(world, "a")
    asyncio.run(gateway.rollouts.begin("m", {"to": "2", "min_step_seconds": 3600}, ME))
    settle([gateway])
    assert bool(gateway.fleet.desired.models[0].vote_round) == sticky
    votes = UnitVotes(memoryview(array("I", bytes(4 * PLACES))))
    assert votes.answer(CLOSED, 0) & COUNTS == 0
