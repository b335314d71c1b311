"""Policies by model: what is stored holds, one that cannot be read holds up no other and leaves the one before."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.control.calls.blocking import BlockingPool
from penstock.control.monitoring.policies import USUAL, Policies
from penstock.control.periodic import PeriodicTask
from penstock.core.errors import Conflict, InvalidInput
from penstock.registry.stores.monitor import MonitorStore
from tests.unit.control.trials import ME, World

SHORT, LONG = {"monitor": {"window_seconds": 60}}, {"monitor": {"window_seconds": 900}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def pool() -> Iterator[BlockingPool]:
    found = BlockingPool("test", 1, "the database", 10)
    yield found
    found.close()


@pytest.fixture
def policies(world: World, pool: BlockingPool) -> Policies:
    async def step() -> None:
        """Steps are made by the tests."""

    task = PeriodicTask("monitor", step, 1.0, clock=world.clock)
    return Policies(MonitorStore(world.database, world.clock), pool, task)


def test_what_is_set_is_stored_and_holds_at_once(policies: Policies, world: World) -> None:
    assert policies.of("m") == USUAL
    reported = asyncio.run(policies.set("m", SHORT, ME))
    assert policies.of("m").window_s == 60
    assert reported["revision"] == world.store.model("m").revision
    assert policies.document("m")["monitor"]["window_seconds"] == 60
    with pytest.raises(Conflict):
        asyncio.run(policies.set("m", LONG, ME, if_revision=reported["revision"] - 1))
    with pytest.raises(InvalidInput):
        asyncio.run(policies.set("m", {"monitor": {"window_seconds": "soon"}}, ME))
    assert policies.of("m").window_s == 60


def test_one_that_cannot_be_read_leaves_the_one_before_and_holds_up_no_other(policies: Policies, world: World) -> None:
    assert policies.take_over({"m": SHORT, "n": SHORT})
    assert not policies.take_over({"m": SHORT, "n": SHORT})
    assert policies.take_over({"m": {"future": 1}, "n": LONG})
    assert (policies.of("m").window_s, policies.of("n").window_s) == (60, 900)
    assert "future" in policies.problem("m")
    assert policies.document("m")["problem"] == policies.problem("m")
    assert "problem" not in policies.document("n")
    world.clock.now += 3600
    assert policies.take_over({"m": LONG, "n": LONG})
    assert policies.of("m").window_s == 900
    assert policies.problem("m") == ""
    assert policies.take_over({"n": LONG})
    assert policies.of("m") == USUAL
