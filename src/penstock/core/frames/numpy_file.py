"""Arrays from NumPy's .npy files and back; never with pickles, and nothing is allocated that a file only promises.

The format is described in ``numpy.lib.format``.
"""

import io
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy

from penstock.core.errors import InvalidInput
from penstock.core.frames.frame import DEFAULT_LIMITS, FrameLimits
from penstock.core.tensors import Array, element_count

LONGEST_HEADER: Final = 4096
_KINDS: Final = "fiubUS"
_READERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_array(data: bytes | memoryview, limits: FrameLimits = DEFAULT_LIMITS) -> Array:
    """Return the array of a .npy file: a read-only view of ``data``, or a copy where texts or foreign bytes need one.

    Raises:
        InvalidInput: it is no such file, has more or fewer bytes than it says, objects, or too many values.
    """
    head = io.BytesIO(bytes(data[: LONGEST_HEADER + 128]))
    try:
        reader = _READERS.get(npy.read_magic(head))
        shape, fortran, dtype = (None, False, None) if reader is None else reader(head, LONGEST_HEADER)
    except Exception:  # NumPy evaluates the header as a literal, which can fail in many ways
        raise InvalidInput("the data is not a .npy file") from None
    if shape is None or dtype is None or dtype.hasobject or dtype.kind not in _KINDS or not dtype.itemsize:
        raise InvalidInput("the .npy file does not hold plain numbers, truth values or texts")
    count = element_count("npy", shape)
    rest = memoryview(data)[head.tell() :]
    if count > limits.cells or len(rest) != count * dtype.itemsize:
        raise InvalidInput(f"the .npy file says it has {count} values, and has {len(rest)} bytes of them")
    return _make_plain(np.frombuffer(rest, dtype).reshape(shape, order="F" if fortran else "C"))


def write_array(values: Array) -> bytes:
    """Return an array of numbers, truth values or texts as a .npy file."""
    file = io.BytesIO()
    npy.write_array(file, values.astype(str) if values.dtype.kind == "O" else values, allow_pickle=False)
    return file.getvalue()


def _make_plain(values: Array) -> Array:
    """Return values in the byte order of this machine, and texts as objects."""
    if values.dtype.kind == "S":
        try:
            return np.array([item.decode() for item in values.ravel().tolist()], object).reshape(values.shape)
        except UnicodeDecodeError:
            raise InvalidInput("the .npy file has bytes that are not UTF-8") from None
    if values.dtype.kind == "U":
        texts: Array = values.astype(object)
        return texts
    dtype: np.dtype[Any] = values.dtype
    return values if dtype.isnative else values.astype(dtype.newbyteorder("="))
