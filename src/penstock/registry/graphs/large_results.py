"""Guards operators with which a request could make a tensor that is too large for any answer.

Some operators take the size of their result from the elements of a tensor. If these may come from a request, admission
inserts a check before the operator. The check is 1 if the number of elements is below a limit, else 0, and is divided
by itself: a result that is too large fails as a division by zero, and any other size is multiplied by 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from penstock.engine.faults import ELEMENTS, MOST_ELEMENTS
from penstock.registry.graphs.guards import GuardRule, NodeBuilder
from penstock.registry.graphs.value_facts import GraphScope

GUARDED = "guarded_sizes"
"""The name, among the facts of an admission report, of the operators whose size is tested: operator and node."""

_OPSET = 9
"""The operator set since which ``Less`` takes all numbers."""

_TYPES = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64)
"""Types of a size that ``Mul`` accepts."""

Nodes = list[onnx.NodeProto]
ElementCount = Callable[[onnx.NodeProto, NodeBuilder], Nodes]
"""Returns nodes whose last one gives the number of elements of a node's result, or a bound of it, as FP32."""


@dataclass(frozen=True, slots=True)
class _Sized:
    """An operator whose result's size depends on the inputs ``sizes``; the first existing one is multiplied."""

    sizes: tuple[int, ...]
    count: ElementCount


def _make_decimals(name: str, build: NodeBuilder) -> onnx.NodeProto:
    return build.node("Cast", name, to=TensorProto.FLOAT)


def _count_product(index: int, of_input: bool = False) -> ElementCount:
    """Return a count by the product of a size's elements, with ``of_input`` times the elements of the first input."""

    def count(node: onnx.NodeProto, build: NodeBuilder) -> Nodes:
        size = _make_decimals(node.input[index], build)
        nodes = [size, build.node("ReduceProd", size.name, keepdims=0)]
        if of_input:
            number = build.node("Size", node.input[0])
            there = _make_decimals(number.name, build)
            nodes += [number, there, build.node("Mul", nodes[-1].name, there.name)]
        return nodes

    return count


def _count_steps(node: onnx.NodeProto, build: NodeBuilder) -> Nodes:
    """Count for Range: the distance divided by the step."""
    start, limit, step = (_make_decimals(name, build) for name in node.input)
    way = build.node("Sub", limit.name, start.name)
    steps = build.node("Div", way.name, step.name)
    return [start, limit, step, way, steps, build.node("ReduceProd", steps.name, keepdims=0)]


def _count_resize(node: onnx.NodeProto, build: NodeBuilder) -> Nodes:
    """Count for Resize: by the sizes, else by the scales of all dimensions."""
    if len(node.input) > 3 and node.input[3]:
        return _count_product(3)(node, build)
    return _count_product(2, of_input=True)(node, build)


_SIZED = {
    "BlackmanWindow": _Sized((0,), _count_product(0)),
    "ConstantOfShape": _Sized((0,), _count_product(0)),
    "Expand": _Sized((1,), _count_product(1)),
    "HammingWindow": _Sized((0,), _count_product(0)),
    "HannWindow": _Sized((0,), _count_product(0)),
    "OneHot": _Sized((1,), _count_product(1, of_input=True)),
    "Range": _Sized((1, 0, 2), _count_steps),
    "Resize": _Sized((3, 2), _count_resize),
    "Tile": _Sized((1,), _count_product(1, of_input=True)),
}


def _guard_node(node: onnx.NodeProto, scope: GraphScope, build: NodeBuilder) -> Nodes | None:
    """Return an operator with a test of its result's size before it; None if a request does not affect the size, or the
    operator set has no test."""
    sized = _SIZED[node.op_type]
    there = [index for index in sized.sizes if index < len(node.input) and node.input[index]]
    if build.opset < _OPSET or not any(scope.find(node.input[index]).may_be_of_a_request() for index in there):
        return None
    kind = scope.find(node.input[there[0]]).type
    if kind not in _TYPES:
        return None
    nodes = sized.count(node, build)
    limit = build.constant(np.float32(MOST_ELEMENTS))
    is_less = build.node("Less", nodes[-1].name, limit.name)
    number = build.node("Cast", is_less.name, to=TensorProto.INT64)
    name = build.name(ELEMENTS)
    test = helper.make_node("Div", [number.name, number.name], [name], name=name)
    factor = build.node("Cast", test.name, to=kind)
    size = build.node("Mul", node.input[there[0]], factor.name)
    result = onnx.NodeProto()
    result.CopyFrom(node)
    result.input[there[0]] = size.name
    return [*nodes, limit, is_less, number, test, factor, size, result]


RULE = GuardRule(frozenset(("", name) for name in _SIZED), _guard_node, vital=False)
