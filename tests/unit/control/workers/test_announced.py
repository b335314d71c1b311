"""What the control process announces reaches every worker before the first desired state, and again when it changes."""

import asyncio
import os
from pathlib import Path

import pytest

from penstock.control.workers.client import CONFIG_CHARACTERS, Link
from penstock.control.workers.protocol import Message, decode_access, encode_access
from penstock.control.workers.server import Channel, Listeners
from penstock.core.access.table import AccessTable, KeyRecord
from penstock.core.desired import Desired
from penstock.core.errors import TooLarge
from penstock.registry.records import Author
from tests.harness import reached

FIRST = AccessTable(5, True, keys=(KeyRecord("a", "bot", "digest", ("caller",)),))
SECOND = AccessTable(6, True)


class NoRepository:
    """Takes no requests."""

    async def load(self, model: str, config: str | None, by: Author) -> None:
        raise AssertionError

    async def unload(self, model: str, by: Author) -> None:
        raise AssertionError


def test_a_table_survives_the_wire() -> None:
    assert decode_access(encode_access(FIRST)) == FIRST


def test_workers_get_the_table_before_the_first_desired_state(tmp_path: Path) -> None:
    async def run() -> None:
        received: list[AccessTable | Desired] = []
        listeners = Listeners(lambda: None, lambda key, good: None, lambda slot, report: None)
        channel = Channel(tmp_path / "s", lambda slot, pid: pid == os.getpid(), NoRepository(), listeners)
        await channel.start()
        tasks = []
        for slot in (0, 1):  # one connects before there is anything to say, one after
            link = Link(tmp_path / "s", slot, received.append, 2.0, access=received.append)
            tasks.append(asyncio.create_task(link.run(60.0)))
            if not slot:
                await reached(lambda: 0 in channel.reports)
                channel.announce(encode_access(FIRST))
                channel.publish(Desired(1))
            await reached(lambda: len(received) == 2)
            assert received == [FIRST, Desired(1)]
            received.clear()
        channel.announce(encode_access(SECOND))
        await reached(lambda: received == [SECOND, SECOND])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await channel.close()

    asyncio.run(run())


def test_a_worker_ignores_what_it_does_not_know(tmp_path: Path) -> None:
    async def run() -> None:
        received: list[Desired] = []
        listeners = Listeners(lambda: None, lambda key, good: None, lambda slot, report: None)
        channel = Channel(tmp_path / "s", lambda slot, pid: pid == os.getpid(), NoRepository(), listeners)
        await channel.start()
        channel.announce({"type": "of a later release"})
        channel.announce({"type": "reply", "number": 99})  # to a request that was given up
        channel.publish(Desired(1))
        link = Link(tmp_path / "s", 0, received.append, 2.0)
        with pytest.raises(TooLarge, match="over the limit"):
            await link.load("m", "x" * (CONFIG_CHARACTERS + 1))
        refused: list[list[Message]] = []
        channel.on_refused = refused.append
        task = asyncio.create_task(link.run(60.0))
        await reached(lambda: received == [Desired(1)])
        link.refused([{"reason": "expired", "count": 2}])
        await reached(lambda: refused == [[{"reason": "expired", "count": 2}]])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await channel.close()

    asyncio.run(run())
