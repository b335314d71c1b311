"""A turn of the loop batcher: what it decodes, runs and answers, in which order, and where it stops."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from penstock.core.errors import Cancelled, Overloaded
from penstock.core.labels import SHED_REASONS, Priority
from penstock.monitor.counters.totals import Totals
from penstock.serving import loop_batcher
from penstock.serving.infer_call import InferCall
from penstock.serving.loop_batcher import ALL_RUNS_NS, ENCODE_NS, MAX_BYTES, LoopBatcher
from penstock.serving.loop_stalls import STALL_NS
from penstock.serving.memory_budget import TRIM_BYTES, MemoryBudget
from tests.unit.serving import stubs
from tests.unit.serving.stubs import Scripted, call_of


class Source:
    """A connection whose requests are calls already; ``events`` are what it was asked, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.on_encode: Callable[[], None] = lambda: None
        self.elsewhere = False
        self.fails = False

    def decode(self, pending: InferCall | None) -> InferCall | None:
        return pending

    def enqueue(self, _: Any, call: InferCall) -> None:
        self.events.append(("thread", call))

    def encode(self, _: Any, call: InferCall) -> Any:
        self.on_encode()
        return None if self.elsewhere else "answer"

    def write(self, _: Any, call: InferCall, answer: Any) -> None:
        if self.fails:
            raise RuntimeError
        self.events.append((answer, call))

    def abort(self) -> None:
        self.events.append(("abort", None))

    @property
    def written(self) -> list[InferCall]:
        return [call for event, call in self.events if event == "answer"]


class World:
    def __init__(self) -> None:
        self.now = 0
        self.counted: list[InferCall] = []
        self.stalls: list[int] = []
        self.source = Source()
        self.memory = MemoryBudget(1 << 30)
        self.batcher = LoopBatcher(self.counted.extend, self.memory, self.stalls.append)

    def pass_time(self, ns: int) -> None:
        self.now += ns

    def ask(self, *calls: InferCall | None) -> None:
        for call in calls:
            self.batcher.enqueue(self.source, call)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    for module in (loop_batcher, stubs):
        monkeypatch.setattr(module, "monotonic_ns", lambda: world.now)
    return world


def story(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]  # it is a coroutine function


async def turn() -> None:
    await asyncio.sleep(0)


def test_what_one_turn_brings_is_answered_in_it(world: World) -> None:
    version = Scripted()
    calls = [call_of(version) for _ in range(3)]

    async def scenario() -> None:
        world.ask(*calls, None)
        assert world.source.written == []
        await turn()
        assert world.source.written == calls == world.counted == version.ran
        assert (version.held, version.limiter.in_system, version.limiter.waiting) == (0, 0, [0, 0, 0])

    story(scenario)


def test_decoding_stops_at_so_many_bytes(world: World) -> None:
    version = Scripted()
    calls = [call_of(version, size=MAX_BYTES + 1) for _ in range(3)]

    async def scenario() -> None:
        world.ask(*calls)
        for done in ([], [1], [1, 2], [1, 2, 3]):
            assert len(world.source.written) == len(done)
            await turn()
        assert world.source.written == calls

    story(scenario)


def test_encoding_stops_at_so_many_bytes_and_the_next_runs_wait_for_it(world: World) -> None:
    first, second = Scripted("first", output_bytes=MAX_BYTES), Scripted("second")
    calls = [call_of(first) for _ in range(4)]
    other = [call_of(second) for _ in range(9)]  # more calls, so it is the second's turn after

    async def scenario() -> None:
        world.ask(*calls, *other)
        await turn()
        assert world.source.written == calls[:2]
        assert second.ran == []
        await turn()
        assert world.source.written == [*calls, *other]

    story(scenario)


def test_large_answers_make_a_trim_due(world: World) -> None:
    version = Scripted(output_bytes=TRIM_BYTES)

    async def scenario() -> None:
        world.ask(call_of(version))
        await turn()

    story(scenario)
    assert [world.memory.trim_due() for _ in range(3)] == [False, True, False]  # once the burst is over


def test_encoding_stops_after_so_much_time(world: World) -> None:
    version = Scripted()
    calls = [call_of(version) for _ in range(40)]

    def slow() -> None:
        world.now += ENCODE_NS // 4

    async def scenario() -> None:
        world.source.on_encode = slow
        world.ask(*calls)
        await turn()
        assert len(world.source.written) == 8  # the clock is looked at after so many
        for _ in range(4):
            await turn()
        assert world.source.written == calls

    story(scenario)


def test_versions_that_the_turn_had_no_time_for_are_first_in_the_next(world: World) -> None:
    versions = [Scripted(f"m{number}") for number in range(4)]
    order: list[str] = []

    def run(name: str) -> Callable[[], None]:
        def ran() -> None:
            world.now += ALL_RUNS_NS // 2 + 1
            order.append(name)

        return ran

    async def scenario() -> None:
        for number, version in enumerate(versions):
            version.on_run = run(version.identity.model)
            world.ask(*[call_of(version) for _ in range(1 + number)])
        await turn()
        assert order == ["m0", "m1"]
        world.ask(call_of(versions[0]))  # fewer calls than those that wait
        await turn()
        assert order[2:4] == ["m2", "m3"]
        await turn()
        assert order[4:] == ["m0"]

    story(scenario)
    assert all(version.held == 0 for version in versions)


