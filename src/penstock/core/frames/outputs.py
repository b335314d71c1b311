"""Turns a model's outputs into a frame."""

from collections.abc import Sequence
from math import prod

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.frames.frame import DEFAULT_LIMITS, Frame, FrameColumn
from penstock.core.signature import Signature
from penstock.core.tensors import Array, Tensor


def outputs_to_frame(outputs: Sequence[Tensor], signature: Signature) -> Frame:
    """Return a column for each value that a row has of an output.

    An output of one value has its own name; of several, each has the output's name and its label, or else its index,
    after an underscore.

    Raises:
        InvalidInput: the outputs have no rows, or differ in their number.
    """
    rows = _rows_of(outputs)
    labels = {spec.name: spec.labels for spec in signature.outputs}
    columns: dict[str, FrameColumn] = {}
    for output in outputs:
        flat = output.data.reshape(rows, prod(output.data.shape[1:]))
        DEFAULT_LIMITS.check(rows, len(columns) + flat.shape[1])
        for index, name in enumerate(_make_names(output.name, flat.shape[1], labels.get(output.name, ()))):
            columns[_find_unused_name(name, columns)] = FrameColumn(_make_values(output.datatype, flat[:, index]))
    return Frame(columns, rows)


def _rows_of(outputs: Sequence[Tensor]) -> int:
    """Return the number of rows of all outputs."""
    rows = {output.data.shape[:1] for output in outputs}
    if len(rows) > 1 or () in rows:
        raise InvalidInput("the outputs have no rows in common; the model's answers are not rows")
    return int(next(iter(rows))[0]) if rows else 0


def _make_names(name: str, width: int, labels: Sequence[str]) -> list[str]:
    if width == 1:
        return [name]
    if len(labels) == width and len(set(labels)) == width:
        return [f"{name}_{label}" for label in labels]
    return [f"{name}_{index}" for index in range(width)]


def _find_unused_name(name: str, columns: dict[str, FrameColumn]) -> str:
    """Return a name for a column that no other has."""
    while name in columns:
        name += "_"
    return name


def _make_values(datatype: str, values: Array) -> Array:
    """Return values as a frame has them."""
    kind = values.dtype.kind
    if datatype == "BF16":  # its 16 bits are the first ones of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    if kind == "f":
        return values.astype(np.float64) if values.dtype.itemsize == 8 else values.astype(np.float32)
    if kind in "iu":
        return values.astype(np.uint64 if values.dtype == np.uint64 else np.int64)
    return values
