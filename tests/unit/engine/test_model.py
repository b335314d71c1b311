import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from penstock.core.errors import Cancelled, Internal, InvalidInput
from penstock.core.options import ModelOptions, SessionOptions, TensorOptions, WarmupInput, WarmupSample
from penstock.core.placement import MULTI_THREADED_FROM_NS
from penstock.core.signature import Feeds
from penstock.core.tensors import NUMPY_TYPES, Tensor
from penstock.engine import heap, session, warmup
from penstock.engine import model as engine
from penstock.engine.model import TWICE_BYTES, LoadFailed, RunInterrupt, load
from tests import zoo
from tests.boosted import lightgbm
from tests.harness import PATIENCE_S
from tests.unit.engine import graphs


@pytest.mark.parametrize("datatype", sorted(NUMPY_TYPES))
def test_every_datatype_comes_back_as_it_went_in(tmp_path: Path, datatype: str) -> None:
    model = load(graphs.identity(tmp_path, ("N", 2), datatype), ModelOptions(), 2)
    spec = model.signature.inputs[0]
    assert (spec.datatype, spec.shape, model.signature.batching) == (datatype, (-1, 2), True)
    if datatype == "BYTES":
        data = np.array([["a", "Ünï"], ["", "\0"]], object)
    else:
        data = np.array([[0, 1], [1, 0]]).astype(NUMPY_TYPES[datatype])
    for given in (data, data[::-1], data[:0]):
        (result,) = model.run(model.signature.bind([Tensor("x", datatype, given)]).feeds, ["y"])
        assert result.dtype == NUMPY_TYPES[datatype]
        assert result.shape == given.shape
        assert result.tolist() == given.tolist()


@pytest.mark.parametrize("datatype", ["FP32", "BF16", "BYTES", "BOOL"])
def test_scalars_run(tmp_path: Path, datatype: str) -> None:
    model = load(graphs.identity(tmp_path, (), datatype), ModelOptions(), 1)
    assert model.signature.outputs[0].shape == ()
    value = np.array("t" if datatype == "BYTES" else 1, NUMPY_TYPES[datatype])
    (result,) = model.run({"x": value}, ["y"])
    assert result.shape == ()
    assert result.item() == value.item()


def test_bf16_keeps_every_bit(tmp_path: Path) -> None:
    model = load(graphs.identity(tmp_path, ("N",), "BF16"), ModelOptions(), 1)
    every = np.arange(1 << 16, dtype=np.uint16)
    for given in (every, every[::3]):
        (result,) = model.run({"x": given}, ["y"])
        assert np.array_equal(result, given)


