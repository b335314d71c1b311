"""Which calls run on the event loop, and which a version's own runs drive from it for a while."""

from pathlib import Path
from time import monotonic_ns

import numpy as np
import pytest
from onnx import helper

from loadtests import echoes
from penstock.core.batching import RowProof, RunCost
from penstock.core.labels import Protocol, Route
from penstock.core.options import ModelOptions
from penstock.core.placement import INLINE_BUDGET_NS, LONG_NS, NOTE_EVERY, PENALTY_NS
from penstock.core.tensors import Tensor
from penstock.engine import model as engine
from penstock.engine.model import Model
from penstock.monitor.counters.slot import Slot
from penstock.serving import batch_run
from penstock.serving.infer_call import InferCall
from penstock.serving.inline_executor import INPUT_BYTES, OUTPUT_BYTES
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.version_info import VersionIdentity
from tests import zoo

MINUTE_NS = 60_000_000_000


def load(folder: Path, columns: int | str = 3) -> Model:
    zoo.save(zoo.affine(2.0, 1.0, ("n", columns)), folder / "model.onnx")
    model = engine.load(folder / "model.onnx", ModelOptions(), 1, RowProof(True))
    model.run_ns = 1000
    return model


def version_of(model: Model, options: ModelOptions | None = None) -> LoadedVersion:
    return LoadedVersion(VersionIdentity("m", "1"), model, options or ModelOptions(), {}, Slot.in_process().block(1))


def call_of(
    version: LoadedVersion, rows: int = 1, columns: int = 3, requested: list[RequestedOutput] | None = None
) -> InferCall:
    now = monotonic_ns()
    tensors = [Tensor("x", "FP32", np.ones((rows, columns), np.float32))]
    return InferCall(version, Route.STABLE, Protocol.REST, "id", tensors, requested, now + MINUTE_NS, now)


@pytest.mark.parametrize(
    ("run_ns", "rows", "inline"),
    [
        (1000, 1, True),
        (INLINE_BUDGET_NS, 1, True),
        (INLINE_BUDGET_NS + 1, 1, False),
        (None, 1, False),  # nobody knows how long it takes
        (1000, 500, True),
        (1000, 501, False),  # a run takes as much longer as its input is larger
    ],
)
def test_runs_that_are_expected_to_be_short_stay_on_the_loop(
    tmp_path: Path, run_ns: int | None, rows: int, inline: bool
) -> None:
    model = load(tmp_path)
    model.run_ns, model.measured_elements = run_ns, 3
    version = version_of(model)
    assert version.prepare_inline(call_of(version, rows)) == inline


def test_a_version_that_gathers_calls_runs_on_threads(tmp_path: Path) -> None:
    version = version_of(load(tmp_path), ModelOptions(max_queue_delay_ns=1000))
    assert not version.prepare_inline(call_of(version))


def test_a_run_that_held_the_loop_up_sends_the_next_to_threads_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [monotonic_ns()]
    monkeypatch.setattr("penstock.serving.loaded_version.monotonic_ns", lambda: now[0])
    monkeypatch.setattr(batch_run, "monotonic_ns", lambda: now[0])
    model = load(tmp_path)
    run = model._run
    takes = [LONG_NS]

    def slow(*arguments: object) -> object:
        now[0] += takes[0]
        return run(*arguments)  # type: ignore[arg-type]

    model._run = slow  # type: ignore[assignment]
    version = version_of(model)
    for takes[0], stays in ((LONG_NS, True), (LONG_NS + 1, False)):
        call = call_of(version)
        assert version.prepare_inline(call)
        version.run_inline([call])
        assert version.prepare_inline(call_of(version)) == stays
    now[0] += PENALTY_NS - 1
    assert not version.prepare_inline(call_of(version))
    now[0] += 1
    assert version.prepare_inline(call_of(version))


def test_one_of_sixteen_runs_is_noted(tmp_path: Path) -> None:
    version = version_of(load(tmp_path))
    executor = version._executor
    call = call_of(version)
    call.rows = call.run_rows = 1
    call.ran_ns = 10_000
    expected = executor._run_ns
    for _ in range(NOTE_EVERY - 1):
        executor.note_run(call)
    assert executor._run_ns == expected
    executor.note_run(call)
    assert executor._run_ns is not None
    assert expected is not None
    assert executor._run_ns > expected
    after, call.run_rows = executor._run_ns, 8  # a run of several says nothing of one
    for _ in range(2 * NOTE_EVERY):
        executor.note_run(call)
    assert executor._run_ns == after


def test_a_turn_makes_so_many_bytes_of_outputs(tmp_path: Path) -> None:
    """Each of these answers is larger than half of that."""
    columns = OUTPUT_BYTES // 8 + 1
    nodes = [helper.make_node("Expand", ["x", "shape"], ["y"])]
    shape = [zoo.constant("shape", np.array([1, columns], np.int64))]
    inputs, outputs = [zoo.value("x", "FP32", ("n", 1))], [zoo.value("y", "FP32", ("n", columns))]
    zoo.save(zoo.model(nodes, inputs, outputs, shape), tmp_path / "model.onnx")
    for joint in (None, RunCost(100.0, 1.0)):
        model = engine.load(tmp_path / "model.onnx", ModelOptions(), 1)
        model.run_ns, model.batch_cost = 1000, joint
        version = version_of(model)
        calls = [call_of(version, 1, 1, None if joint is None else [RequestedOutput("y")]) for _ in range(5)]
        for number, call in enumerate(calls):
            assert version.prepare_inline(call)
            if joint is not None:
                call.rows = 60 + number  # too many to share a run, as far as it knows
        left = version.run_inline(calls)
        assert len(left) == 3
        assert len(version.run_inline(left)) == 1


@pytest.mark.parametrize(("size", "is_inline"), [(INPUT_BYTES // 2, True), (2 * INPUT_BYTES, False)])
def test_long_texts_run_on_a_thread(tmp_path: Path, size: int, is_inline: bool) -> None:
    """However few they are: the runtime copies them."""
    echoes.place(tmp_path)
    model = engine.load(tmp_path / "copy_bytes" / "1" / "model.onnx", ModelOptions(), 1)
    model.run_ns = 1000
    version = version_of(model)
    now, texts = monotonic_ns(), Tensor("x", "BYTES", np.array([["a" * size]], object), size)
    call = InferCall(version, Route.STABLE, Protocol.REST, "id", [texts], None, now + MINUTE_NS, now)
    assert version.prepare_inline(call) is is_inline
    assert call.fault is None


def test_where_a_joint_run_gains_nothing_each_call_runs_alone(tmp_path: Path) -> None:
    model = load(tmp_path)
    model.batch_cost = RunCost(1.0, 1000.0)
    version = version_of(model)
    calls = [call_of(version) for _ in range(4)]
    assert all(version.prepare_inline(call) for call in calls)
    assert not version.run_inline(calls)
    assert [(call.fault, call.run_rows) for call in calls] == [(None, 1)] * 4
