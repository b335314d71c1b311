"""The socket between the planes at its edges: too many requests, nobody who answers, and what is said anew."""

import asyncio
import errno
from pathlib import Path

import numpy as np
import pytest

from penstock.control.workers.client import Link
from penstock.control.workers.protocol import ATTRIBUTIONS, Message, decode_rows
from penstock.control.workers.server import COMMANDS, Channel, Listeners
from penstock.core.desired import Desired
from penstock.core.errors import DeadlineExceeded, Fault, NotReady, Overloaded
from penstock.monitor.columns import RowValues
from penstock.monitor.feedback import Feedback
from penstock.monitor.row_attributions import RowAttributions
from penstock.registry.records import Author
from tests.harness import PATIENCE_S
from tests.unit.control.workers.test_server import Ends, between


def test_samples_of_all_workers_come_worst_first(tmp_path: Path) -> None:
    async def act(ends: Ends) -> None:
        links = [ends.link(slot=0), ends.link(slot=1)]
        await ends.until(lambda: len(ends.wanted) == 2)
        links[0].samples("m", "1", [{"id": "a", "badness": 1.0}, {"id": "b", "badness": 3.0}])
        links[1].samples("m", "2", [{"id": "c", "badness": 2.0}])
        await ends.until(lambda: bool(ends.channel.samples_of("m", "1")) and bool(ends.channel.samples_of("m", "2")))
        assert [sample["id"] for sample in ends.channel.samples_of("m", "1")] == ["b", "a"]
        assert ends.channel.samples_of("n", "1") == []

    between(tmp_path, act)


def test_gathered_rows_are_handed_on_and_labels_wait_for_who_joins_them(tmp_path: Path) -> None:
    async def act(ends: Ends) -> None:
        gathered: list[Message] = []
        await ends.channel.close()
        listeners = Listeners(lambda: None, lambda *_: None, lambda *_: None, gathered.append)
        ends.channel = Channel(ends.path, lambda *_: True, ends, listeners)
        ends.channel.publish(Desired(1))
        await ends.channel.start()
        link = ends.link()
        await ends.until(lambda: bool(ends.wanted))
        rows = RowValues(np.ones((2, 1)), ())
        link.rows("m", "1", [["x"], ["y"]], [rows], [rows], seen=9)
        await ends.until(lambda: bool(gathered))
        assert (gathered[0]["model"], gathered[0]["names"], gathered[0]["seen"]) == ("m", [["x"], ["y"]], 9)
        link.attributions("m", "2", "d", RowAttributions(("x",), np.ones((3, 1)), "y", "tree", "margin"))
        await ends.until(lambda: len(gathered) == 2)
        assert (gathered[1]["type"], gathered[1]["digest"], gathered[1]["features"]) == (ATTRIBUTIONS, "d", ["x"])
        assert decode_rows(gathered[1]["sizes"]).numbers.tolist() == [[1.0]] * 3
        link.attributions("m", "2", "d", RowAttributions(problem="it is not a tree"))
        await ends.until(lambda: len(gathered) == 3)
        assert (gathered[2]["problem"], gathered[2]["sizes"]["rows"]) == ("it is not a tree", 0)
        with pytest.raises(NotReady, match="labels are not accepted yet"):
            await link.feedback("m", [Feedback("r", 1)])

    between(tmp_path, act)


def test_requests_over_the_bound_are_refused_and_late_ones_are_given_up(tmp_path: Path) -> None:
    class Busy(Ends):
        """A repository that is busy until it may go on."""

        free = asyncio.Event()

        async def unload(self, model: str, by: Author) -> None:
            self.asked.append(("unload", model))
            await self.free.wait()

    async def act() -> None:
        ends = Busy(tmp_path)
        await ends.channel.start()
        link = Link(ends.path, 0, ends.wanted.append, PATIENCE_S)
        ends.tasks.append(asyncio.create_task(link.run(PATIENCE_S)))
        await ends.until(lambda: bool(ends.wanted))
        waiting = [asyncio.create_task(link.unload(f"m{number}")) for number in range(COMMANDS)]
        await ends.until(lambda: len(ends.asked) == COMMANDS)
        with pytest.raises(Overloaded, match="are waiting already"):
            await link.unload("more")
        link._command_s = 0.01
        with pytest.raises((DeadlineExceeded, Overloaded)):
            await link.unload("late")
        ends.free.set()
        found: list[Fault | BaseException | None] = list(await asyncio.gather(*waiting, return_exceptions=True))
        assert found == [None] * COMMANDS
        for task in ends.tasks:
            task.cancel()
        await asyncio.gather(*ends.tasks, return_exceptions=True)
        await ends.channel.close()

    asyncio.run(act())