def test_bf16_beside_other_types(tmp_path: Path) -> None:
    path = graphs.save(
        tmp_path,
        [
            helper.make_node("Cast", ["a"], ["wide"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Cast", ["b"], ["narrow"], to=onnx.TensorProto.BFLOAT16),
        ],
        [graphs.tensor("a", ["N"], "BF16"), graphs.tensor("b", ["N"], "FP32")],
        [graphs.tensor("wide", ["N"], "FP32"), graphs.tensor("narrow", ["N"], "BF16")],
    )
    model = load(path, ModelOptions(), 1)
    feeds: Feeds = {"a": np.array([0x3F80, 0x4000], np.uint16), "b": np.array([1, 2], np.float32)}
    narrow, wide = model.run(feeds, ["narrow", "wide"])
    assert (narrow.tolist(), wide.tolist()) == ([0x3F80, 0x4000], [1.0, 2.0])
    assert model.run(feeds, ["wide"])[0].tolist() == [1.0, 2.0]


def test_text_in_and_bf16_out_is_refused(tmp_path: Path) -> None:
    path = graphs.save(
        tmp_path,
        [helper.make_node("Cast", ["x"], ["y"], to=onnx.TensorProto.BFLOAT16)],
        [graphs.tensor("x", ["N"], "BYTES")],
        [graphs.tensor("y", ["N"], "BF16")],
    )
    with pytest.raises(LoadFailed):
        load(path, ModelOptions(), 1)


def test_results_are_those_of_the_plain_session(tmp_path: Path) -> None:
    weights = np.random.default_rng(7).standard_normal((30, 5)).astype(np.float32)
    path = graphs.save(
        tmp_path,
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Softmax", ["h"], ["y"])],
        [graphs.tensor("x", ["N", 30])],
        [graphs.tensor("y", ["N", 5])],
        [graphs.constant("w", weights)],
    )
    plain = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    model = load(path, ModelOptions(), 1)
    for rows in (1, 2, 17):
        feeds = {"x": np.random.default_rng(rows).standard_normal((rows, 30)).astype(np.float32)}
        assert model.run(feeds, ["y"])[0].tobytes() == plain.run(["y"], feeds)[0].tobytes()


def test_data_at_an_odd_address_is_read_as_it_is(tmp_path: Path) -> None:
    model = load(graphs.identity(tmp_path, ("N",)), ModelOptions(), 1)
    buffer = b"\0" + np.arange(100, dtype=np.float32).tobytes()
    given = np.frombuffer(buffer, np.uint8)[1:].view(np.float32)
    assert model.run({"x": given}, ["y"])[0].tolist() == list(range(100))


def test_a_loaded_model_has_been_measured(tmp_path: Path) -> None:
    model = load(graphs.identity(tmp_path, ("N", 30)), ModelOptions(), 1)
    assert model.run_ns is not None
    assert model.run_ns > 0
    assert model.measured_elements == 30


def test_a_loop_is_not_measured_since_its_time_is_a_matter_of_its_data(tmp_path: Path) -> None:
    assert load(graphs.endless(tmp_path), ModelOptions(), 1).run_ns is None


def test_a_model_without_inputs(tmp_path: Path) -> None:
    node = helper.make_node("Constant", [], ["y"], value_float=1.5)
    model = load(graphs.save(tmp_path, [node], [], [graphs.tensor("y", [])]), ModelOptions(), 1)
    assert (model.signature.inputs, model.signature.batching, model.measured_elements) == ((), False, 1)
    assert model.run({}, ["y"])[0].item() == 1.5


def test_outputs_of_unknown_rank_are_seen_in_the_warm_up(tmp_path: Path) -> None:
    model = load(graphs.reshape(tmp_path, [-1, 9], ("N", 3, 3), None), ModelOptions(), 1)
    assert model.signature.outputs[0].shape == (-1, 9)
    assert model.signature.batching


def test_a_claim_of_batching_that_one_run_contradicts_is_not_believed(tmp_path: Path) -> None:
    assert load(graphs.reshape(tmp_path, [-1, 9], ("N", 9), ("M", 9)), ModelOptions(), 1).signature.batching
    held = graphs.reshape(tmp_path, [1, 9], ("N", 9), None)
    assert not load(held, ModelOptions(), 1).signature.batching
    flat = graphs.reshape(tmp_path, [-1, 3], ("N", 9), ("M", 3))
    assert not load(flat, ModelOptions(), 1).signature.batching


@pytest.mark.parametrize("bound", [None, 16])
def test_a_fixed_number_of_labels_that_two_rows_contradict_is_not_believed(tmp_path: Path, bound: int | None) -> None:
    """As onnxmltools writes it of LightGBM's classifiers; a bound that is stated holds too."""
    export = lightgbm(["no", "yes"], 1).model
    identity = helper.make_node("Identity", ["lgbmprobabilities"], ["probabilities"])  # admission has cut the map
    export.graph.node[-1].CopyFrom(identity)
    export.graph.output[1].CopyFrom(graphs.tensor("probabilities", [None, 2]))
    (tmp_path / "model.onnx").write_bytes(export.SerializeToString())
    model = load(tmp_path / "model.onnx", ModelOptions(max_batch_size=bound), 1)
    assert {output.name: output.shape[0] for output in model.signature.outputs}["label"] == -1
    assert model.signature.batching


def test_a_number_of_rows_that_is_fixed_indeed_stays_so(tmp_path: Path) -> None:
    held = graphs.reshape(tmp_path, [1, 9], ("N", 9), (1, 9))
    assert load(held, ModelOptions(), 1).signature.outputs[0].shape == (1, 9)
    with pytest.raises(LoadFailed, match="max_batch_size 4 needs a free first dimension"):
        load(held, ModelOptions(max_batch_size=4), 1)


def test_a_stated_bound_is_believed(tmp_path: Path) -> None:
    model = load(graphs.identity(tmp_path), ModelOptions(max_batch_size=4), 1)
    assert (model.signature.batching, model.signature.max_batch_size) == (True, 4)


def test_callers_see_the_stated_shapes(tmp_path: Path) -> None:
    options = ModelOptions(
        max_batch_size=4,
        inputs=(TensorOptions("x", "FP32", (2, 3), reshape=(6,)),),
        outputs=(TensorOptions("y", "FP32", (3, 2), reshape=(6,)),),
    )
    model = load(graphs.identity(tmp_path, ("N", 6)), options, 1)
    given = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    (result,) = model.run(model.signature.bind([Tensor("x", "FP32", given)]).feeds, ["y"])
    assert result.shape == (2, 3, 2)
    assert result.ravel().tolist() == given.ravel().tolist()


def test_a_default_warm_up_that_fails_does_not_fail_the_load(tmp_path: Path) -> None:
    node = helper.make_node("Div", ["one", "x"], ["y"])
    path = graphs.save(
        tmp_path,
        [node],
        [graphs.tensor("x", ["N"], "INT64")],
        [graphs.tensor("y", ["N"], "INT64")],
        [graphs.constant("one", np.array([1], np.int64))],
    )
    model = load(path, ModelOptions(), 1)
    assert model.run_ns is None
    assert model.run({"x": np.array([1])}, ["y"])[0].tolist() == [1]


def sample(value: int, count: int = 1) -> WarmupSample:
    return WarmupSample("probe", (WarmupInput("x", "INT64", (1,), data=np.int64(value).tobytes()),), 0, count)


def test_configured_warm_up_runs_and_decides(tmp_path: Path) -> None:
    path = graphs.gather(tmp_path)
    assert load(path, ModelOptions(warmup=(sample(2, 3), sample(1))), 1).run_ns is not None
    with pytest.raises(
        LoadFailed, match=r"warm-up 'probe' failed: the model cannot take these values: Gather: indices"
    ):
        load(path, ModelOptions(warmup=(sample(2), sample(9))), 1)
    wrong = WarmupSample("wrong", (WarmupInput("z", "FP32", (1,)),))
    with pytest.raises(LoadFailed, match=r"warm-up 'wrong' failed: unknown input 'z'"):
        load(path, ModelOptions(warmup=(wrong,)), 1)


def test_faults_of_a_run(tmp_path: Path) -> None:
    model = load(graphs.gather(tmp_path), ModelOptions(), 1)
    with pytest.raises(InvalidInput, match="indices element out of data bounds"):
        model.run({"x": np.array([9])}, ["y"])
    assert model.run({"x": np.array([0])}, ["y"])[0].tolist() == [1.0]


def test_a_run_that_fails_inside_is_internal(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["x", "to"], ["y"])
    path = graphs.save(
        tmp_path, [node], [graphs.tensor("x", [6]), graphs.tensor("to", ["R"], "INT64")], [graphs.tensor("y", None)]
    )
    model = load(path, ModelOptions(), 1)
    with pytest.raises(Internal, match="cannot be reshaped") as caught:
        model.run({"x": np.zeros(6, np.float32), "to": np.array([4])}, ["y"])
    assert "onnxruntime" not in str(caught.value)


def test_text_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    model = load(graphs.identity(tmp_path, ("N",), "BYTES"), ModelOptions(), 1)
    with pytest.raises(InvalidInput, match="lone surrogate"):
        model.run({"x": np.array(["\ud800"], object)}, ["y"])
    raw = helper.make_tensor("c", onnx.TensorProto.STRING, [1], [b"\xff"])  # type: ignore[list-item]
    path = graphs.save(
        tmp_path, [helper.make_node("Constant", [], ["y"], value=raw)], [], [graphs.tensor("y", [1], "BYTES")]
    )
    with pytest.raises(Internal, match="not UTF-8"):
        load(path, ModelOptions(), 1).run({}, ["y"])


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_files_that_are_not_a_graph_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "secret-name.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LoadFailed) as caught:
        load(path, ModelOptions(), 1)
    assert "secret" not in str(caught.value)
    assert "/" not in str(caught.value)


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (helper.make_node("Nonsense", ["x"], ["y"]), "No Op registered for Nonsense"),
        (helper.make_node("Add", ["x", "q"], ["y"]), "Node input 'q'"),
    ],
)
def test_graphs_this_runtime_cannot_load(tmp_path: Path, node: Any, text: str) -> None:
    path = graphs.save(tmp_path, [node], [graphs.tensor("x", ["N"])], [graphs.tensor("y", ["N"])])
    with pytest.raises(LoadFailed, match=f"the graph cannot be loaded: .*{text}"):
        load(path, ModelOptions(), 1)


