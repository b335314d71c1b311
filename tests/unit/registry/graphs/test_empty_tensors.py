"""Operators that end the process for tensors without elements are guarded at admission, and answer others as before."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from penstock.core.errors import InvalidInput, Refused
from penstock.engine.faults import run_fault
from penstock.engine.row_independence.proof import prove
from penstock.registry.admission.plain_graph import read_plain
from tests.unit.registry import guarding

OPSETS = [("", 23), ("ai.onnx.ml", 3), ("com.microsoft", 1)]


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


@dataclass
class Case:
    """An operator, a request that ends the process, and one that it takes; ``fixed`` inputs are constants."""

    operator: str
    deadly: list[Any]
    sound: list[Any]
    domain: str = ""
    fixed: list[int] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    results: int = 1

    @property
    def model(self) -> onnx.ModelProto:
        names = [f"i{place}" if given is not None else "" for place, given in enumerate(self.sound)]
        given = [(name, array) for name, array in zip(names, self.sound, strict=True) if name]
        kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in given}
        free = [(name, array) for name, array in given if int(name[1:]) not in self.fixed]
        inputs = [helper.make_tensor_value_info(name, kinds[name], [None] * array.ndim) for name, array in free]
        constants = [numpy_helper.from_array(array, name) for name, array in given if int(name[1:]) in self.fixed]
        outputs = [f"o{place}" for place in range(self.results)]
        node = helper.make_node(self.operator, names, outputs, domain=self.domain, **self.more)
        values = [onnx.ValueInfoProto(name=name) for name in outputs[:1]]
        if self.operator != "Unique":
            values = [helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, None)]
        graph = helper.make_graph([node], "g", inputs, values, constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid(*opset) for opset in OPSETS], ir_version=10)

    def feeds(self, arrays: list[Any]) -> dict[str, Any]:
        return {f"i{n}": array for n, array in enumerate(arrays) if array is not None and n not in self.fixed}


def recurrent(operator: str, gates: int, deadly: tuple[int, ...]) -> Case:
    weights = [ones(1, gates * 2, 3), ones(1, gates * 2, 2)]
    return Case(operator, [ones(*deadly), *weights], [ones(4, 2, 3), *weights], fixed=[1, 2], more={"hidden_size": 2})


STEP = np.array(1, np.int64)
ZERO = np.array(1, np.uint8)
BYTES = [np.ones((4, 12), np.uint8), ones(12), np.array(0.5, np.float32), np.array(0.5, np.float32)]
EXPERTS = [ones(2, 16, 8), None, ones(2, 8, 16)]
HEADS: dict[str, Any] = {"domain": "com.microsoft", "more": {"num_heads": 2}}
CASES = {
    "no rows of two feature tensors": Case(
        "FeatureVectorizer",
        [ones(0, 4), ones(0, 2)],
        [ones(3, 4), ones(3, 2)],
        "ai.onnx.ml",
        more={"inputdimensions": [4, 2]},
    ),
    "no steps for a GRU": recurrent("GRU", 3, (0, 2, 3)),
    "no rows for a GRU": recurrent("GRU", 3, (4, 0, 3)),
    "no rows for an LSTM": recurrent("LSTM", 4, (4, 0, 3)),
    "distinct rows of nothing": Case("Unique", [ones(3, 0)], [ones(3, 2)], more={"axis": 0}),
    "a kernel of nothing": Case("Conv", [ones(1, 2, 1), ones(3, 2, 0)], [ones(1, 2, 5), ones(3, 2, 2)]),
    "no heads": Case(
        "Attention",
        [ones(1, 2, 3, 4), ones(1, 0, 3, 4), ones(1, 0, 3, 4)],
        [ones(1, 2, 3, 4)] * 3,
    ),
    "no width of queries": Case("MultiHeadAttention", [ones(1, 3, 0)] * 3, [ones(1, 3, 4)] * 3, **HEADS),
    "no width of values": Case(
        "MultiHeadAttention", [ones(1, 3, 4), ones(1, 3, 4), ones(1, 3, 0)], [ones(1, 3, 4)] * 3, **HEADS
    ),
    "no rows of bytes": Case(
        "QAttention",
        [np.ones((0, 3, 4), np.uint8), *BYTES, np.ones(2, np.int32), ZERO, ZERO],
        [np.ones((2, 3, 4), np.uint8), *BYTES, np.full(2, 3, np.int32), ZERO, ZERO],
        fixed=[1, 2, 3, 4, 6, 7],
        **HEADS,
    ),
    "no width for experts": Case(
        "MoE",
        [ones(1, 0), ones(1, 2), *EXPERTS],
        [ones(3, 8), ones(3, 2), *EXPERTS],
        "com.microsoft",
        fixed=[2, 4],
        more={"k": 1},
    ),
    "no window": Case("STFT", [ones(1, 16, 1), STEP, ones(0)], [ones(1, 16, 1), STEP, ones(4)]),
}


def served(folder: Path, model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The model as it would be served, and the operators that were guarded."""
    return guarding.served(folder, model, "guarded_dimensions")


