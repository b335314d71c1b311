"""The meter of recent traffic: reads the workers' counters when they are old, and shows shares, rates and shadows."""

import asyncio

import pytest

from penstock.control.plane.model_changes import ModelChanges
from penstock.control.plane.recent_traffic import TrafficMeter
from penstock.control.workers.server import WorkerReport
from penstock.core.desired import Desired, ReadyState, VersionStatus
from penstock.core.errors import NotFound, unknown_model
from penstock.core.versions import VersionKey
from penstock.monitor.counters.slot import Slot
from tests.counted import count_success


class World:
    """A meter of two slots; model ``idle`` is known and has no counters."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slots = [Slot.in_process() for _ in range(2)]
        self.blocks: dict[VersionKey, int] = {("m", "10"): 1, ("m", "9"): 2, ("n", "1"): 3}
        self.meter = TrafficMeter(self.slots, lambda: self.blocks, self._check, lambda: self.now, lambda: self.now)

    def _check(self, model: str) -> None:
        if model != "idle":
            raise unknown_model(model)

    def count(self, block: int, number: int) -> None:
        for index in range(number):
            count_success(self.slots[index % 2].block(block), 0, 1, 100_000, 1_000, 0, 50_000, 1_000)

    def let_pass(self, seconds: float) -> None:
        self.now += seconds
        asyncio.run(self.meter.step())


def test_shares_are_those_of_the_window_and_add_up() -> None:
    world = World()
    world.let_pass(0)
    world.count(1, 30)
    world.count(2, 10)
    world.let_pass(10)
    document = world.meter.document()
    assert (document["scope"], document["at"], document["window_seconds"]) == ("gateway", 110.0, 60.0)
    model = document["models"]["m"]
    assert {name: version["share_basis_points"] for name, version in model["versions"].items()} == {
        "9": 2500,
        "10": 7500,
    }
    assert (model["requests_per_second"], model["series"]["requests"]) == (4.0, [40])
    assert document["models"]["n"]["versions"] == {}
    assert world.meter.requests_per_second("m") == 4.0
    assert world.meter.requests_per_second("n") == 0.0


def test_counters_are_read_again_only_when_they_are_old() -> None:
    world = World()
    world.let_pass(0)
    world.count(1, 10)
    world.now += 0.5
    assert world.meter.document()["models"]["m"]["requests_per_second"] == 0.0
    world.now += 0.5
    assert world.meter.document()["models"]["m"]["requests_per_second"] == 10.0


def test_a_model_is_shown_with_the_series_of_the_versions_that_answered() -> None:
    world = World()
    world.let_pass(0)
    world.count(2, 20)
    world.slots[0].block(1).count_mirrored()
    world.let_pass(10)
    document = world.meter.model_document("m")
    assert list(document["versions"]) == ["9", "10"]
    assert document["versions"]["9"]["series"]["requests"] == [20]
    shadow = document["versions"]["10"]
    assert (shadow["shadow"], shadow["mirrored_per_second"], shadow["share_basis_points"]) == (True, 0.1, 0)
    assert world.meter.model_document("n")["versions"] == {}


def test_a_model_without_counters_is_empty_and_an_unknown_one_is_not_found() -> None:
    world = World()
    document = world.meter.model_document("idle")
    assert (document["versions"], document["series"]["requests"]) == ({}, [])
    with pytest.raises(NotFound):
        world.meter.model_document("other")


def test_series_are_made_anew_when_a_step_ends() -> None:
    world = World()
    world.let_pass(0)
    world.count(1, 5)
    world.let_pass(10)
    assert world.meter.document()["models"]["m"]["series"]["requests"] == [5]
    world.count(1, 6)
    world.let_pass(10)
    assert world.meter.document()["models"]["m"]["series"]["requests"] == [5, 6]


def test_a_change_of_what_models_are_made_from_is_noticed() -> None:
    desired, reports, revision = [Desired(1)], {0: WorkerReport(7)}, [1000]
    changes = ModelChanges(lambda: revision[0], lambda: desired[0], lambda: reports)
    first = changes.mark()
    assert changes.mark() == first
    revision[0] += 1
    second = changes.mark()
    reports[0].versions = {("m", "1"): VersionStatus("m", "1", ReadyState.READY)}
    third = changes.mark()
    desired[0] = Desired(2)
    fourth = changes.mark()
    reports[1] = WorkerReport(8)
    assert len({first, second, third, fourth, changes.mark()}) == 5
