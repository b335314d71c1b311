"""Counts the denormal numbers that a graph meets on its way: some processors take a hundred times as long for them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Feeds = Mapping[str, NDArray[Any]]
SMALLEST: dict[int, float] = {
    TensorProto.FLOAT: float(np.finfo(np.float32).tiny),
    TensorProto.DOUBLE: float(np.finfo(np.float64).tiny),
}
"""The smallest normal number by element type."""


def denormals(model: onnx.ModelProto, feeds: Feeds) -> dict[str, int]:
    """How many there are among the inputs, weights and results of every node, by tensor; loop bodies included."""
    counting = onnx.shape_inference.infer_shapes(model)
    names = _count(counting.graph)
    if not names:
        return {}
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 3
    session = ort.InferenceSession(counting.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    counts = dict(zip(names, session.run([*names.values()], dict(feeds)), strict=True))
    return {name: int(np.sum(count)) for name, count in counts.items() if np.any(count)}


def _count(graph: onnx.GraphProto) -> dict[str, str]:
    """Adds outputs that count; their names by the name of what is counted."""
    types = {
        tensor.name: tensor.type.tensor_type.elem_type for tensor in (*graph.value_info, *graph.input, *graph.output)
    }
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    counters: dict[str, str] = {}
    for node in list(graph.node):
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                assert node.op_type == "Loop", "only the bodies of loops can be looked into"
                for inner in _count(attribute.g).values():  # an output more of the body is one more of the loop
                    node.output.append(f"{node.output[0]}/{inner}")
                    counters[node.output[-1]] = node.output[-1]
    for name, kind in types.items():
        if kind in SMALLEST:
            counters[name] = _counter(graph, name, kind)
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in counters.values())
    return counters


def _counter(graph: onnx.GraphProto, name: str, kind: int) -> str:
    prefix = f"{name}/denormals"
    for constant, number in (("smallest", SMALLEST[kind]), ("zero", 0.0)):
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        graph.initializer.append(numpy_helper.from_array(np.array(number, dtype), f"{prefix}/{constant}"))
    graph.node.extend(
        [
            helper.make_node("Abs", [name], [f"{prefix}/size"]),
            helper.make_node("Less", [f"{prefix}/size", f"{prefix}/smallest"], [f"{prefix}/small"]),
            helper.make_node("Greater", [f"{prefix}/size", f"{prefix}/zero"], [f"{prefix}/some"]),
            helper.make_node("And", [f"{prefix}/small", f"{prefix}/some"], [f"{prefix}/both"]),
            helper.make_node("Cast", [f"{prefix}/both"], [f"{prefix}/each"], to=TensorProto.INT64),
            helper.make_node("ReduceSum", [f"{prefix}/each"], [prefix], keepdims=0),
        ]
    )
    return prefix
