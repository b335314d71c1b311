"""Inserts tests before operators of a graph and its nested graphs that could end the process."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, inliner, numpy_helper, shape_inference

from penstock.core.errors import Refused
from penstock.core.texts import make_legible
from penstock.engine.faults import GUARD
from penstock.registry.graphs.graph_edits import OWN_DOMAINS, GraphChanges
from penstock.registry.graphs.value_facts import GraphScope, domain_of, inner_graphs

MOST_REPORTED = 100
LONGEST_NAME = 100
_LARGE = 1 << 16
"""A constant of more bytes cannot be a shape on which types depend."""


class NodeBuilder:
    """Builds nodes with unique names; ``opset`` is the version of ONNX's own operators."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.opset = next((item.version for item in model.opset_import if item.domain in OWN_DOMAINS), 0)
        self._prefix = _unused_prefix(model)
        self._count: Counter[str] = Counter()

    def node(self, operator: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
        """Return a node with one result, which has the node's name."""
        name = self.name(operator)
        return helper.make_node(operator, inputs, [name], name=name, **attributes)

    def name(self, what: str) -> str:
        """Return a unique name for a node that does ``what``."""
        self._count[what] += 1
        return f"{self._prefix}{what}_{self._count[what]}"

    def constant(self, numbers: Any) -> onnx.NodeProto:
        """Return a Constant node with these numbers."""
        return self.node("Constant", value=numpy_helper.from_array(np.array(numbers)))


@dataclass(frozen=True, slots=True)
class GuardRule:
    """A rule for operators (domain and name).

    ``guarded`` returns the replacement of such a node, tests followed by the node, or None if the node may stay; it
    raises ``Refused`` if neither is possible. A rule that is not ``vital`` does not apply to functions.
    """

    operators: frozenset[tuple[str, str]]
    guarded: Callable[[onnx.NodeProto, GraphScope, NodeBuilder], list[onnx.NodeProto] | None]
    vital: bool = True


def guard_model(model: onnx.ModelProto, rules: Mapping[str, GuardRule]) -> tuple[GraphChanges, dict[str, list[str]]]:
    """Return the changes by these rules, and the label of each guarded node by rule.

    Raises:
        Refused: a node can neither stay nor be guarded; the message says what to do.
    """
    concerned = {operator for rule in rules.values() for operator in rule.operators}
    nodes = (node for graph in (model.graph, *model.functions) for node in all_nodes(graph))
    if not any((domain_of(node), node.op_type) in concerned for node in nodes):
        return GraphChanges(), {}
    guards = _Guards(model, rules)
    if model.functions:
        _check_functions(model, {name: rule for name, rule in rules.items() if rule.vital})
    return GraphChanges(guards.changes), {name: nodes[:MOST_REPORTED] for name, nodes in guards.names.items()}


def label_of(node: onnx.NodeProto) -> str:
    """Return a label of a node for people: its operator, and its name or that of its result."""
    return make_legible(f"{node.op_type} {node.name or node.output[0]}")[:LONGEST_NAME]


def all_nodes(graph: Any) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph or function, and of its nested graphs."""
    for node in graph.node:
        yield node
        for inner in inner_graphs(node):
            yield from all_nodes(inner)


def _check_functions(model: onnx.ModelProto, rules: Mapping[str, GuardRule]) -> None:
    """Check the nodes of functions at their calls, because functions have no types of their own.

    Raises:
        Refused: one of them needs a guard.
    """
    guards = _Guards(inliner.inline_local_functions(model), rules)
    if guards.number > _Guards(model, rules).number:
        raise Refused(
            "a function of the graph has an operator that can end the process that runs it for some inputs; inline the "
            "functions with onnx.inliner.inline_local_functions, so that admission can put a test before it"
        )


class _Guards:
    """The changes of one model by the rules; ``names`` are the labels of the guarded nodes, by rule."""

    def __init__(self, model: onnx.ModelProto, rules: Mapping[str, GuardRule]) -> None:
        self.names: dict[str, list[str]] = {}
        self._rules = rules
        self._builder = NodeBuilder(model)
        self.changes = self._replacements(model.graph, _infer_types(model).graph, None)

    @property
    def number(self) -> int:
        """Number of guarded nodes."""
        return sum(map(len, self.names.values()))

    def _replacements(
        self, graph: onnx.GraphProto, typed: onnx.GraphProto, outer: GraphScope | None
    ) -> dict[int, list[onnx.NodeProto]]:
        """Return the replacements of nodes by index; ``typed`` is the same graph with the types of its values."""
        scope = GraphScope(typed, outer)
        replacements: dict[int, list[onnx.NodeProto]] = {}
        for index, (node, typed_node) in enumerate(zip(graph.node, typed.node, strict=True)):
            instead = self._guard(node, scope) or self._guard_nested(node, typed_node, scope)
            if instead is not None:
                replacements[index] = instead
        return replacements

    def _guard(self, node: onnx.NodeProto, scope: GraphScope) -> list[onnx.NodeProto] | None:
        operator = (domain_of(node), node.op_type)
        for name, rule in self._rules.items():
            if operator in rule.operators and (instead := rule.guarded(node, scope, self._builder)) is not None:
                self.names.setdefault(name, []).append(label_of(node))
                return instead
        return None

    def _guard_nested(
        self, node: onnx.NodeProto, typed: onnx.NodeProto, scope: GraphScope
    ) -> list[onnx.NodeProto] | None:
        """Return the node with tests in its nested graphs, None if nothing changes."""
        result = onnx.NodeProto()
        result.CopyFrom(node)
        is_changed = False
        for inner, typed_inner in zip(inner_graphs(result), inner_graphs(typed), strict=True):
            if replacements := self._replacements(inner, typed_inner, scope):
                nodes = [item for index, before in enumerate(inner.node) for item in replacements.get(index, [before])]
                rebuilt = onnx.GraphProto(node=nodes)
                del inner.node[:]
                inner.MergeFrom(rebuilt)
                is_changed = True
        return [result] if is_changed else None


def _infer_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the inferred types of its values, and without large constants."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for tensor in bare.graph.initializer:
        if tensor.ByteSize() > _LARGE:
            kind, dims, name = tensor.data_type, list(tensor.dims), tensor.name
            tensor.Clear()
            tensor.data_type, tensor.name = kind, name
            tensor.dims.extend(dims)
    try:
        return shape_inference.infer_shapes(bare)
    except (shape_inference.InferenceError, RuntimeError, ValueError):  # the runtime reports an invalid model
        return bare


def _unused_prefix(model: onnx.ModelProto) -> str:
    """Return a prefix that no name of a value or node of the model has."""
    prefix = GUARD
    taken = [name for node in all_nodes(model.graph) for name in (node.name, *node.input, *node.output)]
    while any(name.startswith(prefix) for name in taken):
        prefix += "_"
    return prefix
