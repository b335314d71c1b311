"""Converts an ONNX graph to the plain form on which the proof of row independence works."""

from typing import Any

import onnx
from onnx import numpy_helper

from penstock.engine.row_independence.graph import Attribute, ConstantTensor, GraphInput, GraphOutput, Node, PlainGraph

MAX_ELEMENTS = 64
"""Greatest number of elements of a constant that is read; longer ones cannot be shapes."""

MAX_BYTES = 8 * MAX_ELEMENTS
_WHOLE = frozenset({
    onnx.TensorProto.INT8,
    onnx.TensorProto.INT16,
    onnx.TensorProto.INT32,
    onnx.TensorProto.INT64,
    onnx.TensorProto.UINT8,
    onnx.TensorProto.UINT16,
    onnx.TensorProto.UINT32,
    onnx.TensorProto.UINT64,
    onnx.TensorProto.BOOL,
})  # fmt: skip
_DECIMAL = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16})
_ATTRIBUTE = onnx.AttributeProto


def read_plain(model: onnx.ModelProto) -> PlainGraph:
    """Return the graph of a model; external weights are not read."""
    graph = model.graph
    constants = {tensor.name: _read_constant(tensor) for tensor in graph.initializer}
    sparse = {tensor.values.name: ConstantTensor(tuple(tensor.dims)) for tensor in graph.sparse_initializer}
    defaults = constants.keys() | sparse.keys()
    return PlainGraph(
        inputs=[_read_input(item) for item in graph.input if item.name not in defaults],
        outputs=[GraphOutput(item.name, _rows_name(item)) for item in graph.output],
        nodes=[_read_node(node) for node in graph.node],
        constants={**constants, **sparse},
        opsets={_normalise_domain(entry.domain): entry.version for entry in model.opset_import},
        functions=frozenset((_normalise_domain(function.domain), function.name) for function in model.functions),
    )


def _normalise_domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _read_input(value_info_proto: onnx.ValueInfoProto) -> GraphInput:
    if not value_info_proto.type.HasField("tensor_type") or not value_info_proto.type.tensor_type.HasField("shape"):
        return GraphInput(value_info_proto.name, None)
    dims = value_info_proto.type.tensor_type.shape.dim
    return GraphInput(value_info_proto.name, tuple(_dimension_size(dim) for dim in dims), _rows_name(value_info_proto))


def _rows_name(value_info_proto: onnx.ValueInfoProto) -> str:
    """Return the name of the first dimension."""
    dims = value_info_proto.type.tensor_type.shape.dim
    return dims[0].dim_param if len(dims) else ""


def _dimension_size(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    """Return the size of a dimension, None if it is free; some exporters state -1 for free ones."""
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None


def _read_node(node: onnx.NodeProto) -> Node:
    return Node(
        node.name,
        _normalise_domain(node.domain),
        node.op_type,
        tuple(node.input),
        tuple(node.output),
        {attribute.name: _read_attribute(attribute) for attribute in node.attribute},
        _constant_value(node),
        any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute),
    )


def _read_attribute(attribute: onnx.AttributeProto) -> Attribute:
    """Return the value of an attribute; no rule depends on texts that are not UTF-8."""
    if attribute.ref_attr_name:
        return None
    readers: dict[int, Any] = {
        _ATTRIBUTE.INT: lambda: attribute.i,
        _ATTRIBUTE.FLOAT: lambda: attribute.f,
        _ATTRIBUTE.STRING: lambda: attribute.s.decode("utf-8", "replace"),
        _ATTRIBUTE.INTS: lambda: tuple(attribute.ints),
        _ATTRIBUTE.STRINGS: lambda: tuple(text.decode("utf-8", "replace") for text in attribute.strings),
    }
    value: Attribute = readers.get(attribute.type, lambda: None)()
    return value


_STATED = ("value", "value_int", "value_ints", "value_float", "value_floats", "value_string", "value_strings")


def _constant_value(node: onnx.NodeProto) -> ConstantTensor | None:
    """Return the value of a Constant, or the fill value of a ConstantOfShape."""
    if node.op_type not in ("Constant", "ConstantOfShape"):
        return None
    for attribute in node.attribute:
        if attribute.name in _STATED:
            return _constant_attribute(attribute)
    return ConstantTensor((1,), None, (0.0,)) if node.op_type == "ConstantOfShape" else None


def _constant_attribute(attribute: onnx.AttributeProto) -> ConstantTensor:
    if attribute.type == _ATTRIBUTE.TENSOR:
        return _read_constant(attribute.t)
    if attribute.type == _ATTRIBUTE.INT:
        return ConstantTensor((), (attribute.i,))
    number = len(attribute.ints) + len(attribute.floats) + len(attribute.strings)
    if attribute.type == _ATTRIBUTE.INTS:
        return ConstantTensor((number,), tuple(attribute.ints) if number <= MAX_ELEMENTS else None)
    return (
        ConstantTensor((number,)) if attribute.type in (_ATTRIBUTE.FLOATS, _ATTRIBUTE.STRINGS) else ConstantTensor(())
    )


def _read_constant(tensor: onnx.TensorProto) -> ConstantTensor:
    dims = tuple(tensor.dims)
    size = 1
    for dim in dims:
        size *= dim
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    if external or len(dims) > 1 or size > MAX_ELEMENTS or tensor.data_type not in _WHOLE | _DECIMAL:
        return ConstantTensor(dims)
    try:
        values = numpy_helper.to_array(tensor).reshape(-1).tolist()
    except ValueError:  # the shape does not fit the data; the runtime reports that
        return ConstantTensor(dims)
    if tensor.data_type in _DECIMAL:
        return ConstantTensor(dims, None, tuple(values))
    return ConstantTensor(dims, tuple(map(int, values)))
