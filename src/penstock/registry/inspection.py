"""Looks at a graph without running it: the checker's rules, and weights in other files strictly beneath its folder."""

import json
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from onnx import checker

from penstock.core.errors import Refused
from penstock.core.texts import is_readable
from penstock.engine.row_independence.proof import prove
from penstock.registry.plain_graph import read_plain
from penstock.registry.row_proof import FACT, proof_out

MOST_OPS = 500
LONGEST_REASON = 400
LONGEST_NAME = 100
MOST_METADATA = 64 << 10
_CHECKED_INLINE = (2 << 30) - (64 << 20)
"""A graph of more bytes cannot be checked from memory; the runtime cannot load one either."""


def inspect(graph: Path, folder: Path | None) -> dict[str, Any]:
    """What the graph says of itself; ``folder`` holds its weights, None where it must bring them all.

    Raises:
        Refused: it is no ONNX graph, breaks a rule, or reaches for files it may not have.
    """
    if graph.stat().st_size > _CHECKED_INLINE:
        raise Refused("the graph is larger than 2 GiB; keep its weights in files beside it")
    try:
        model = onnx.load(str(graph), load_external_data=False)
    except Exception:
        raise Refused("it is no ONNX graph") from None
    if not model.HasField("graph") or not model.opset_import:
        raise Refused("it is no ONNX graph")
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            _check_external(tensor, graph, folder)
    _check_rules(model, graph, external=folder is not None)
    ops = Counter(_named(node) for node in _nodes(model))
    return {
        "ir_version": model.ir_version,
        "producer": " ".join(f"{model.producer_name} {model.producer_version}".split())[:100],
        "opset": {entry.domain: entry.version for entry in list(model.opset_import)[:50]},
        "ops": dict(ops.most_common(MOST_OPS)),
        FACT: proof_out(prove(read_plain(model))),
        **_feature_names(model),
    }


def feature_names(graph: Path) -> list[str]:
    """What a graph calls its features, empty if it does not say."""
    try:
        return _feature_names(onnx.load(str(graph), load_external_data=False)).get("feature_names", [])
    except Exception:  # it is no graph: whoever loads it says so
        return []


def _feature_names(model: Any) -> dict[str, list[str]]:
    """What the graph's metadata calls the features: a JSON list under ``feature_names``."""
    text = next((entry.value for entry in model.metadata_props if entry.key == "feature_names"), "")
    try:
        names = json.loads(text) if 0 < len(text) <= MOST_METADATA else []
    except (ValueError, RecursionError):
        return {}
    sound = isinstance(names, list) and all(isinstance(one, str) and is_readable(one) for one in names)
    return {"feature_names": [name[:LONGEST_NAME] for name in names]} if sound and names else {}


def weight_files(graph: Path) -> list[str]:
    """The files that hold the graph's weights, by the names it gives them; empty where it is no graph at all."""
    try:
        model = onnx.load(str(graph), load_external_data=False)
    except Exception:  # admission tells why
        return []
    entries = (entry for tensor in _tensors(model) for entry in tensor.external_data)
    return sorted({entry.value for entry in entries if entry.key == "location"})


def _check_rules(model: Any, graph: Path, external: bool) -> None:
    try:
        checker.check_model(str(graph) if external else model)
    except checker.ValidationError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        text = " ".join(lines[:1] or ["no reason given"]).replace(str(graph.parent), "").replace(str(graph), "")
        raise Refused(f"the graph breaks a rule of ONNX: {text}"[:LONGEST_REASON]) from None


def _check_external(tensor: Any, graph: Path, folder: Path | None) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if folder is None:
        raise Refused("the graph keeps weights in other files; push them with it, as a folder or a tar")
    location = entries.get("location", "")
    parts = PurePosixPath(location).parts
    if not parts or location.startswith("/") or ".." in parts or "\\" in location or "\0" in location:
        raise Refused("the graph names weights outside of its folder")
    place = graph.parent
    for part in parts:
        place = place / part
        _refuse_link(place)
    found = place.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise Refused("the graph names weights that are no plain file")
    if found.st_nlink != 1:
        raise Refused("the graph names weights that have another name elsewhere (a hard link)")
    if not place.resolve().is_relative_to(folder.resolve()):
        raise Refused("the graph names weights outside of its folder")
    offset, length = _whole(entries.get("offset", "0")), _whole(entries.get("length", "0"))
    if offset + length > found.st_size:
        raise Refused("the graph names weights beyond the end of their file")


def _refuse_link(place: Path) -> None:
    try:
        mode = place.lstat().st_mode
    except (OSError, ValueError):
        raise Refused("the graph names weights that are not there") from None
    if stat.S_ISLNK(mode):
        raise Refused("the graph names weights by a link")


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise Refused("the graph names weights at a place that is no number")
    return int(text)


def _graphs(model: Any) -> Iterator[Any]:
    """Every graph of the model, and every function, which have nodes alike; nested ones included."""
    waiting = [model.graph, *model.functions, *(info.algorithm for info in model.training_info)]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting.extend(attribute.graphs)
                if attribute.HasField("g"):
                    waiting.append(attribute.g)


def _nodes(model: Any) -> Iterator[Any]:
    return (node for graph in _graphs(model) for node in graph.node)


def _tensors(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
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


def _named(node: Any) -> str:
    name = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    return str(name)[:100]
