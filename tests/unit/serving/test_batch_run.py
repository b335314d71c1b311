"""Calls that share a run, over a real model of several outputs: each gets what it asked for, whatever the others want.

Policies change while calls wait, so that what was queued under one rule runs under another.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from time import monotonic_ns

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from penstock.core.batching import RowProof, RunCost
from penstock.core.errors import Cancelled, DeadlineExceeded, TooLarge
from penstock.core.labels import Protocol, Route
from penstock.core.limits import RequestLimits
from penstock.core.options import ModelOptions
from penstock.core.tensors import Array, Tensor
from penstock.engine import model as engine
from penstock.engine.model import Model
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.serving import batch_run
from penstock.serving.infer_call import InferCall
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.version_info import VersionIdentity
from tests import zoo
from tests.budgets import examples
from tests.unit.serving.gated import Gated

MINUTE_NS = 60_000_000_000
SCALES = {"a": 2.0, "b": -3.0, "c": 0.5}
"""The outputs of the model, each its input times that."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    nodes = [helper.make_node("Mul", ["x", f"by_{name}"], [name]) for name in SCALES]
    factors = [zoo.constant(f"by_{name}", np.array(scale, np.float32)) for name, scale in SCALES.items()]
    outputs = [zoo.value(name, "FP32", ("n", "m")) for name in SCALES]
    zoo.save(zoo.model(nodes, [zoo.value("x", "FP32", ("n", "m"))], outputs, factors), path)
    return engine.load(path, ModelOptions(), 1, RowProof(True))


def version_of(model: Model, limits: RequestLimits | None = None) -> LoadedVersion:
    return LoadedVersion(
        VersionIdentity("m", "1"), model, ModelOptions(), {}, Slot.in_process().block(1), limits=limits
    )


def call_of(
    version: LoadedVersion, data: Array, wanted: Sequence[str] | None, classes: int = 0, timeout_ns: int = MINUTE_NS
) -> InferCall:
    now = monotonic_ns()
    requested = None if wanted is None else [RequestedOutput(name, classes) for name in wanted]
    tensors = [Tensor("x", "FP32", data)]
    return InferCall(version, Route.STABLE, Protocol.REST, "id", tensors, requested, now + timeout_ns, now)


def expected(data: Array, wanted: Sequence[str] | None) -> list[tuple[str, list[list[float]]]]:
    names = list(SCALES) if wanted is None else wanted
    return [(name, (data * np.float32(SCALES[name])).tolist()) for name in names]


def answer(call: InferCall) -> list[tuple[str, list[list[float]]]]:
    return [(output.name, output.data.tolist()) for output in call.outputs]


WANTED = st.one_of(
    st.none(), st.permutations(list(SCALES)).flatmap(lambda names: st.integers(1, 3).map(lambda n: names[:n]))
)
CALLS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 2), WANTED), min_size=2, max_size=24)


def data_of(number: int, rows: int, columns: int) -> Array:
    return np.arange(rows * columns, dtype=np.float32).reshape(rows, columns) + np.float32(100 * number)


@settings(deadline=None, max_examples=examples(200))
@given(CALLS)
def test_each_gets_its_own_outputs_on_the_loop(model: Model, asked: list[tuple[int, int, list[str] | None]]) -> None:
    version = version_of(model)
    calls = [
        call_of(version, data_of(number, rows, columns), wanted) for number, (rows, columns, wanted) in enumerate(asked)
    ]
    left: Sequence[InferCall] = [call for call in calls if version.prepare_inline(call)]
    while left:
        left = version.run_inline(left)
    for number, (call, (rows, columns, wanted)) in enumerate(zip(calls, asked, strict=True)):
        assert answer(call) == expected(data_of(number, rows, columns), wanted)


@settings(deadline=None, max_examples=examples(150))
@given(CALLS, st.lists(st.sampled_from([0, 1, 50_000, 1 << 40]), min_size=1, max_size=6))
def test_each_gets_its_own_outputs_on_threads_while_policies_change(
    model: Model, asked: list[tuple[int, int, list[str] | None]], policies: list[int]
) -> None:
    """A promise of one nanosecond forbids shared runs, none at all allows the largest."""
    gated = Gated(model)
    gated.model.batch_cost = RunCost(10_000.0, 1_000.0)
    version = version_of(gated.model)

    async def story() -> None:
        ended, calls = asyncio.Semaphore(0), list[InferCall]()
        for number, (rows, columns, wanted) in enumerate(asked):
            version.set_latency_slo(policies[number % len(policies)])
            calls.append(call_of(version, data_of(number, rows, columns), wanted))
            version.prepare_inline(calls[-1])
            version.enqueue(calls[-1], lambda _: ended.release())
        version.set_latency_slo(policies[-1])
        gated.gate.set()
        for _ in calls:
            await ended.acquire()
        for number, (call, (rows, columns, wanted)) in enumerate(zip(calls, asked, strict=True)):
            assert call.fault is None
            assert answer(call) == expected(data_of(number, rows, columns), wanted)
        await version.close()

    asyncio.run(story())


def test_different_outputs_share_a_run_and_nobody_pays_for_what_nobody_wants(model: Model) -> None:
    gated = Gated(model)
    gated.gate.set()
    version = version_of(gated.model)
    calls = [
        call_of(version, data_of(number, 1, 2), wanted) for number, wanted in enumerate((["a"], ["c"], ["a", "c"]))
    ]
    for call in calls:
        version.prepare_inline(call)
    batch_run.run(gated.model, calls)
    assert gated.runs == [3]
    assert [sorted(names) for names in gated.asked] == [["a", "c"]]


