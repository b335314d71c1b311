"""Facts about the values inside a graph without running it: their types, and bounds of integers."""

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
"""Greatest number of operators that are followed back from a value."""

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
"""Operators whose results hold only elements of their first input."""

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
"""Of each integer type whether it has a sign (1), and the number of its other bits."""


class GraphScope:
    """The values of one graph, and through ``outer`` those of the enclosing graphs.

    ``graph`` is a graph with its inferred types. Other scopes use its cached facts too.
    """

    def __init__(self, graph: onnx.GraphProto, outer: "GraphScope | None" = None) -> None:
        self._graph = graph
        self.outer = outer

    @cached_property
    def types(self) -> dict[str, int]:
        """The element types of its own values, 0 if unknown."""
        values = (*self._graph.value_info, *self._graph.input, *self._graph.output)
        stated = {
            value.name: value.type.tensor_type.elem_type for value in values if value.type.HasField("tensor_type")
        }
        return {**stated, **{item.name: item.data_type for item in self._graph.initializer}}

    @cached_property
    def shapes(self) -> dict[str, list[int]]:
        """The dimensions of its own values of known rank, 0 for a dimension that is unknown or may be 0."""
        values = (*self._graph.value_info, *self._graph.input, *self._graph.output)
        tensors = {value.name: value.type.tensor_type for value in values if value.type.tensor_type.HasField("shape")}
        stated = {name: [max(0, dim.dim_value) for dim in kind.shape.dim] for name, kind in tensors.items()}
        return {**stated, **{item.name: list(item.dims) for item in self._graph.initializer}}

    @cached_property
    def makers(self) -> dict[str, onnx.NodeProto]:
        """The nodes that make its own values."""
        return {name: node for node in self._graph.node for name in node.output if name}

    @cached_property
    def constants(self) -> dict[str, TensorProto]:
        """The initializers that no request can replace, and the values of Constant nodes."""
        replaceable = {item.name for item in self._graph.input}
        stated = {name: tensor for name, node in self.makers.items() if (tensor := _constant_of(node)) is not None}
        return {**stated, **{item.name: item for item in self._graph.initializer if item.name not in replaceable}}

    @cached_property
    def own(self) -> set[str]:
        """The names of its own values."""
        return {*self.makers, *self.constants, *(item.name for item in self._graph.input)}

    @property
    def outermost(self) -> "GraphScope":
        """The scope of the whole graph."""
        return self if self.outer is None else self.outer.outermost

    @property
    def inputs(self) -> list[tuple[int, list[int]]]:
        """The element type and the dimensions of each input tensor, as in ``types`` and ``shapes``."""
        return [(self.types.get(item.name, 0), self.shapes.get(item.name, [0])) for item in self._graph.input]

    def find(self, name: str) -> "ScopedValue":
        """Return a value that a node of this graph reads."""
        scope = self
        while name not in scope.own and scope.outer is not None:
            scope = scope.outer
        return ScopedValue(scope, name)


