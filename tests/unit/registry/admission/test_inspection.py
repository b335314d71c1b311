"""What is looked at in a graph before anything runs it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from penstock.core.errors import Refused
from penstock.registry.admission.inspection import inspect

FLOAT = TensorProto.FLOAT


def graph_of(nodes: list[Any], dims: Any = ("N", 4), out: Any = ("N", 4), weights: Any = ()) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in (("x", dims), ("y", out))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def external(location: str) -> onnx.TensorProto:
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    return weight


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


RELU = helper.make_node("Relu", ["x"], ["y"])
PRODUCT = helper.make_node("MatMul", ["x", "w"], ["y"])


@pytest.mark.parametrize(("dims", "out"), [(None, ("N", 4)), (("N", 4), None), (None, None)])
def test_a_missing_shape_breaks_no_rule(tmp_path: Path, dims: Any, out: Any) -> None:
    assert inspect(saved(tmp_path, graph_of([RELU], dims, out)), None, {"x"})["ops"] == {"Relu": 1}


def test_an_input_without_a_shape_needs_one_in_the_configuration(tmp_path: Path) -> None:
    graph = saved(tmp_path, graph_of([RELU], None, None))
    with pytest.raises(Refused, match=r"no shape for input 'x'; state it in config.pbtxt, as in input"):
        inspect(graph, None, {"z"})
    weights = numpy_helper.from_array(np.ones(4, np.float32), "x")  # an input with a default
    assert inspect(saved(tmp_path, graph_of([RELU], None, None, [weights])), None)


def test_a_scalar_is_a_shape(tmp_path: Path) -> None:
    assert inspect(saved(tmp_path, graph_of([RELU], (), ())), None)


def test_a_missing_shape_hides_no_other_mistake(tmp_path: Path) -> None:
    model = graph_of([helper.make_node("NoSuchOp", ["x"], ["y"])], None, None)
    with pytest.raises(Refused, match=r"breaks a rule of ONNX: No Op registered for NoSuchOp") as caught:
        inspect(saved(tmp_path, model), None)
    assert "Context" in caught.value.full_text


def test_rules_are_checked_where_weights_lie_in_other_files(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(64))
    good = graph_of([PRODUCT], None, None, [external("w.bin")])
    assert inspect(saved(tmp_path, good), tmp_path, {"x"})["ops"] == {"MatMul": 1}
    bad = graph_of([PRODUCT, helper.make_node("NoSuchOp", ["y"], ["z"])], None, None, [external("w.bin")])
    with pytest.raises(Refused, match="NoSuchOp"):
        inspect(saved(tmp_path, bad), tmp_path)


def test_the_message_of_missing_weights_has_no_folder(tmp_path: Path) -> None:
    graph = saved(tmp_path, graph_of([PRODUCT], weights=[external("deep/model.onnx_data")]))
    with pytest.raises(Refused, match=r"weights that are not there: 'model.onnx_data'$") as caught:
        inspect(graph, tmp_path)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("name", ["\x1b[31m", "w\u202e.bin\x00", "e" * 4000])
def test_a_name_of_weights_cannot_steer_a_terminal(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused) as caught:
        inspect(saved(tmp_path, graph_of([PRODUCT], weights=[external(name)])), tmp_path)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()
