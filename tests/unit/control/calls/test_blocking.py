"""Blocking calls on bounded pools: deadlines, refusals, abandoned calls and what is told of them."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.calls.blocking import BlockingPool, pool_readings
from penstock.core.errors import Conflict, NotReady
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point
from tests.harness import PATIENCE_S, reached

SHORT_S = 0.01
OVERDUE = "late"
"""The reason of a refusal in the metric."""


@pytest.fixture(autouse=True)
def patient_calls() -> None:
    """These tests are about the deadlines: they stay as stated."""


class Hanging:
    """A call that hangs until it is let go; ``begun`` counts its starts."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)

    def __call__(self, answer: Any = None) -> Any:
        self.begun.release()
        assert self.go.wait(PATIENCE_S)
        return answer


@contextmanager
def pool_of(threads: int, most_waiting: int = 8) -> Iterator[tuple[BlockingPool, Hanging]]:
    pool, hanging = BlockingPool("test", threads, "the neighbour", PATIENCE_S, most_waiting), Hanging()
    try:
        yield pool, hanging
    finally:
        hanging.go.set()
        pool.close(PATIENCE_S)


def counts(pool: BlockingPool) -> dict[str, float]:
    points = [reading for reading in pool.readings() if isinstance(reading, Point)]
    return {point.labels[1]: point.value for point in points}


async def becomes(pool: BlockingPool, **expected: int) -> None:
    await reached(lambda: all(counts(pool)[state] == count for state, count in expected.items()))


def test_a_call_gives_what_its_function_gives() -> None:
    def refuse() -> None:
        raise Conflict("look again")

    with pool_of(1) as (pool, _):
        assert asyncio.run(pool.call(divmod, 7, 2)) == (3, 1)
        with pytest.raises(Conflict, match="look again"):
            asyncio.run(pool.call(refuse))
        assert counts(pool) == {"running": 0, "waiting": 0, "abandoned": 0, "full": 0, "late": 0}


def test_a_timeout_of_the_function_is_its_own() -> None:
    def give_up() -> None:
        raise TimeoutError("of the function")

    with pool_of(1) as (pool, _), pytest.raises(TimeoutError, match="of the function"):
        asyncio.run(pool.call(give_up))


def test_a_late_call_is_abandoned_and_its_thread_is_busy_until_it_returns() -> None:
    async def act(pool: BlockingPool, hanging: Hanging) -> None:
        delayed = 0
        while not hanging.begun.acquire(blocking=False):  # a busy machine may not begin a call within its deadline
            with pytest.raises(NotReady, match=r"the neighbour did not answer within 0\.01 s"):
                await pool.call(hanging, deadline_s=SHORT_S)
            delayed += 1
        await becomes(pool, running=1, abandoned=1, **{OVERDUE: delayed})
        with pytest.raises(NotReady):
            await pool.call(int, deadline_s=SHORT_S)  # no thread is free
        assert counts(pool)["waiting"] == 0
        hanging.go.set()
        assert await pool.call(str, 1) == "1"
        await becomes(pool, running=0, abandoned=0, **{OVERDUE: delayed + 1})

    with pool_of(1) as (pool, hanging):
        asyncio.run(act(pool, hanging))


def test_a_caller_that_is_cancelled_leaves_nothing_waiting() -> None:
    async def act(pool: BlockingPool, hanging: Hanging) -> None:
        calls = [asyncio.create_task(pool.call(hanging)) for _ in range(2)]
        await becomes(pool, running=1, waiting=1)
        for call in calls:
            call.cancel()
        assert all(
            isinstance(item, asyncio.CancelledError) for item in await asyncio.gather(*calls, return_exceptions=True)
        )
        await becomes(pool, running=1, waiting=0, abandoned=1)

    with pool_of(1) as (pool, hanging):
        asyncio.run(act(pool, hanging))


def test_what_does_not_fit_is_refused_at_once() -> None:
    async def act(pool: BlockingPool, hanging: Hanging) -> None:
        first = asyncio.create_task(pool.call(hanging, "first"))
        await becomes(pool, running=1)
        second = asyncio.create_task(pool.call(hanging, "second"))
        await becomes(pool, waiting=1)
        with pytest.raises(NotReady, match="too many calls wait for the neighbour"):
            await pool.call(int)
        hanging.go.set()
        assert [await first, await second] == ["first", "second"]
        assert counts(pool)["full"] == 1

    with pool_of(1, most_waiting=1) as (pool, hanging):
        asyncio.run(act(pool, hanging))