def test_a_map_as_output_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"output 'probabilities' .*only tensors can be served"):
        load(graphs.zipmap(tmp_path), ModelOptions(), 1)


def test_an_interrupt_ends_a_run(tmp_path: Path) -> None:
    model = load(graphs.endless(tmp_path), ModelOptions(), 1)
    interrupt = RunInterrupt()
    begun, caught = threading.Event(), []
    feeds = {"n": np.array(10**12), "v": np.zeros((64, 64), np.float32)}

    def run() -> None:
        begun.set()
        try:
            model.run(feeds, ["y"], interrupt)
        except Cancelled as fault:
            caught.append(fault)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert begun.wait(PATIENCE_S)
    interrupt.stop()
    thread.join(PATIENCE_S)  # uninterrupted it would take weeks
    assert not thread.is_alive()
    assert len(caught) == 1
    with pytest.raises(Cancelled):
        model.run(feeds, ["y"], interrupt)
    assert model.run(feeds | {"n": np.array(1)}, ["y"], RunInterrupt())[0].shape == (64, 64)


def test_runs_from_many_threads(tmp_path: Path) -> None:
    model = load(graphs.identity(tmp_path, ("N",)), ModelOptions(), 2)
    wrong: list[int] = []

    def run(number: int) -> None:
        given = np.full(number + 1, number, np.float32)
        results = [model.run({"x": given}, ["y"])[0] for _ in range(200)]
        wrong.extend(number for result in results if not np.array_equal(result, given))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not wrong


