"""The classification extension: the largest values of an output as ``value:index[:label]`` strings."""

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.tensors import Array, Tensor


def top_classes(tensor: Tensor, count: int, labels: tuple[str, ...], batching: bool) -> Tensor:
    """The ``count`` largest values of each row of a numeric tensor, as a BYTES tensor of shape [rows, classes].

    A model that does not batch gives one row in all, of shape [classes]; ``count`` is capped at the number of classes.

    Raises:
        InvalidInput: the count is not positive or the tensor is not numeric.
    """
    if count < 1:
        raise InvalidInput(f"classification of output '{tensor.name}' must ask for at least 1 class, got {count}")
    if tensor.datatype in ("BYTES", "BF16", "BOOL"):
        raise InvalidInput(f"output '{tensor.name}' is {tensor.datatype}; classification needs a numeric output")
    data = tensor.data
    rows = data.reshape(data.shape[0] if batching else 1, -1) if data.size else np.empty((0, 0), data.dtype)
    kept = min(count, rows.shape[1])
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :kept]
    texts = np.empty(order.shape, object)
    for row, ranked in enumerate(order):
        for place, index in enumerate(ranked):
            texts[row, place] = _class_text(rows[row, index], int(index), labels)
    return Tensor(tensor.name, "BYTES", texts if batching else texts.reshape(-1))


def _class_text(value: Array, index: int, labels: tuple[str, ...]) -> str:
    number = f"{float(value):f}" if value.dtype.kind == "f" else str(int(value))
    return f"{number}:{index}:{labels[index]}" if index < len(labels) else f"{number}:{index}"
