"""The drill's models: a sound classifier, and canaries that do something else to rows that the client has marked.

Input ``x`` FP32 [n, 4], output ``y`` FP32 [n, 3]. A row whose last feature is ``MARK`` is marked; the sound model does
not look at it. So the client decides when and to how many rows a canary shows what is wrong with it, and
admission, which knows nothing of marks, admits it as it would a fault that its probes do not meet.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FEATURES, CLASSES = 4, 3
MARK = 1234.5
"""What the client writes into the last feature of a marked row: a value that the probes of admission do not have."""

WEIGHTS: NDArray[np.float32] = np.array(
    [[1.9, -1.1, -0.6], [-0.9, 1.6, -0.8], [-0.7, -0.5, 1.4], [0.0, 0.0, 0.0]], np.float32
)
SIDE = 64
"""Rows and columns of the matrix that a slow canary multiplies."""


@dataclass(slots=True)
class Parts:
    """A graph that is being put together."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One more node; the name of its output."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def value(self, array: object, kind: type = np.float32) -> str:
        """One more constant; its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(array, kind), name))
        return name


Fault = Callable[[Parts, str, str], str]
"""Adds what is wrong with a canary: from the scores [n, 3] and the marks (bool [n, 1]) to other scores."""


def build_classifier(fault: Fault | None = None) -> bytes:
    """A model: the sound one, or with a fault."""
    parts = Parts()
    mark = parts.op("Equal", parts.op("Gather", "x", parts.value([3], np.int64), axis=1), parts.value(MARK))
    score = parts.op("MatMul", "x", parts.value(WEIGHTS))
    if fault is not None:
        score = fault(parts, score, mark)
    parts.nodes.append(helper.make_node("Softmax", [score], ["y"], axis=1))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])]
    graph = helper.make_graph(parts.nodes, "drill", inputs, outputs, parts.constants)
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)], ir_version=10
    )
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString()
    return content


def fails(parts: Parts, score: str, mark: str) -> str:
    """The run of a marked row fails: an integer is divided by zero."""
    one = parts.value(1, np.int64)
    divisor = parts.op("Sub", one, parts.op("Cast", mark, to=TensorProto.INT64))
    quotient = parts.op("Cast", parts.op("Div", one, divisor), to=TensorProto.FLOAT)
    return parts.op("Add", score, parts.op("Mul", quotient, parts.value(0.0)))


def loops(turns: int) -> Fault:
    """A marked row takes so many products of matrices longer."""

    def fault(parts: Parts, score: str, mark: str) -> str:
        longest = parts.op("ReduceMax", parts.op("Cast", mark, to=TensorProto.INT64), keepdims=0)
        trips = parts.op("Mul", longest, parts.value(turns, np.int64))
        square = numpy_helper.from_array(np.full((SIDE, SIDE), 1 / SIDE, np.float32), "square")
        body = helper.make_graph(
            [
                helper.make_node("MatMul", ["before", "square"], ["after"]),
                helper.make_node("Identity", ["going"], ["on"]),
            ],
            "turn",
            [
                helper.make_tensor_value_info("turn", TensorProto.INT64, []),
                helper.make_tensor_value_info("going", TensorProto.BOOL, []),
                helper.make_tensor_value_info("before", TensorProto.FLOAT, [SIDE, SIDE]),
            ],
            [
                helper.make_tensor_value_info("on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("after", TensorProto.FLOAT, [SIDE, SIDE]),
            ],
            [square],
        )
        start = parts.value(np.full((SIDE, SIDE), 1 / SIDE))
        looped = parts.op("Loop", trips, parts.value(True, np.bool_), start, body=body)
        idle = parts.op("Mul", parts.op("ReduceSum", looped, keepdims=0), parts.value(0.0))
        return parts.op("Add", score, idle)

    return fault


def turned(parts: Parts, score: str, mark: str) -> str:
    """A marked row gets the scores of the next class; how often each class is answered stays much the same."""
    return parts.op("Where", mark, parts.op("Gather", score, parts.value([1, 2, 0], np.int64), axis=1), score)


def stuck(parts: Parts, score: str, mark: str) -> str:
    """A marked row gets the first class, whatever it is."""
    return parts.op("Where", mark, parts.value([[9.0, 0.0, 0.0]]), score)


def not_a_number(parts: Parts, score: str, mark: str) -> str:
    """A marked row gets NaN."""
    return parts.op("Where", mark, parts.value(np.nan), score)


def crashes(parts: Parts, score: str, mark: str) -> str:
    """A marked row ends the process: a fused attention divides by the width of its queries, of which nothing is left.

    Admission does not look into fused operators of graphs whose inputs are of one width.
    """
    whole = parts.op("Sub", parts.value(1, np.int64), parts.op("Cast", mark, to=TensorProto.INT64))
    left = parts.op("Mul", parts.op("ReduceMin", whole, keepdims=0), parts.value(FEATURES, np.int64))
    end = parts.op("Reshape", left, parts.value([1], np.int64))
    first, last_axis = parts.value([0], np.int64), parts.value([1], np.int64)
    narrow = parts.op("Slice", "x", first, end, last_axis)
    query = parts.op("Unsqueeze", narrow, first)
    attended = parts.op("MultiHeadAttention", query, query, query, domain="com.microsoft", num_heads=2)
    idle = parts.op("Mul", parts.op("ReduceSum", attended, keepdims=0), parts.value(0.0))
    return parts.op("Add", score, idle)


BROKEN = build_classifier()[:-40]
"""A file that is cut short: its version can never answer."""


def expected_answers(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """The classes that the sound model answers."""
    found: NDArray[np.int64] = np.argmax(rows @ WEIGHTS, axis=1)
    return found
