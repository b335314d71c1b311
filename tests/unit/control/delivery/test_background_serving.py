"""Stored changes are brought to the workers in the background: the newest of a model only, and a failure is told."""

import asyncio
import logging

import pytest

from penstock.control.delivery.background_serving import BackgroundServing
from penstock.core.errors import NotReady


class Fleet:
    """Serves changes when it is let, or cannot."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.begun = self.done = 0
        self.fault: Exception | None = None

    async def serve_changes(self) -> bool:
        self.begun += 1
        if self.fault is not None:
            raise self.fault
        await self.let.wait()
        self.done += 1
        return True


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_later_change_takes_the_place_of_one_under_way_of_its_model_alone() -> None:
    async def act() -> None:
        fleet = Fleet()
        background = BackgroundServing(fleet)
        for model in ("m", "n", "m"):
            background.start(model)
            await turns()
        assert fleet.begun == 3
        fleet.let.set()
        await turns()
        assert fleet.done == 2
        background.start("m")  # nothing is left of those before
        await turns()
        assert fleet.done == 3

    asyncio.run(act())


def test_a_fault_is_reported_and_the_next_change_is_delivered(caplog: pytest.LogCaptureFixture) -> None:
    async def act() -> None:
        fleet = Fleet()
        background = BackgroundServing(fleet)
        fleet.fault = NotReady("the database is away")
        with caplog.at_level(logging.WARNING):
            background.start("m")
            await turns()
        assert "a step of model 'm' is stored" in caplog.text
        fleet.fault = None
        fleet.let.set()
        background.start("m")
        await turns()
        assert fleet.done == 1

    asyncio.run(act())


def test_what_is_under_way_ends_with_the_gateway() -> None:
    async def act() -> None:
        fleet = Fleet()
        background = BackgroundServing(fleet)
        background.start("m")
        await turns()
        background.close()
        fleet.let.set()
        await turns()
        assert (fleet.begun, fleet.done) == (1, 0)

    asyncio.run(act())