def test_a_late_answer_of_the_control_process_is_an_error(tmp_path: Path) -> None:
    async def act(ends: Ends) -> None:
        entered = asyncio.Event()

        async def never(model: str, config: str | None, by: Author) -> None:
            entered.set()
            await asyncio.Event().wait()

        ends.load = never  # type: ignore[method-assign]
        link = Link(ends.path, 0, ends.wanted.append, 0.01)
        ends.tasks.append(asyncio.create_task(link.run(PATIENCE_S)))
        await ends.until(lambda: bool(ends.wanted))
        with pytest.raises(DeadlineExceeded, match="did not answer in time"):
            await link.load("m", None)
        await asyncio.wait_for(entered.wait(), PATIENCE_S)

    between(tmp_path, act)


def test_what_was_said_before_there_was_a_channel_is_said_to_the_first(tmp_path: Path) -> None:
    async def act(ends: Ends) -> None:
        await ends.channel.close()
        link = ends.link()
        link.describe("m", "1", {"inputs": []})
        await link.flush()  # there is nobody to send it to
        ends.channel = ends.new_channel()
        await ends.channel.start()
        await ends.until(lambda: ends.channel.signatures == {("m", "1"): {"inputs": []}})

    between(tmp_path, act)


def test_a_worker_that_connects_before_anything_is_published_waits_for_it(tmp_path: Path) -> None:
    async def act(ends: Ends) -> None:
        await ends.channel.close()
        ends.channel = Channel(
            ends.path, lambda *_: True, ends, Listeners(lambda: None, lambda *_: None, lambda *_: None)
        )
        await ends.channel.start()
        ends.link()
        await ends.until(lambda: 0 in ends.channel.reports)
        assert ends.wanted == []
        ends.channel.publish(Desired(7))
        await ends.until(lambda: ends.wanted == [Desired(7)])

    between(tmp_path, act)


def test_a_message_of_a_newer_worker_is_ignored(tmp_path: Path) -> None:
    async def act(ends: Ends) -> None:
        link = ends.link()
        await ends.until(lambda: bool(ends.wanted))
        assert link._outbox is not None
        link._outbox.put("new", {"type": "of a newer release"})
        link.describe("m", "1", {"inputs": []})
        await ends.until(lambda: ends.channel.signatures == {("m", "1"): {"inputs": []}})
        assert ends.parted == []

    between(tmp_path, act)


def test_a_worker_that_connects_anew_is_not_parted_with_its_old_connection(tmp_path: Path) -> None:
    async def act(ends: Ends) -> None:
        ends.link()
        await ends.until(lambda: 0 in ends.channel.reports)
        first = ends.channel.reports[0]
        ends.link()
        await ends.until(lambda: ends.channel.reports[0] is not first)
        ends.tasks[0].cancel()
        await ends.until(lambda: len(ends.channel._conversations) == 1)
        assert 0 in ends.channel.reports
        assert ends.parted == []

    between(tmp_path, act)


def test_a_full_disk_is_answered_to_requests_for_a_model(tmp_path: Path) -> None:
    async def act(ends: Ends) -> None:
        async def full(model: str, config: str | None, by: Author) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        ends.load = full  # type: ignore[method-assign]
        link = ends.link()
        await ends.until(lambda: bool(ends.wanted))
        with pytest.raises(NotReady):
            await link.load("m", None)

    between(tmp_path, act)


def test_a_channel_that_was_never_opened_closes(tmp_path: Path) -> None:
    asyncio.run(Ends(tmp_path).channel.close())