def session(model: onnx.ModelProto) -> Any:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", CASES)
def test_the_request_is_refused_and_others_are_answered_as_before(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    model, guarded = served(tmp_path, case.model)
    assert guarded == [f"{case.operator} o0"]
    guarded_run: Callable[..., Any] = session(model).run
    with pytest.raises(Exception, match="division by zero") as caught:
        guarded_run(None, case.feeds(case.deadly))
    fault = run_fault(caught.value)
    assert isinstance(fault, InvalidInput) and "an operator of its graph got a dimension of size 0" in str(fault)
    before = session(case.model).run(None, case.feeds(case.sound))
    np.testing.assert_array_equal(guarded_run(None, case.feeds(case.sound))[0], before[0])


def test_an_lstm_still_takes_sequences_of_no_steps(tmp_path: Path) -> None:
    case = recurrent("LSTM", 4, (4, 0, 3))
    model, _ = served(tmp_path, case.model)
    assert session(model).run(None, {"i0": ones(0, 2, 3)})[0].shape == (0, 1, 2, 2)


def test_rows_of_recurrent_models_stay_proven_independent(tmp_path: Path) -> None:
    case = recurrent("LSTM", 4, (4, 0, 3))
    model = case.model
    model.graph.node[0].output[0] = "sequence"
    model.graph.node[0].input[0] = "x"
    model.graph.node.insert(0, helper.make_node("Transpose", ["i0"], ["x"], perm=[1, 0, 2]))
    model.graph.node.append(helper.make_node("Transpose", ["sequence"], ["o0"], perm=[2, 0, 1, 3]))
    sizes: list[str | int] = ["N", "T", 3]
    for place, dim in enumerate(sizes):
        one = model.graph.input[0].type.tensor_type.shape.dim[place]
        one.ClearField("dim_value")
        if isinstance(dim, str):
            one.dim_param = dim
        else:
            one.dim_value = dim
    assert prove(read_plain(model)).independent
    changed, guarded = served(tmp_path, model)
    assert guarded and prove(read_plain(changed)).independent


def test_known_dimensions_need_no_test(tmp_path: Path) -> None:
    model = recurrent("GRU", 3, (0, 2, 3)).model
    for tensor, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (4, 2, 3), strict=True):
        tensor.dim_value = size
    assert served(tmp_path, model)[1] == []


def test_attributes_that_rule_it_out(tmp_path: Path) -> None:
    model = Case("Conv", [], [ones(1, 2, 5), ones(3, 2, 2)], more={"kernel_shape": [2]}).model
    assert served(tmp_path, model)[1] == []
    assert served(tmp_path, Case("Conv", [], [ones(1, 2, 5), ones(3, 2, 2)], fixed=[1]).model)[1] == []
    assert served(tmp_path, Case("Unique", [], [ones(3, 2)]).model)[1] == []


def test_a_frame_length_from_the_request_is_refused(tmp_path: Path) -> None:
    frames = [ones(1, 16, 1), STEP, None, np.array(4, np.int64)]
    with pytest.raises(Refused, match="STFT o0 ends the process for frames of length 0; make frame_length a constant"):
        served(tmp_path, Case("STFT", frames, frames).model)
    assert served(tmp_path, Case("STFT", frames, frames, fixed=[3]).model)[1] == []
