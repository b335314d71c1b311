"""Replaces parts of a graph in the bytes of its file, and verifies the result.

Writing the graph with the library would double the memory of large graphs, and could change fields it does not know.
"""

import hashlib
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import helper

from penstock.core.protobuf_wire import BYTES, MalformedMessage, encode_field, encode_varint
from penstock.registry.blobs.folder import PREFIX
from penstock.registry.graphs.rewrite import ByteEdit, Rewrite, apply_edits
from penstock.registry.graphs.wire_format import WireField, iterate_fields

OWN_DOMAINS = ("", "ai.onnx")
"""The domain names of ONNX's own operators."""

_OPSET = 13
"""The operator set that is added to a graph without one, if ONNX's own operators are inserted."""

_GRAPH, _OPSET_IMPORT, _METADATA = 7, 8, 14
_NODE, _OUTPUT = 1, 12


@dataclass(frozen=True, slots=True)
class GraphChanges:
    """Replacements of nodes and outputs of the outermost graph by index, and metadata to set."""

    nodes: Mapping[int, Sequence[onnx.NodeProto]] = field(default_factory=dict)
    outputs: Mapping[int, onnx.ValueInfoProto] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def join(self, other: "GraphChanges") -> "GraphChanges":
        """Return both changes together; no part may be in both."""
        return GraphChanges(
            {**self.nodes, **other.nodes}, {**self.outputs, **other.outputs}, {**self.metadata, **other.metadata}
        )


def rewrite(path: Path, model: onnx.ModelProto, changes: GraphChanges) -> Rewrite:
    """Return the rewrite of the graph at ``path``; ``model`` is the parsed graph.

    Raises:
        ValueError: the file has an unusual form, so that its parts cannot be replaced.
    """
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as data,
    ):
        edits = tuple(sorted(_make_edits(data, model, changes), key=lambda edit: edit.offset))
        result = b"".join(apply_edits(data, edits))
    read = onnx.ModelProto.FromString(result)  # compared as bytes, since a NaN does not equal itself
    if read.SerializeToString(deterministic=True) != _expected_model(model, changes).SerializeToString(
        deterministic=True
    ):
        raise MalformedMessage("its parts are not where they should be")
    return Rewrite(edits, PREFIX + hashlib.sha256(result).hexdigest())


def _make_edits(data: memoryview, model: onnx.ModelProto, changes: GraphChanges) -> Iterator[ByteEdit]:
    top = list(iterate_fields(data, 0, len(data)))
    graphs = [item for item in top if item.number == _GRAPH]
    if len(graphs) != 1 or graphs[0].wire_type != BYTES:
        raise MalformedMessage("it has not one graph")
    inner = list(_graph_edits(data, graphs[0], changes))
    size = graphs[0].end - graphs[0].value + sum(len(edit.data) - edit.length for edit in inner)
    yield ByteEdit(graphs[0].length_at, graphs[0].value - graphs[0].length_at, encode_varint(size))
    yield from inner
    for item, entry in zip((item for item in top if item.number == _METADATA), model.metadata_props, strict=True):
        if entry.key in changes.metadata:
            yield ByteEdit(item.begin, item.end - item.begin, b"")
    yield ByteEdit(len(data), 0, _bytes_to_append(model, changes))


def _graph_edits(data: memoryview, graph: WireField, changes: GraphChanges) -> Iterator[ByteEdit]:
    inside = list(iterate_fields(data, graph.value, graph.end))
    outputs = {index: (value,) for index, value in changes.outputs.items()}
    for number, instead in ((_NODE, changes.nodes), (_OUTPUT, outputs)):
        for index, item in enumerate(item for item in inside if item.number == number):
            if index in instead:
                yield ByteEdit(item.begin, item.end - item.begin, _encode_messages(number, instead[index]))


def _encode_messages(number: int, parts: Sequence[onnx.NodeProto] | Sequence[onnx.ValueInfoProto]) -> bytes:
    return b"".join(encode_field(number, part.SerializeToString(deterministic=True)) for part in parts)


def _bytes_to_append(model: onnx.ModelProto, changes: GraphChanges) -> bytes:
    """Return the bytes to append to the model: metadata, and an operator set if it has none."""
    entries = [onnx.StringStringEntryProto(key=key, value=value) for key, value in changes.metadata.items()]
    metadata = b"".join(encode_field(_METADATA, entry.SerializeToString(deterministic=True)) for entry in entries)
    if any(entry.domain in OWN_DOMAINS for entry in model.opset_import):
        return metadata
    opset = helper.make_opsetid("", _OPSET)
    return metadata + encode_field(_OPSET_IMPORT, opset.SerializeToString(deterministic=True))


def _expected_model(model: onnx.ModelProto, changes: GraphChanges) -> onnx.ModelProto:
    """Return the model that the changed bytes must give when they are parsed."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    for index, node in enumerate(model.graph.node):
        result.graph.node.extend(changes.nodes.get(index, (node,)))
    for index, output in changes.outputs.items():
        result.graph.output[index].CopyFrom(output)
    for index in reversed(range(len(result.metadata_props))):
        if result.metadata_props[index].key in changes.metadata:
            del result.metadata_props[index]
    result.MergeFromString(_bytes_to_append(model, changes))
    return result