def test_more_urgent_calls_run_first(world: World) -> None:
    version = Scripted(takes=1)
    calls = [call_of(version, priority) for priority in (Priority.BATCH, Priority.DEFAULT, Priority.CRITICAL)]

    async def scenario() -> None:
        world.ask(*calls)
        for _ in calls:
            await turn()
        assert version.ran == calls[::-1]

    story(scenario)


def test_the_newest_of_the_least_urgent_makes_capacity(world: World) -> None:
    version = Scripted(most=4.0)
    batch = [call_of(version, Priority.BATCH) for _ in range(2)]
    usual = [call_of(version) for _ in range(2)]
    urgent = [call_of(version, Priority.CRITICAL) for _ in range(3)]

    async def scenario() -> None:
        world.ask(*batch, *usual, *urgent)
        await turn()
        assert version.ran == [*urgent, usual[0]]
        assert [call for call in world.source.written if call.fault is None] == version.ran
        assert all(isinstance(call.fault, Overloaded) for call in (*batch, usual[1]))
        assert world.counted == world.source.written
        assert version.limiter.waiting == [0, 0, 0]

    story(scenario)
    assert Totals.of([version.slot], 1).shed == dict(zip(SHED_REASONS, (0, 0, 3, 0), strict=True))


def test_a_request_without_capacity_is_refused_and_not_run(world: World) -> None:
    version = Scripted(most=2.0)
    calls = [call_of(version) for _ in range(5)]

    async def scenario() -> None:
        world.ask(*calls)
        await turn()
        assert version.ran == calls[:2]
        assert [call.fault is None for call in calls] == [True, True, False, False, False]
        assert len(world.source.written) == 5
        assert version.limiter.in_system == 0

    story(scenario)


def test_a_request_that_would_wait_too_long_in_a_queue_is_refused(world: World) -> None:
    version = Scripted()
    version.limiter.note_run(1e9, 1)
    patient = [call_of(version) for _ in range(16)]
    hasty = call_of(version, timeout_ns=1_000_000_000)

    async def scenario() -> None:
        world.ask(*patient, hasty)
        await turn()
        assert version.ran == patient
        assert isinstance(hasty.fault, Overloaded)

    story(scenario)


def test_a_call_whose_caller_left_is_not_run(world: World) -> None:
    version = Scripted(takes=1)
    calls = [call_of(version) for _ in range(3)]

    async def scenario() -> None:
        world.ask(*calls)
        await turn()
        calls[1].abandoned = True
        await turn()
        await turn()
        assert version.ran == [calls[0], calls[2]]
        assert isinstance(calls[1].fault, Cancelled)
        assert set(world.counted) == set(calls)
        assert (version.held, version.limiter.in_system) == (0, 0)

    story(scenario)


def test_calls_for_threads_leave_and_come_back(world: World) -> None:
    version = Scripted()
    version.inline = False
    call = call_of(version)

    async def scenario() -> None:
        world.ask(call)
        await turn()
        assert world.source.events == [("thread", call)]
        world.batcher.finish(world.source, call, call)
        await turn()
        assert world.source.events[1:] == [("answer", call)]
        assert world.counted == [call]

    story(scenario)


def test_what_is_decoded_or_encoded_elsewhere_joins_in(world: World) -> None:
    version = Scripted()
    call = call_of(version)

    async def scenario() -> None:
        world.source.elsewhere = True
        world.batcher.submit(world.source, call, call)
        await turn()
        assert version.ran == [call]
        assert world.source.written == world.counted == []
        world.batcher.deliver(world.source, call, call, "answer")
        assert world.source.written == world.counted == [call]

    story(scenario)


def test_a_connection_that_fails_is_ended_and_the_others_have_their_answers(world: World) -> None:
    version, broken = Scripted(), Source()
    broken.fails = True
    calls = [call_of(version) for _ in range(3)]

    async def scenario() -> None:
        world.ask(calls[0])
        world.batcher.enqueue(broken, calls[1])
        world.ask(calls[2])
        await turn()
        assert world.source.written == [calls[0], calls[2]]
        assert broken.events == [("abort", None)]
        assert world.counted == calls

    story(scenario)


def test_a_long_turn_shows_of_itself(world: World) -> None:
    version = Scripted()

    async def scenario() -> None:
        for took in (STALL_NS - 1, STALL_NS, 7 * STALL_NS):
            version.on_run = partial(world.pass_time, took)
            world.ask(call_of(version))
            await turn()

    story(scenario)
    assert world.stalls == [STALL_NS, 7 * STALL_NS]


def test_calls_in_the_system_show_while_they_run(world: World) -> None:
    version = Scripted(takes=2)
    shown: list[int] = []
    version.on_run = lambda: shown.append(Totals.of([version.slot], 1).inflight)

    async def scenario() -> None:
        world.ask(*[call_of(version) for _ in range(5)])
        for _ in range(3):
            await turn()

    story(scenario)
    assert shown == [5, 3, 1]
    assert Totals.of([version.slot], 1).inflight == 1  # a reader who looks between two turns sees a busy worker
    world.batcher._publish_present()  # as a timer does soon after
    assert Totals.of([version.slot], 1).inflight == 0


def test_what_a_turn_costs_is_what_the_limit_rests_on(world: World) -> None:
    version = Scripted()

    def run() -> None:
        world.now += 8_000_000

    async def scenario() -> None:
        version.on_run = run
        world.ask(*[call_of(version) for _ in range(4)])
        await turn()

    story(scenario)
    assert version.limiter._run_ns == 8_000_000.0
    assert version.limiter._call_ns == 2_000_000.0
