"""Reads the data of `penstock predict` and builds the V2 request from it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from penstock.cli.client import Document


class BadData(ValueError):
    """The data is not JSON, or not in a form that fits the model; the text says what was expected."""


def read_data(argument: str | None, stdin: TextIO) -> Any:
    """Return the JSON of ``--data``: inline, from ``@FILE``, or from stdin (``-``, or no option when it is piped).

    Raises:
        BadData: there is no data, it cannot be read, or it is not JSON.
    """
    if argument is None and stdin.isatty():
        raise BadData("no data; give --data JSON, --data @FILE or --data -")
    try:
        if argument is None or argument == "-":
            text = stdin.read()
        elif argument.startswith("@"):
            text = Path(argument[1:]).read_text()
        else:
            text = argument
        return json.loads(text)
    except OSError as error:
        raise BadData(f"the data cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BadData(f"the data is not JSON: {error}") from None


def is_request(data: Any) -> bool:
    """Whether the data already is a V2 request."""
    return (
        isinstance(data, Mapping)
        and isinstance(data.get("inputs"), list)
        and all(
            isinstance(tensor, Mapping) and {"name", "datatype", "shape", "data"} <= tensor.keys()
            for tensor in data["inputs"]
        )
    )


def to_request(data: Any, inputs: Sequence[Document]) -> Document:
    """Return the V2 request for ``data``: a mapping of input names to values, or the values of a model's only input.

    Raises:
        BadData: it names other inputs, or its lists do not form a tensor of the input's rank.
    """
    values = _by_name(data, inputs)
    return {"inputs": [_make_tensor(spec, values[spec["name"]]) for spec in inputs if spec["name"] in values]}


def describe(inputs: Sequence[Document]) -> str:
    """Return the inputs of a model in one line: ``pixels FP32 [-1, 64]``."""
    return ", ".join(f"{spec['name']} {spec['datatype']} {spec['shape']}" for spec in inputs)


def _by_name(data: Any, inputs: Sequence[Document]) -> Mapping[str, Any]:
    if isinstance(data, Mapping):
        unknown = sorted(data.keys() - {spec["name"] for spec in inputs})
        if unknown:
            raise BadData(f"unknown input '{unknown[0]}'; the model takes {describe(inputs)}")
        return data
    if len(inputs) != 1:
        raise BadData(f"the model takes {len(inputs)} inputs; name them: {describe(inputs)}")
    return {inputs[0]["name"]: data}


def _make_tensor(spec: Document, value: Any) -> Document:
    rank, shape = len(spec["shape"]), _find_shape(spec["name"], value)
    if len(shape) == rank - 1 and spec["shape"][0] == -1:
        shape = [1, *shape]  # one row of a batch, written without the outer brackets
    if len(shape) != rank:
        raise BadData(f"the data of '{spec['name']}' has shape {shape}; expected {describe([spec])}")
    return {"name": spec["name"], "datatype": spec["datatype"], "shape": shape, "data": _flatten(value)}


def _find_shape(name: str, value: Any) -> list[int]:
    if not isinstance(value, list):
        return []
    shapes = [_find_shape(name, item) for item in value]
    if any(shape != shapes[0] for shape in shapes):
        raise BadData(f"the lists of '{name}' have different lengths")
    return [len(value), *(shapes[0] if shapes else [])]


def _flatten(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in _flatten(item)] if isinstance(value, list) else [value]
