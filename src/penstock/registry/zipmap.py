"""Cuts ZipMap out of a graph: exporters end classifiers with it by default, and its maps are no tensors.

Its output becomes the tensor of probabilities that it was given, under the same name; its keys, the names of the
classes, go into the graph's metadata, from where they become the output's labels.
"""

import hashlib
import json
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from penstock.core.errors import Refused
from penstock.core.texts import legible
from penstock.engine.graph import CLASS_LABELS
from penstock.registry.blobs import PREFIX
from penstock.registry.rewrite import Edit, Rewrite, edited
from penstock.registry.wire_format import BYTES, Field, Malformed, field, fields, varint

ZIPMAP = "zipmap"
"""The name of the classes' names among the facts of an admission report."""

Labels = dict[str, list[str]]
"""The names of the classes by output."""

MOST_LABEL_BYTES = 1 << 20
_OPSET = 13
"""The operator set of a graph that imports none of its own, for the one operator that is put in."""

_GRAPH, _OPSET_IMPORT, _METADATA = 7, 8, 14
_NODE, _OUTPUT = 1, 12
_EXPORT = "export the model without its ZipMap step, so that it gives plain probabilities"


@dataclass(frozen=True, slots=True)
class Cut:
    """A graph without its ZipMaps: how its bytes change, and the names of the classes."""

    rewrite: Rewrite
    labels: Labels


def cut_zipmaps(path: Path, model: onnx.ModelProto) -> Cut | None:
    """How to cut every ZipMap that feeds an output out of the graph at ``path``; None where there is nothing to cut.

    ``model`` is that graph as it was parsed.

    Raises:
        Refused: an output is a map and cannot be made a tensor, with the reason.
    """
    graph = model.graph
    found = {output.name: _zipmap_of(graph, output.name) for output in graph.output if _is_map_list(output)}
    if not found:
        return None
    for output in found:
        _refuse_readers(graph, output)
    labels = {output: _labels(output, graph.node[index]) for output, index in found.items()}
    try:
        changed = _changed(model, found, labels)
        return Cut(_rewritten(path, model, changed), labels)
    except ValueError:
        raise Refused(f"the graph ends in a map and is written in an unusual form; {_EXPORT}") from None


def _is_map_list(value: Any) -> bool:
    return bool(
        value.type.HasField("sequence_type") and value.type.sequence_type.elem_type.WhichOneof("value") == "map_type"
    )


def _zipmap_of(graph: Any, output: str) -> int:
    """The index of the ZipMap that makes an output."""
    told = f"output '{output}' is a list of maps"
    maker = next((index for index, node in enumerate(graph.node) if output in node.output), None)
    if maker is None:
        raise Refused(f"{told} that nothing in the graph makes; only tensors can be served")
    node = graph.node[maker]
    if (node.op_type, node.domain, len(node.input), len(node.output)) != ("ZipMap", "ai.onnx.ml", 1, 1):
        raise Refused(f"{told} made by {node.op_type[:100]}; only tensors can be served")
    return maker


def _refuse_readers(graph: Any, output: str) -> None:
    for node in graph.node:
        if output in _read_by(node):
            raise Refused(f"output '{output}' is a list of maps that {node.op_type[:100]} reads too; {_EXPORT}")


def _read_by(node: Any) -> Iterator[str]:
    """What a node reads, also within its inner graphs."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            yield from chain.from_iterable(_read_by(one) for one in inner.node)
            yield from (one.name for one in inner.output)


def _labels(output: str, node: Any) -> list[str]:
    stated = {one.name: one for one in node.attribute}
    if "classlabels_strings" in stated and stated["classlabels_strings"].strings:
        labels = [legible(one.decode("utf-8", "replace")) for one in stated["classlabels_strings"].strings]
    elif "classlabels_int64s" in stated and stated["classlabels_int64s"].ints:
        labels = [str(one) for one in stated["classlabels_int64s"].ints]
    else:
        raise Refused(f"the ZipMap of output '{output}' names no classes; {_EXPORT}")
    if sum(map(len, labels)) > MOST_LABEL_BYTES:
        raise Refused(f"the names of the classes of output '{output}' are longer than {MOST_LABEL_BYTES}; {_EXPORT}")
    return labels


@dataclass(frozen=True, slots=True)
class _Changed:
    """Nodes and outputs, by index, that take the place of others; whether the graph imports ONNX's own operators."""

    nodes: Mapping[int, Any]
    outputs: Mapping[int, Any]
    labels: Labels
    imports_own: bool


