"""Refuses ONNX Runtime's own operators that do not check the shapes in requests, and crash for some of them."""

import onnx

from penstock.core.errors import Refused
from penstock.registry.graphs.guards import GuardRule, NodeBuilder, label_of
from penstock.registry.graphs.value_facts import GraphScope

NAME = "unchecked_shapes"
"""The name of the rule. It guards nothing, so no fact of an admission report has this name."""

_DOMAIN = "com.microsoft"

_OF_THE_MODEL = {
    "Attention": (1, 2),
    "AttnLSTM": range(1, 14),
    "DynamicQuantizeMatMul": (1, 2, 3, 4),
    "MatMulIntegerToFloat": (1, 2, 3, 4, 5, 6),
}
"""Operators that do not check the shapes of these inputs: weights, scales, zero points and biases."""


def _reject(node: onnx.NodeProto, scope: GraphScope, _: NodeBuilder) -> None:
    """
    Raises:
        Refused: a request may bring shapes that end the process, with what to do about it.
    """
    if node.op_type == "Inverse":
        _refuse_other_than_squares(node, scope)
        return
    for index in _OF_THE_MODEL[node.op_type]:
        if index < len(node.input) and node.input[index] and scope.find(node.input[index]).is_brought():
            raise Refused(
                f"{label_of(node)} does not check the shape of its input {index}, and ends the process for some; "
                "make that input a constant of the model"
            )


def _refuse_other_than_squares(node: onnx.NodeProto, scope: GraphScope) -> None:
    dims = scope.find(node.input[0]).dims
    if dims is None or len(dims) < 2 or not dims[-1] or dims[-1] != dims[-2]:
        raise Refused(
            f"{label_of(node)} ends the process for matrices that are not square; state two equal dimensions as numbers"
        )


RULE = GuardRule(frozenset((_DOMAIN, name) for name in ("Inverse", *_OF_THE_MODEL)), _reject)
