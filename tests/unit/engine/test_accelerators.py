"""OpenVINO as an execution provider: the same answers, a bounded number of shapes, and memory that comes back."""

import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import NoReturn

import numpy as np
import onnx
import pytest
from onnx import helper

from penstock.core.batching import RowProof
from penstock.core.errors import Cancelled, Internal, InvalidInput
from penstock.core.options import ModelOptions, TensorOptions
from penstock.core.tensors import Tensor
from penstock.engine import accelerators
from penstock.engine.model import LARGE_BYTES, LoadFailed, Model, RunInterrupt, load
from penstock.engine.session import open_session
from penstock.registry.admission.sandbox import own_memory
from tests import zoo
from tests.boosted import lightgbm
from tests.openvino import HAS_ITS_PROCESSOR, IS_INSTALLED, NEEDS_OPENVINO, accelerated

PROVEN = RowProof(True)


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    zoo.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def rows(number: int, width: int = 64, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((number, width)).astype(np.float32)


def answer(model: Model, data: np.ndarray) -> np.ndarray:
    (result,) = model.run(model.signature.bind([Tensor("x", "FP32", data)]).feeds, ["y"])
    return result


def test_without_the_package_it_is_reported_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> NoReturn:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    monkeypatch.setattr(accelerators, "_devices", [])
    monkeypatch.setattr(accelerators, "_libraries", [])
    with pytest.raises(LoadFailed, match=r"openvino, which is not installed; pip install 'penstock\[openvino\]'"):
        load(saved(tmp_path, zoo.mlp()), accelerated(), 1)


@pytest.mark.skipif(HAS_ITS_PROCESSOR or not IS_INSTALLED, reason="the processor is one that OpenVINO offers")
def test_the_processor_of_another_maker_is_refused_each_time_with_the_reason(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(LoadFailed, match="knows no processor of this machine"):
            load(saved(tmp_path, zoo.mlp()), accelerated(), 1)


@NEEDS_OPENVINO
def test_the_whole_graph_runs_with_it_and_answers_as_without(tmp_path: Path) -> None:
    path = saved(tmp_path, zoo.mlp())
    assert open_session(path, accelerated().session, 1).get_providers()[0] == "OpenVINOExecutionProvider"
    model, usual = load(path, accelerated(), 1, PROVEN), load(path, ModelOptions(), 1, PROVEN)
    for number in (1, 3, 8):
        assert answer(model, rows(number)) == pytest.approx(answer(usual, rows(number)), rel=1e-4, abs=1e-5)
    assert model.sharing.shared, model.sharing.reason
    assert model.batch_cost is not None
    assert usual.inline_ns is not None


@NEEDS_OPENVINO
def test_its_runs_never_take_place_on_the_event_loop(tmp_path: Path) -> None:
    model = load(saved(tmp_path, zoo.mlp()), accelerated(), 1, PROVEN)
    assert model.run_ns is not None
    assert model.inline_ns is None


@NEEDS_OPENVINO
def test_rows_from_several_threads_get_their_own_answers(tmp_path: Path) -> None:
    path = saved(tmp_path, zoo.mlp())
    model, usual = load(path, replace(accelerated(), instances=2), 2, PROVEN), load(path, ModelOptions(), 1)
    data = [rows(1 + seed % 8, seed=seed) for seed in range(60)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda item: answer(model, item), data))
    for given, result in zip(data, results, strict=True):
        assert result == pytest.approx(answer(usual, given), rel=1e-4, abs=1e-5)


@NEEDS_OPENVINO
def test_tensors_without_elements_never_reach_it(tmp_path: Path) -> None:
    model = load(saved(tmp_path, zoo.widening(LARGE_BYTES)), accelerated(), 1)
    for interrupt in (None, RunInterrupt()):
        with pytest.raises(InvalidInput, match="input 'x' is empty; a model with an execution accelerator needs"):
            model.run({"x": np.empty((0, 1), np.float32)}, ["y"], interrupt)
    assert model.run({"x": np.ones((1, 1), np.float32)}, ["y"], RunInterrupt())[0].shape == (1, LARGE_BYTES)


@NEEDS_OPENVINO
@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (zoo.mlp(), accelerated(None), "state a max_batch_size from 1 to 64"),
        (zoo.mlp(), accelerated(65), "state a max_batch_size from 1 to 64"),
        (zoo.mlp(), accelerated(0), "needs fixed dimensions beside the rows; those of 'x' are not"),
        (zoo.unary("Relu", ("n", "m"), ("n", "m")), accelerated(), "fixed dimensions beside the rows; those of 'x'"),
        (lightgbm([0, 1], 1).model, accelerated(), "does not know all of its operators"),
    ],
)
def test_requests_decide_nothing_but_a_small_number_of_rows(
    tmp_path: Path, model: onnx.ModelProto, options: ModelOptions, said: str
) -> None:
    with pytest.raises(LoadFailed, match=said) as caught:
        load(saved(tmp_path, model), options, 1)
    assert "\n" not in str(caught.value)


@NEEDS_OPENVINO
def test_free_dimensions_may_be_fixed_by_the_configuration(tmp_path: Path) -> None:
    stated = replace(
        accelerated(),
        inputs=(TensorOptions("x", "FP32", (4,)),),
        outputs=(TensorOptions("y", "FP32", (4,)),),
    )
    model = load(saved(tmp_path, zoo.unary("Relu", ("n", "m"), ("n", "m"))), stated, 1)
    assert answer(model, rows(2, 4)) == pytest.approx(np.maximum(rows(2, 4), 0))


@NEEDS_OPENVINO
def test_inputs_in_place_of_constants_are_refused(tmp_path: Path) -> None:
    model = zoo.affine(2, 1, ("n", 3))
    model.graph.input.append(helper.make_tensor_value_info("shift", 1, []))
    with pytest.raises(LoadFailed, match=r"the graph cannot be loaded: .* Input names mismatch"):
        load(saved(tmp_path, model), accelerated(), 1)


@NEEDS_OPENVINO
def test_runs_are_stopped_before_they_begin_and_fail_after_the_end(tmp_path: Path) -> None:
    model = load(saved(tmp_path, zoo.mlp()), accelerated(), 1)
    feeds = {"x": rows(1)}
    interrupt = RunInterrupt()
    interrupt.stop()
    with pytest.raises(Cancelled):
        model.run(feeds, ["y"], interrupt)
    model.release_memory()
    assert model.run(feeds, ["y"])[0].shape == (1, 10)
    model.close()
    with pytest.raises(Internal, match="unloaded"):
        model.run(feeds, ["y"])


@NEEDS_OPENVINO
def test_an_unloaded_model_leaves_no_memory_behind(tmp_path: Path) -> None:
    megabytes = 16
    path = saved(tmp_path, zoo.mlp((1024, 4096)))
    path_bytes = path.stat().st_size
    assert path_bytes > megabytes << 20
    memory = own_memory()

    def use() -> int:
        model = load(path, accelerated(4), 1)
        for number in (1, 2, 3, 4):
            answer(model, rows(number, 1024))
        model.close()
        del model
        gc.collect()
        return memory()

    before = use()  # what the library itself keeps
    assert max(use() for _ in range(4)) - before < path_bytes
