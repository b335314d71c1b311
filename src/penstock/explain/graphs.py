"""Reads a graph as an exact model, backwards from the output that is to be explained.

Accepted are the operators of ``scorers``, what changes each feature by itself before them, and behind them what
exporters add: casts, names of classes, other shapes, constant factors and addends, and links such as Sigmoid. All else
is refused, so that no value is explained that the graph does not compute.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from penstock.explain.column_rules import COLUMN_RULES, ML, cast_type
from penstock.explain.linear import LinearModel
from penstock.explain.nodes import Floats, GraphNode, ModelGraph, NotExact
from penstock.explain.scorers import SCORERS, constant_of
from penstock.explain.sums import add_models
from penstock.explain.transforms import (
    SINGLE,
    ChangedColumns,
    ConcatenatedColumns,
    GivenInput,
    InputTransforms,
    cast_to,
    combine,
)
from penstock.explain.trees.model import TreeModel

Model: TypeAlias = TreeModel | LinearModel

LONGEST_CHAIN = 50
"""Nodes one behind the other that are followed."""

_SAME = {("", "Identity"), ("", "Reshape"), ("", "Flatten"), ("", "Squeeze"), ("", "Unsqueeze"), (ML, "ZipMap")}
_LINKS = {"Sigmoid": "logistic", "Softmax": "softmax", "Exp": "exponential"}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
}


def read_exact_model(graph: ModelGraph, output: str) -> Model:
    """Return the model whose answer, or whose margin before the links, is the output.

    Raises ``NotExact`` with the reason if the graph computes something else.
    """
    return _Reader(graph).model(output, LONGEST_CHAIN)


@dataclass(frozen=True, slots=True)
class _Place:
    """The node that makes a value, and which of its outputs that is."""

    node: GraphNode
    output: int


class _Reader:
    def __init__(self, graph: ModelGraph) -> None:
        self.graph = graph
        self.makers = {
            name: _Place(node, place) for node in graph.nodes for place, name in enumerate(node.outputs) if name
        }

    def model(self, name: str, left: int) -> Model:
        """The model that makes a value."""
        place = self._maker(name, left)
        node, key = place.node, (place.node.domain, place.node.op_type)
        if key in SCORERS:
            return self._scored(place, left)
        if key in _SAME:
            return self.model(node.inputs[0], left - 1)
        if node.domain == "" and node.op_type in {"Add", "Sub", "Mul", "Div", "Sum"}:
            return self._combined(node, left - 1)
        return _apply_link(self.model(node.inputs[0], left - 1), node)

    def _maker(self, name: str, left: int) -> _Place:
        if name not in self.makers:
            raise NotExact("the output is not computed from the features by trees or weighted sums")
        if left <= 0:
            raise NotExact(f"the graph is a chain of more than {LONGEST_CHAIN} nodes")
        return self.makers[name]

    def _scored(self, place: _Place, left: int) -> Model:
        output, read = SCORERS[place.node.domain, place.node.op_type]
        if place.output != output:
            raise NotExact("the output is a label; explain the scores instead")
        inputs = self._inputs(place.node.inputs[0], left - 1)
        return read(place.node, inputs, self.graph.constants)

    def _combined(self, node: GraphNode, left: int) -> Model:
        """Arithmetic behind a model: with a constant, or with another model."""
        constants = [place for place, name in enumerate(node.inputs) if name in self.graph.constants]
        if len(node.inputs) == 2 and len(constants) == 1:
            (constant,) = constants
            model = self.model(node.inputs[1 - constant], left)
            return _with_constant(model, node, constant_of(node, constant, self.graph.constants), constant == 0)
        if constants or node.op_type not in {"Add", "Sum"}:
            raise NotExact(f"{node.op_type} combines values that are both computed")
        first, *rest = [self.model(name, left) for name in node.inputs]
        for model in rest:
            first = add_models(first, model)
        return first

    def _inputs(self, name: str, left: int) -> InputTransforms:
        """How features become a value."""
        if name in self.graph.inputs:
            return GivenInput(list(self.graph.inputs).index(name), len(self.graph.inputs), self.graph.inputs[name])
        node = self._maker(name, left).node
        if (node.domain, node.op_type) in {("", "Concat"), (ML, "FeatureVectorizer")}:
            return self._joined(node, left - 1)
        if node.domain == "" and node.op_type in _ARITHMETIC:
            return self._arithmetic(node, left - 1)
        key = (node.domain, node.op_type)
        if key not in COLUMN_RULES:
            raise NotExact(f"{node.op_type} before the model does not change each feature by itself")
        return COLUMN_RULES[key](self._inputs(node.inputs[0], left - 1), node, self.graph.constants)

    def _joined(self, node: GraphNode, left: int) -> InputTransforms:
        """Columns side by side; Concat joins those of one type."""
        parts = [self._inputs(name, left) for name in node.inputs]
        if node.op_type == "FeatureVectorizer":
            return ConcatenatedColumns([ChangedColumns(part, cast_to(SINGLE), SINGLE) for part in parts])
        if node.integer("axis", 0) not in {1, 2, -1} or len({part.result for part in parts}) != 1:
            raise NotExact("Concat before the model does not join features")
        return ConcatenatedColumns(parts)

    def _arithmetic(self, node: GraphNode, left: int) -> InputTransforms:
        """Arithmetic of features with constants."""
        constant = 0 if node.inputs[0] in self.graph.constants else 1
        value = self.graph.constants.get(node.inputs[constant])
        if value is None or value.ndim > 2 or (value.ndim == 2 and value.shape[0] != 1):
            raise NotExact(f"{node.op_type} before the model does not change each feature by itself")
        inputs = self._inputs(node.inputs[1 - constant], left)
        step = combine(_ARITHMETIC[node.op_type], value.reshape(-1), constant_first=constant == 0)
        return ChangedColumns(inputs, step, inputs.result)


def _with_constant(model: Model, node: GraphNode, constant: Floats, constant_first: bool) -> Model:
    """A model times or plus a constant, or a constant for each output."""
    if model.links == ("exponential",) and node.op_type == "Mul" and (constant > 0).all() and constant.size == 1:
        return model.plus(np.log(constant.reshape(-1)))
    if model.links:
        raise NotExact(f"{node.op_type} changes the answer behind its link")
    if constant.size not in {1, model.outputs} or constant.ndim > 2:
        raise NotExact(f"{node.op_type} adds other values to each row")
    value = constant.reshape(-1)
    if node.op_type in {"Add", "Sum"}:
        return model.plus(value)
    if node.op_type == "Mul":
        return model.times(value)
    if node.op_type == "Sub":
        return model.times(np.array([-1.0])).plus(value) if constant_first else model.plus(-value)
    if constant_first or not value.all():
        raise NotExact("Div behind the model divides by what it answers, or by zero")
    return model.times(1 / value)


def _apply_link(model: Model, node: GraphNode) -> Model:
    """The links that keep a margin known, and casts."""
    if node.domain == "" and node.op_type == "Cast":
        if not np.issubdtype(cast_type(node), np.floating):
            raise NotExact("the answer is rounded to whole numbers")
        return model
    if node.domain == "" and node.op_type in _LINKS:
        _check_axis(node)
        return replace(model, links=(*model.links, _LINKS[node.op_type]))
    if node.domain == ML and node.op_type == "Normalizer" and node.text("norm", "MAX") == "L1":
        return replace(model, links=(*model.links, "normalised"))
    raise NotExact(f"{node.op_type} behind the model leaves no score whose parts are known")


def _check_axis(node: GraphNode) -> None:
    if node.op_type == "Softmax" and node.integer("axis", -1) not in {-1, 1}:
        raise NotExact("Softmax is not over the outputs of a row")
