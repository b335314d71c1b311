"""Repository requests are recorded before they are performed, or refused."""

import asyncio
from collections.abc import Iterable

import pytest

from penstock.control.plane.audited_requests import AuditedRequests
from penstock.core.errors import NotReady
from penstock.registry.records import Author, Document
from tests.simulation.loop import VirtualLoop

ANN = Author("ann", key_id="k1")


class World:
    """A repository and a recorder that note what they are asked, in one order."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.away = False

    async def load(self, model: str, config: str | None) -> None:
        self.asked.append(("load", model, config))

    async def unload(self, model: str) -> None:
        self.asked.append(("unload", model))

    async def record(
        self, action: str, subject: str, by: Author, model: str = "", after: Document | None = None
    ) -> None:
        if self.away:
            raise NotReady("the database is away")
        self.asked.append((action, subject, by, model, after))

    def count_kinds(self, kinds: Iterable[Document]) -> None:
        self.asked += [("refused", *kind.values()) for kind in kinds]


def test_refusals_are_counted_once_there_is_a_recorder() -> None:
    world = World()
    requests = AuditedRequests(world)
    requests.count_refused([{"count": 1}])
    requests.record_with(world)
    requests.count_refused([{"count": 2}])
    assert world.asked == [("refused", 2)]


def test_a_request_is_recorded_before_it_is_performed() -> None:
    async def run() -> None:
        world = World()
        requests = AuditedRequests(world)
        requests.record_with(world)
        await requests.load("m", "{}", ANN)
        await requests.unload("m", ANN)
        assert world.asked == [
            ("model.load", "repository", ANN, "m", {"config": True}),
            ("load", "m", "{}"),
            ("model.unload", "repository", ANN, "m", None),
            ("unload", "m"),
        ]

    asyncio.run(run())


def test_a_request_that_cannot_be_recorded_is_not_performed() -> None:
    async def run() -> None:
        world = World()
        world.away = True
        requests = AuditedRequests(world)
        requests.record_with(world)
        for request in (requests.load("m", None, ANN), requests.unload("m", ANN)):
            with pytest.raises(NotReady):
                await request
        assert world.asked == []

    asyncio.run(run())


def test_a_request_at_the_start_waits_for_the_registry() -> None:
    async def run() -> None:
        world = World()
        requests = AuditedRequests(world)
        waiting = asyncio.create_task(requests.unload("m", ANN))
        await asyncio.sleep(0)
        requests.record_with(world)
        await waiting
        assert len(world.asked) == 2
        with pytest.raises(NotReady, match="starting"):
            await AuditedRequests(world).unload("m", ANN)

    loop = VirtualLoop()
    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
