"""Guards operators that crash the process for tensors without elements.

Some kernels of ONNX Runtime do not expect a dimension of size 0, which a request may have. Admission inserts a test
before them that fails like any other calculation: it divides the dimensions by themselves, so that a 0 among them is a
division by zero, which the runtime reports. Otherwise the result becomes zeros, with which Reshape keeps all
dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from penstock.core.errors import Refused
from penstock.registry.graphs.guards import GuardRule, NodeBuilder, label_of
from penstock.registry.graphs.value_facts import GraphScope, domain_of

GUARDED = "guarded_dimensions"
"""The name, among the facts of an admission report, of the operators whose inputs are tested: operator and node."""

_OPSET = 7
"""The operator set since which operators broadcast."""


_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def _is_always(_node: onnx.NodeProto, _scope: GraphScope) -> bool:
    return True


def _has_attribute(attribute: str) -> Callable[[onnx.NodeProto, GraphScope], bool]:
    return lambda node, _: any(item.name == attribute for item in node.attribute)


def _has_free_kernel(node: onnx.NodeProto, scope: GraphScope) -> bool:
    return not _has_attribute("kernel_shape")(node, scope)


def _has_free_width(node: onnx.NodeProto, scope: GraphScope) -> bool:
    """Return whether queries, keys and values are separate, and a request decides the width of a row of numbers."""
    return all([*node.input, "", "", ""][:3]) and any(
        kind in _FLOATS and dims[-1:] == [0] for kind, dims in scope.outermost.inputs
    )


@dataclass(frozen=True, slots=True)
class _Hazard:
    """Inputs of an operator whose dimensions must not be 0: all dimensions, or only those with the indexes ``places``,
    which are as many as the dimensions (an index may repeat)."""

    inputs: tuple[int, ...]
    places: tuple[int, ...] = ()
    applies: Callable[[onnx.NodeProto, GraphScope], bool] = _is_always


_HAZARDS = {
    ("", "Attention"): _Hazard((1,)),  # divides by the number of heads of the keys
    ("", "Conv"): _Hazard((1,), applies=_has_free_kernel),  # divides by the kernel's size
    ("", "GRU"): _Hazard((0,)),
    ("", "LSTM"): _Hazard((0,), (1, 1, 1)),  # the batch
    ("", "QuantizeLinear"): _Hazard((0,), applies=_has_attribute("block_size")),
    ("", "STFT"): _Hazard((2,)),  # divides by the length of the window
    ("", "Unique"): _Hazard((0,), applies=_has_attribute("axis")),
    ("ai.onnx.ml", "FeatureVectorizer"): _Hazard((0,)),
    ("com.microsoft", "MoE"): _Hazard((0,)),
    ("com.microsoft", "QAttention"): _Hazard((0,)),
    ("com.microsoft", "QMoE"): _Hazard((0,)),
    ("com.microsoft", "MultiHeadAttention"): _Hazard((0, 2), applies=_has_free_width),
}
"""Operators that crash the process for some dimensions of size 0, found by running every operator with such inputs."""


def _guard_node(node: onnx.NodeProto, scope: GraphScope, build: NodeBuilder) -> list[onnx.NodeProto] | None:
    """Return an operator with tests of its inputs before it; None if its inputs cannot be empty.

    Raises:
        Refused: it cannot be guarded; the message says what to do.
    """
    hazard = _HAZARDS[domain_of(node), node.op_type]
    if node.op_type == "STFT":
        _refuse_free_frames(node, scope)
        _refuse_other_windows(node, scope)
    if not hazard.applies(node, scope):
        return None
    places = [index for index in hazard.inputs if _may_be_empty(node, index, hazard, scope)]
    if not places:
        return None
    if build.opset < _OPSET:
        raise Refused(
            f"{label_of(node)} ends the process for tensors without elements, and operator set {build.opset} has no "
            f"test for them; export the model with operator set {_OPSET} or later"
        )
    result = onnx.NodeProto()
    result.CopyFrom(node)
    tests: list[onnx.NodeProto] = []
    for index in places:
        tests += _test_dimensions(node.input[index], hazard, build)
        result.input[index] = tests[-1].name
    return [*tests, result]


def _may_be_empty(node: onnx.NodeProto, index: int, hazard: _Hazard, scope: GraphScope) -> bool:
    if index >= len(node.input) or not node.input[index]:
        return False
    dims = scope.find(node.input[index]).dims
    if dims is None:
        return True
    return any(not dims[item] for item in (hazard.places or range(len(dims))) if item < len(dims))


def _test_dimensions(name: str, hazard: _Hazard, build: NodeBuilder) -> list[onnx.NodeProto]:
    """Return nodes that test the dimensions of a value; the last node gives the value itself."""
    nodes = [build.node("Shape", name)]
    if hazard.places:
        chosen = build.constant(np.array(hazard.places, np.int64))
        nodes += [chosen, build.node("Gather", nodes[0].name, chosen.name)]
    ones = build.node("Div", nodes[-1].name, nodes[-1].name)
    zeros = build.node("Sub", ones.name, ones.name)
    return [*nodes, ones, zeros, build.node("Reshape", name, zeros.name)]


def _refuse_free_frames(node: onnx.NodeProto, scope: GraphScope) -> None:
    """Check the frame length of an STFT, which crashes for 0 like an empty window, but is a value and not a shape.

    Raises:
        Refused: a request may decide it.
    """
    length = node.input[3] if len(node.input) > 3 else ""
    if length and not scope.find(length).holds(lambda array: array > 0):
        raise Refused(f"{label_of(node)} ends the process for frames of length 0; make frame_length a constant above 0")


def _refuse_other_windows(node: onnx.NodeProto, scope: GraphScope) -> None:
    """
    Raises:
        Refused: the window may be a scalar, which ends the process.
    """
    window = node.input[2] if len(node.input) > 2 else ""
    dims = scope.find(window).dims if window else [1]
    if dims is None or len(dims) != 1:
        raise Refused(f"{label_of(node)} ends the process for windows that have not one dimension; give the window one")


RULE = GuardRule(frozenset(_HAZARDS), _guard_node)