def test_a_closed_model_says_so(tmp_path: Path) -> None:
    model = load(graphs.identity(tmp_path), ModelOptions(), 1)
    model.close()
    model.close()
    with pytest.raises(Internal, match="unloaded"):
        model.run({"x": np.zeros((1, 3), np.float32)}, ["y"])


@pytest.mark.parametrize(
    ("run_ns", "threads", "options", "opened"),
    [
        (MULTI_THREADED_FROM_NS, 4, ModelOptions(), [(1, 4), (4, 1)]),
        (MULTI_THREADED_FROM_NS, 4, ModelOptions(instances=2), [(1, 4), (2, 2)]),
        (MULTI_THREADED_FROM_NS, 4, ModelOptions(instances=4), [(1, 4)]),
        (MULTI_THREADED_FROM_NS - 1, 4, ModelOptions(), [(1, 4)]),
        (MULTI_THREADED_FROM_NS, 1, ModelOptions(), [(1, 1)]),
        (MULTI_THREADED_FROM_NS, 4, ModelOptions(session=SessionOptions(intra_op_threads=1)), [(1, 1)]),
        (MULTI_THREADED_FROM_NS, 4, ModelOptions(session=SessionOptions(intra_op_threads=3)), [(3, 1)]),
    ],
)
def test_long_runs_get_their_share_of_the_threads(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_ns: int,
    threads: int,
    options: ModelOptions,
    opened: list[tuple[int, int]],
) -> None:
    seen: list[tuple[int, int]] = []

    def recorded(path: Path, settings: SessionOptions, intra_op_threads: int, runs: int) -> Any:
        seen.append((intra_op_threads, runs))
        return session.open_session(path, settings, intra_op_threads, runs)

    monkeypatch.setattr(engine, "open_session", recorded)
    monkeypatch.setattr(warmup, "median_run_ns", lambda _run, *_: run_ns)
    model = load(graphs.identity(tmp_path), options, threads)
    assert model.run_ns == run_ns
    assert seen == opened
    beside = opened == [(1, 4), (4, 1)]
    assert (model.single_threaded is not None, model.parallel_runs) == (beside, 4 if beside else 1)
    if model.single_threaded is not None:
        model.single_threaded.run({"x": np.zeros((1, 3), np.float32)}, ["y"])
        narrow = model.single_threaded
        model.close()
        with pytest.raises(Internal, match="unloaded"):
            narrow.run({"x": np.zeros((1, 3), np.float32)}, ["y"])


