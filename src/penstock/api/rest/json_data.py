"""Converts the data of an input in JSON to an array: short lists at once, long ones in slices with pauses."""

from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np

from penstock.api.rest.json_scan import SPACE, string_end
from penstock.core.errors import InvalidInput
from penstock.core.slices import BYTE_SLICE, JSON_SLICE, TEXT_SLICE, PauseWork, no_pause
from penstock.core.tensors import MAX_RANK, NUMPY_TYPES, Array, shape_text

_FLOATS: Final = ("FP32", "FP64")
_JSON_ITEM: Final[dict[str, Any]] = {
    "BOOL": bool,
    "FP32": float | None,
    "FP64": float | None,
    "BYTES": str,
    **{f"{sign}INT{bits}": int for sign in ("", "U") for bits in (8, 16, 32, 64)},
}
"""The JSON form of an element; null is NaN, because JSON has no number for it."""

WHOLE: Final = 2 * JSON_SLICE
"""Bytes of data to decode at once."""

_COMMA, _OPEN, _CLOSE = b",[]"
_NO_BRACKETS: Final = bytes.maketrans(b"[]", b"  ")
_NOT_VALUES: Final = b"[], \t\r\n"
_VALUES: Final = bytes.maketrans(bytes(set(range(256)) - set(_NOT_VALUES)), b"v" * (256 - len(_NOT_VALUES)))
_NOT_STRUCTURE: Final = bytes(set(range(256)) - set(b"[],"))


def array_of(
    name: str, datatype: str, shape: tuple[int, ...], count: int, data: bytes, pause: PauseWork = no_pause
) -> Array:
    """Return an array of ``count`` elements, flat in ``data`` or nested to ``shape``; the datatype has a JSON form.

    Raises:
        InvalidInput: another number of elements, another nesting, or a value that the datatype does not have.
    """
    depth = _nesting_depth(data)
    if depth == 0 or len(data) <= WHOLE:
        array = _parse_array(name, datatype, shape, data, depth)
        if array.size != count:
            raise _wrong_count(name, datatype, shape, str(array.size))
        return array.reshape(shape)
    if depth > 1 and depth != len(shape):
        raise InvalidInput(f"the data of input '{name}' is nested {depth} deep; expected {shape_text(shape)}")
    dims = shape if depth > 1 else (count,)
    if not count:
        raise _wrong_count(name, datatype, shape, "more")
    if 2 * count > len(data) + 1:  # each element has a byte and a comma; nothing is allocated for those that cannot be
        raise _wrong_count(name, datatype, shape, str(data.count(b",") + 1))
    slices = _TextSlices if datatype == "BYTES" else _NumberSlices
    return slices(name, datatype, shape, dims, count).read(data, pause).reshape(shape)


def _wrong_count(name: str, datatype: str, shape: tuple[int, ...], got: str) -> InvalidInput:
    count = int(np.prod(shape, dtype=np.int64))
    return InvalidInput(f"input '{name}' of {datatype} {shape_text(shape)} needs {count} elements, got {got}")


def _irregular_fault(name: str, shape: tuple[int, ...]) -> InvalidInput:
    return InvalidInput(f"the data of input '{name}' is not regular; expected {shape_text(shape)}")


def _parse_array(name: str, datatype: str, shape: tuple[int, ...], data: bytes, depth: int) -> Array:
    """Parse flat or nested data; nested data must have exactly the stated shape."""
    values = _read_values(name, datatype, data, depth)
    try:
        array = _convert(name, datatype, values if depth else [values])
    except ValueError:
        raise _irregular_fault(name, shape) from None
    if array.ndim != max(depth, 1):  # NumPy takes lists for elements where they may be any object
        raise _irregular_fault(name, shape)
    if depth > 1 and array.shape != (shape if array.size else shape[:depth]):
        raise InvalidInput(
            f"the data of input '{name}' has shape {shape_text(array.shape)}; expected {shape_text(shape)}"
        )
    return array


def _read_values(name: str, datatype: str, data: bytes, depth: int) -> Any:
    try:
        return _find_decoder(datatype, depth)(data)
    except RecursionError:
        raise InvalidInput(f"the data of input '{name}' is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the data of input '{name}' is not {datatype}: {error}") from None


def _convert(name: str, datatype: str, values: list[Any]) -> Array:
    """Convert values to the datatype; raises ``ValueError`` if lists differ in length."""
    try:
        with np.errstate(over="raise"):
            return np.array(values, NUMPY_TYPES[datatype])
    except (OverflowError, FloatingPointError):
        raise InvalidInput(f"the data of input '{name}' holds a number outside the range of {datatype}") from None


def _nesting_depth(data: bytes) -> int:
    """Return the number of lists that open at the beginning of the data (0 for a bare scalar)."""
    depth = 0
    for byte in data[:BYTE_SLICE]:
        if byte == 0x5B:
            depth += 1
        elif byte not in SPACE:
            break
        if depth > MAX_RANK:
            raise InvalidInput(f"tensor data is nested deeper than {MAX_RANK}")
    return depth


@lru_cache(maxsize=len(_JSON_ITEM) * (MAX_RANK + 1))
def _find_decoder(datatype: str, depth: int) -> Any:
    shape: Any = _JSON_ITEM[datatype]
    for _ in range(depth):
        shape = list[shape]
    return msgspec.json.Decoder(shape).decode