def test_calls_of_other_shapes_or_types_have_other_keys(model: Model) -> None:
    version = version_of(model)
    keys = set()
    for data in (np.ones((1, 2), np.float32), np.ones((3, 2), np.float32), np.ones((1, 3), np.float32)):
        call = call_of(version, data, None)
        version.prepare_inline(call)
        keys.add(batch_run.batch_key(call))
    assert len(keys) == 2  # the number of rows is free
    other = call_of(version, np.ones((1, 2), np.float32), ["b"])
    version.prepare_inline(other)
    assert batch_run.batch_key(other) in keys  # outputs are no part of it: the run asks for all of them
    other.prepared = {"x": np.ones((1, 2), np.float64)}, []
    assert batch_run.batch_key(other) not in keys


def test_a_call_that_requests_too_much_is_refused_alone(model: Model) -> None:
    """The free size of a column is known after the run only."""
    version = version_of(model, RequestLimits(max_output_bytes=100))
    calls = [call_of(version, data_of(0, 2, 3), wanted) for wanted in (["a"], None, ["b"])]
    for call in calls:
        version.prepare_inline(call)
        assert call.fault is None
    version.run_inline(calls)
    assert [type(call.fault) for call in calls if call.fault] == []  # 72 bytes for all three outputs
    calls = [call_of(version, data_of(0, 2, 6), wanted) for wanted in (["a"], None, ["b"])]
    for call in calls:
        version.prepare_inline(call)
    version.run_inline(calls)
    assert [call.fault is None for call in calls] == [True, False, True]
    assert isinstance(calls[1].fault, TooLarge)
    assert "144 bytes, over the limit of 100" in str(calls[1].fault)
    assert "limits.max_output_bytes" in str(calls[1].fault)
    assert answer(calls[2]) == expected(data_of(0, 2, 6), ["b"])


def test_what_the_signature_fixes_is_refused_before_the_run(tmp_path: Path) -> None:
    zoo.save(zoo.affine(2.0, 1.0, ("n", 3)), tmp_path / "model.onnx")
    gated = Gated(engine.load(tmp_path / "model.onnx", ModelOptions(), 1, RowProof(True)))
    version = version_of(gated.model, RequestLimits(max_output_bytes=120))
    fits, large = (call_of(version, np.ones((rows, 3), np.float32), None) for rows in (10, 11))
    assert (version.row_bytes, version.most_rows) == (12, 10)
    version.prepare_inline(fits)
    version.prepare_inline(large)
    assert fits.fault is None
    assert isinstance(large.fault, TooLarge)
    assert gated.runs == []


@pytest.mark.parametrize(("abandoned", "expired", "fault"), [(True, False, Cancelled), (False, True, DeadlineExceeded)])
def test_nothing_runs_that_nobody_waits_for(
    model: Model, abandoned: bool, expired: bool, fault: type[Exception]
) -> None:
    gated = Gated(model)
    gated.gate.set()
    version = version_of(gated.model)
    calls = [call_of(version, data_of(number, 1, 1), None) for number in range(3)]
    for call in calls:
        version.prepare_inline(call)
    calls[1].abandoned = abandoned
    if expired:
        calls[1].deadline_ns = 0
    outcomes = batch_run.run(gated.model, calls)
    assert isinstance(outcomes[1], fault)
    assert gated.runs == [1, 1]  # the others run alone
    assert not calls[1].run_began


def test_a_batched_run_that_fails_fails_only_the_call_at_fault(tmp_path: Path) -> None:
    zoo.save(zoo.gather(), tmp_path / "model.onnx")
    slot = Slot.in_process()
    model = engine.load(tmp_path / "model.onnx", ModelOptions(independent_rows=True), 1, RowProof(True))
    version = LoadedVersion(VersionIdentity("m", "1"), model, ModelOptions(), {}, slot.block(1))
    now = monotonic_ns()
    calls = [
        InferCall(
            version,
            Route.STABLE,
            Protocol.REST,
            "id",
            [Tensor("index", "INT64", np.array([value], np.int64))],
            None,
            now + MINUTE_NS,
            now,
        )
        for value in (0, 99, 1)
    ]
    for call in calls:
        version.prepare_inline(call)
    version.run_inline(calls)
    assert [call.fault is None for call in calls] == [True, False, True]
    assert Totals.of([slot], 1).executions == 0  # whoever answers counts
    assert calls[1].fault is not None
    assert calls[1].fault.__traceback__ is None  # nor anything else that refers to the call
    assert calls[1].fault.__cause__ is None
    assert calls[1].fault.__context__ is None


def test_calls_share_a_run_only_if_all_their_inputs_are_alike(model: Model) -> None:
    version = version_of(model)

    def key(*feeds: tuple[str, Array]) -> object:
        call = call_of(version, np.zeros((1, 2), np.float32), None)
        call.prepared = dict(feeds), []
        return batch_run.batch_key(call)

    narrow, wide, whole = np.zeros((1, 2), np.float32), np.zeros((3, 4), np.float32), np.zeros((2, 2), np.int64)
    assert key(("x", narrow)) == key(("x", np.ones((5, 2), np.float32)))
    assert len({key(("x", narrow)), key(("y", narrow)), key(("x", wide)), key(("x", whole))}) == 4
    assert key(("x", narrow), ("y", wide)) == key(("y", wide), ("x", narrow))
    assert len({key(("x", narrow), ("y", wide)), key(("x", wide), ("y", narrow)), key(("x", narrow)), key()}) == 4
