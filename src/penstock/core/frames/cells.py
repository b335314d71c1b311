"""Converts the values of a column to the type of an input; an error names the row and the column.

Whole numbers and truth values count as numbers where numbers are expected, and whole numbers may be written with a
fraction of zero; texts are never numbers.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.frames.json_numbers import NumberBeyondRange
from penstock.core.tensors import NUMPY_TYPES, Array
from penstock.core.texts import shorten

CODES: Final = {
    "BOOL": "B",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "d",
    "FP32": "d",
    "FP64": "d",
}
"""Datatype to the type of ``array.array`` that its values are packed with: packing checks types and ranges, and is as
fast as ``numpy.array``, which would take texts for numbers and cut fractions off."""

FLOATS: Final = frozenset({"FP16", "FP32", "FP64"})

ARRAY_TYPES: Final = {code: np.dtype(code) for code in set(CODES.values())}

NUMBERS: Final = frozenset({bool, int, float})


class UnfitCells(Exception):
    """Some value does not fit a datatype."""


class _Absent:
    """The type of ``ABSENT``."""


ABSENT: Final = _Absent()
"""Stands for the value of a column that a row does not have."""


def expected_of(datatype: str, value: Any = None) -> str:
    """Return what an error says that a column of this datatype expects instead of ``value``."""
    if datatype == "BYTES":
        return "a text"
    if datatype == "BOOL":
        return "true or false"
    if datatype in FLOATS:
        is_number = type(value) in NUMBERS or type(value) is NumberBeyondRange
        return f"a number in the range of {datatype}" if is_number else "a number"
    info = np.iinfo(NUMPY_TYPES[datatype])
    return f"a whole number from {info.min} to {info.max}"


def describe_value(value: Any) -> str:
    """Return a value as an error message shows it."""
    if value is None or value is ABSENT:
        return "no value"
    if isinstance(value, str):
        return f"'{shorten(value)}'"
    if isinstance(value, dict | list | tuple):
        return "an object" if isinstance(value, dict) else "a list"
    return str(value).lower() if isinstance(value, bool) else shorten(str(value))


def cell_fault(row: int, column: str, expected: str, value: Any) -> InvalidInput:
    """Return the error for one value; ``row`` counts from 0."""
    return InvalidInput(f"row {row}, column '{shorten(column)}': expected {expected}, got {describe_value(value)}")


def pack_numbers(values: list[Any], datatype: str) -> Array:
    """Return numbers or truth values [values] as an array of a datatype other than BYTES.

    Raises:
        UnfitCells: one of them is something else, or does not fit the datatype exactly (FP: its range).
    """
    code = CODES[datatype]
    try:
        packed = np.frombuffer(array(code, values), ARRAY_TYPES[code])
    except TypeError:
        packed = np.frombuffer(_pack_whole(values, code), ARRAY_TYPES[code])
    except OverflowError:
        raise UnfitCells from None
    return as_datatype(packed, datatype)


def pack_rows(rows: Iterable[list[Any]], datatype: str) -> Array:
    """Return the numbers or truth values of rows, one row after the other, as ``pack_numbers`` does; raises
    ``UnfitCells`` also for numbers that only ``pack_numbers`` accepts."""
    code = CODES[datatype]
    packed = array(code)
    try:
        for row in rows:
            packed.fromlist(row)
    except (TypeError, OverflowError):
        raise UnfitCells from None
    return as_datatype(np.frombuffer(packed, ARRAY_TYPES[code]), datatype)


def _pack_whole(values: list[Any], code: str) -> "array[Any]":
    """Pack numbers of which some have a fraction of zero, as JSON writers add it."""
    if code == "d" or not set(map(type, values)) <= NUMBERS:
        raise UnfitCells
    try:
        return array(code, [int(value) if value == value // 1 else value for value in values])
    except (TypeError, OverflowError, ValueError):
        raise UnfitCells from None


def as_datatype(packed: Array, datatype: str) -> Array:
    """Return what was packed for a datatype in NumPy's type of it; raises ``UnfitCells``."""
    if datatype == "BOOL":
        if packed.size and packed.max() > 1:
            raise UnfitCells
        return packed.astype(np.bool_)
    try:
        with np.errstate(over="raise"):
            return packed.astype(NUMPY_TYPES[datatype], copy=False)
    except FloatingPointError:
        raise UnfitCells from None


def text_array(values: Sequence[Any]) -> tuple[Array, int]:
    """Return texts as an array of ``str`` objects, and the size of their UTF-8 in bytes.

    Raises:
        UnfitCells: one of them is not a text, or has a half character.
    """
    if set(map(type, values)) - {str}:
        raise UnfitCells
    try:
        size = len("".join(values).encode())
    except UnicodeEncodeError:
        raise UnfitCells from None
    texts = np.empty(len(values), object)
    texts[:] = values
    return texts, size


def pack_cells(values: list[Any], datatype: str) -> tuple[Array, int]:
    """Return values as an array of a datatype, and the size of their UTF-8 if they are texts; raises ``UnfitCells``."""
    return text_array(values) if datatype == "BYTES" else (pack_numbers(values, datatype), 0)


def first_unfit(count: int, convert: Callable[[slice], object]) -> int:
    """Return the index of the first of ``count`` values that does not fit, given what converts a part of them; one of
    them does not."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(slice(low, middle))
            low = middle
        except UnfitCells:
            high = middle
    return low


def cast_column(values: Array, datatype: str) -> Array:
    """Return the values of a frame's column as an array of a datatype; texts only as BYTES.

    Raises:
        UnfitCells: they are of another kind, or one of them does not fit.
    """
    kind = values.dtype.kind
    if datatype == "BYTES" or kind == "O":
        if datatype != "BYTES" or kind != "O":
            raise UnfitCells
        return values
    dtype = NUMPY_TYPES[datatype]
    if dtype.kind == "f":
        return as_datatype(values, datatype)
    if values.size and kind != "b":
        _check_whole(values, *((0, 1) if datatype == "BOOL" else _find_bounds(dtype)))
    return values.astype(dtype)


def _find_bounds(dtype: "np.dtype[Any]") -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def _check_whole(values: Array, least: int, most: int) -> None:
    """Raise ``UnfitCells`` unless all values are whole numbers within bounds."""
    if values.dtype.kind == "f":  # the number after the last is a power of two, and so exact
        fits = bool((np.isfinite(values) & (np.trunc(values) == values)).all())
        fits = fits and float(values.min()) >= least and float(values.max()) < float(most + 1)
    else:
        fits = int(values.min()) >= least and int(values.max()) <= most
    if not fits:
        raise UnfitCells
