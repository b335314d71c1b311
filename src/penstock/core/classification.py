"""The classification extension: the largest values of an output as ``value:index[:label]`` strings."""

from typing import Final

import numpy as np

from penstock.core.errors import InvalidInput, TooLarge
from penstock.core.slices import TEXT_SLICE, PauseWork, no_pause
from penstock.core.tensors import Array, Tensor

MAX_RANKED: Final = 1_000_000
"""Maximum values to rank for one answer, as in Triton."""


def top_classes(
    tensor: Tensor,
    count: int,
    labels: tuple[str, ...],
    batching: bool,
    max_texts: int = MAX_RANKED,
    pause: PauseWork = no_pause,
) -> Tensor:
    """Return the ``count`` largest values of each row of a numeric tensor, as a BYTES tensor of shape [rows, classes].

    A model that does not batch gives one row in all, of shape [classes]; ``count`` is capped at the number of classes.
    Equal values are in the order of their indices, NaN comes last. There is a pause after each slice of texts.

    Raises:
        InvalidInput: the count is not positive or the tensor is not numeric.
        TooLarge: there are more values than are ranked, or they would be more than ``max_texts`` strings.
    """
    name = tensor.name
    if count < 1:
        raise InvalidInput(f"classification of output '{name}' must ask for at least 1 class, got {count}")
    if tensor.datatype in ("BYTES", "BF16", "BOOL"):
        raise InvalidInput(f"output '{name}' is {tensor.datatype}; classification needs a numeric output")
    data = tensor.data
    if data.size > MAX_RANKED:
        raise TooLarge(
            f"output '{name}' has {data.size} values, and classification ranks at most {MAX_RANKED}; "
            "ask for the values themselves"
        )
    rows = data.reshape(data.shape[0] if batching else 1, -1) if data.size else np.empty((0, 0), data.dtype)
    classes = min(count, rows.shape[1])
    if classes * len(rows) > max_texts:
        raise TooLarge(
            f"classification of output '{name}' would give {classes * len(rows)} strings, over the limit of "
            f"{max_texts} (limits.max_text_elements); ask for fewer classes or rows"
        )
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :classes]
    values = np.take_along_axis(rows, order, axis=1).ravel()
    texts = _make_texts(values, order.ravel(), labels, pause).reshape(order.shape)
    return Tensor(name, "BYTES", texts if batching else texts.reshape(-1))


def _make_texts(values: Array, indices: Array, labels: tuple[str, ...], pause: PauseWork) -> Array:
    """Yield one string for each value, in slices."""
    form = "{:f}:{}" if values.dtype.kind == "f" else "{}:{}"
    texts = np.empty(len(values), object)
    for first in range(0, len(values), TEXT_SLICE):
        if first:
            pause()
        last = first + TEXT_SLICE
        pairs = zip(values[first:last].tolist(), indices[first:last].tolist(), strict=True)
        texts[first:last] = [
            f"{form.format(value, index)}:{labels[index]}" if index < len(labels) else form.format(value, index)
            for value, index in pairs
        ]
    return texts
