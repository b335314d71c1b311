"""Calls that share runs, over real models: each gets exactly its rows, whatever the others are and become."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import monotonic_ns
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from penstock.core.batching import RowProof
from penstock.core.labels import Protocol, Route
from penstock.core.options import ModelOptions
from penstock.core.tensors import Tensor
from penstock.engine import model as engine
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.registry.admission.inspection import proof_of
from penstock.serving.infer_call import InferCall
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.loop_batcher import LoopBatcher
from penstock.serving.version_info import VersionIdentity
from tests import zoo
from tests.budgets import examples
from tests.counted import count_success

EXAMPLES, LEAST_CALLS, MOST_CALLS = 1000, 20, 60
"""Together at least twenty thousand calls."""


def mixing(operator: str, **attributes: Any) -> onnx.ModelProto:
    """A model whose answer to a row depends on the rows beside it, though its shapes do not say so."""
    nodes = [helper.make_node(operator, ["x"], ["y"], **attributes)]
    return zoo.model(nodes, [zoo.value("x", "FP32", ("n", 3))], [zoo.value("y", "FP32", ("n", 3))], [])


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "affine": partial(zoo.affine, 2.0, 1.0, ("n", 3)),
    "wide": partial(zoo.affine, -1.0, 0.5, ("n", "m")),
    "words": partial(zoo.identity, "BYTES"),
    "gather": zoo.gather,
    "softmax": partial(mixing, "Softmax", axis=0),
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedVersion]:
    folder, slot = tmp_path_factory.mktemp("models"), Slot.in_process()
    found = {}
    for index, (name, make) in enumerate(MODELS.items()):
        path = Path(folder, f"{name}.onnx")
        zoo.save(make(), path)
        model = engine.load(path, ModelOptions(), 1, proof_of(path))
        found[name] = LoadedVersion(VersionIdentity(name, "1"), model, ModelOptions(), {}, slot.block(index + 1))
    return found


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


class Caller:
    """A connection that asks for several things in one turn of the loop, and keeps the answers."""

    def __init__(self) -> None:
        self.answered: dict[int, InferCall] = {}
        self.counted: set[InferCall] = set()

    def decode(self, turn: tuple[int, InferCall, bool]) -> InferCall | None:
        return None if turn[2] else turn[1]  # who has gone is not asked for

    def enqueue(self, turn: tuple[int, InferCall, bool], call: InferCall) -> None:
        call.loaded.run_inline([call])  # a busy machine made a run long, and the version is kept off the loop
        self.answered[turn[0]] = call

    def encode(self, turn: tuple[int, InferCall, bool], call: InferCall) -> int:
        return turn[0]

    def write(self, turn: tuple[int, InferCall, bool], call: InferCall, answer: int) -> None:
        assert answer == turn[0]
        assert turn[0] not in self.answered
        assert call in self.counted
        self.answered[turn[0]] = call

    def count(self, calls: Sequence[InferCall]) -> None:
        self.counted |= set(calls)

    def abort(self) -> None:
        raise AssertionError


def call_of(one: LoadedVersion, tensors: list[Tensor], expired: bool) -> InferCall:
    now = monotonic_ns()
    deadline = now - 1 if expired else now + 10**10
    return InferCall(one, Route.STABLE, Protocol.REST, "id", tensors, None, deadline, now)


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["affine", "wide", "words", "gather", "softmax"]),
        st.integers(0, 5),  # rows
        st.integers(1, 3),  # columns, where they are free
        st.integers(0, 9),  # what is in it; of gather from 4 on a fault
        st.sampled_from(["sound"] * 6 + ["late", "gone", "misfit"]),
    ),
    min_size=LEAST_CALLS,
    max_size=MOST_CALLS,
)


def tensors_of(name: str, rows: int, columns: int, value: int) -> list[Tensor]:
    if name == "words":
        return [Tensor("x", "BYTES", np.full((rows, columns), f"w{value}", object))]
    if name == "gather":
        return [Tensor("index", "INT64", np.array([value], np.int64))]
    width = columns if name == "wide" else 3
    data = np.arange(rows * width, dtype=np.float32).reshape(rows, width) + np.float32(value) / 3
    return [Tensor("x", "FP32", data)]


@settings(max_examples=examples(EXAMPLES), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(REQUESTS)
def test_each_gets_exactly_its_rows(
    loaded: dict[str, LoadedVersion], loop: asyncio.AbstractEventLoop, requested: list[tuple[str, int, int, int, str]]
) -> None:
    caller = Caller()
    batcher = LoopBatcher(caller.count)
    calls: list[InferCall] = []

    async def ask() -> None:
        for index, (name, rows, columns, value, fate) in enumerate(requested):
            tensors = tensors_of(name, rows, columns, value)
            if fate == "misfit":
                tensors = [Tensor("nobody", "FP32", np.zeros((1, 1), np.float32))]
            calls.append(call_of(loaded[name], tensors, expired=fate == "late"))
            batcher.enqueue(caller, (index, calls[-1], fate == "gone"))
        for _ in range(len(requested)):  # as many turns as a slow machine may need
            await asyncio.sleep(0)

    loop.run_until_complete(ask())
    for index, (name, _, _, value, fate) in enumerate(requested):
        if fate == "gone":
            assert index not in caller.answered
            continue
        call = caller.answered[index]
        alone = call_of(loaded[name], calls[index].tensors, expired=fate == "late")
        loaded[name].prepare_inline(alone)
        if alone.fault is None:
            loaded[name].run_inline([alone])
        assert (call.fault is None) == (alone.fault is None) == (fate == "sound" and (name != "gather" or value < 4))
        if call.fault is not None and alone.fault is not None:
            assert (call.fault.kind, str(call.fault)) == (alone.fault.kind, str(alone.fault))
            continue
        assert [output.name for output in call.outputs] == [output.name for output in alone.outputs]
        for output, other in zip(call.outputs, alone.outputs, strict=True):
            assert output.data.shape == other.data.shape
            assert (output.data == other.data).all()  # bit for bit: these models add nothing up over columns
            assert output.data.dtype == other.data.dtype


@pytest.mark.parametrize(
    ("name", "joins"), [("affine", True), ("wide", True), ("words", True), ("softmax", False), ("gather", True)]
)
def test_whose_rows_may_share_a_run(loaded: dict[str, LoadedVersion], name: str, joins: bool) -> None:
    assert (loaded[name]._model.batch_cost is not None) == joins


@pytest.mark.parametrize(
    "graph",
    [
        partial(mixing, "Softmax", axis=0),
        partial(mixing, "LpNormalization", axis=0),
        partial(mixing, "Hardmax", axis=0),
    ],
)
def test_rows_that_depend_on_each_other_never_share_a_run(tmp_path: Path, graph: Any) -> None:
    zoo.save(graph(), tmp_path / "model.onnx")
    path = tmp_path / "model.onnx"
    assert not proof_of(path).independent
    for owner_says_so in (False, True):
        assert engine.load(path, ModelOptions(independent_rows=owner_says_so), 1, proof_of(path)).batch_cost is None


def test_a_run_that_is_shared_is_counted_once(tmp_path: Path) -> None:
    zoo.save(zoo.affine(2.0, 1.0, ("n", 3)), tmp_path / "model.onnx")
    slot = Slot.in_process()
    model = engine.load(tmp_path / "model.onnx", ModelOptions(), 1, RowProof(True))
    one = LoadedVersion(VersionIdentity("m", "1"), model, ModelOptions(), {}, slot.block(1))
    calls = [call_of(one, tensors_of("affine", rows, 3, 1), expired=False) for rows in (2, 1, 3)]
    assert all(one.prepare_inline(call) for call in calls)
    one.run_inline(calls)
    for call in calls:
        count_success(one.block, call.series, call.run_rows, 5, 1, 0, 2, 1)
    totals = Totals.of([slot], 1)
    assert (totals.inferences, totals.executions) == (6, 1)
    assert [(size, count) for size, count, *_ in totals.batches()] == [(6, 1)]


def test_a_run_that_gives_other_rows_than_it_got_is_not_divided(tmp_path: Path) -> None:
    """Rows with a very small first number are left out: the owner says that rows are independent, and made-up rows do
    not show that they are not."""
    nodes = [
        helper.make_node("Gather", ["x", "first"], ["column"], axis=1),
        helper.make_node("Greater", ["column", "least"], ["kept"]),
        helper.make_node("Compress", ["x", "kept"], ["y"], axis=0),
    ]
    numbers = [zoo.constant("first", np.array(0, np.int64)), zoo.constant("least", np.array(-1e6, np.float32))]
    graph = zoo.model(nodes, [zoo.value("x", "FP32", ("n", 3))], [zoo.value("y", "FP32", ("n", 3))], numbers)
    zoo.save(graph, tmp_path / "model.onnx")
    model = engine.load(tmp_path / "model.onnx", ModelOptions(independent_rows=True), 1)
    assert model.batch_cost is not None
    one = LoadedVersion(VersionIdentity("m", "1"), model, ModelOptions(), {}, Slot.in_process().block(1))
    rows = [[1.0, 2.0, 3.0], [-5e6, 2.0, 3.0], [7.0, 2.0, 3.0]]
    calls = [call_of(one, [Tensor("x", "FP32", np.array([row], np.float32))], expired=False) for row in rows]
    assert all(one.prepare_inline(call) for call in calls)
    one.run_inline(calls)
    assert [call.outputs[0].data.tolist() for call in calls] == [[rows[0]], [], [rows[2]]]


class Slow:
    """A model whose runs take some of the clock's time, and none of ours."""

    def __init__(self, model: engine.Model, now: list[int], takes_ns: int) -> None:
        self._inner, self._now, self._takes_ns = model, now, takes_ns
        self.model = engine.Model(self._run, model.signature)
        self.model.run_ns, self.model.measured_elements = 1000, 1000
        self.ran: list[int] = []

    def _run(self, *arguments: Any) -> Any:
        self._now[0] += self._takes_ns
        self.ran.append(self._now[0])
        return self._inner._run(*arguments)