def _changed(model: onnx.ModelProto, found: Mapping[str, int], labels: Labels) -> _Changed:
    graph = model.graph
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.value_info if _has_rank(value)}
    nodes, outputs = {}, {}
    for index, output in enumerate(graph.output):
        if output.name in found:
            zipmap = graph.node[found[output.name]]
            dims = [None, len(labels[output.name])]
            given = dims[1:] if ranks.get(zipmap.input[0]) == 1 else dims
            outputs[index] = helper.make_tensor_value_info(output.name, TensorProto.FLOAT, given)
            nodes[found[output.name]] = helper.make_node("Identity", zipmap.input, zipmap.output, name=zipmap.name)
    imports_own = any(entry.domain in ("", "ai.onnx") for entry in model.opset_import)
    return _Changed(nodes, outputs, labels, imports_own)


def _has_rank(value: Any) -> bool:
    return bool(value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"))


def _rewritten(path: Path, model: onnx.ModelProto, changed: _Changed) -> Rewrite:
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as data,
    ):
        edits = tuple(sorted(_edits(data, model, changed), key=lambda edit: edit.offset))
        result = b"".join(edited(data, edits))
    read = onnx.ModelProto.FromString(result)  # compared as bytes, since a NaN does not equal itself
    if read.SerializeToString(deterministic=True) != _expected(model, changed).SerializeToString(deterministic=True):
        raise Malformed("its parts are not where they should be")
    return Rewrite(edits, PREFIX + hashlib.sha256(result).hexdigest())


def _edits(data: memoryview, model: onnx.ModelProto, changed: _Changed) -> Iterator[Edit]:
    top = list(fields(data, 0, len(data)))
    graphs = [one for one in top if one.number == _GRAPH]
    if len(graphs) != 1 or graphs[0].wire_type != BYTES:
        raise Malformed("it has not one graph")
    inner = list(_graph_edits(data, graphs[0], changed))
    size = graphs[0].end - graphs[0].value + sum(len(edit.data) - edit.length for edit in inner)
    yield Edit(graphs[0].length_at, graphs[0].value - graphs[0].length_at, varint(size))
    yield from inner
    for one, entry in zip((one for one in top if one.number == _METADATA), model.metadata_props, strict=True):
        if entry.key == CLASS_LABELS:
            yield Edit(one.begin, one.end - one.begin, b"")
    yield Edit(len(data), 0, _appended(changed))


def _graph_edits(data: memoryview, graph: Field, changed: _Changed) -> Iterator[Edit]:
    inside = list(fields(data, graph.value, graph.end))
    for number, instead in ((_NODE, changed.nodes), (_OUTPUT, changed.outputs)):
        for index, one in enumerate(one for one in inside if one.number == number):
            if index in instead:
                message = field(number, instead[index].SerializeToString(deterministic=True))
                yield Edit(one.begin, one.end - one.begin, message)


def _appended(changed: _Changed) -> bytes:
    """What comes behind the model."""
    metadata = onnx.StringStringEntryProto(key=CLASS_LABELS, value=json.dumps(changed.labels))
    told = field(_METADATA, metadata.SerializeToString(deterministic=True))
    if changed.imports_own:
        return told
    opset = helper.make_opsetid("", _OPSET)
    return told + field(_OPSET_IMPORT, opset.SerializeToString(deterministic=True))


def _expected(model: onnx.ModelProto, changed: _Changed) -> onnx.ModelProto:
    """The model as its changed bytes have to be read."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for index, node in changed.nodes.items():
        result.graph.node[index].CopyFrom(node)
    for index, output in changed.outputs.items():
        result.graph.output[index].CopyFrom(output)
    for index in reversed(range(len(result.metadata_props))):
        if result.metadata_props[index].key == CLASS_LABELS:
            del result.metadata_props[index]
    result.MergeFromString(_appended(changed))
    return result
