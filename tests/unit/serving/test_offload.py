"""Work on threads beside the event loop: bounded, in a fair order, answered on the loop, gone with a stop."""

import asyncio
import gc
import logging
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from penstock.core.errors import Cancelled, InvalidInput, Overloaded
from penstock.engine.threads import lower_priority
from penstock.serving.offload import NICENESS, NS_PER_BYTE, OffloadedJob, OffloadPool
from tests.harness import PATIENCE_S


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), PATIENCE_S))


class Results:
    """Collects results, with the threads that they came on."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[Any, Exception | None]] = []
        self.threads: set[threading.Thread] = set()
        self._changed = asyncio.Event()

    def done(self, result: Any, error: Exception | None) -> None:
        self.outcomes.append((result, error))
        self.threads.add(threading.current_thread())
        self._changed.set()

    async def wait(self, count: int) -> None:
        while len(self.outcomes) < count:
            self._changed.clear()
            await self._changed.wait()


def test_results_and_errors_come_back_on_the_loop() -> None:
    async def scene() -> None:
        offload, results, where = OffloadPool(100), Results(), []

        def work() -> int:
            where.append(threading.current_thread())
            return 7

        def fails() -> None:
            raise InvalidInput("no")

        offload.submit(work, results.done, 10)
        offload.submit(fails, results.done, 10)
        await results.wait(2)
        assert (7, None) in results.outcomes
        assert any(isinstance(error, InvalidInput) for _, error in results.outcomes)
        assert results.threads == {threading.current_thread()}
        assert where[0] is not threading.current_thread()
        assert offload.waiting_bytes == 0
        offload.close()

    run(scene)


def test_work_over_the_bytes_is_refused_and_counted_and_what_came_back_makes_capacity() -> None:
    async def scene() -> None:
        offload, results, gate = OffloadPool(100, threads=1), Results(), threading.Event()
        offload.submit(gate.wait, results.done, 60)
        offload.submit(int, results.done, 40)
        for size in (1, 1000):
            with pytest.raises(Overloaded, match="try again later"):
                offload.submit(int, results.done, size)
        assert offload.refused == 2
        gate.set()
        await results.wait(2)
        offload.submit(int, results.done, 1000)  # larger than the bound, but alone
        await results.wait(3)
        assert (offload.waiting_bytes, offload.refused) == (0, 2)
        offload.close()

    run(scene)


def test_short_work_goes_first_but_overtakes_no_work_that_came_long_before() -> None:
    async def scene() -> None:
        now = [0]
        offload, results, gate = OffloadPool(10_000, threads=1, clock=lambda: now[0]), Results(), threading.Event()
        began = threading.Event()

        def first() -> str:
            began.set()
            gate.wait()
            return "first"

        offload.submit(first, results.done, 1)
        began.wait()
        offload.submit(lambda: "large", results.done, 1000)
        offload.submit(lambda: "small", results.done, 10)
        now[0] = 1000 * NS_PER_BYTE
        offload.submit(lambda: "late", results.done, 10)
        gate.set()
        await results.wait(4)
        assert [result for result, _ in results.outcomes] == ["first", "small", "large", "late"]
        offload.close()

    run(scene)


def test_cancelled_work_is_not_begun_and_reported_so() -> None:
    async def scene() -> None:
        offload, results, gate, begun = OffloadPool(100, threads=1), Results(), threading.Event(), []
        began = threading.Event()

        def work() -> str:
            began.set()
            gate.wait()
            return "done"

        running = offload.submit(work, results.done, 1)
        waiting = offload.submit(lambda: begun.append(1), results.done, 1)
        began.wait()
        running.cancel()
        waiting.cancel()
        gate.set()
        await results.wait(2)
        assert results.outcomes[0] == ("done", None)  # it had begun
        assert isinstance(results.outcomes[1][1], Cancelled)
        assert not begun
        assert offload.waiting_bytes == 0
        offload.close()

    run(scene)


def test_no_more_threads_than_allowed_and_none_before_there_is_work() -> None:
    async def scene() -> None:
        before = set(threading.enumerate())
        offload, results, gate = OffloadPool(100, threads=2), Results(), threading.Event()
        assert set(threading.enumerate()) <= before
        for _ in range(5):
            offload.submit(gate.wait, results.done, 1)
        assert len(set(threading.enumerate()) - before) == 2
        gate.set()
        await results.wait(5)
        offload.close()

    run(scene)


def niceness() -> int:
    """Of the present thread."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.parametrize("own", [0, 3])
def test_the_event_loop_comes_before_the_threads(own: int) -> None:
    """Also in a process that is nice itself."""
    found: list[tuple[int, int]] = []

    async def scene() -> None:
        offload = OffloadPool(100)
        found.append((niceness(), await offload.run(niceness, 1)))
        offload.close()

    def on_a_nice_thread() -> None:
        lower_priority(own)
        run(scene)

    thread = threading.Thread(target=on_a_nice_thread)
    thread.start()
    thread.join()
    [(loop, threads)] = found
    assert threads == min(19, loop + NICENESS)


def test_a_stop_ends_what_waits_and_refuses_what_comes() -> None:
    async def scene() -> None:
        offload, results, gate, began = OffloadPool(100, threads=1), Results(), threading.Event(), threading.Event()

        def work() -> str:
            began.set()
            gate.wait()
            return "done"

        offload.submit(work, results.done, 1)
        offload.submit(int, results.done, 1)
        began.wait()
        offload.close()
        assert isinstance(results.outcomes[0][1], Overloaded)
        with pytest.raises(Overloaded):
            offload.submit(int, results.done, 1)
        gate.set()
        await results.wait(2)
        assert results.outcomes[1] == ("done", None)

    run(scene)


def test_a_failure_in_what_follows_is_logged_and_harms_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        offload, results = OffloadPool(100, threads=1), Results()

        def broken(_result: Any, _error: Exception | None) -> None:
            raise ValueError("a bug")

        offload.submit(int, broken, 1)
        offload.submit(int, results.done, 1)
        await results.wait(1)
        assert offload.waiting_bytes == 0
        offload.close()

    with caplog.at_level(logging.ERROR, "penstock.serving"):
        run(scene)
    assert "a bug" in caplog.text


def test_nothing_of_a_job_is_kept_once_it_is_answered() -> None:
    class Large:
        pass

    async def scene() -> None:
        offload, results, large = OffloadPool(100, threads=1), Results(), Large()
        gone = weakref.ref(large)
        offload.submit(partial(id, large), results.done, 1)
        del large
        await results.wait(1)
        offload.submit(int, results.done, 1)  # the thread is past the first
        await results.wait(2)
        assert gone() is None
        offload.close()

    gc.disable()
    try:
        run(scene)
    finally:
        gc.enable()


def test_a_job_says_once_how_it_ended() -> None:
    ended: list[tuple[object, Exception | None]] = []

    async def test() -> None:
        job = OffloadedJob(lambda: 1, lambda *outcome: ended.append(outcome), 1, asyncio.get_running_loop())
        job.finish(1, None)
        job.finish(2, None)

    run(test)
    assert ended == [(1, None)]