def test_rejections_are_answered_together_and_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = Caller()
    batcher = LoopBatcher(caller.count)
    answered: list[int] = []

    async def ask() -> None:
        now = [0.0]
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now[0])
        for numbers in ([0, 1, 2], [3]):
            last = asyncio.Event()
            for number in numbers:
                batcher.reject_later(partial(answered.append, number))
                await asyncio.sleep(0)  # the loop goes on meanwhile
                assert number not in answered
            batcher.reject_later(last.set)
            now[0] += 1.0
            await last.wait()
            assert answered == list(range(numbers[-1] + 1))

    asyncio.run(ask())


def test_a_busy_version_lets_the_others_have_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls go on in later turns, in their order, and it cannot be closed before."""
    zoo.save(zoo.affine(2.0, 1.0, ("n", 3)), tmp_path / "model.onnx")
    loaded, slot, now = engine.load(tmp_path / "model.onnx", ModelOptions(), 1), Slot.in_process(), [monotonic_ns()]
    for module in ("loop_batcher", "loaded_version", "batch_run", "admission"):
        monkeypatch.setattr(f"penstock.serving.{module}.monotonic_ns", lambda: now[0])
    models = [Slow(loaded, now, takes_ns) for takes_ns in (400_000, 100_000)]
    busy, other = (
        LoadedVersion(VersionIdentity(f"m{index}", "1"), slow.model, ModelOptions(), {}, slot.block(index + 1))
        for index, slow in enumerate(models)
    )
    caller = Caller()
    batcher = LoopBatcher(caller.count)

    async def ask() -> None:
        calls = [call_of(busy, tensors_of("affine", 1, 3, value), expired=False) for value in range(20)]
        for index, call in enumerate(calls):
            batcher.enqueue(caller, (index, call, False))
        await asyncio.sleep(0)
        assert len(caller.answered) == 6  # as many as fit into two milliseconds
        closing = asyncio.create_task(busy.close())
        batcher.enqueue(caller, (100, call_of(other, tensors_of("affine", 1, 3, 1), expired=False), False))
        await asyncio.sleep(0)
        assert 100 in caller.answered
        assert len(caller.answered) == 13
        assert models[1].ran[0] < models[0].ran[-1]
        for _ in range(2):
            assert not closing.done()
            await asyncio.sleep(0)
        assert len(caller.answered) == 21
        await closing
        assert [caller.answered[index].outputs[0].data[0, 0] for index in range(20)] == pytest.approx(
            [2 * value / 3 + 1 for value in range(20)]
        )

    asyncio.run(ask())
