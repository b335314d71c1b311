"""Frames from JSON values and back: records, split (columns and data), and columns by name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.frames.cells import ABSENT, NUMBERS, UnfitCells, cell_fault, text_array
from penstock.core.frames.frame import DEFAULT_LIMITS, Frame, FrameColumn, FrameLimits
from penstock.core.slices import NUMBER_SLICE, PauseWork, no_pause
from penstock.core.tensors import Array
from penstock.core.texts import shorten

CELL: Final = "a number, a text, true, false or null"


def from_records(records: Sequence[Any], limits: FrameLimits = DEFAULT_LIMITS, pause: PauseWork = no_pause) -> Frame:
    """Return the frame of objects, one for each row; the columns are in the order in which they first appear, and what
    an object does not have is missing. There is a pause after each slice.

    Raises:
        InvalidInput: a row is not an object, a value is not one of a column, or there are too many.
    """
    limits.check(len(records), 0)
    for row, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise InvalidInput(f"row {row}: expected an object of columns and values")
    names = list(dict.fromkeys(chain.from_iterable(records)))
    limits.check(len(records), len(names))
    return Frame({name: column_of(name, [row.get(name) for row in records], pause) for name in names}, len(records))


def from_split(
    columns: Sequence[Any], data: Sequence[Any], limits: FrameLimits = DEFAULT_LIMITS, pause: PauseWork = no_pause
) -> Frame:
    """Return the frame of names and rows of as many values; with a pause after each slice.

    Raises:
        InvalidInput: a name is not a text or there twice, a row has another length, or a value is not one of a column.
    """
    names = check_names(columns)
    limits.check(len(data), len(names))
    for row, values in enumerate(data):
        if not isinstance(values, list | tuple) or len(values) != len(names):
            got = f"{len(values)} values" if isinstance(values, list | tuple) else "no list"
            raise InvalidInput(f"row {row}: expected a list of {len(names)} values, got {got}")
    return Frame(
        {name: column_of(name, [row[index] for row in data], pause) for index, name in enumerate(names)}, len(data)
    )


def to_records(frame: Frame) -> list[dict[str, Any]]:
    """Return one object for each row; a missing value is None."""
    names, data = to_split(frame)
    return [dict(zip(names, values, strict=True)) for values in data]


def to_split(frame: Frame) -> tuple[list[str], list[list[Any]]]:
    """Return the names of the columns, and the values of each row; a missing value is None."""
    if not frame.columns:
        return [], [[] for _ in range(frame.rows)]
    return list(frame.columns), list(map(list, zip(*to_columns(frame).values(), strict=True)))


def to_columns(frame: Frame) -> dict[str, list[Any]]:
    """Return the values of each column; a missing value is None."""
    return {name: column.to_list() for name, column in frame.columns.items()}


def check_names(columns: Sequence[Any]) -> list[str]:
    """Return the names of columns after a check.

    Raises:
        InvalidInput: one is not a text, or there twice.
    """
    for index, name in enumerate(columns):
        if not isinstance(name, str):
            raise InvalidInput(f"column {index}: expected a name")
    if len(set(columns)) < len(columns):
        twice = next(name for index, name in enumerate(columns) if name in columns[:index])
        raise InvalidInput(f"the data has two columns '{shorten(twice)}'; give each column its own name")
    return list(columns)


def column_of(name: str, values: list[Any], pause: PauseWork = no_pause) -> FrameColumn:
    """Return a column of Python values; None and ``ABSENT`` are missing.

    Whole numbers become int64 or uint64, numbers of which some are not whole float64, and a column without values is
    float64.

    Raises:
        InvalidInput: a value is of no type that columns have, or of another type than those before it.
    """
    types = set[type]()
    for part in _slice_values(values, pause):
        types.update(map(type, part))
    missing, present = None, values
    if types & _NOTHING:
        missing = np.fromiter((type(value) in _NOTHING for value in values), np.bool_, len(values))
        types -= _NOTHING
        filler: Any = "" if str in types else 0
        present = [filler if type(value) in _NOTHING else value for value in values]
    try:
        convert = _find_converter(types, present)
        return FrameColumn(np.concatenate([convert(part) for part in _slice_values(present, pause)]), missing)
    except (UnfitCells, OverflowError):
        raise _column_fault(name, values) from None


def _slice_values(values: list[Any], pause: PauseWork) -> Iterator[list[Any]]:
    """Yield values in slices, one at least, with a pause after each."""
    for first in range(0, len(values) or 1, NUMBER_SLICE):
        yield values[first : first + NUMBER_SLICE]
        pause()


_NOTHING: Final = {type(None), type(ABSENT)}
_MOST_SIGNED: Final = (1 << 63) - 1


def _find_converter(types: set[type], values: list[Any]) -> Callable[[list[Any]], Array]:
    """Return what makes an array of values of these types; raises ``UnfitCells`` if nothing does."""
    if types == {str}:
        return lambda part: text_array(part)[0]
    if not types <= NUMBERS:
        raise UnfitCells
    if types == {bool}:
        return lambda part: np.array(part, np.bool_)
    if float in types or not types:
        return lambda part: np.array(part, np.float64)
    dtype = whole_type(values)
    return lambda part: np.array(part, dtype)


def whole_type(values: list[int]) -> type[np.int64 | np.uint64]:
    """Return the type of whole numbers, of which there is one at least: int64, or else uint64."""
    return np.uint64 if max(values) > _MOST_SIGNED and min(values) >= 0 else np.int64


def whole_numbers(values: list[int]) -> Array:
    """Return whole numbers, of which there is one at least, as int64 or else uint64; raises ``OverflowError``."""
    return np.array(values, whole_type(values))


def _column_fault(name: str, values: list[Any]) -> InvalidInput:
    """Return the error for the first value that makes no column with those before it."""
    kinds = [
        (row, value, "a text" if isinstance(value, str) else "a number" if type(value) in NUMBERS else "")
        for row, value in enumerate(values)
        if type(value) not in _NOTHING
    ]
    expected = kinds[0][2]
    for row, value, kind in kinds:
        if not kind:
            return cell_fault(row, name, CELL, value)
        if kind != expected:
            return cell_fault(row, name, expected, value)
    return InvalidInput(f"column '{shorten(name)}' has a text that is not UTF-8, or a number of more than 64 bits")
