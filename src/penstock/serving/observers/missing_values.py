"""Shows the monitor which values of a request were missing, where defaults of the model card stand in for them."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from penstock.core.tensors import Array, Tensor
from penstock.serving.infer_call import InferCall

NO_TEXT: Final = ""
"""A text that the monitor counts as missing (see ``core.bins.label``)."""


def mark_missing(calls: Sequence[InferCall], inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the inputs of calls, stacked in this order, with missing values instead of defaults: NaN, or no text."""
    data = {tensor.name: tensor.data for tensor in inputs}
    marked: dict[str, Array] = {}
    first = 0
    for call in calls:
        for column in call.defaulted:
            if column.tensor not in marked:
                marked[column.tensor] = _copy(data[column.tensor])
            rows = marked[column.tensor]
            values = rows.reshape(len(rows), -1)
            values[first + column.rows, column.index] = NO_TEXT if rows.dtype.kind == "O" else np.nan
        first += call.rows
    return [Tensor(item.name, item.datatype, marked.get(item.name, item.data)) for item in inputs]


def _copy(data: Array) -> Array:
    """Return a copy that can hold missing values."""
    return np.array(data, data.dtype if data.dtype.kind in "fO" else np.float64, order="C")
