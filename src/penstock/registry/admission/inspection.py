"""Inspects a graph without running it: the rules of ONNX's checker, and external weights strictly within its folder."""

import json
import stat
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from onnx import checker

from penstock.core.batching import RowProof
from penstock.core.errors import Refused
from penstock.core.texts import is_readable, without_paths
from penstock.engine.row_independence.proof import prove
from penstock.registry.admission.plain_graph import read_plain
from penstock.registry.admission.row_proof import FACT, encode_proof

MOST_OPS = 500
LONGEST_REASON = 400
LONGEST_NAME = 100
MOST_METADATA = 64 << 10
_CHECKED_INLINE = (2 << 30) - (64 << 20)
"""A larger graph cannot be checked in memory, and the runtime cannot load it."""


def inspect(graph: Path, folder: Path | None, stated: Collection[str] = ()) -> dict[str, Any]:
    """Return the facts that a graph states; ``folder`` holds its weights, None if the graph must contain them all.

    ``stated`` are the inputs whose shape the configuration states.

    Raises:
        Refused: it is not an ONNX graph, breaks a rule, states no shape for an input, or references forbidden files.
    """
    model = read_model(graph)
    for tensor in _list_external(model):
        _check_external(tensor, graph, folder)
    _check_rules(model)
    _check_shapes(model, stated)
    ops = Counter(_operator_name(node) for node in nodes_of(model))
    return {
        "ir_version": model.ir_version,
        "producer": " ".join(f"{model.producer_name} {model.producer_version}".split())[:100],
        "opset": {entry.domain: entry.version for entry in list(model.opset_import)[:50]},
        "ops": dict(ops.most_common(MOST_OPS)),
        FACT: encode_proof(prove(read_plain(model))),
        **_feature_names(model),
    }


def proof_of(graph: Path) -> RowProof:
    """Return the proof of row independence for the graph in a file that was admitted before."""
    return prove(read_plain(onnx.load(str(graph), load_external_data=False)))


def read_model(graph: Path) -> onnx.ModelProto:
    """Return the graph in a file, without external weights.

    Raises:
        Refused: it is not an ONNX graph.
    """
    if graph.stat().st_size > _CHECKED_INLINE:
        raise Refused("the graph is larger than 2 GiB; keep its weights in files beside it")
    try:
        model = onnx.load(str(graph), load_external_data=False)
    except Exception:
        raise Refused("it is not an ONNX graph") from None
    if not model.HasField("graph") or not model.opset_import:
        raise Refused("it is not an ONNX graph")
    return model


def feature_names(graph: Path) -> list[str]:
    """Return the names of a graph's features, empty if it states none."""
    try:
        return _feature_names(onnx.load(str(graph), load_external_data=False)).get("feature_names", [])
    except Exception:  # it is not a graph, and loading it will say so
        return []


def _feature_names(model: Any) -> dict[str, list[str]]:
    """Return the names of the features in the graph's metadata, a JSON list under ``feature_names``."""
    text = next((entry.value for entry in model.metadata_props if entry.key == "feature_names"), "")
    try:
        names = json.loads(text) if 0 < len(text) <= MOST_METADATA else []
    except (ValueError, RecursionError):
        return {}
    are_names = isinstance(names, list) and all(isinstance(name, str) and is_readable(name) for name in names)
    return {"feature_names": [name[:LONGEST_NAME] for name in names]} if are_names and names else {}


def weight_files(graph: Path) -> list[str]:
    """Return the names of the files with the graph's weights, as the graph states them; empty if it is not a graph."""
    try:
        model = onnx.load(str(graph), load_external_data=False)
    except Exception:  # admission reports the reason
        return []
    return weights_of(model)


def weights_of(model: onnx.ModelProto) -> list[str]:
    """Return the names of the files with a graph's weights, as the graph states them."""
    entries = (entry for tensor in _iterate_tensors(model) for entry in tensor.external_data)
    return sorted({entry.value for entry in entries if entry.key == "location"})


def _check_rules(model: Any) -> None:
    try:
        with _make_checkable(model):
            checker.check_model(model)
    except checker.ValidationError as error:
        text, broken = " ".join(str(error).split()), "the graph breaks a rule of ONNX"
        sentence = f"{broken}: {without_paths(text) or 'no reason given'}"[:LONGEST_REASON]
        raise Refused(sentence, f"{broken}: {text}") from None