def test_pools_do_not_wait_for_each_other() -> None:
    with pool_of(1) as (slow, hanging), pool_of(1) as (other, _):

        async def act() -> None:
            call = asyncio.create_task(slow.call(hanging))
            await becomes(slow, running=1)
            assert await other.call(int) == 0
            hanging.go.set()
            await call

        asyncio.run(act())
        names = {reading.labels[0] for reading in pool_readings((slow, other)) if isinstance(reading, Point)}
        assert names == {"test"}


def test_a_closed_pool_refuses_what_waits_and_what_comes() -> None:
    async def act(pool: BlockingPool, hanging: Hanging) -> None:
        running, waiting = (asyncio.create_task(pool.call(hanging, "done")) for _ in range(2))
        await becomes(pool, running=1, waiting=1)
        pool.close(0.0)
        with pytest.raises(NotReady, match="stopping"):
            await waiting
        with pytest.raises(NotReady, match="stopping"):
            await pool.call(int)
        hanging.go.set()
        assert await running == "done"

    with pool_of(1) as (pool, hanging):
        asyncio.run(act(pool, hanging))


def test_an_abandoned_call_outlives_the_loop_that_asked(caplog: pytest.LogCaptureFixture) -> None:
    with pool_of(1) as (pool, hanging):
        with pytest.raises(NotReady):
            asyncio.run(pool.call(hanging, deadline_s=SHORT_S))
        hanging.go.set()
        assert asyncio.run(pool.call(int)) == 0
    assert not caplog.records


@given(st.integers(1, 4), st.integers(0, 4), st.integers(0, 12))
def test_never_more_calls_run_than_threads_and_never_more_wait_than_the_queue_holds(
    threads: int, capacity: int, calls: int
) -> None:
    async def act(pool: BlockingPool, hanging: Hanging) -> None:
        tasks = []
        for number in range(calls):
            tasks.append(asyncio.create_task(pool.call(hanging, number)))
            await asyncio.sleep(0)
            expected = min(len(tasks), threads)
            await becomes(pool, running=expected, waiting=min(len(tasks) - expected, capacity))
        hanging.go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        fit = min(calls, threads + capacity)
        assert answers[:fit] == list(range(fit))
        assert all(isinstance(answer, NotReady) for answer in answers[fit:])
        assert counts(pool)["full"] == calls - fit
        await becomes(pool, running=0, waiting=0)

    with pool_of(threads, capacity) as (pool, hanging):
        asyncio.run(act(pool, hanging))


def test_its_metrics_are_in_the_table() -> None:
    assert {metrics.BLOCKING_CALLS.labels, metrics.BLOCKING_CALLS_REFUSED.labels} == {
        ("pool", "state"),
        ("pool", "reason"),
    }


@pytest.mark.parametrize("fault", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(1)])
def test_what_ends_programs_ends_only_the_call(fault: BaseException) -> None:
    def leave() -> None:
        raise fault

    async def run(pool: BlockingPool) -> int:
        with pytest.raises(RuntimeError, match=type(fault).__name__):
            await pool.call(leave)
        with pytest.raises(RuntimeError, match="CancelledError"):
            await pool.call(_cancelled)
        return await pool.call(lambda: 7)

    with pool_of(1) as (pool, _):
        assert asyncio.run(run(pool)) == 7


def _cancelled() -> None:
    raise asyncio.CancelledError


def test_a_call_that_has_returned_cannot_be_abandoned() -> None:
    with pool_of(1) as (pool, _):
        job = pool.submit(int)
        assert job.future.result(PATIENCE_S) == 0
        pool.abandon(job)  # its caller looks too late
        assert counts(pool)["abandoned"] == 0


def test_a_pool_that_closes_leaves_alone_what_callers_have_cancelled() -> None:
    with pool_of(1) as (pool, hanging):
        pool.submit(hanging)
        assert hanging.begun.acquire(timeout=PATIENCE_S)
        waiting = pool.submit(int)
        waiting.future.cancel()
        pool.close(0.0)
        assert waiting.future.cancelled()
