"""Rows that run one after the other in the same memory: the outputs of any run, each in arrays of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.core.batching import RowProof
from penstock.core.errors import Internal, InvalidInput
from penstock.core.options import ModelOptions, SessionOptions
from penstock.core.signature import TensorSpec
from penstock.core.tensors import NUMPY_TYPES, PLAIN
from penstock.engine.bound_runner import BoundRunner
from penstock.engine.model import BOUND_ROWS, Model, load
from penstock.engine.session import bound_runner, open_session
from tests import zoo
from tests.unit.engine import graphs

OUTPUT = TensorSpec("y", "FP32", (-1, 3))


def bound_row(path: Path, options: SessionOptions, outputs: tuple[TensorSpec, ...]) -> BoundRunner | None:
    return bound_runner(
        open_session(path, options, 1), options, load(path, ModelOptions(), 1).signature.row_form(), outputs
    )


@pytest.mark.parametrize("datatype", sorted(PLAIN))
def test_rows_have_the_outputs_of_any_run_and_keep_them(tmp_path: Path, datatype: str) -> None:
    path = graphs.identity(tmp_path, ("N", 3), datatype)
    runner = bound_row(path, SessionOptions(), (TensorSpec("y", datatype, (-1, 3)),))
    assert runner is not None
    model = load(path, ModelOptions(), 1)
    rows = [np.array([[0, 1, place]]).astype(NUMPY_TYPES[datatype]) for place in range(3)]
    for run in (model.run_rows, lambda row: runner.run(row, None)):
        results = [run(row.tobytes())[0] for row in rows]
        assert [result.tobytes() for result in results] == [row.tobytes() for row in rows]
        assert {(result.dtype, result.shape) for result in results} == {(NUMPY_TYPES[datatype], (1, 3))}


def test_several_outputs_come_in_the_order_of_the_signature(tmp_path: Path) -> None:
    zoo.save(zoo.classifier(), tmp_path / "model.onnx")
    model = load(tmp_path / "model.onnx", ModelOptions(), 1)
    form = model.signature.row_form()
    for seed in range(5):
        row = np.random.default_rng(seed).standard_normal(form.elements).astype(form.dtype).tobytes()
        expected = model.run(form.feeds(row), [spec.name for spec in model.signature.outputs])
        assert [array.tobytes() for array in model.run_rows(row)] == [array.tobytes() for array in expected]


def test_a_row_that_fails_says_why_and_the_next_one_runs(tmp_path: Path) -> None:
    model = load(graphs.gather(tmp_path), ModelOptions(), 1)
    good, bad = (np.array([index], np.int64).tobytes() for index in (0, 9))
    for _ in range(2):
        assert model.run_rows(good)[0].tolist() == [1.0]
        with pytest.raises(InvalidInput, match="indices element out of data bounds"):
            model.run_rows(bad)
    model.close()
    with pytest.raises(Internal, match="unloaded"):
        model.run_rows(good)


@pytest.mark.parametrize("count", [1, 2, BOUND_ROWS, BOUND_ROWS + 1])
def test_several_rows_have_the_outputs_of_one_run(tmp_path: Path, count: int) -> None:
    model = load(graphs.identity(tmp_path), ModelOptions(), 1, RowProof(True))
    rows = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
    for given in (rows, rows + 1):
        assert model.run_rows(given.tobytes(), count)[0].tolist() == given.tolist()


def test_memory_that_does_not_fit_is_used_no_more(tmp_path: Path) -> None:
    model = load(graphs.identity(tmp_path), ModelOptions(), 1)
    calls: list[int] = []

    def run(_binding: Any, _options: Any) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("the output has another shape")

    row = np.zeros((1, 3), np.float32)
    memory = row.data.cast("B")
    model.bind_rows(BoundRunner(run, None, memory, [row]), bytes(12))
    for _ in range(3):
        assert model.run_rows(np.ones(3, np.float32).tobytes())[0].tolist() == [[1.0, 1.0, 1.0]]
    assert len(calls) == 2


@pytest.mark.parametrize("found", [np.ones((1, 3), np.float32), np.zeros((1, 3)), np.zeros((1, 4), np.float32)])
def test_a_runner_that_differs_is_not_used(tmp_path: Path, found: Any) -> None:
    model = Model(
        lambda *_: [np.zeros((1, 3), np.float32)], load(graphs.identity(tmp_path), ModelOptions(), 1).signature
    )
    model.bind_rows(BoundRunner(lambda *_: None, None, memoryview(bytearray(12)), [found]), bytes(12))
    model.bind_rows(None, bytes(12))
    assert model.run_rows(bytes(12))[0].dtype == np.float32
    assert model.run_rows(bytes(12))[0].tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("options", "output"),
    [
        (SessionOptions(), TensorSpec("y", "FP32", (-1, -1))),
        (SessionOptions(), TensorSpec("y", "FP32", (-1, 0))),
        (SessionOptions(), TensorSpec("y", "FP32", (-1, 1 << 20))),
        (SessionOptions(), TensorSpec("y", "BYTES", (-1, 3))),
        (SessionOptions(), TensorSpec("y", "FP32", (-1, 3), graph_shape=(-1, 3, 1))),
        (SessionOptions(entries=(("session.set_denormal_as_zero", "1"),)), OUTPUT),
    ],
)
def test_what_needs_more_than_a_plain_run_is_not_bound(
    tmp_path: Path, options: SessionOptions, output: TensorSpec
) -> None:
    path = graphs.identity(tmp_path)
    assert bound_row(path, SessionOptions(), (OUTPUT,)) is not None
    assert bound_row(path, options, (output,)) is None