class _Slices:
    """Reads a long list slice by slice into one array; ``dims`` is its nesting."""

    def __init__(self, name: str, datatype: str, shape: tuple[int, ...], dims: tuple[int, ...], count: int) -> None:
        self.name = name
        self.datatype = datatype
        self.shape = shape
        self.count = count
        self.found = np.empty(count, NUMPY_TYPES[datatype])
        self.filled = 0
        self.sizes: list[int] = []  # elements of the lists of each depth, the innermost first
        size = 1
        for dim in reversed(dims):
            size *= dim
            self.sizes.append(size)

    def add(self, values: list[Any]) -> None:
        """Add the next elements."""
        stop = self.filled + len(values)
        if stop > self.count:
            raise _wrong_count(self.name, self.datatype, self.shape, "more")
        self.found[self.filled : stop] = _convert(self.name, self.datatype, values)
        self.filled = stop

    def all_elements(self) -> Array:
        """Return all elements."""
        if self.filled != self.count:
            raise _wrong_count(self.name, self.datatype, self.shape, str(self.filled))
        return self.found


class _NumberSlices(_Slices):
    """Reads numbers or truth values: splits at commas, drops the brackets, and compares them with the shape."""

    def __init__(self, name: str, datatype: str, shape: tuple[int, ...], dims: tuple[int, ...], count: int) -> None:
        super().__init__(name, datatype, shape, dims, count)
        self._structure = _structure_of(dims)
        self._structure_at = 0

    def read(self, data: bytes, pause: PauseWork) -> Array:
        """Return all elements; raises ``InvalidInput``."""
        at = 0
        while at < len(data):
            stop = len(data)
            if stop - at > JSON_SLICE:
                stop = data.rfind(b",", at, at + JSON_SLICE)
                if stop < 0:  # a number of many digits, or much white space
                    comma = data.find(b",", at + JSON_SLICE)
                    stop = len(data) if comma < 0 else comma
            self._read(data[at:stop])
            at = stop + 1
            pause()
        found = self.all_elements()
        if self._structure_at != len(self._structure) + 1:  # a list does not end, or a comma is the last
            raise _irregular_fault(self.name, self.shape)
        return found

    def _read(self, text: bytes) -> None:
        brackets = b"[" in text or b"]" in text
        values = text.translate(_NO_BRACKETS) if brackets else text
        self.add(_read_values(self.name, self.datatype, b"[%b]" % values, 1))
        if not self._nested_as_stated(text, brackets):
            raise _irregular_fault(self.name, self.shape)

    def _nested_as_stated(self, text: bytes, brackets: bool) -> bool:
        """Whether each list begins and ends where the shape requires, and each element is inside of its list."""
        found = text.translate(None, _NOT_STRUCTURE)
        at = self._structure_at
        self._structure_at += len(found) + 1  # and the comma at which the next slice is split off
        if not self._structure.startswith(found, at):
            return False
        return not brackets or _has_elements_inside(text)


def _has_elements_inside(text: bytes) -> bool:
    """Whether no element comes before the bracket that opens its list, or after the one that closes it."""
    characters = np.frombuffer(text, np.uint8)
    opening, closing = np.flatnonzero(characters == _OPEN), np.flatnonzero(characters == _CLOSE)
    before, after = characters[opening[opening > 0] - 1], characters[closing[closing < len(text) - 1] + 1]
    if np.all((before == _COMMA) | (before == _OPEN)) and np.all((after == _COMMA) | (after == _CLOSE)):
        return True  # as usual: there is no white space
    digits = text.translate(_VALUES, SPACE)
    return b"]v" not in digits and b"v[" not in digits


def _structure_of(dims: tuple[int, ...]) -> bytes:
    """Return the brackets and commas of a regular nested list."""
    structure = b""
    for dim in reversed(dims):
        structure = b"[%b]" % b",".join([structure] * dim)
    return structure


class _TextSlices(_Slices):
    """Reads texts: splits between strings, and compares the bytes between them with the shape."""

    def read(self, data: bytes, pause: PauseWork) -> Array:
        """Return all elements; raises ``InvalidInput``."""
        texts: list[bytes] = []
        at = 0
        while True:
            quote = data.find(b'"', at)
            gap, index = data[at : quote if quote >= 0 else len(data)], self.filled + len(texts)
            plain = gap == b"," and index % self.sizes[0]
            if not plain and gap.translate(None, SPACE) != self._separator(index):
                raise _irregular_fault(self.name, self.shape)
            if quote < 0:
                break
            at = string_end(data, quote, pause)
            if at < 0:
                raise _irregular_fault(self.name, self.shape)
            texts.append(data[quote:at])
            if len(texts) == TEXT_SLICE:
                self._read(texts)
                texts = []
                pause()
        self._read(texts)
        return self.all_elements()

    def _read(self, texts: list[bytes]) -> None:
        self.add(_read_values(self.name, self.datatype, b"[%b]" % b",".join(texts), 1))

    def _separator(self, index: int) -> bytes:
        """Return the bytes before the element at ``index``, or after the last."""
        edges = sum(index % size == 0 for size in self.sizes)
        if index == 0:
            return b"[" * len(self.sizes)
        if index == self.count:
            return b"]" * len(self.sizes)
        return b"]" * edges + b"," + b"[" * edges
