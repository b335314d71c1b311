"""Puts missing values where defaults of the model card stand in for them, as the monitor counts them."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from penstock.core.frames.terms import DefaultedColumn
from penstock.core.tensors import Array, Tensor

NO_TEXT: Final = ""
"""A text that the monitor counts as missing (see ``core.bins.make_label``)."""

BoundPart = tuple[int, Sequence[DefaultedColumn]]
"""The number of rows that were bound together, and their defaults."""


def put_missing(inputs: Sequence[Tensor], parts: Sequence[BoundPart]) -> list[Tensor]:
    """Return the inputs of parts, one after the other, with NaN or no text instead of defaults; only tensors with
    defaults are copied."""
    data = {tensor.name: tensor.data for tensor in inputs}
    marked: dict[str, Array] = {}
    first = 0
    for rows, defaulted in parts:
        for column in defaulted:
            if column.tensor not in marked:
                marked[column.tensor] = _copy(data[column.tensor])
            array = marked[column.tensor]
            values = array.reshape(len(array), -1)
            values[first + column.rows, column.index] = NO_TEXT if array.dtype.kind == "O" else np.nan
        first += rows
    return [Tensor(item.name, item.datatype, marked.get(item.name, item.data)) for item in inputs]


def _copy(data: Array) -> Array:
    """Return a copy that can hold missing values."""
    return np.array(data, data.dtype if data.dtype.kind in ("f", "O") else np.float64, order="C")
