"""What is known of the values inside a graph without running it: their types, and bounds of whole numbers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from penstock.engine.operator_types import Types, result_types
from penstock.registry.graphs.graph_edits import OWN_DOMAINS

DEEPEST = 64
"""Operators that are followed back from a value."""

_COUNTS = frozenset({"ArgMax", "ArgMin", "NonZero", "Shape", "Size"})
"""Operators whose results are indices or sizes."""

_MOVES = frozenset(
    [
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    ]
)
"""Operators whose results hold nothing but elements of their first input."""

_WIDTHS: dict[int, tuple[int, int]] = {
    TensorProto.BOOL: (0, 1),
    TensorProto.UINT8: (0, 8),
    TensorProto.UINT16: (0, 16),
    TensorProto.UINT32: (0, 32),
    TensorProto.INT8: (1, 7),
    TensorProto.INT16: (1, 15),
    TensorProto.INT32: (1, 31),
    TensorProto.INT64: (1, 63),
}
"""Whether a type of whole numbers has a sign, and its other bits."""


class Scope:
    """The values of one graph, and through ``outer`` those of the graphs around it.

    ``graph`` is a graph with the types that were inferred. Its cached facts are for other scopes too.
    """

    def __init__(self, graph: onnx.GraphProto, outer: "Scope | None" = None) -> None:
        self._graph = graph
        self.outer = outer

    @cached_property
    def types(self) -> dict[str, int]:
        """The element types of its own values, 0 where one is not known."""
        values = (*self._graph.value_info, *self._graph.input, *self._graph.output)
        stated = {one.name: one.type.tensor_type.elem_type for one in values if one.type.HasField("tensor_type")}
        return {**stated, **{one.name: one.data_type for one in self._graph.initializer}}

    @cached_property
    def shapes(self) -> dict[str, list[int]]:
        """The dimensions of its own values whose rank is known, 0 for those that are not or may be 0."""
        values = (*self._graph.value_info, *self._graph.input, *self._graph.output)
        tensors = {one.name: one.type.tensor_type for one in values if one.type.tensor_type.HasField("shape")}
        stated = {name: [max(0, dim.dim_value) for dim in kind.shape.dim] for name, kind in tensors.items()}
        return {**stated, **{one.name: list(one.dims) for one in self._graph.initializer}}

    @cached_property
    def makers(self) -> dict[str, onnx.NodeProto]:
        """The nodes that make its own values."""
        return {name: node for node in self._graph.node for name in node.output if name}

    @cached_property
    def constants(self) -> dict[str, TensorProto]:
        """The initializers that no caller may replace, and what Constant nodes of whole numbers hold."""
        replaceable = {one.name for one in self._graph.input}
        stated = {name: tensor for name, node in self.makers.items() if (tensor := _stated(node)) is not None}
        return {**stated, **{one.name: one for one in self._graph.initializer if one.name not in replaceable}}

    @cached_property
    def own(self) -> set[str]:
        """The names of its own values."""
        return {*self.makers, *self.constants, *(one.name for one in self._graph.input)}

    @property
    def outermost(self) -> "Scope":
        """The scope of the whole graph."""
        return self if self.outer is None else self.outer.outermost

    @property
    def inputs(self) -> list[tuple[int, list[int]]]:
        """The element type and the dimensions of each tensor that the graph takes, as ``types`` and ``shapes`` do."""
        return [(self.types.get(one.name, 0), self.shapes.get(one.name, [0])) for one in self._graph.input]

    def find(self, name: str) -> "Value":
        """A value that a node of this graph reads."""
        scope = self
        while name not in scope.own and scope.outer is not None:
            scope = scope.outer
        return Value(scope, name)


@dataclass(frozen=True, slots=True)
class Value:
    """A value and the scope that it belongs to. Whatever is not proven of it is not told."""

    home: Scope
    name: str

    @property
    def type(self) -> int:
        """Its element type, 0 where it is not known."""
        return self.home.types.get(self.name, 0)

    @property
    def dims(self) -> list[int] | None:
        """Its dimensions, 0 for those that are not known or may be 0; None where not even their number is known."""
        return self.home.shapes.get(self.name)

    @property
    def maker(self) -> onnx.NodeProto | None:
        """The node that makes it, None for inputs and constants."""
        return self.home.makers.get(self.name)

    def read_by(self, node: onnx.NodeProto) -> "list[Value]":
        """The inputs of a node beside this value."""
        return [self.home.find(one) for one in node.input]

    def types(self, depth: int = 0) -> Types | None:
        """The types that it may have, as the runtime writes them; None where nothing is known."""
        if self.type:
            return frozenset({runtime_type(self.type)})
        maker = self.maker
        if maker is None or depth > DEEPEST:
            return None
        inputs = self.read_by(maker)

        def given(place: int) -> Types | None:
            return inputs[place].types(depth + 1) if place < len(inputs) else None

        return result_types(domain_of(maker), maker.op_type, list(maker.output).index(self.name), given)

    def holds(self, elements: Callable[[Any], Any]) -> bool | None:
        """Whether all elements of a constant pass a test on arrays; None where it is no constant that is known."""
        tensor = self.home.constants.get(self.name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        try:
            return bool(np.all(elements(numpy_helper.to_array(tensor))))
        except ValueError:  # its data have not its shape; the runtime tells what it thinks of it
            return None

    def is_brought(self, depth: int = 0) -> bool:
        """Whether its elements are those of an input of the whole graph, possibly of another type or shape."""
        maker = self.maker
        if maker is None:
            return self.home.outer is None and self.name in self.home.own and self.name not in self.home.constants
        if depth > DEEPEST or domain_of(maker) or maker.op_type not in _MOVES | {"Cast"}:
            return False
        return self.read_by(maker)[0].is_brought(depth + 1)

    def may_be_of_a_request(self) -> bool:
        """Whether elements of an input of the whole graph, and not its shape alone, may decide on its elements."""
        waiting, seen = [self], set()
        while waiting:
            value = waiting.pop()
            key = id(value.home), value.name
            if key in seen or value.name in value.home.constants:
                continue
            seen.add(key)
            maker = value.maker
            if maker is None or any(inner_graphs(maker)):
                return True
            if domain_of(maker) or maker.op_type not in ("Shape", "Size"):
                waiting += [one for one in value.read_by(maker) if one.name]
        return False

    def is_counting(self, depth: int = 0) -> bool:
        """Whether it is proven to hold no whole number below zero."""
        constant, maker = self.holds(lambda array: array >= 0), self.maker
        if constant is not None or maker is None or depth > DEEPEST or domain_of(maker):
            return constant is True
        return maker.op_type in _COUNTS or self._passes_on(maker, depth + 1)

    def _passes_on(self, maker: onnx.NodeProto, depth: int) -> bool:
        """Whether an operator gives nothing below zero because it is given nothing below zero."""
        inputs = self.read_by(maker)
        if maker.op_type == "Cast":
            return _widens(inputs[0].type, _target(maker)) and (
                not _WIDTHS[inputs[0].type][0] or inputs[0].is_counting(depth)
            )
        if maker.op_type in _MOVES:
            return inputs[0].is_counting(depth)
        if maker.op_type in ("Concat", "Min"):
            return all(one.is_counting(depth) for one in inputs)
        return maker.op_type == "Max" and any(one.is_counting(depth) for one in inputs)

    def is_above_least(self) -> bool:
        """Whether it is proven not to hold the least number of its type."""
        constant, maker = self.holds(lambda array: array > np.iinfo(array.dtype).min), self.maker
        if constant is not None:
            return constant
        if maker is not None and maker.op_type == "Cast":
            source, target = self.read_by(maker)[0].type, _target(maker)
            if source != target and _widens(source, target):
                return True
        return self.is_counting()

    def is_never_minus_one(self) -> bool:
        """Whether it is proven not to hold -1."""
        constant, maker = self.holds(lambda array: array != -1), self.maker
        if constant is not None:
            return constant
        is_absolute = maker is not None and not domain_of(maker) and maker.op_type == "Abs"
        return is_absolute or self.is_counting()


def _widens(source: int, target: int) -> bool:
    """Whether a type of whole numbers holds all numbers of another."""
    if source not in _WIDTHS or target not in _WIDTHS:
        return False
    signed, bits = _WIDTHS[source]
    wide_signed, wide_bits = _WIDTHS[target]
    return bits <= wide_bits and signed <= wide_signed


def domain_of(node: onnx.NodeProto) -> str:
    """A node's domain, "" for ONNX's own."""
    return "" if node.domain in OWN_DOMAINS else node.domain


def runtime_type(element: int) -> str:
    """A tensor's type as the runtime writes it."""
    name = TensorProto.DataType.Name(element).lower()
    return f"tensor({name})"


def _target(cast: onnx.NodeProto) -> int:
    return next((one.i for one in cast.attribute if one.name == "to"), 0)


def _stated(node: onnx.NodeProto) -> TensorProto | None:
    """What a Constant of numbers holds."""
    if node.op_type != "Constant" or domain_of(node):
        return None
    for attribute in node.attribute:
        if attribute.name == "value":
            return attribute.t
        if attribute.name == "value_int":
            return helper.make_tensor("", TensorProto.INT64, (), [attribute.i])
        if attribute.name == "value_ints":
            return helper.make_tensor("", TensorProto.INT64, (len(attribute.ints),), attribute.ints)
    return None


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds, in the order of its attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
