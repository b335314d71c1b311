"""Makes the inputs of a load test: from the signature of a model alone, or from the distributions of its reference."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Document = dict[str, Any]

REQUESTS: Final = 64
"""Different requests of a load test, which take turns: no cache may answer for the model."""

MOST_ELEMENTS: Final = 1 << 24
"""The most values that one generated request may have."""

_FLOATS: Final = ("FP16", "FP32", "FP64", "BF16")
_LETTERS: Final = list("abcdefghijklmnopqrstuvwxyz")

Draw = Mapping[str, NDArray[Any]]
"""Values [requests * rows] of each column of a reference, by its name."""


class BadInputs(ValueError):
    """The inputs cannot be made; the text says what was expected."""


def make_requests(
    inputs: Sequence[Document], rows: int, shapes: Mapping[str, Sequence[int]], seed: int, columns: Draw | None = None
) -> list[Document]:
    """Return REQUESTS requests in V2 JSON that fit the inputs of a model (name, datatype, shape; -1 is any size).

    The first dimension, if it may have any size, takes ``rows``; further ones of any size take 1, unless ``shapes``
    states the whole shape of an input. Numbers are normally distributed, whole numbers from 0 to 9, texts random; the
    columns of a reference take the place of these.

    Raises:
        BadInputs: ``shapes`` names an unknown input or a shape that does not fit, or a request would be too large.
    """
    if unknown := sorted(shapes.keys() - {spec["name"] for spec in inputs}):
        raise BadInputs(f"--shape: unknown input '{unknown[0]}'; the model takes {describe_inputs(inputs)}")
    random = np.random.default_rng(seed)
    sizes = {spec["name"]: _find_shape(spec, rows, shapes.get(spec["name"])) for spec in inputs}
    if sum(prod(shape) for shape in sizes.values()) > MOST_ELEMENTS:
        raise BadInputs(f"expected at most {MOST_ELEMENTS:,} values in a request; state a smaller --rows-per-request")
    return [
        {"inputs": [_make_tensor(spec, sizes[spec["name"]], random, columns, number) for spec in inputs]}
        for number in range(REQUESTS)
    ]


def match_columns(inputs: Sequence[Document], columns: Draw) -> Draw:
    """Return columns by the names ``INPUT`` or ``INPUT[0]``, ``INPUT[1]`` and so on.

    References of a model with one input may have names of their own; their columns are in the order of its values.

    Raises:
        BadInputs: no column belongs to an input.
    """
    known = {name for spec in inputs for name in _column_names(spec)}
    if found := {name: values for name, values in columns.items() if name in known}:
        return found
    names = _column_names(inputs[0]) if len(inputs) == 1 else []
    if len(names) != len(columns):
        raise BadInputs(f"the reference has no values of single inputs; the model takes {describe_inputs(inputs)}")
    return dict(zip(names, columns.values(), strict=True))


def _column_names(spec: Document) -> list[str]:
    width = prod(size if size > 0 else 1 for size in spec["shape"][1:])
    return [spec["name"]] if width == 1 else [f"{spec['name']}[{place}]" for place in range(width)]


def describe_inputs(inputs: Sequence[Document]) -> str:
    """Return inputs in one line: ``pixels FP32 [-1, 64]``."""
    return ", ".join(f"{spec['name']} {spec['datatype']} {spec['shape']}" for spec in inputs)


def parse_shapes(texts: Sequence[str]) -> dict[str, list[int]]:
    """Return the shapes that texts such as ``image=1,3,224,224`` state.

    Raises:
        BadInputs: a text has another form.
    """
    shapes = {}
    for text in texts:
        name, equals, sizes = text.rpartition("=")
        parts = sizes.split(",")
        if not equals or not name or not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise BadInputs(f"--shape: expected INPUT=SIZE,SIZE, such as image=1,3,224,224 (got '{text}')")
        shapes[name] = [int(part) for part in parts]
    return shapes


def _find_shape(spec: Document, rows: int, stated: Sequence[int] | None) -> list[int]:
    shape: list[int] = spec["shape"]
    if stated is None:
        return [size if size >= 0 else rows if place == 0 else 1 for place, size in enumerate(shape)]
    fits = len(stated) == len(shape) and all(size in (-1, own) for size, own in zip(shape, stated, strict=False))
    if not fits:
        raise BadInputs(f"--shape: {list(stated)} does not fit the input {describe_inputs([spec])}")
    return list(stated)


def _make_tensor(
    spec: Document, shape: Sequence[int], random: np.random.Generator, columns: Draw | None, number: int
) -> Document:
    values = _draw_values(spec["datatype"], prod(shape), random)
    if columns:
        values = _with_columns(spec, values, shape, columns, number)
    return {"name": spec["name"], "datatype": spec["datatype"], "shape": list(shape), "data": values}


def _draw_values(datatype: str, count: int, random: np.random.Generator) -> list[Any]:
    if datatype in _FLOATS:
        values: list[Any] = random.normal(size=count).round(4).tolist()
        return values
    if datatype == "BOOL":
        return [bool(value) for value in random.integers(0, 2, count)]
    if datatype == "BYTES":
        return ["".join(row) for row in random.choice(_LETTERS, (count, 8))]
    whole: list[Any] = random.integers(0, 10, count).tolist()
    return whole


def _with_columns(spec: Document, values: list[Any], shape: Sequence[int], columns: Draw, number: int) -> list[Any]:
    """Replace the values of which the reference has columns; a row of the tensor takes a row of the reference."""
    rows = shape[0] if shape else 1
    width = len(values) // rows if rows else 0
    for place in range(width):
        column = columns.get(spec["name"] if width == 1 else f"{spec['name']}[{place}]")
        if column is not None:
            taken = column[(np.arange(rows) + number * rows) % len(column)]
            values[place::width] = _fit_values(spec["datatype"], taken)
    return values


def _fit_values(datatype: str, values: NDArray[Any]) -> list[Any]:
    if datatype == "BYTES":
        return [str(value) for value in values]
    if datatype == "BOOL":
        return [bool(value) for value in values]
    numbers = np.asarray(values, np.float64)
    found: list[Any] = numbers.tolist() if datatype in _FLOATS else np.rint(numbers).astype(np.int64).tolist()
    return found
