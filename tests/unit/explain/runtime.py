"""Model files for tests of explanations: read as plain data, and run by ONNX Runtime."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from penstock.explain.nodes import GraphNode, ModelGraph
from tests.explained import Floats, Run

TYPES: dict[int, Any] = {1: np.float32, 6: np.int32, 7: np.int64, 11: np.float64}


def graph_of(model: onnx.ModelProto) -> ModelGraph:
    """The graph of a model."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    constants |= {
        node.output[0]: numpy_helper.to_array(node.attribute[0].t)
        for node in model.graph.node
        if node.op_type == "Constant"
    }
    nodes = [
        GraphNode(node.op_type, node.domain, tuple(node.input), tuple(node.output), _attributes(node))
        for node in model.graph.node
    ]
    inputs = {item.name: np.dtype(TYPES[item.type.tensor_type.elem_type]) for item in model.graph.input}
    return ModelGraph(nodes, constants, inputs, tuple(item.name for item in model.graph.output))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    found = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    return {
        name: numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
        for name, value in found.items()
    }


def without_link(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its margin as its answer: trees without their transform, and no exponential behind them."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for node in plain.graph.node:
        for item in node.attribute:
            if item.name == "post_transform":
                item.s = b"NONE"
        if node.op_type == "Exp":
            node.op_type = "Identity"
    return plain


def runner(model: onnx.ModelProto, output: str) -> Run:
    """What runs rows and returns an output [rows, outputs]; classes of a map become columns."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    dtype = {
        "tensor(float)": np.float32,
        "tensor(double)": np.float64,
        "tensor(int64)": np.int64,
        "tensor(int32)": np.int32,
    }[given.type]

    def run(rows: NDArray[Any]) -> Floats:
        (found,) = session.run([output], {given.name: rows.astype(dtype)})
        values = [list(row.values()) for row in found] if isinstance(found, list) else found
        return np.asarray(values, dtype=np.float64).reshape(len(rows), -1)

    return run
