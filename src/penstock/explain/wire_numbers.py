"""Decodes long runs of numbers in protobuf messages at once: a graph of trees has a million of them."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

MORE: Final = 0x80
"""The bit of a byte that says that a variable-length number goes on."""

LONGEST: Final = 10
"""Bytes of the longest number."""


def unpack_varints(data: Bytes) -> NDArray[np.int64]:
    """Return the signed 64-bit numbers of a packed field.

    Raises:
        ValueError: the last number is cut off, or one is too long.
    """
    ends = np.flatnonzero(data < MORE)
    if not len(data):
        return np.zeros(0, np.int64)
    if not len(ends) or ends[-1] != len(data) - 1:
        raise ValueError("a number has no end")
    starts = np.concatenate(([0], ends[:-1] + 1))
    return _numbers(data, starts, ends)


def _numbers(data: Bytes, starts: NDArray[np.intp], ends: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return the numbers whose first and last bytes are at these positions."""
    longest = int((ends - starts).max()) + 1
    if longest > LONGEST:
        raise ValueError("a number is too long")
    values = np.zeros(len(starts), np.uint64)
    for place in range(longest):
        part = starts + place <= ends
        values[part] |= (data[starts[part] + place] & 0x7F).astype(np.uint64) << np.uint64(7 * place)
    return values.view(np.int64)


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
    return _numbers(data, tags[:count] + 1, lasts[:count]), int(lasts[count - 1]) + 1


def read_float_run(data: Bytes, tag: int) -> tuple[NDArray[np.float32], int]:
    """Return the FP32 numbers at the beginning of ``data`` that each follow the one-byte ``tag``, and the bytes that
    they take."""
    stride = 5
    table: NDArray[Any] = data[: len(data) // stride * stride].reshape(-1, stride)
    wrong = np.flatnonzero(table[:, 0] != tag)
    count = int(wrong[0]) if len(wrong) else len(table)
    return np.ascontiguousarray(table[:count, 1:]).view("<f4").reshape(count), count * stride
