"""Calls on threads, over real models: shared runs, full queues, and ends of every kind."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from time import monotonic_ns

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.batching import BatchRules, RowProof, RunCost
from penstock.core.errors import Cancelled, DeadlineExceeded, Fault, Overloaded
from penstock.core.labels import SHED_REASONS, Priority, Protocol, Route
from penstock.core.options import ModelOptions
from penstock.core.placement import INLINE_BUDGET_NS, NOTE_EVERY
from penstock.core.queueing import WINDOW_NS
from penstock.core.tensors import Tensor
from penstock.engine import model as engine
from penstock.engine.model import Model
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals, count_load
from penstock.registry.config import model_config
from penstock.serving import admission, worker_pool
from penstock.serving.admission import ConcurrencyLimiter
from penstock.serving.batch_run import Outcome
from penstock.serving.infer_call import BatchResult, InferCall
from penstock.serving.loaded_version import PER_THREAD, LoadedVersion
from penstock.serving.memory_budget import MemoryBudget
from penstock.serving.version_info import VersionIdentity
from penstock.serving.worker_pool import QueuedCall, WorkerPool
from tests import zoo
from tests.budgets import examples
from tests.harness import reached
from tests.unit.serving.gated import Gated

MINUTE_NS = 60_000_000_000
EXAMPLES, LEAST_CALLS, MOST_CALLS = 300, 20, 60
"""Together at least six thousand calls."""

CALLS = st.lists(
    st.tuples(
        st.integers(1, 5),  # rows
        st.integers(1, 2),  # columns
        st.sampled_from(list(Priority)),
        st.sampled_from(["sound"] * 6 + ["late", "gone"]),
    ),
    min_size=LEAST_CALLS,
    max_size=MOST_CALLS,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    zoo.save(zoo.affine(2.0, 1.0, ("n", "m")), path)
    return engine.load(path, ModelOptions(), 1, RowProof(True))


def bounds(threads: int, bound: int, rules: BatchRules) -> tuple[float, float]:
    least = float(threads * (1 + 2 * rules.most_rows))
    return least, float(min(bound, max(threads * PER_THREAD, 4 * least)))


class World:
    """A pool, the calls it was given, and their outcomes."""

    def __init__(
        self, model: Model, rules: BatchRules, threads: int = 1, bound: int = 100, *, narrow: bool = False
    ) -> None:
        self.slot = Slot.in_process()
        block = self.slot.block(1)
        self.loaded = LoadedVersion(VersionIdentity("m", "1"), model, ModelOptions(), {}, block)
        self.gated, self.narrow = Gated(model), Gated(model)
        if narrow:
            self.gated.model.single_threaded, self.gated.model.parallel_runs = self.narrow.model, threads
        self.limiter = ConcurrencyLimiter(threads, bounds(threads, bound, rules), block, float(model.run_ns or 0))
        self.memory = MemoryBudget(1 << 30)
        self.pool = WorkerPool(self.gated.model, threads, self.limiter, self.memory, rules)
        self.outcomes: dict[InferCall, Outcome] = {}

    def call(self, rows: int = 1, columns: int = 1, value: float = 0.0, timeout_ns: int = MINUTE_NS) -> InferCall:
        now = monotonic_ns()
        data = np.full((rows, columns), value, np.float32)
        tensors = [Tensor("x", "FP32", data)]
        call = InferCall(self.loaded, Route.STABLE, Protocol.REST, "id", tensors, None, now + timeout_ns, now)
        self.loaded.prepare_inline(call)
        return call

    def enter(self, call: InferCall, priority: Priority = Priority.DEFAULT) -> QueuedCall:
        call.priority = priority
        return self.pool.enqueue(call, self._hear)

    def _hear(self, call: InferCall, outcome: Outcome) -> None:
        assert call not in self.outcomes
        self.outcomes[call] = outcome

    async def all_ended(self, number: int) -> None:
        await reached(lambda: len(self.outcomes) >= number)

    async def running(self, number: int) -> None:
        await reached(lambda: len(self.gated.runs) >= number)

    def kind(self, call: InferCall) -> str:
        outcome = self.outcomes[call]
        return outcome.kind if isinstance(outcome, Fault) else "ok"


def story(world: World, outcomes: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        try:
            await outcomes(world)
        finally:
            world.gated.gate.set()
            world.narrow.gate.set()
            world.pool.close()

    asyncio.run(run())


@settings(max_examples=examples(EXAMPLES), deadline=None)
@given(
    CALLS,
    st.integers(1, 2),
    st.sampled_from([BatchRules(), BatchRules(8), BatchRules(8, (4,)), BatchRules(8, (), 10)]),
    st.booleans(),
)
def test_each_gets_exactly_its_rows(
    model: Model, requested: list[tuple[int, int, Priority, str]], threads: int, rules: BatchRules, narrow: bool
) -> None:
    world = World(model, rules, threads, bound=1000, narrow=narrow)
    world.narrow.gate.set()

    async def outcomes(world: World) -> None:
        world.gated.gate.set()
        calls = []
        for index, (rows, columns, priority, fate) in enumerate(requested):
            call = world.call(rows, columns, float(index))
            if fate == "late":
                call.deadline_ns = monotonic_ns() - 1
            calls.append(call)
            try:
                entry = world.enter(call, priority)
            except Overloaded as fault:
                world.outcomes[call] = fault
                continue
            if fate == "gone":
                world.pool.cancel(entry)
        await world.all_ended(len(calls))
        for index, (call, (rows, columns, _, fate)) in enumerate(zip(calls, requested, strict=True)):
            outcome = world.outcomes[call]
            if fate == "sound":
                assert not isinstance(outcome, Fault)
                array = call.outputs[0] if isinstance(outcome, BatchResult) else outcome[0]
                assert array.data.tolist() == [[2.0 * index + 1.0] * columns] * rows
            else:
                assert isinstance(outcome, Cancelled if fate == "gone" else (DeadlineExceeded, Overloaded))

    story(world, outcomes)
    assert (world.limiter.in_system, world.limiter.cancelled_running, world.memory.used) == (0, 0, 0)


def test_what_queues_while_a_run_goes_on_shares_the_next(model: Model) -> None:
    async def outcomes(world: World) -> None:
        calls = [world.call()]
        world.enter(calls[0])
        await world.running(1)
        for _ in range(5):
            calls.append(world.call())
            world.enter(calls[-1])
        world.gated.gate.set()
        await world.all_ended(6)
        assert world.gated.runs == [1, 4, 1]
        assert [call.run_rows for call in calls] == [1, 4, -1, -1, -1, 1]

    story(World(model, BatchRules(4)), outcomes)


def test_a_run_has_all_cores_while_it_is_alone_and_one_when_there_are_more(model: Model) -> None:
    async def outcomes(world: World) -> None:
        wide, narrow = world.gated, world.narrow
        for _ in range(4):
            world.enter(world.call())
            await world.running(1)
        assert narrow.runs == []  # nothing beside the one that is spread
        wide.gate.set()
        await reached(lambda: len(narrow.runs) == 2)
        assert (wide.runs, world.pool._single_threaded_runs) == ([1], 2)
        narrow.gate.set()
        await world.all_ended(4)
        await reached(lambda: world.pool._single_threaded_runs + world.pool._multi_threaded_runs == 0)
        world.enter(world.call())
        await world.all_ended(5)
        assert (len(wide.runs), len(narrow.runs)) in {(2, 3), (3, 2)}  # whether the fourth found itself alone

    story(World(model, BatchRules(), threads=2, narrow=True), outcomes)


def test_more_urgent_calls_run_first(model: Model) -> None:
    async def outcomes(world: World) -> None:
        world.enter(world.call())
        await world.running(1)
        calls = [(priority, world.call()) for priority in (Priority.BATCH, Priority.DEFAULT, Priority.CRITICAL)]
        for priority, call in calls:
            world.enter(call, priority)
        world.gated.gate.set()
        await world.all_ended(4)
        assert [priority for priority, _ in sorted(calls, key=lambda item: item[1].started_ns)] == sorted(Priority)

    story(World(model, BatchRules()), outcomes)


def test_the_least_urgent_are_evicted_when_there_is_no_capacity(model: Model) -> None:
    async def outcomes(world: World) -> None:
        first = world.call()
        world.enter(first)
        await world.running(1)
        batch, usual, urgent = world.call(), [world.call(), world.call()], [world.call() for _ in range(4)]
        world.enter(batch, Priority.BATCH)
        with pytest.raises(Overloaded):  # they may fill half of it only
            world.enter(world.call(), Priority.BATCH)
        for call in usual:
            world.enter(call)
        with pytest.raises(Overloaded):
            world.enter(world.call(), Priority.BATCH)
        for call in urgent[:3]:
            world.enter(call, Priority.CRITICAL)
        assert [world.kind(call) for call in (batch, *usual)] == ["overloaded"] * 3
        with pytest.raises(Overloaded):  # only urgent ones are left
            world.enter(urgent[3], Priority.CRITICAL)
        world.gated.gate.set()
        await world.all_ended(7)
        assert [world.kind(call) for call in (first, *urgent[:3])] == ["ok"] * 4
        counted = Totals.of([world.slot], 1)
        assert counted.shed == dict(zip(SHED_REASONS, (3, 0, 3, 0), strict=True))
        assert count_load([world.slot], 1)[1] == 4

    story(World(model, BatchRules(), bound=4), outcomes)


def test_a_run_is_stopped_once_nobody_waits_for_it(model: Model) -> None:
    async def outcomes(world: World) -> None:
        world.enter(world.call())
        await world.running(1)
        entries = [world.enter(world.call()) for _ in range(3)]
        world.gated.gate.set()
        world.gated.gate.clear()
        await world.running(2)
        batch = entries[0].batch
        assert batch is not None
        for entry in entries[:2]:
            world.pool.cancel(entry)
        assert not batch.interrupt.is_stopped
        world.pool.cancel(entries[2])
        assert batch.interrupt.is_stopped

    story(World(model, BatchRules(8)), outcomes)


def test_a_queue_that_only_grows_is_cut(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    now = monotonic_ns()
    for module in (admission, worker_pool):  # one window for each round, however long the machine takes for it
        monkeypatch.setattr(module, "monotonic_ns", lambda: now)

    async def outcomes(world: World) -> None:
        nonlocal now
        world.limiter._call_ns = world.limiter._run_ns = 5e6
        calls = []
        for _ in range(5):
            for _ in range(30):
                calls.append(world.call())
                try:
                    world.enter(calls[-1])
                except Overloaded as fault:
                    world.outcomes[calls[-1]] = fault
            await world.running(1)
            now += WINDOW_NS
        refused = [call for call in calls if call in world.outcomes]
        assert len(refused) == 150 - 16
        assert all(world.kind(call) == "overloaded" for call in refused)
        assert not set(calls[:16]) & set(refused)  # who came first stays
        assert not world.loaded.sheds()  # that is another limiter's
        assert count_load([world.slot], 1)[1] == 16
        world.gated.gate.set()
        await world.all_ended(150)

    story(World(model, BatchRules(), bound=1000), outcomes)


@pytest.mark.parametrize(
    ("stated", "asked", "runs"),
    [
        ({"preferred_batch_size": [4], "max_queue_delay_microseconds": 5_000_000}, 4, [4]),
        ({"max_queue_delay_microseconds": 100_000}, 3, [3]),
    ],
)
def test_a_configured_delay_gathers_calls(
    tmp_path: Path, stated: dict[str, object], asked: int, runs: list[int]
) -> None:
    zoo.save(zoo.affine(2.0, 1.0, ("n", 3)), tmp_path / "model.onnx")
    config = json.dumps({"max_batch_size": 8, "dynamic_batching": stated})
    options = model_config.read(config, tmp_path)
    slot = Slot.in_process()
    loaded = LoadedVersion(
        VersionIdentity("m", "1"),
        engine.load(tmp_path / "model.onnx", options, 1, RowProof(True)),
        options,
        {},
        slot.block(1),
    )

    async def outcomes() -> None:
        now = monotonic_ns()
        calls = [
            InferCall(
                loaded,
                Route.STABLE,
                Protocol.REST,
                str(value),
                [Tensor("x", "FP32", np.full((1, 3), value, np.float32))],
                None,
                now + MINUTE_NS,
                now,
            )
            for value in range(asked)
        ]
        ended: list[InferCall] = []
        for call in calls:
            assert not loaded.prepare_inline(call)
            loaded.enqueue(call, ended.append)
        await reached(lambda: len(ended) == asked)
        for value, call in enumerate(calls):
            assert call.outputs[0].data.tolist() == [[2.0 * value + 1] * 3]
        assert [call.run_rows for call in calls if call.run_rows > 0] == runs
        await loaded.close()

    asyncio.run(outcomes())


def test_a_latency_objective_bounds_batched_runs(tmp_path: Path) -> None:
    zoo.save(zoo.affine(2.0, 1.0, ("n", 3)), tmp_path / "model.onnx")
    model = engine.load(tmp_path / "model.onnx", ModelOptions(), 1)
    model.batch_cost = RunCost(100_000.0, 1_000.0)
    loaded = LoadedVersion(VersionIdentity("m", "1"), model, ModelOptions(), {}, Slot.in_process().block(1))
    before = loaded._pool.rules
    loaded.set_latency_slo(240_000)
    assert loaded._pool.rules.most_rows == 20 < before.most_rows
    loaded.set_latency_slo(0)
    assert loaded._pool.rules == before


def test_a_version_comes_back_to_the_loop_when_its_runs_are_short(tmp_path: Path) -> None:
    """What the warm-up measured is not the last word: one of sixteen runs is noted, wherever it takes place."""
    zoo.save(zoo.affine(2.0, 1.0, ("n", 3)), tmp_path / "model.onnx")
    model = engine.load(tmp_path / "model.onnx", ModelOptions(), 1)
    loaded = LoadedVersion(VersionIdentity("m", "1"), model, ModelOptions(), {}, Slot.in_process().block(1))
    loaded._executor._run_ns = 1.2 * INLINE_BUDGET_NS
    row = np.ones((1, 3), np.float32).tobytes()

    def call() -> InferCall:
        now = monotonic_ns()
        return InferCall(loaded, Route.STABLE, Protocol.REST, "id", row, None, now + MINUTE_NS, now)

    async def asked() -> int:
        for number in range(200):
            one = call()
            if loaded.prepare_inline(one):
                return number
            ended: list[InferCall] = []
            loaded.enqueue(one, ended.append)
            await reached(partial(bool, ended))
            assert ended[0].outputs[0].data.tolist() == [[3.0] * 3]
        raise AssertionError

    assert NOTE_EVERY <= asyncio.run(asked()) < 200
    loaded._executor._run_ns = 0.9 * INLINE_BUDGET_NS
    one = call()
    one.rows = one.run_rows = 1
    one.ran_ns = 2 * INLINE_BUDGET_NS
    for _ in range(4 * NOTE_EVERY):
        loaded._executor.note_run(one)
    assert not loaded.prepare_inline(call())


def test_refusals_leave_shadows_out_for_a_while(model: Model) -> None:
    async def outcomes(world: World) -> None:
        assert not world.loaded.sheds()
        world.loaded.limiter.in_system = 10_000
        assert world.loaded.admission_error(Priority.CRITICAL) is not None
        assert world.loaded.sheds()

    story(World(model, BatchRules()), outcomes)
