"""Tensors as the Open Inference Protocol names them, and their raw little-endian form."""

from collections.abc import Sequence
from math import isfinite
from struct import Struct
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.core.copies import join_parts
from penstock.core.errors import InvalidInput, TooLarge
from penstock.core.slices import BYTE_SLICE, TEXT_SLICE, PauseWork, no_pause
from penstock.core.texts import shorten

Array: TypeAlias = NDArray[Any]
Shape = tuple[int, ...]

MAX_ELEMENTS: Final = 1 << 40
"""No shape may promise more elements than this; NumPy can shape whatever stays below."""

MAX_RANK: Final = 32
"""Dimensions of a tensor."""

MAX_SHOWN: Final = 8
"""Dimensions of a shape that an error message shows."""

NUMPY_TYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),
    "BYTES": np.dtype(object),
}
"""Datatype name to the NumPy type that carries it; BF16 travels as its 16 bits, BYTES as ``str`` objects."""

PLAIN: Final = frozenset(
    {"FP16", "FP32", "FP64", *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))}
)
"""Datatypes whose raw bytes are good whatever they are."""

RAW_ONLY: Final = frozenset({"FP16", "BF16"})
"""Datatypes that have no JSON and no typed gRPC form."""


class Tensor:
    """One named tensor of a request or an answer; ``data`` has the type ``NUMPY_TYPES[datatype]``.

    ``text_bytes`` is what the elements of a BYTES tensor of a request have as UTF-8; ``data`` only refers to them.
    Not a dataclass: their constructors are not compiled, and every request makes some of these.
    """

    __slots__ = ("data", "datatype", "name", "text_bytes")

    def __init__(self, name: str, datatype: str, data: Array, text_bytes: int = 0) -> None:
        self.name = name
        self.datatype = datatype
        self.data = data
        self.text_bytes = text_bytes

    def to_json(self) -> dict[str, Any]:
        """The tensor as JSON values for people; what JSON does not have becomes text, and long texts are cut."""
        values = self.data.astype(np.float64) if self.data.dtype.kind == "f" else self.data
        flat = [_json_value(item) for item in values.ravel().tolist()]
        shape = list(self.data.shape)
        return {"name": self.name, "datatype": self.datatype, "shape": shape, "data": flat}


def _json_value(value: Any) -> Any:
    if isinstance(value, str):
        return shorten(value)
    return value if not isinstance(value, float) or isfinite(value) else str(value)


def shape_text(shape: Sequence[int]) -> str:
    """A shape as the error messages write it: ``[-1, 30]``; of a long one the beginning."""
    sizes = [str(dim) if -MAX_ELEMENTS <= dim <= MAX_ELEMENTS else "..." for dim in shape[:MAX_SHOWN]]
    return "[" + ", ".join([*sizes, "..."] if len(shape) > MAX_SHOWN else sizes) + "]"


def element_count(name: str, shape: Sequence[int]) -> int:
    """Number of elements of a stated shape.

    Raises:
        InvalidInput: too many dimensions, a negative one, or a product beyond any possible message.
    """
    if len(shape) > MAX_RANK:
        raise InvalidInput(
            f"tensor '{shorten(name)}' has rank {len(shape)}; at most {MAX_RANK} dimensions are possible"
        )
    count, empty = 1, False
    for dim in shape:  # the product stops at the limit: dimensions may be numbers of any length
        if dim == 0:
            empty = True
        elif dim < 0 or (count := count * dim) > MAX_ELEMENTS:
            raise InvalidInput(f"tensor '{shorten(name)}' has the impossible shape {shape_text(shape)}")
    return 0 if empty else count


def numpy_type(name: str, datatype: str) -> np.dtype[Any]:
    """The NumPy type of a datatype name.

    Raises:
        InvalidInput: the protocol knows no such datatype.
    """
    try:
        return NUMPY_TYPES[datatype]
    except KeyError:
        raise unknown_datatype(name, datatype) from None


def unknown_datatype(name: str, datatype: str) -> InvalidInput:
    """The protocol knows no such datatype."""
    datatypes = ", ".join(NUMPY_TYPES)
    return InvalidInput(
        f"tensor '{shorten(name)}' has the unknown datatype '{shorten(datatype)}'; expected one of {datatypes}"
    )


def from_raw(
    name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview, pause: PauseWork = no_pause
) -> Array:
    """A view on raw little-endian row-major bytes; BYTES elements are length-prefixed and copied out, with a pause
    after each slice of them.

    Raises:
        InvalidInput: unknown datatype, impossible shape, or a byte count that does not fit it.
    """
    dtype = numpy_type(name, datatype)
    count = element_count(name, shape)
    if datatype == "BYTES":
        return bytes_from_raw(name, count, raw, pause).reshape(shape)
    if len(raw) != count * dtype.itemsize:
        raise InvalidInput(
            f"tensor '{name}' of {datatype} {shape_text(shape)} needs {count * dtype.itemsize} bytes, got {len(raw)}"
        )
    array = np.frombuffer(raw, dtype).reshape(shape)
    if datatype == "BOOL" and count and array.view(np.uint8).max() > 1:
        raise InvalidInput(f"tensor '{name}' of BOOL holds a byte other than 0 and 1")
    return array


