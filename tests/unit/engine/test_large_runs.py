"""Runs of large inputs on threads give what others give, and their memory is theirs for as long as it is used."""

import gc
from pathlib import Path

import numpy as np
import onnx
import pytest

from loadtests import echoes
from penstock.core.errors import Cancelled
from penstock.core.labels import Protocol, Route
from penstock.core.options import ModelOptions
from penstock.core.tensors import NUMPY_TYPES, Array
from penstock.engine import model as model_module
from penstock.engine.graph import GraphInterface, GraphTensor, is_sized_by_inputs
from penstock.engine.model import LARGE_BYTES, Model, RunInterrupt, load
from penstock.engine.session import RuntimeMemory
from penstock.monitor.counters.slot import Slot
from penstock.serving.infer_call import InferCall
from penstock.serving.inline_executor import InlineExecutor
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.version_info import VersionIdentity
from tests import zoo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("echoes")
    echoes.place(place)
    return place


def loaded(folder: Path, name: str) -> Model:
    return load(folder / name / "1" / "model.onnx", ModelOptions(), 1)


@pytest.mark.parametrize("datatype", [name for name in NUMPY_TYPES if name != "BYTES"])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_outputs_are_the_same_whatever_the_size(
    datatype: str, rows: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(folder, echoes.copy_name(datatype))
    kind = NUMPY_TYPES[datatype]
    x = np.random.default_rng(1).integers(0, 2, (rows, 5)).astype(kind)
    small = model.run({"x": x}, ["y"], RunInterrupt())[0]
    monkeypatch.setattr(model_module, "LARGE_BYTES", 0)
    large = model.run({"x": x}, ["y"], RunInterrupt())[0]
    assert (large.dtype, large.shape) == (small.dtype, small.shape) == (kind, (rows, 5))
    assert large.tobytes() == small.tobytes() == x.tobytes()


def test_outputs_outlive_the_run_the_inputs_and_the_model(folder: Path) -> None:
    model = loaded(folder, "copy_fp32")
    count = LARGE_BYTES // 4
    found = []
    for number in range(8):
        x = np.full((1, count), number, np.float32)
        found.append(model.run({"x": x}, ["y"], RunInterrupt())[0])
        assert not np.shares_memory(x, found[-1])
        x[:] = -1
    model.release_memory()
    model.close()
    del model
    gc.collect()
    assert [set(np.unique(y).tolist()) for y in found] == [{float(number)} for number in range(8)]


def is_view(array: Array) -> bool:
    """Whether an array is the runtime's own memory."""
    return isinstance(array.base, RuntimeMemory)


def test_outputs_of_any_size_are_not_copied(folder: Path) -> None:
    """A small request may ask for much: a copy of that would hold the GIL."""
    feeds: dict[str, Array] = {"value": np.array([1.5], np.float32), "count": np.array([1000], np.int64)}
    found = loaded(folder, "grow_numbers").run(feeds, ["y"], RunInterrupt())[0]
    assert found.tolist() == [1.5] * 1000
    assert is_view(found)
    small = loaded(folder, "copy_fp32").run({"x": np.ones((1, 9), np.float32)}, ["y"], RunInterrupt())[0]
    assert not is_view(small)


def test_outputs_that_are_larger_than_the_inputs_are_not_copied(tmp_path: Path) -> None:
    kind, helper = onnx.TensorProto.FLOAT, onnx.helper
    repeats = helper.make_tensor("repeats", onnx.TensorProto.INT64, [2], [1, 1000])
    x, y = (helper.make_tensor_value_info(name, kind, ["n", size]) for name, size in (("x", 3), ("y", 3000)))
    graph = helper.make_graph([helper.make_node("Tile", ["x", "repeats"], ["y"])], "tile", [x], [y], [repeats])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, tmp_path / "model.onnx")
    model = load(tmp_path / "model.onnx", ModelOptions(), 1)
    for rows in (1, LARGE_BYTES // 12_000 + 1):
        found = model.run({"x": np.ones((rows, 3), np.float32)}, ["y"], RunInterrupt())[0]
        assert found.shape == (rows, 3000)
        assert is_view(found) == (rows > 1)


def test_inputs_may_lie_in_any_order(folder: Path) -> None:
    model = loaded(folder, "copy_fp64")
    x = np.arange(LARGE_BYTES // 4, dtype=np.float64).reshape(2, -1).T
    assert np.array_equal(model.run({"x": x}, ["y"], RunInterrupt())[0], x)


def test_large_texts_run_as_small_ones_do(folder: Path) -> None:
    model = loaded(folder, "copy_bytes")
    x = np.array([["text"] * (LARGE_BYTES // 8)], object)
    assert np.array_equal(model.run({"x": x}, ["y"], RunInterrupt())[0], x)


def test_a_large_run_ends_when_it_is_reported_to(tmp_path: Path) -> None:
    place = tmp_path / "m" / "1" / "model.onnx"
    place.parent.mkdir(parents=True)
    onnx.save(zoo.affine(2.0, 1.0, ("n", "m")), place)
    model = load(place, ModelOptions(), 1)
    interrupt = RunInterrupt()
    interrupt.stop()
    with pytest.raises(Cancelled):
        model.run({"x": np.zeros((1, LARGE_BYTES // 4), np.float32)}, ["y"], interrupt)


@pytest.mark.parametrize(
    ("dims", "outputs", "batching", "expected"),
    [
        (("n", 3), ("n", 5), True, True),
        (("n", "m"), ("n", "m"), True, True),
        ((None, 3), (None, 3), True, True),
        ((3,), (7,), False, True),
        (("n", 3), ("n", "other"), True, False),
        (("n", 3), ("n", None), True, False),
        ((3,), (None,), False, False),
        ((1,), ("m",), False, False),
    ],
)
def test_free_dimensions_of_outputs_are_those_of_inputs_or_a_matter_of_the_data(
    dims: tuple[int | str | None, ...], outputs: tuple[int | str | None, ...], batching: bool, expected: bool
) -> None:
    x, y = GraphTensor("x", "tensor(float)", dims), GraphTensor("y", "tensor(float)", outputs)
    assert is_sized_by_inputs(GraphInterface((x,), (y,), ()), batching) is expected


@pytest.mark.parametrize(("name", "inline"), [("copy_fp32", True), ("grow_numbers", False)])
def test_only_runs_whose_size_is_known_are_made_on_the_event_loop(name: str, inline: bool, folder: Path) -> None:
    model = loaded(folder, name)
    assert model.run_ns is not None
    version = LoadedVersion(VersionIdentity(name, "1"), model, ModelOptions(), {}, Slot.in_process().block(1))
    executor = InlineExecutor(model, version, gathers=False)
    call = InferCall(version, Route.STABLE, Protocol.GRPC, "7", [], None, deadline_ns=0, began_ns=0)
    assert executor.allows(call, model.measured_elements, 0) is inline