@dataclass(frozen=True, slots=True)
class ScopedValue:
    """A value with its scope. Its methods state only proven facts."""

    home: GraphScope
    name: str

    @property
    def type(self) -> int:
        """Its element type, 0 if unknown."""
        return self.home.types.get(self.name, 0)

    @property
    def dims(self) -> list[int] | None:
        """Its dimensions, 0 for a dimension that is unknown or may be 0; None if the rank is unknown."""
        return self.home.shapes.get(self.name)

    @property
    def producer(self) -> onnx.NodeProto | None:
        """The node that makes it, None for inputs and constants."""
        return self.home.makers.get(self.name)

    def read_by(self, node: onnx.NodeProto) -> "list[ScopedValue]":
        """Return the inputs of a node in the same graph as this value."""
        return [self.home.find(item) for item in node.input]

    def types(self, depth: int = 0) -> Types | None:
        """Return the types that it may have, as the runtime writes them; None if nothing is known."""
        if self.type:
            return frozenset({runtime_type(self.type)})
        maker = self.producer
        if maker is None or depth > DEEPEST:
            return None
        inputs = self.read_by(maker)

        def given(index: int) -> Types | None:
            return inputs[index].types(depth + 1) if index < len(inputs) else None

        return result_types(domain_of(maker), maker.op_type, list(maker.output).index(self.name), given)

    def holds(self, elements: Callable[[Any], Any]) -> bool | None:
        """Return whether all elements of a constant pass a test on arrays; None if it is not a known constant."""
        tensor = self.home.constants.get(self.name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        try:
            return bool(np.all(elements(numpy_helper.to_array(tensor))))
        except ValueError:  # the shape does not fit the data; the runtime reports that
            return None

    def is_brought(self, depth: int = 0) -> bool:
        """Return whether its elements are those of an input of the whole graph, possibly with another type or shape."""
        maker = self.producer
        if maker is None:
            return self.home.outer is None and self.name in self.home.own and self.name not in self.home.constants
        if depth > DEEPEST or domain_of(maker) or maker.op_type not in _MOVES | {"Cast"}:
            return False
        return self.read_by(maker)[0].is_brought(depth + 1)

    def may_be_of_a_request(self) -> bool:
        """Return whether its elements may depend on elements of an input of the whole graph, not on its shape only."""
        waiting, visited = [self], set()
        while waiting:
            value = waiting.pop()
            key = id(value.home), value.name
            if key in visited or value.name in value.home.constants:
                continue
            visited.add(key)
            maker = value.producer
            if maker is None or any(inner_graphs(maker)):
                return True
            if domain_of(maker) or maker.op_type not in ("Shape", "Size"):
                waiting += [item for item in value.read_by(maker) if item.name]
        return False

    def is_counting(self, depth: int = 0) -> bool:
        """Return whether it is proven to hold no integer below zero."""
        constant, maker = self.holds(lambda array: array >= 0), self.producer
        if constant is not None or maker is None or depth > DEEPEST or domain_of(maker):
            return constant is True
        return maker.op_type in _COUNTS or self._passes_on(maker, depth + 1)

    def _passes_on(self, maker: onnx.NodeProto, depth: int) -> bool:
        """Return whether an operator's result is not below zero because its inputs are not."""
        inputs = self.read_by(maker)
        if maker.op_type == "Cast":
            return _is_widening(inputs[0].type, _find_target(maker)) and (
                not _WIDTHS[inputs[0].type][0] or inputs[0].is_counting(depth)
            )
        if maker.op_type in _MOVES:
            return inputs[0].is_counting(depth)
        if maker.op_type in ("Concat", "Min"):
            return all(item.is_counting(depth) for item in inputs)
        return maker.op_type == "Max" and any(item.is_counting(depth) for item in inputs)

    def is_above_least(self) -> bool:
        """Whether it is proven not to hold the least number of its type."""
        constant, maker = self.holds(lambda array: array > np.iinfo(array.dtype).min), self.producer
        if constant is not None:
            return constant
        if maker is not None and maker.op_type == "Cast":
            source, target = self.read_by(maker)[0].type, _find_target(maker)
            if source != target and _is_widening(source, target):
                return True
        return self.is_counting()

    def is_never_minus_one(self) -> bool:
        """Whether it is proven not to hold -1."""
        constant, maker = self.holds(lambda array: array != -1), self.producer
        if constant is not None:
            return constant
        is_absolute = maker is not None and not domain_of(maker) and maker.op_type == "Abs"
        return is_absolute or self.is_counting()


def _is_widening(source: int, target: int) -> bool:
    """Return whether an integer type can hold all numbers of another."""
    if source not in _WIDTHS or target not in _WIDTHS:
        return False
    signed, bits = _WIDTHS[source]
    wide_signed, wide_bits = _WIDTHS[target]
    return bits <= wide_bits and signed <= wide_signed


def domain_of(node: onnx.NodeProto) -> str:
    """Return the domain of a node, "" for ONNX's own."""
    return "" if node.domain in OWN_DOMAINS else node.domain


def runtime_type(element: int) -> str:
    """Return the type of a tensor as the runtime writes it."""
    name = TensorProto.DataType.Name(element).lower()
    return f"tensor({name})"


def _find_target(cast: onnx.NodeProto) -> int:
    return next((item.i for item in cast.attribute if item.name == "to"), 0)


def _constant_of(node: onnx.NodeProto) -> TensorProto | None:
    """Return the value of a Constant node of numbers, None for other nodes."""
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
    """Yield the nested graphs of a node, in the order of its attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
