"""Reads the nodes of an ONNX file without the library ``onnx``, which no worker loads.

Field numbers: onnx/onnx.proto. Subgraphs, functions, sparse and external tensors are left out; a node that needs one of
them lacks it, and so is not explained exactly.
"""

import struct
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import numpy as np

from penstock.core.protobuf_wire import BYTES, FIXED32, VARINT, MalformedMessage
from penstock.core.slices import PauseWork, no_pause
from penstock.core.tensors import Array
from penstock.explain.nodes import Attribute, GraphNode, ModelGraph
from penstock.explain.wire_numbers import read_float_run, read_varint_run, unpack_varints
from penstock.registry.graphs.wire_format import WireField, iterate_fields

FLOATS, INTS, STRINGS = 7, 8, 9
"""The repeated fields of an attribute."""

SLICE: Final = 256
"""Fields that are read between two pauses."""

_DTYPES: Final = {1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
"""NumPy's types by the numbers of TensorProto.DataType."""

_CONSTANTS: Final = ("value", "value_float", "value_floats", "value_int", "value_ints")
"""The attributes of the operator Constant whose values are numbers."""

_TYPED: Final = {4: "<f4", 5: "", 7: "", 10: "<f8"}
"""The fields of a tensor's typed data, with the type of their packed form ("" = variable-length numbers)."""


class UnreadableGraph(ValueError):
    """The file is not an ONNX graph that this reader understands."""


class _Message:
    """A message in a file, by the positions where it begins and ends."""

    __slots__ = ("begin", "data", "end", "pause")

    def __init__(self, data: memoryview, begin: int, end: int, pause: PauseWork) -> None:
        self.data = data
        self.begin = begin
        self.end = end
        self.pause = pause

    def fields(self) -> Iterator[WireField]:
        """Yield its fields, with pauses."""
        found = iterate_fields(self.data, self.begin, self.end)
        while part := list(islice(found, SLICE)):
            yield from part
            self.pause()

    def inner(self, item: WireField) -> "_Message":
        """Return the message that a field holds."""
        return _Message(self.data, item.value, item.end, self.pause)

    def text(self, item: WireField) -> str:
        """Return the value of a field of text."""
        return bytes(self.data[item.value : item.end]).decode(errors="replace")

    def number(self, item: WireField) -> int:
        """Return the value of a field of one whole number."""
        return int(unpack_varints(np.frombuffer(self.data[item.value : item.end], np.uint8))[0])

    def array(self, begin: int, end: int) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
        """Return the bytes between two positions."""
        return np.frombuffer(self.data[begin:end], np.uint8)


def read_graph(data: bytes | memoryview, pause: PauseWork = no_pause) -> ModelGraph:
    """Return the nodes of an ONNX file, which holds a ModelProto; ``pause`` is called between slices of the work.

    Raises:
        UnreadableGraph: it is none, or holds no graph.
    """
    view = memoryview(data).cast("B")
    model = _Message(view, 0, len(view), pause)
    try:
        graphs = [model.inner(item) for item in model.fields() if item.number == 7 and item.wire_type == BYTES]
        if len(graphs) != 1:
            raise UnreadableGraph("the file holds no graph")
        return _read_graph(graphs[0])
    except (MalformedMessage, ValueError, struct.error, IndexError) as error:
        raise UnreadableGraph(f"the graph cannot be read: {error}") from None


def _read_graph(message: _Message) -> ModelGraph:
    nodes: list[GraphNode] = []
    constants: dict[str, Array] = {}
    inputs: dict[str, np.dtype[Any]] = {}
    outputs: list[str] = []
    for item in message.fields():
        if item.number == 1:
            nodes.append(_read_node(message.inner(item)))
        elif item.number == 5:
            name, array = _read_tensor(message.inner(item))
            if array is not None:
                constants[name] = array
        elif item.number == 11:
            inputs.update([_value_info(message.inner(item))])
        elif item.number == 12:
            outputs.append(_value_info(message.inner(item))[0])
    constants |= _constants_of(nodes)
    return ModelGraph(nodes, constants, {name: kind for name, kind in inputs.items() if name not in constants}, outputs)


def _constants_of(nodes: list[GraphNode]) -> dict[str, Array]:
    """Return the values of nodes that are constants."""
    found: dict[str, Array] = {}
    for node in nodes:
        value = next((node.attributes[key] for key in _CONSTANTS if key in node.attributes), None)
        if node.op_type == "Constant" and node.outputs and value is not None:
            found[node.outputs[0]] = np.asarray(value)
    return found


def _value_info(message: _Message) -> tuple[str, "np.dtype[Any]"]:
    """Return the name and the type of an input or output; texts and unknown types are objects."""
    name, kind = "", 0
    for item in message.fields():
        if item.number == 1:
            name = message.text(item)
        elif item.number == 2:
            kind = _element_type(message.inner(item))
    return name, np.dtype(_DTYPES.get(kind, "O"))


def _element_type(message: _Message) -> int:
    """Return the element type of a TypeProto that is a tensor, 0 for any other."""
    for item in message.fields():
        if item.number == 1:
            tensor = message.inner(item)
            return next((tensor.number(part) for part in tensor.fields() if part.number == 1), 0)
    return 0


def _read_node(message: _Message) -> GraphNode:
    texts: dict[int, list[str]] = {1: [], 2: [], 4: [], 7: []}
    attributes: dict[str, Attribute] = {}
    for item in message.fields():
        if item.number in texts:
            texts[item.number].append(message.text(item))
        elif item.number == 5:
            name, value = _read_attribute(message.inner(item))
            if value is not None:
                attributes[name] = value
    op_type, domain = "".join(texts[4]), "".join(texts[7])
    return GraphNode(op_type, "" if domain == "ai.onnx" else domain, tuple(texts[1]), tuple(texts[2]), attributes)


def _read_attribute(message: _Message) -> tuple[str, Attribute | None]:
    """Return an attribute's name, and its value; None if it is a graph or another kind that is left out."""
    name = ""
    single: Attribute | None = None
    numbers: list[Array] = []
    texts: list[str] = []
    at = message.begin
    while at < message.end:
        run = _read_run(message, at)
        if run is not None:
            values, at = run
            numbers.append(values)
            continue
        item = next(iterate_fields(message.data, at, message.end))
        at = item.end
        if item.number == 1:
            name = message.text(item)
        elif item.number == STRINGS:
            texts.append(message.text(item))
            if not len(texts) % SLICE:
                message.pause()
        elif item.number in _SINGLE:
            single = _SINGLE[item.number](message, item)
    if numbers:
        return name, numbers[0] if len(numbers) == 1 else np.concatenate(numbers)
    return name, texts or single


def _read_run(message: _Message, at: int) -> tuple[Array, int] | None:
    """Return the numbers of the repeated field at a position, and where they end; None if another field is there."""
    tag = message.data[at]
    number, wire_type = tag >> 3, tag & 7
    if number not in (FLOATS, INTS):
        return None
    message.pause()
    if wire_type == BYTES:
        item = next(iterate_fields(message.data, at, message.end))
        packed = message.array(item.value, item.end)
        return (packed.view("<f4") if number == FLOATS else unpack_varints(packed)), item.end
    read = read_float_run if number == FLOATS else read_varint_run
    if wire_type != (FIXED32 if number == FLOATS else VARINT):
        raise MalformedMessage("an attribute has an unknown form")
    values, size = read(message.array(at, message.end), tag)
    if not size:
        raise MalformedMessage("an attribute has an unknown form")
    return values, at + size


def _float_of(message: _Message, item: WireField) -> float:
    value: float = struct.unpack("<f", message.data[item.value : item.end])[0]
    return value


def _tensor_of(message: _Message, item: WireField) -> Array | None:
    return _read_tensor(message.inner(item))[1]


_SINGLE: Final[dict[int, Callable[[_Message, WireField], Attribute | None]]] = {
    2: _float_of,
    3: _Message.number,
    4: _Message.text,
    5: _tensor_of,
}
"""The fields of attributes that have one value: f, i, s and t."""


def _read_tensor(message: _Message) -> tuple[str, Array | None]:
    """Return a tensor's name and values; None for texts, for types without a NumPy type, and for external data."""
    dims: list[int] = []
    name, kind, raw = "", 0, None
    parts: list[Array] = []
    for item in message.fields():
        if item.number == 1:
            dims += _whole_numbers(message, item)
        elif item.number == 2:
            kind = message.number(item)
        elif item.number == 8:
            name = message.text(item)
        elif item.number == 9:
            raw = message.array(item.value, item.end)
        elif item.number in _TYPED:
            parts.append(_typed_data(message, item))
    if kind not in _DTYPES or (raw is None and not parts):
        return name, None
    dtype = np.dtype(_DTYPES[kind])
    return name, (raw.view(dtype) if raw is not None else _convert_values(np.concatenate(parts), dtype)).reshape(dims)


def _whole_numbers(message: _Message, item: WireField) -> list[int]:
    numbers: list[int] = unpack_varints(message.array(item.value, item.end)).tolist()
    return numbers


def _typed_data(message: _Message, item: WireField) -> Array:
    data = message.array(item.value, item.end)
    return data.view(_TYPED[item.number]) if _TYPED[item.number] else unpack_varints(data)


def _convert_values(values: Array, dtype: "np.dtype[np.generic]") -> Array:
    """Return typed data in the type of its tensor; FP16 travels as its 16 bits."""
    return values.astype("<u2").view(dtype) if dtype == np.dtype("<f2") else values.astype(dtype)