@contextmanager
def _make_checkable(model: Any) -> Iterator[None]:
    """Change the model within the block so that the checker accepts it.

    A value of unknown rank becomes a scalar: ONNX and the runtime allow it, but the checker does not. External weights,
    which have been checked before, become empty.
    """
    shapeless = [value.type.tensor_type for value in (*model.graph.input, *model.graph.output) if _has_no_shape(value)]
    outside = [(tensor, onnx.TensorProto.FromString(tensor.SerializeToString())) for tensor in _list_external(model)]
    try:
        for kind in shapeless:
            kind.shape.SetInParent()
        for tensor, _ in outside:
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
            tensor.dims[:] = [0]
        yield
    finally:
        for kind in shapeless:
            kind.ClearField("shape")
        for tensor, before in outside:
            tensor.CopyFrom(before)


def _check_shapes(model: Any, stated: Collection[str]) -> None:
    """Refuse inputs of unknown rank: the runtime reports them as scalars, so that requests could not be checked."""
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if _has_no_shape(value) and value.name not in stated and value.name not in constants:
            name = value.name[:LONGEST_NAME]
            raise Refused(
                f"the graph states no shape for input '{name}'; state it in config.pbtxt, as in "
                f'input [{{ name: "{name}" data_type: TYPE_FP32 dims: [ -1, 4 ] }}]'
            )


def _has_no_shape(value: Any) -> bool:
    return value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")


def _list_external(model: Any) -> list[Any]:
    """Return the tensors with values in other files."""
    external = onnx.TensorProto.EXTERNAL
    return [tensor for tensor in _iterate_tensors(model) if tensor.data_location == external or tensor.external_data]


def _check_external(tensor: Any, graph: Path, folder: Path | None) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if folder is None:
        raise Refused("the graph keeps weights in other files; push them with it, as a folder or a tar")
    location = entries.get("location", "")
    parts, filename = PurePosixPath(location).parts, _shown_filename(location)
    if not parts or location.startswith("/") or ".." in parts or "\\" in location or "\0" in location:
        raise Refused(
            "the graph names weights outside of its folder", f"the weights lie at {location[:LONGEST_REASON]!r}"
        )
    path = graph.parent
    for part in parts:
        path = path / part
        _refuse_link(path, filename)
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"the graph names weights that are not a regular file: {filename}")
    if status.st_nlink != 1:
        raise Refused(f"the graph names weights that have another name elsewhere (a hard link): {filename}")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Refused(f"the graph names weights outside of its folder: {filename}")
    offset, length = _whole_number(entries.get("offset", "0")), _whole_number(entries.get("length", "0"))
    if offset + length > status.st_size:
        raise Refused(f"the graph names weights beyond the end of their file: {filename}")


def _shown_filename(location: str) -> str:
    """Return the name of a file of weights as the graph states it, without its folders."""
    name = PurePosixPath(location).name
    return repr(name[:LONGEST_NAME]) if is_readable(name) else "its name is not readable"


def _refuse_link(path: Path, filename: str) -> None:
    try:
        mode = path.lstat().st_mode
    except (OSError, ValueError):
        raise Refused(f"the graph names weights that are not there: {filename}") from None
    if stat.S_ISLNK(mode):
        raise Refused(f"the graph names weights by a link: {filename}")


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise Refused("the graph names weights at an offset that is not a number")
    return int(text)


def _iterate_graphs(model: Any) -> Iterator[Any]:
    """Yield every graph and function of the model, including nested ones."""
    waiting = [model.graph, *model.functions, *(info.algorithm for info in model.training_info)]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting.extend(attribute.graphs)
                if attribute.HasField("g"):
                    waiting.append(attribute.g)


def nodes_of(model: Any) -> Iterator[Any]:
    """Yield the nodes of a model, of its functions and of all nested graphs."""
    return (node for graph in _iterate_graphs(model) for node in graph.node)


def _iterate_tensors(model: Any) -> Iterator[Any]:
    for graph in _iterate_graphs(model):
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from attribute.tensors
                if attribute.HasField("t"):
                    yield attribute.t
                for sparse in (*attribute.sparse_tensors, attribute.sparse_tensor):
                    yield from (sparse.values, sparse.indices)


def _operator_name(node: Any) -> str:
    name = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    return str(name)[:100]
