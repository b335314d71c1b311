"""Operators of ONNX Runtime's own that believe what callers send are refused at admission."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from penstock.core.errors import Refused
from penstock.registry.admission.inspection import read_model
from penstock.registry.admission.repairs import repair

Dims = list[int | str | None]
LAST: dict[str, list[Any]] = {
    "Attention": [np.ones((4, 12), np.float32), np.ones(12, np.float32)],
    "DynamicQuantizeMatMul": [np.ones((4, 3), np.uint8), np.ones(3, np.float32)],
}


def value(name: str, kind: int, dims: Dims | None) -> Any:
    return helper.make_tensor_value_info(name, kind, dims)


def fused(operator: str, x: Dims, others: list[Any], brought: int = -1) -> onnx.ModelProto:
    """The operator over an input and constants, one of which may be an input too."""
    tensors = [numpy_helper.from_array(array, f"c{place}") for place, array in enumerate(others)]
    inputs = [value("x", TensorProto.FLOAT, x)]
    if brought >= 0:
        chosen = tensors.pop(brought)
        inputs.append(value(chosen.name, chosen.data_type, [None] * len(chosen.dims)))
    heads: dict[str, Any] = {"num_heads": 2} if operator == "Attention" else {}
    names = ["x", *(f"c{place}" for place in range(len(others)))]
    node = helper.make_node(operator, names, ["y"], domain="com.microsoft", **heads)
    graph = helper.make_graph([node], "g", inputs, [value("y", TensorProto.FLOAT, None)], tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def admit(folder: Path, model: onnx.ModelProto) -> Any:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return repair(path, read_model(path))


@pytest.mark.parametrize("dims", [["N", "M"], ["N", "N"], ["B", 3, 4], [3]])
def test_an_inverse_of_what_need_not_be_square_is_refused(tmp_path: Path, dims: Dims) -> None:
    with pytest.raises(Refused, match="Inverse y ends the process for matrices that are not square"):
        admit(tmp_path, fused("Inverse", dims, []))


def test_an_inverse_of_squares_is_served(tmp_path: Path) -> None:
    assert admit(tmp_path, fused("Inverse", ["B", 3, 3], [])) == {}


@pytest.mark.parametrize("operator", LAST)
def test_weights_of_a_request_are_refused(tmp_path: Path, operator: str) -> None:
    x: Dims = ["B", "S", 4] if operator == "Attention" else ["N", 4]
    assert admit(tmp_path, fused(operator, x, LAST[operator])) == {}
    for brought in (0, 1):
        with pytest.raises(Refused, match=f"{operator} y does not check the shape of its input {brought + 1}"):
            admit(tmp_path, fused(operator, x, LAST[operator], brought))
