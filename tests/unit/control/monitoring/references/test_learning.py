"""Learning references from rows: how many are waited for and how long, and that one failure holds up no other."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from penstock.control.blocking import BlockingPool
from penstock.control.monitoring.policies import Policies
from penstock.control.monitoring.references.learning import LEARNING_S, ReferenceLearning, learn_spec
from penstock.control.periodic import PeriodicTask
from penstock.control.workers.protocol import rows_out
from penstock.core.errors import NotReady
from penstock.core.policies import MonitorPolicy
from penstock.monitor.columns import joined
from penstock.monitor.reference import Reference
from penstock.registry.records import By
from penstock.registry.stores.monitor import MonitorStore
from tests.unit.control.test_monitoring import COLUMNS, NAMES, exchange
from tests.unit.control.trials import World

ONE, TWO = ("m", "1"), ("m", "2")
ENOUGH = 1000
Key = tuple[str, str]


class Learner:
    """Learns with a clock that is set by hand; gives references to a table, or fails as it is told to."""

    def __init__(self, world: World, pool: BlockingPool) -> None:
        async def step() -> None:
            """Steps are made by the tests."""

        self.clock = world.clock
        self.given: dict[Key, Reference] = {}
        self.failures: list[tuple[Key, Exception]] = []
        task = PeriodicTask("monitor", step, 1.0, clock=world.clock)
        policies = Policies(MonitorStore(world.database, world.clock), pool, task)
        policies.take_over({"m": {"monitor": {"live_reference_rows": ENOUGH}}})
        self.learning = ReferenceLearning(pool, task, policies, self.given, self._give, world.clock)

    async def _give(self, key: Key, reference: Reference, by: By) -> None:
        for failing, error in self.failures:
            if key == failing:
                raise error
        self.given[key] = reference
        assert by.actor == "monitor"

    def gather(self, key: Key, rows: int, names: Sequence[Sequence[str]] = NAMES) -> None:
        inputs, outputs = exchange(np.random.default_rng(rows), rows)
        given, answered = COLUMNS[0](inputs), COLUMNS[1](outputs)
        assert given is not None
        assert answered is not None
        told = {"model": key[0], "version": key[1], "names": names}
        self.learning.gathered({**told, "inputs": rows_out([joined([given])]), "outputs": rows_out([answered])})

    def learn(self) -> dict[Key, int]:
        asyncio.run(self.learning.learn())
        return {key: one.rows for key, one in self.given.items()}


@pytest.fixture
def learner(tmp_path: Path) -> Iterator[Learner]:
    pool = BlockingPool("test", 1, "the database", 10)
    yield Learner(World(tmp_path), pool)
    pool.close()


@pytest.mark.parametrize(("workers", "rows"), [(1, 1000), (2, 500), (3, 334), (1000, 1), (3000, 1)])
def test_each_worker_gathers_its_share_rounded_up(workers: int, rows: int) -> None:
    assert learn_spec(MonitorPolicy(live_rows=1000), workers).rows == rows


def test_enough_rows_are_a_reference_at_once_and_fewer_after_a_while(learner: Learner) -> None:
    learner.gather(ONE, 600)
    learner.gather(TWO, 600)
    assert learner.learn() == {}
    learner.gather(ONE, 400)
    assert learner.learn() == {ONE: 1000}
    learner.clock.now += LEARNING_S
    assert learner.learn() == {ONE: 1000, TWO: 600}
    learner.gather(ONE, 5000)  # too late: it has one
    assert learner.learn() == {ONE: 1000, TWO: 600}


def test_rows_stay_until_they_are_a_reference(learner: Learner) -> None:
    learner.gather(ONE, ENOUGH)
    learner.failures = [(ONE, NotReady("the database is away"))]
    with pytest.raises(NotReady):
        learner.learn()
    learner.failures = []
    assert learner.learn() == {ONE: ENOUGH}


def test_one_that_cannot_be_learned_of_holds_up_no_other_and_is_tried_again(learner: Learner) -> None:
    learner.gather(ONE, ENOUGH)
    learner.gather(TWO, ENOUGH)
    learner.failures = [(ONE, ValueError("odd rows"))]
    assert learner.learn() == {TWO: ENOUGH}
    assert "odd rows" in learner.learning.problem(ONE)
    learner.failures = []
    learner.clock.now += 3600
    assert learner.learn() == {TWO: ENOUGH, ONE: ENOUGH}
    assert learner.learning.problem(ONE) == ""


def test_rows_that_are_forgotten_are_no_reference(learner: Learner) -> None:
    learner.gather(ONE, ENOUGH)
    learner.learning.forget(ONE)
    assert learner.learn() == {}
