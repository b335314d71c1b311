"""The loop that performs an experiment, over a real database and counters in memory; time is moved by hand."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from penstock.control.delivery.experiments import Experiments
from penstock.control.delivery.trial import STEP_S
from penstock.core.errors import Conflict, NotFound, Refused
from penstock.core.routing import parse_route
from penstock.registry.records import Document
from penstock.registry.stores.monitor import MonitorStore
from tests.unit.control.trials import ME, World

ASKED: Document = {"arms": {"1": 5000, "2": 3000, "3": 2000}, "sticky": "header:x-user", "reason": "which"}


class Bench:
    """One gateway's experiments, stepped by hand."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.experiments = Experiments(world.traffic, world.fleet, "a", world.fleet.labels, world.clock)

    def begin(self, **changes: object) -> Document:
        return asyncio.run(self.experiments.begin("m", {**ASKED, **changes}, ME))

    def act(self, trial: Document, verb: str) -> Document:
        return asyncio.run(self.experiments.act("m", trial["id"], verb, ME))

    def look(self, trial: Document) -> Document:
        return asyncio.run(self.experiments.get_trial("m", trial["id"]))

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.world.clock.now += STEP_S
            asyncio.run(self.world.fleet.serve_changes())
            asyncio.run(self.experiments.step())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    world = World(tmp_path)
    world.promote_champion("1")
    return Bench(world)


@pytest.mark.simulation
def test_rewards_are_counted_by_arm_and_the_route_comes_back(bench: Bench) -> None:
    world = bench.world
    world.traffic.set_route("m", lambda _: parse_route({"split": {"1": 10_000}}), ME)
    world.fleet.reward("2", [1.0] * 7)  # from before the experiment
    trial = bench.begin()
    route = world.store.model("m").route
    assert route is not None
    assert (dict(route.split), route.sticky, route.stable) == (ASKED["arms"], "x-user", "1")
    world.fleet.answer("1", 40)
    world.fleet.answer("2", 20, canary=True)
    bench.step()
    world.fleet.reward("1", [0.0, 1.0])
    world.fleet.reward("2", [1.0, 0.5])
    world.fleet.reward("3", [1.0] * 5, by_split=False)  # by a rule or a pin
    bench.step(6)
    assert bench.look(trial)["arms"]["1"]["rewards"] == 0  # the third arm's were not told yet
    world.fleet.reward("3", [0.0], age_s=3)
    bench.step(10)
    arms = bench.look(trial)["arms"]
    assert {arm["rewards"] for arm in arms.values()} == {0}  # at another age
    for arm, values in (("1", [0.0, 1.0]), ("2", [1.0, 0.5]), ("3", [0.25])):
        world.fleet.reward(arm, values, age_s=1.5)
    bench.step(10)
    arms = bench.look(trial)["arms"]
    assert (arms["1"]["requests"], arms["1"]["rewards"], arms["1"]["mean"]) == (40, 2, 0.5)
    assert (arms["2"]["requests"], arms["2"]["rewards"], arms["2"]["mean"]) == (20, 2, 0.75)
    assert (arms["3"]["mean"], arms["3"]["label_delay_seconds"]) == (0.25, {"median_below": 2.0, "all_below": 2.0})
    assert bench.act(trial, "stop")["state"] == "stopped"
    assert world.split() == {"1": 10_000}
    assert world.traffic.events()[-1]["type"] == "io.penstock.experiment.finished.v1"


def test_a_bandit_moves_the_weights_as_rewards_come(bench: Bench) -> None:
    generator = np.random.default_rng(0)
    trial = bench.begin(mode="thompson", every_seconds=2, floor=400)
    bench.step(4)
    for _ in range(60):
        for arm, mean in (("1", 0.2), ("2", 0.7), ("3", 0.3)):
            bench.world.fleet.reward(arm, generator.binomial(1, mean, 10).tolist())
        bench.step()
    split = bench.world.split()
    assert split == {"1": 400, "2": 9200, "3": 400}
    assert bench.look(trial)["best"] == "2"
    moves = [entry for entry in bench.world.store.audit("m", limit=100) if entry.action == "experiment.move"]
    assert moves
    assert moves[0].actor == "controller"


def test_an_arm_that_no_longer_passes_its_gates_gains_nothing(bench: Bench) -> None:
    trial = bench.begin(mode="thompson", every_seconds=1)
    MonitorStore(bench.world.database, bench.world.clock).set_policy("m", {"gates": {"approvals": 1}}, ME)
    for arm, value in (("1", 0.0), ("2", 1.0), ("3", 0.0)):
        bench.step()
        bench.world.fleet.reward(arm, [value] * 50)
    bench.step(10)
    assert bench.world.split() == ASKED["arms"]
    paused = bench.look(trial)
    assert (paused["state"], "does not pass its gates" in paused["reason"]) == ("paused", True)
    refusals = [entry for entry in bench.world.store.audit("m", limit=100) if entry.action == "gates.refuse"]
    assert len(refusals) == 1  # it is not tried again until a person resumes


def test_a_pause_keeps_the_weights(bench: Bench) -> None:
    trial = bench.begin(mode="thompson", every_seconds=1)
    bench.act(trial, "pause")
    for arm, value in (("1", 0.0), ("2", 1.0), ("3", 0.0)):
        bench.step()
        bench.world.fleet.reward(arm, [value] * 50)
    bench.step(10)
    assert bench.world.split() == ASKED["arms"]
    with pytest.raises(Conflict, match="already"):
        bench.act(trial, "pause")
    bench.act(trial, "resume")
    bench.step(10)
    assert bench.world.split() != ASKED["arms"]
    bench.act(trial, "stop")
    with pytest.raises(Conflict, match="over"):
        bench.act(trial, "resume")
    with pytest.raises(NotFound):
        bench.act(trial, "promote")


def test_what_cannot_begin(bench: Bench) -> None:
    bench.world.fleet.ill = {"3"}
    with pytest.raises(Refused):
        bench.begin()
    with pytest.raises(NotFound):
        bench.begin(arms={"1": 5000, "8": 5000})
    trial = bench.begin(arms={"1": 5000, "2": 5000})
    with pytest.raises(Conflict, match=trial["id"]):
        bench.begin(arms={"1": 5000, "2": 5000})
    assert [trial["id"] for trial in asyncio.run(bench.experiments.list_trials("m"))] == [trial["id"]]
    with pytest.raises(NotFound):
        asyncio.run(bench.experiments.list_trials("nobody"))