def raw_rows(raw: bytes, count: int) -> list[bytes]:
    """The raw bytes of each of ``count`` rows of the same size, which may be 0."""
    size = len(raw) // count
    return [raw[at : at + size] for at in range(0, len(raw), size)] if size else [b""] * count


LARGE: Final = 1 << 16
"""Bytes from which on a view, or a copy that other threads need not wait for, is worth its trouble."""


def to_raw(datatype: str, array: Array, pause: PauseWork = no_pause, most: int = MAX_ELEMENTS) -> bytes:
    """The raw little-endian row-major bytes of an array of ``NUMPY_TYPES[datatype]``; BYTES as ``bytes_to_raw``."""
    if datatype == "BYTES":
        return bytes_to_raw(array, pause, most)
    dtype = NUMPY_TYPES[datatype]
    if array.nbytes < LARGE and (array.dtype is dtype or array.dtype == dtype):  # NumPy has two types of eight bytes
        return array.tobytes()
    contiguous = np.ascontiguousarray(array, dtype)
    return contiguous.tobytes() if array.nbytes < LARGE else join_parts([contiguous.data.cast("B")])


def raw_of(datatype: str, array: Array, pause: PauseWork = no_pause, most: int = MAX_ELEMENTS) -> bytes | memoryview:
    """As ``to_raw``, but a view of the array itself where that is large and lies as it should."""
    if array.nbytes < LARGE or datatype == "BYTES":
        return to_raw(datatype, array, pause, most)
    return np.ascontiguousarray(array, NUMPY_TYPES[datatype]).data.cast("B")


_LENGTH: Final = Struct("<I").unpack_from


def bytes_from_raw(name: str, count: int, raw: bytes | memoryview, pause: PauseWork = no_pause) -> Array:
    """BYTES elements from their wire form: each a 4-byte little-endian length, then UTF-8 text.

    ONNX string tensors hold UTF-8, so other bytes cannot reach a model and are refused here.

    Raises:
        InvalidInput: a length runs past the end, bytes are left over, or an element is not UTF-8.
    """
    if count * 4 > len(raw):
        raise InvalidInput(f"tensor '{name}' of BYTES needs {count} elements, but its data ends after {len(raw)} bytes")
    items = np.empty(count, object)
    view, offset, end = memoryview(raw), 0, len(raw)
    paused = 0
    for first in range(0, count, TEXT_SLICE):
        last = min(count, first + TEXT_SLICE)
        texts: list[str] = []
        for index in range(first, last):
            start = offset + 4
            offset = start + _LENGTH(view, offset)[0] if start <= end else end + 1
            if offset > end:
                raise InvalidInput(f"tensor '{name}' of BYTES ends inside element {index} of {count}")
            texts.append(text_from_bytes(name, index, view[start:offset]))
            if offset - paused > BYTE_SLICE:
                pause()
                paused = offset
        items[first:last] = texts
        if last < count:
            pause()
    if offset != end:
        raise InvalidInput(f"tensor '{name}' of BYTES has {end - offset} bytes after its last of {count} elements")
    return items


def text_from_bytes(name: str, index: int, item: bytes | memoryview) -> str:
    """One BYTES element as the text an ONNX string tensor holds.

    Raises:
        InvalidInput: the bytes are not UTF-8.
    """
    try:
        return str(item, "utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(
            f"element {index} of tensor '{name}' is not UTF-8; ONNX string tensors hold UTF-8 text"
        ) from None


def held_bytes(array: Array) -> int:
    """The bytes that an array of ``NUMPY_TYPES`` keeps in memory, those of texts included, one for each character."""
    size: int = array.nbytes
    return size if array.dtype.char != "O" else size + sum(map(len, array.ravel().tolist()))


def bytes_to_raw(array: Array, pause: PauseWork = no_pause, most: int = MAX_ELEMENTS) -> bytes:
    """The wire form of BYTES elements, row-major, with a pause after each slice of elements.

    Raises:
        TooLarge: it has more than ``most`` bytes.
    """
    items = array.ravel()
    slices: list[bytes] = []
    size = paused = 0
    for first in range(0, len(items), TEXT_SLICE):
        if first:
            pause()
        parts: list[bytes] = []
        for item in items[first : first + TEXT_SLICE].tolist():
            encoded = item.encode() if isinstance(item, str) else bytes(item)
            parts += (len(encoded).to_bytes(4, "little"), encoded)
            size += len(encoded) + 4
            if size - paused > BYTE_SLICE:
                if size > most:
                    raise TooLarge(f"the elements of a BYTES tensor have more than {most} bytes")
                pause()
                paused = size
        slices.append(b"".join(parts))
    return slices[0] if len(slices) == 1 else b"".join(slices)