def test_a_large_model_is_held_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmup, "median_run_ns", lambda _run, *_: MULTI_THREADED_FROM_NS)
    path = graphs.identity(tmp_path)
    with (path.parent / "weights.bin").open("wb") as file:
        file.truncate(TWICE_BYTES)
    assert load(path, ModelOptions(), 4).single_threaded is None


def test_session_settings_are_explicit() -> None:
    settings = session.session_settings(SessionOptions(), 1)
    assert (settings.intra_op_num_threads, settings.inter_op_num_threads) == (1, 1)
    assert settings.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert settings.get_session_config_entry("session.inter_op.allow_spinning") == "0"
    stated = SessionOptions(
        inter_op_threads=3,
        parallel_execution=True,
        memory_arena=False,
        memory_pattern=False,
        graph_level=2,
        entries=(("session.set_denormal_as_zero", "1"),),
    )
    settings = session.session_settings(stated, 2)
    assert (settings.intra_op_num_threads, settings.inter_op_num_threads) == (2, 3)
    assert settings.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert not settings.enable_cpu_mem_arena
    assert not settings.enable_mem_pattern
    assert settings.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert settings.get_session_config_entry("session.set_denormal_as_zero") == "1"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_of_large_runs_is_given_back(tmp_path: Path) -> None:
    """A session's arena keeps what its largest runs took; nothing is computed to have it back."""
    zoo.save(zoo.affine(2.0, 1.0, ("n", "m")), tmp_path / "model.onnx")
    model = engine.load(tmp_path / "model.onnx", ModelOptions(), 1)
    large = {"x": np.ones((1, 1 << 24), np.float32)}
    heap.trim_heap()  # what earlier tests left is not this model's
    before = resident_bytes()
    model.run(large, ["y"])
    assert resident_bytes() > before + (1 << 25)  # the answer is gone, its memory is not
    model.release_memory()
    heap.trim_heap()  # a block that fitted into a hole of the heap goes back only then; a worker does both
    assert resident_bytes() < before + (1 << 24)
    assert model.run({"x": np.ones((1, 2), np.float32)}, ["y"])[0].tolist() == [[3.0, 3.0]]
    model.close()
    model.release_memory()  # as harmless as it is useless then
