"""Small real ONNX graphs for the engine's tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.zoo import ONNX_TYPES

Dims = Sequence[int | str | None] | None


def tensor(name: str, dims: Dims, datatype: str = "FP32") -> Any:
    return helper.make_tensor_value_info(name, ONNX_TYPES[datatype], dims)


def constant(name: str, value: Any) -> Any:
    return numpy_helper.from_array(np.asarray(value), name)


def save(
    folder: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], constants: Sequence[Any] = ()
) -> Path:
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(constants))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def identity(folder: Path, dims: Dims = ("N", 3), datatype: str = "FP32", out: Dims | str = "same") -> Path:
    result = dims if out == "same" or isinstance(out, str) else out
    return save(
        folder,
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", dims, datatype)],
        [tensor("y", result, datatype)],
    )


def gather(folder: Path) -> Path:
    """y = table[x], which fails for an index that is not in the table."""
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    return save(
        folder, [node], [tensor("x", ["N"], "INT64")], [tensor("y", ["N"])], [constant("table", np.ones(3, np.float32))]
    )


def reshape(folder: Path, target: list[int], dims: Dims, out: Dims) -> Path:
    node = helper.make_node("Reshape", ["x", "to"], ["y"])
    return save(folder, [node], [tensor("x", dims)], [tensor("y", out)], [constant("to", np.array(target, np.int64))])


def endless(folder: Path) -> Path:
    """y = v multiplied with itself n times: as long a run as one likes."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("MatMul", ["v_in", "v_in"], ["v_out"])],
        "body",
        [tensor("i", [], "INT64"), tensor("go", [], "BOOL"), tensor("v_in", [64, 64])],
        [tensor("still", [], "BOOL"), tensor("v_out", [64, 64])],
    )
    node = helper.make_node("Loop", ["n", "go", "v"], ["y"], body=body)
    return save(
        folder,
        [node],
        [tensor("n", [], "INT64"), tensor("v", [64, 64])],
        [tensor("y", [64, 64])],
        [constant("go", np.array(True))],
    )


def zipmap(folder: Path) -> Path:
    node = helper.make_node("ZipMap", ["x"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    mapping = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    result = helper.make_value_info("probabilities", helper.make_sequence_type_proto(mapping))
    return save(folder, [node], [tensor("x", ["N", 2])], [result])
