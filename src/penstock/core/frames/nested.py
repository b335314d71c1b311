"""Turns nested lists into arrays, in slices; an error names the row and what the lists should have."""

from itertools import chain
from math import nan, prod
from typing import Any, Final

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.frames.cells import FLOATS, UnfitCells, expected_of, first_unfit, pack_cells
from penstock.core.frames.frame import DEFAULT_LIMITS
from penstock.core.slices import NUMBER_SLICE, TEXT_SLICE, PauseWork, no_pause
from penstock.core.tensors import MAX_RANK, NUMPY_TYPES, Array, Shape, shape_text
from penstock.core.texts import shorten

_LISTS: Final = {list}


class NestedArray:
    """Reads nested lists of one input into one array of its datatype. ``text_bytes``: the UTF-8 of texts read so far.

    Null is NaN where numbers may have fractions.
    """

    def __init__(self, name: str, datatype: str, pause: PauseWork = no_pause) -> None:
        self._name = name
        self._datatype = datatype
        self._pause = pause
        self._most = TEXT_SLICE if datatype == "BYTES" else NUMBER_SLICE
        self.text_bytes = 0

    def read(self, values: Any) -> Array:
        """Return the array of nested lists, with as many axes as they have.

        Raises:
            InvalidInput: they are not regular, or a value does not fit the datatype.
        """
        if self._datatype not in NUMPY_TYPES or self._datatype == "BF16":
            raise InvalidInput(f"input '{self._name}' is {self._datatype}, which rows cannot have; send V2 raw data")
        found = np.empty(self._shape(values), NUMPY_TYPES[self._datatype])
        if found.ndim:
            self._fill(found, values, 0, True)
        else:
            found[()] = self._pack([values], 0)[0]
        return found

    def _shape(self, values: Any) -> Shape:
        """Return the shape that the first elements have."""
        shape: list[int] = []
        while type(values) is list:
            shape.append(len(values))
            values = values[0] if values else None
            if len(shape) > MAX_RANK or prod(shape) > DEFAULT_LIMITS.cells:
                raise InvalidInput(f"the values of input '{self._name}' have too many dimensions, or are too many")
        return tuple(shape)

    def _fill(self, target: Array, values: list[Any], row: int, counts_rows: bool = False) -> None:
        """Fill a part of the array from lists; ``row`` is the row they are in or begin with."""
        self._check_length(values, len(target), row)
        inner = max(1, target.size // max(1, len(target)))
        step = max(1, self._most // inner)
        for first in range(0, len(target), step):
            at = row + first if counts_rows else row
            part = values[first : first + step]
            if inner > self._most and target.ndim > 1:
                self._check_list(part[0], at)
                self._fill(target[first], part[0], at)
            else:
                target[first : first + step] = self._convert(part, target.shape[1:], at, counts_rows)
                self._pause()

    def _convert(self, values: list[Any], shape: Shape, row: int, counts_rows: bool) -> Array:
        """Return lists of this shape as an array, at once."""
        count, level = len(values), values
        for size in shape:
            if set(map(type, level)) - _LISTS or set(map(len, level)) - {size}:
                raise self._irregular(values, shape, row, counts_rows)
            level = list(chain.from_iterable(level))
        per_row = max(1, prod(shape)) if counts_rows else len(level) + 1
        return self._pack(level, row, per_row).reshape(count, *shape)

    def _pack(self, values: list[Any], row: int, per_row: int = 1) -> Array:
        try:
            packed, size = pack_cells(values, self._datatype)
        except UnfitCells:
            packed, size = self._pack_with_nulls(values, row, per_row)
        self.text_bytes += size
        return packed

    def _pack_with_nulls(self, values: list[Any], row: int, per_row: int) -> tuple[Array, int]:
        if self._datatype in FLOATS:
            values = [nan if value is None else value for value in values]
        try:
            return pack_cells(values, self._datatype)
        except UnfitCells:
            place = first_unfit(len(values), lambda part: pack_cells(values[part], self._datatype))
        expected = expected_of(self._datatype, values[place])
        raise InvalidInput(
            f"row {row + place // per_row}, input '{shorten(self._name)}': expected {expected} in each place"
        )

    def _irregular(self, values: list[Any], shape: Shape, row: int, counts_rows: bool) -> InvalidInput:
        """Return the error for the first row that has another form than the first of all."""
        place = next((index for index, value in enumerate(values) if not _has_shape(value, shape)), 0)
        at = row + place if counts_rows else row
        return InvalidInput(
            f"row {at}, input '{shorten(self._name)}': expected lists of the shape {shape_text(shape)}, as in the "
            "first row"
        )

    def _check_length(self, values: list[Any], size: int, row: int) -> None:
        if len(values) != size:
            raise InvalidInput(
                f"row {row}, input '{shorten(self._name)}': a list has {len(values)} values; the first row has {size}"
            )

    def _check_list(self, value: Any, row: int) -> None:
        if type(value) is not list:
            raise InvalidInput(f"row {row}, input '{shorten(self._name)}': expected a list, as in the first row")


def _has_shape(value: Any, shape: Shape) -> bool:
    if not shape:
        return type(value) is not list
    return type(value) is list and len(value) == shape[0] and all(_has_shape(item, shape[1:]) for item in value)
