"""Periodic tasks: when something is due (tables and properties), and what becomes of steps and keys that fail."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control import periodic
from penstock.control.periodic import (
    FIRST_S,
    GRID_S,
    JITTER,
    LONGEST_S,
    SLOWEST_S,
    KeyedWork,
    PeriodicTask,
    ProblemLog,
    RetryState,
    Tasks,
    align,
    backoff_s,
    due_keys,
    interval_s,
    phase_of,
    wait,
)
from penstock.core.errors import NotReady
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point
from tests.harness import PATIENCE_S

PROBABILITIES = st.floats(0, 1)
COUNTS = st.integers(0, 10_000)


class World:
    """A clock that only moves by pauses, and the pauses there were; the task is cancelled after ``most`` of them."""

    def __init__(self, most: int = 1) -> None:
        self.now = 100.0
        self.most = most
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    async def pause(self, woken: asyncio.Event, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)
        if len(self.pauses) >= self.most:
            raise asyncio.CancelledError

    def task(self, step: Callable[[], Awaitable[object]], interval: float = 1.0, delay_s: float = 0.0) -> PeriodicTask:
        return PeriodicTask(
            "work",
            step,
            interval,
            delay_s=delay_s,
            clock=self.clock,
            now=self.clock,
            pause=self.pause,
            chance=lambda: 0.5,
        )

    def run(self, task: PeriodicTask) -> None:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(task.run())


async def nothing() -> None:
    return


def raising(*errors: BaseException | None) -> Callable[[], Awaitable[None]]:
    """A step that raises these one after the other, None for a good end, and then always ends well."""
    left: Iterator[BaseException | None] = iter(errors)

    async def step() -> None:
        if (error := next(left, None)) is not None:
            raise error

    return step


# When something is due.


@pytest.mark.parametrize(
    ("failures", "pause"), [(0, 1.0), (1, 1.0), (2, 2.0), (3, 4.0), (7, LONGEST_S), (5_000, LONGEST_S)]
)
def test_pauses_double_up_to_the_longest(failures: int, pause: float) -> None:
    assert backoff_s(failures, FIRST_S, LONGEST_S, 0.0) == pause


@given(COUNTS, st.floats(0.01, 100), st.floats(0.01, 1000), PROBABILITIES)
def test_a_pause_is_bounded_and_never_shrinks_with_failures(
    failures: int, first: float, longest: float, chance: float
) -> None:
    pause = backoff_s(failures, first, longest, chance)
    assert min(first, longest) / 2 <= pause <= longest
    assert backoff_s(failures + 1, first, longest, chance) >= pause


@pytest.mark.parametrize(
    ("failures", "interval", "pause"),
    [(0, 1.0, 1.0), (1, 1.0, 2.0), (9, 1.0, SLOWEST_S), (0, 60.0, 60.0), (9, 60.0, 60.0), (3, 0.1, 0.8)],
)
def test_a_failing_task_is_tried_at_longer_intervals(failures: int, interval: float, pause: float) -> None:
    assert interval_s(failures, interval, 0.5) == pytest.approx(pause)


@given(COUNTS, st.floats(0.01, 10_000), PROBABILITIES)
def test_an_interval_has_jitter_and_an_end(failures: int, interval: float, chance: float) -> None:
    pause = interval_s(failures, interval, chance)
    assert interval * (1 - JITTER) * 0.999 <= pause <= max(interval, SLOWEST_S) * (1 + JITTER) * 1.001


@given(
    st.dictionaries(st.integers(0, 9), st.floats(0, 100)), st.lists(st.integers(0, 9), unique=True), st.floats(0, 100)
)
def test_keys_are_due_at_their_time_and_unknown_ones_at_once(
    waiting: dict[int, float], keys: list[int], now: float
) -> None:
    found = due_keys(keys, {key: RetryState(1, due) for key, due in waiting.items()}, now)
    assert found == [key for key in keys if waiting.get(key, 0.0) <= now]


# A task.


def test_a_task_goes_on_whatever_a_step_raises() -> None:
    world = World(6)
    task = world.task(raising(ValueError("one"), OSError(28, "full"), NotReady("away"), asyncio.CancelledError("pool")))
    world.run(task)
    assert task.failures == 4
    assert world.pauses == pytest.approx([2.0, 4.0, 5.0, 5.0, 1.0, 1.0])
    assert task.last_success == world.now - world.pauses[-1]
    assert task.problem == ""


def test_a_task_that_has_not_had_to_run_yet_is_not_long_ago() -> None:
    world = World(6)
    task = world.task(raising(NotReady("away"), NotReady("away")))
    made = world.now
    world.now += 3600
    asyncio.run(task.attempt())
    assert task.last_success == made
    asyncio.run(task.attempt())
    asyncio.run(task.attempt())
    assert task.last_success == world.now


def test_a_cancelled_task_ends() -> None:
    async def run() -> None:
        begun = asyncio.Event()

        async def step() -> None:
            begun.set()
            await asyncio.Event().wait()

        running = asyncio.create_task(PeriodicTask("work", step, 1.0).run())
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(run())


def test_an_exception_is_logged_once_with_its_trace_until_it_changes_or_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(6)
    caplog.set_level(logging.INFO, "penstock.control")
    world.run(world.task(raising(ValueError("a"), ValueError("a"), ValueError("b"), None, ValueError("b"))))
    reported = [(record.message, record.exc_info is not None) for record in caplog.records]
    assert reported == [
        ("task work failed: ValueError: a", True),
        ("task work failed: ValueError: b", True),
        ("task work succeeds again", False),
        ("task work failed: ValueError: b", True),
        ("task work succeeds again", False),
    ]


def test_a_fault_is_logged_once_in_whole_and_without_a_trace(caplog: pytest.LogCaptureFixture) -> None:
    world = World(2)
    fault = NotReady("it is away", "the database at 10.0.0.1 is away")
    world.run(world.task(raising(fault, fault)))
    assert [(record.message, record.exc_info) for record in caplog.records] == [
        ("work waits: the database at 10.0.0.1 is away", None)
    ]


def test_a_delay_comes_before_the_first_step() -> None:
    world, steps = World(2), list[float]()

    async def step() -> None:
        steps.append(world.now)

    world.run(world.task(step, delay_s=30.0))
    assert steps == [130.0]


def test_a_woken_task_does_not_wait() -> None:
    async def run() -> None:
        steps = 0

        async def step() -> None:
            nonlocal steps
            steps += 1

        def reached(wanted: int) -> bool:
            return steps >= wanted

        task = PeriodicTask("work", step, 3600.0)
        running = asyncio.create_task(task.run())
        for wanted in (1, 2, 3):
            await until(partial(reached, wanted))
            task.wake()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


def test_a_task_is_overdue_when_no_step_ends_and_alive_while_steps_fail() -> None:
    world = World(50)
    task = world.task(raising(*[ValueError("again")] * 50))
    world.run(task)
    assert task.problem == ""
    world.now += 302
    assert task.problem == "it is overdue: no step has ended for 307 s"
    asyncio.run(task.attempt())
    assert task.problem == ""


# Keys.


def test_a_key_that_fails_is_put_off_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "penstock.control")
    world = World()
    task = world.task(nothing)
    keyed: KeyedWork[str] = KeyedWork(task, "policy of")
    done: list[str] = []

    def step(bad: str) -> None:
        for key in keyed.due(("m1", "m2")):
            with keyed.isolated(key):
                if key == bad:
                    raise ValueError("an unknown sink")
                done.append(key)

    step("m1")
    step("m1")
    assert done == ["m2", "m2"]
    assert keyed.problems == {"m1": "ValueError: an unknown sink"}
    assert task.failures == 1
    world.now += FIRST_S
    step("m1")
    assert task.failures == 2
    world.now += LONGEST_S
    step("")
    assert done[-2:] == ["m1", "m2"]
    assert keyed.problem("m1") == ""
    messages = [record.message for record in caplog.records]
    assert messages == ["policy of m1: ValueError: an unknown sink", "policy of m1: it succeeds again"]


def test_what_concerns_every_key_ends_the_step() -> None:
    keyed: KeyedWork[str] = KeyedWork(World().task(nothing), "trial", shared=(NotReady,))
    with pytest.raises(NotReady), keyed.isolated("m1"):
        raise NotReady("the database is away")
    assert keyed.problems == {}


def test_keys_that_are_gone_are_forgotten() -> None:
    world = World()
    keyed: KeyedWork[tuple[str, str]] = KeyedWork(world.task(nothing), "reference of")
    for key in (("m", "1"), ("m", "2")):
        with keyed.isolated(key):
            raise ValueError
    assert keyed.due([("m", "2")]) == []
    assert list(keyed.problems) == [("m", "2")]
    assert keyed.put_off() == [("m", "2")]
    world.now += 2 * LONGEST_S
    assert keyed.put_off() == []
    assert keyed.problems == {}


def test_problems_are_logged_once_for_each_subject(caplog: pytest.LogCaptureFixture) -> None:
    problems = ProblemLog()
    for text in ("full 100%", "full 100%", "away"):
        problems.report("disk", text)
    problems.report("bucket", "away")
    assert problems.clear("disk")
    assert not problems.clear("disk")
    problems.retain(())
    problems.report("bucket", "away")
    assert [record.message for record in caplog.records] == ["full 100%", "away", "away", "away"]


def test_so_many_subjects_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "MOST_SUBJECTS", 2)
    problems = ProblemLog()
    for subject in "abcb":
        problems.report(subject, "full")
    assert [problems.clear(subject) for subject in "abc"] == [False, True, True]


# All tasks.


def test_a_task_that_dies_is_named_and_begun_again_and_the_others_do_not_notice() -> None:
    async def run() -> None:
        steps = {"a": 0, "b": 0}

        def counting(name: str) -> Callable[[], Awaitable[None]]:
            async def step() -> None:
                steps[name] += 1

            return step

        tasks = Tasks()
        tasks.start(*(PeriodicTask(name, counting(name), 0.01, pause=turn) for name in steps))
        await until(lambda: all(steps.values()))
        before = tasks.running
        before["a"].cancel()
        await until(lambda: "a" in tasks.problems())
        assert tasks.problems() == {"a": "it is dead: CancelledError: it was cancelled"}
        assert tasks.running["b"] is before["b"]
        seen = dict(steps)
        await until(lambda: all(steps[name] > seen[name] for name in steps))
        assert tasks.problems() == {}
        counts = [reading for reading in tasks.readings() if reading.metric is metrics.TASK_FAILURES]
        assert counts == [Point(metrics.TASK_FAILURES, ("a",), 1), Point(metrics.TASK_FAILURES, ("b",), 0)]
        await tasks.stop()
        assert all(task.done() for task in tasks.running.values())

    asyncio.run(run())


def test_two_tasks_do_not_share_a_name() -> None:
    async def run() -> None:
        tasks = Tasks()
        tasks.start(PeriodicTask("a", nothing, 1.0))
        with pytest.raises(ValueError, match="two tasks 'a'"):
            tasks.start(PeriodicTask("a", nothing, 1.0))
        await tasks.stop()

    asyncio.run(run())


async def turn(_: asyncio.Event, __: float) -> None:
    await asyncio.sleep(0)


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not reached():  # noqa: ASYNC110 - one turn of the loop after the other
            await asyncio.sleep(0)


@given(st.floats(0, 1e9), st.floats(0, 1))
def test_wake_ups_are_moved_by_half_a_grid_at_most_and_stay_where_they_are(at: float, phase: float) -> None:
    moved = align(at, phase)
    assert abs(moved - at) <= GRID_S / 2 + 1e-6
    assert align(moved, phase) == pytest.approx(moved, abs=1e-6)


def test_tasks_that_are_due_at_nearly_the_same_time_share_a_wake_up() -> None:
    assert {round(align(at, 0.25), 6) for at in (10.08, 10.1, 10.16)} == {10.125}
    assert 0 <= phase_of(1) < 1
    assert phase_of(1) != phase_of(2)


@pytest.mark.parametrize("seconds", [0.0, 0.01, GRID_S])
def test_a_wait_ends_by_time_or_by_the_event(seconds: float) -> None:
    async def run() -> None:
        event = asyncio.Event()
        await wait(event, seconds)
        assert event.is_set()
        await wait(event, PATIENCE_S)  # at once
        event.clear()
        waiting = asyncio.create_task(wait(event, PATIENCE_S))
        await asyncio.sleep(0)
        event.set()
        await waiting

    asyncio.run(run())
