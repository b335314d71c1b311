"""Decodes long runs of numbers in protobuf messages at once: a graph of trees has a million of them."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penstock.core.protobuf_wire import MalformedMessage, read_varints, varints_at

Bytes = NDArray[np.uint8]

MORE: Final = 0x80
"""The bit of a byte that says that a variable-length number goes on."""


def unpack_varints(data: Bytes) -> NDArray[np.int64]:
    """Return the signed 64-bit numbers of a packed field.

    Raises:
        MalformedMessage: the last number is cut off, or one is too long.
    """
    numbers, size = read_varints(data)
    if size != len(data):
        raise MalformedMessage("a number has no end")
    return numbers.view(np.int64)


def read_varint_run(data: Bytes, tag: int) -> tuple[NDArray[np.int64], int]:
    """Return the numbers at the beginning of ``data`` that each follow the one-byte ``tag``, and the bytes that they
    take."""
    ends = np.flatnonzero(data < MORE)
    tags, lasts = ends[0::2], ends[1::2]
    tags = tags[: len(lasts)]
    expected = np.concatenate(([0], lasts[:-1] + 1)) if len(lasts) else lasts
    wrong = np.flatnonzero((tags != expected) | (data[tags] != tag))
    count = int(wrong[0]) if len(wrong) else len(lasts)
    if not count:
        return np.zeros(0, np.int64), 0
    return varints_at(data, tags[:count] + 1, lasts[:count]).view(np.int64), int(lasts[count - 1]) + 1


def read_float_run(data: Bytes, tag: int) -> tuple[NDArray[np.float32], int]:
    """Return the FP32 numbers at the beginning of ``data`` that each follow the one-byte ``tag``, and the bytes that
    they take."""
    stride = 5
    table: NDArray[Any] = data[: len(data) // stride * stride].reshape(-1, stride)
    wrong = np.flatnonzero(table[:, 0] != tag)
    count = int(wrong[0]) if len(wrong) else len(table)
    return np.ascontiguousarray(table[:count, 1:]).view("<f4").reshape(count), count * stride
