"""Refuses graphs whose answers depend on earlier requests.

ONNX Runtime keeps the statistics of a BatchNormalization in training mode in the graph's constants, and the next run
begins with them. A random operator with a seed continues its sequence with each run. Without a seed it draws
unpredictable numbers, which depend on no request.
"""

from collections.abc import Iterable

import onnx
from onnx import inliner

from penstock.core.errors import Refused
from penstock.engine.row_independence.operators import RANDOM
from penstock.registry.graphs.guards import all_nodes, label_of
from penstock.registry.graphs.value_facts import GraphScope, domain_of, inner_graphs

_CONCERNED = RANDOM | {"BatchNormalization", "Dropout"}
_TRAINING_MODE = 2
"""The index of Dropout's input that enables it."""


def refuse_carried_state(model: onnx.ModelProto) -> None:
    """
    Raises:
        Refused: an operator carries something from one request to the next, with what to do about it.
    """
    if model.functions and any(_has_concerned(all_nodes(function)) for function in model.functions):
        model = inliner.inline_local_functions(model)
    if _has_concerned(all_nodes(model.graph)):
        _check_graph(model.graph, None)


def _has_concerned(nodes: Iterable[onnx.NodeProto]) -> bool:
    return any(node.op_type in _CONCERNED for node in nodes)


def _check_graph(graph: onnx.GraphProto, outer: GraphScope | None) -> None:
    scope = GraphScope(graph, outer)
    for node in graph.node:
        if node.op_type in _CONCERNED and not domain_of(node):
            _check_node(node, scope)
        for inner in inner_graphs(node):
            _check_graph(inner, scope)


def _check_node(node: onnx.NodeProto, scope: GraphScope) -> None:
    if node.op_type == "BatchNormalization":
        if _is_trained(node):
            raise Refused(
                f"{label_of(node)} is in training mode, and ONNX Runtime keeps its statistics for the next run, so "
                "that answers would depend on earlier requests; export the model for inference (PyTorch: model.eval())"
            )
    elif _has_state(node, "seed") and (node.op_type != "Dropout" or _may_drop(node, scope)):
        raise Refused(
            f"{label_of(node)} has a seed, and ONNX Runtime goes on in its sequence with every run, so that answers "
            "would depend on how many requests came before; remove the seed, or have requests bring the random numbers"
        )


def _is_trained(node: onnx.NodeProto) -> bool:
    """Return whether ``training_mode`` is set or, as before operator set 14, the node outputs its statistics."""
    return any(item.name == "training_mode" and item.i for item in node.attribute) or any(node.output[1:])


def _may_drop(node: onnx.NodeProto, scope: GraphScope) -> bool:
    """Return whether a Dropout is not proven to leave its input as it is."""
    mode = node.input[_TRAINING_MODE] if len(node.input) > _TRAINING_MODE else ""
    return bool(mode) and not scope.find(mode).holds(lambda array: ~array)


def _has_state(node: onnx.NodeProto, attribute: str) -> bool:
    return any(item.name == attribute for item in node.attribute)
