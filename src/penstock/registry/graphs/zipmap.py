"""Removes ZipMap from a graph: exporters end classifiers with it by default, and its maps are not tensors.

Its output becomes the tensor of probabilities that it reads, under the same name. Its keys, the names of the classes,
go into the graph's metadata, from which they become the labels of the output.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import onnx
from onnx import TensorProto, helper

from penstock.core.errors import Refused
from penstock.core.texts import make_legible
from penstock.engine.graph import CLASS_LABELS
from penstock.registry.graphs.graph_edits import GraphChanges

ZIPMAP = "zipmap"
"""The fact of an admission report with the names of the classes."""

ZipMapLabels = dict[str, list[str]]
"""The names of the classes by output."""

MOST_LABEL_BYTES = 1 << 20
EXPORT = "export the model without its ZipMap step, so that it gives plain probabilities"
"""Advice for a map that cannot be removed."""


def cut_zipmaps(model: onnx.ModelProto) -> tuple[GraphChanges, ZipMapLabels]:
    """Return the changes that remove every ZipMap of an output, and the names of the classes; none without a map.

    Raises:
        Refused: an output is a map and cannot become a tensor; the message says why.
    """
    graph = model.graph
    zipmaps = {output.name: _zipmap_of(graph, output.name) for output in graph.output if _is_map_list(output)}
    if not zipmaps:
        return GraphChanges(), {}
    for output in zipmaps:
        _refuse_readers(graph, output)
    labels = {output: _read_labels(output, graph.node[index]) for output, index in zipmaps.items()}
    return _make_changes(model, zipmaps, labels), labels


def _is_map_list(value: Any) -> bool:
    return bool(
        value.type.HasField("sequence_type") and value.type.sequence_type.elem_type.WhichOneof("value") == "map_type"
    )


def _zipmap_of(graph: Any, output: str) -> int:
    """Return the index of the ZipMap that makes an output."""
    problem = f"output '{output}' is a list of maps"
    maker = next((index for index, node in enumerate(graph.node) if output in node.output), None)
    if maker is None:
        raise Refused(f"{problem} that nothing in the graph makes; only tensors can be served")
    node = graph.node[maker]
    if (node.op_type, node.domain, len(node.input), len(node.output)) != ("ZipMap", "ai.onnx.ml", 1, 1):
        raise Refused(f"{problem} made by {node.op_type[:100]}; only tensors can be served")
    return maker


def _refuse_readers(graph: Any, output: str) -> None:
    for node in graph.node:
        if output in _read_by(node):
            raise Refused(f"output '{output}' is a list of maps that {node.op_type[:100]} reads too; {EXPORT}")


def _read_by(node: Any) -> Iterator[str]:
    """Yield the values that a node reads, also in its nested graphs."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            yield from chain.from_iterable(_read_by(item) for item in inner.node)
            yield from (item.name for item in inner.output)


def _read_labels(output: str, node: Any) -> list[str]:
    stated = {item.name: item for item in node.attribute}
    if "classlabels_strings" in stated and stated["classlabels_strings"].strings:
        labels = [make_legible(string.decode("utf-8", "replace")) for string in stated["classlabels_strings"].strings]
    elif "classlabels_int64s" in stated and stated["classlabels_int64s"].ints:
        labels = [str(item) for item in stated["classlabels_int64s"].ints]
    else:
        raise Refused(f"the ZipMap of output '{output}' names no classes; {EXPORT}")
    if sum(map(len, labels)) > MOST_LABEL_BYTES:
        raise Refused(f"the names of the classes of output '{output}' are longer than {MOST_LABEL_BYTES}; {EXPORT}")
    return labels


def _make_changes(model: onnx.ModelProto, zipmaps: Mapping[str, int], labels: ZipMapLabels) -> GraphChanges:
    graph = model.graph
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.value_info if _has_rank(value)}
    nodes, outputs = {}, {}
    for index, output in enumerate(graph.output):
        if output.name in zipmaps:
            zipmap = graph.node[zipmaps[output.name]]
            dims = [None, len(labels[output.name])]
            sizes = dims[1:] if ranks.get(zipmap.input[0]) == 1 else dims
            outputs[index] = helper.make_tensor_value_info(output.name, TensorProto.FLOAT, sizes)
            identity = helper.make_node("Identity", zipmap.input, zipmap.output, name=zipmap.name)
            nodes[zipmaps[output.name]] = [identity]
    return GraphChanges(nodes, outputs, {CLASS_LABELS: json.dumps(labels)})


def _has_rank(value: Any) -> bool:
    return bool(value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"))
