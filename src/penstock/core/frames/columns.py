"""One column of a version's rows: which type its values have, and what stands in for missing ones."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Any, Final

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.frames.cells import (
    ABSENT,
    FLOATS,
    UnfitCells,
    cast_column,
    cell_fault,
    expected_of,
    first_unfit,
    pack_cells,
)
from penstock.core.frames.frame import FrameColumn
from penstock.core.frames.terms import Default
from penstock.core.tensors import NUMPY_TYPES, Array
from penstock.core.texts import is_number, shorten


class FilledRows:
    """The rows in which a default of the model card stands in for a missing value, by column."""

    def __init__(self) -> None:
        self.by_column: dict[str, array[int]] = {}

    def add(self, column: str, row: int) -> None:
        """Add a row."""
        self.by_column.setdefault(column, array("q")).append(row)

    def add_all(self, column: str, rows: Array) -> None:
        """Add rows of a column that has none yet."""
        self.by_column[column] = array("q", rows.astype(np.int64).tobytes())


REQUIRED: Final = object()
"""Stands for the default of a column without one."""


@dataclass(frozen=True, slots=True)
class ColumnRule:
    """The ``name`` and ``datatype`` of a column. ``null`` and ``absent`` stand in for a value that a row gives as
    null, and for one that it does not have (``REQUIRED``: it must have one). ``unwraps``: lists of one value count as
    the value."""

    name: str
    datatype: str
    null: Any = REQUIRED
    absent: Any = REQUIRED
    unwraps: bool = False

    def convert(self, values: list[Any], first_row: int, filled: FilledRows) -> tuple[Array, int]:
        """Return values [rows] of the rows from ``first_row`` on in the type of the column, and the size of their UTF-8
        if they are texts.

        Raises:
            InvalidInput: one does not fit, or is missing.
        """
        try:
            return pack_cells(values, self.datatype)
        except UnfitCells:
            prepared = self._prepare(values, first_row, filled)
        try:
            return pack_cells(prepared, self.datatype)
        except UnfitCells:
            row = first_unfit(len(prepared), lambda part: pack_cells(prepared[part], self.datatype))
            raise cell_fault(first_row + row, self.name, expected_of(self.datatype, values[row]), values[row]) from None

    def cast(self, column: FrameColumn, filled: FilledRows) -> Array:
        """Return a frame's column in the type of this column; raises ``InvalidInput`` as ``convert`` does."""
        if column.missing is None or not column.missing.any():
            return self._cast(column.values, np.arange(len(column)))
        missing, present = np.flatnonzero(column.missing), np.flatnonzero(~column.missing)
        found = np.empty(len(column), NUMPY_TYPES[self.datatype])
        found[present] = self._cast(column.values[present], present)
        found[missing] = self._stand_in(None, missing, filled)
        return found

    def fill_absent(self, rows: int, filled: FilledRows) -> Array:
        """Return the value [1] of a column that no row has; raises ``InvalidInput``."""
        return self._stand_in(ABSENT, np.arange(rows), filled)

    def _prepare(self, values: list[Any], first_row: int, filled: FilledRows) -> list[Any]:
        """Return values with the defaults of missing ones, and without lists around them."""
        return [
            value
            if value is not None and value is not ABSENT and type(value) is not list
            else self._replace(value, first_row + row, filled)
            for row, value in enumerate(values)
        ]

    def _replace(self, value: Any, row: int, filled: FilledRows) -> Any:
        if type(value) is list:
            return value[0] if self.unwraps and len(value) == 1 and type(value[0]) is not list else value
        chosen = self.null if value is None else self.absent
        if chosen is REQUIRED:
            raise cell_fault(row, self.name, expected_of(self.datatype, value), value)
        if not _is_nan(chosen):
            filled.add(self.name, row)
        return chosen

    def _stand_in(self, value: Any, rows: Array, filled: FilledRows) -> Array:
        """Return what stands in for the values [1] that are missing in these rows."""
        row = int(rows[0])
        chosen = self._replace(value, row, filled)
        if not _is_nan(chosen):
            filled.add_all(self.name, rows)
        return self.convert([chosen], row, filled)[0]

    def _cast(self, values: Array, rows: Array) -> Array:
        """Return values of a frame, which are those of these ``rows``, in the type of the column."""
        try:
            return cast_column(values, self.datatype)
        except UnfitCells:
            if not len(values):
                return np.empty(0, NUMPY_TYPES[self.datatype])
            place = first_unfit(len(values), lambda part: cast_column(values[part], self.datatype))
        if values.dtype == object:  # a column of texts because of one of them, in CSV
            place = next((index for index, text in enumerate(values.tolist()) if not is_number(text)), 0)
        value = values[place : place + 1].tolist()[0]
        raise cell_fault(int(rows[place]), self.name, expected_of(self.datatype, value), value) from None


def _is_nan(value: Any) -> bool:
    """Whether a value is NaN, which the monitor counts as missing by itself."""
    return isinstance(value, float) and isnan(value)


def rule_of(name: str, datatype: str, default: Default | object = REQUIRED, unwraps: bool = False) -> ColumnRule:
    """Return the rule of a column, given its default in the model card.

    A null without a default is NaN where numbers may have fractions, as everywhere in the protocol. A default that does
    not fit the datatype is refused when it is needed.
    """
    not_a_number = nan if datatype in FLOATS else REQUIRED
    absent = not_a_number if default is None else default
    return ColumnRule(name, datatype, not_a_number if absent is REQUIRED else absent, absent, unwraps)


def common_length(columns: Sequence[tuple[str, Sequence[Any]]]) -> int:
    """Return the number of values of each column; raises ``InvalidInput`` if they differ."""
    rows = len(columns[0][1]) if columns else 0
    for name, values in columns:
        if len(values) != rows:
            raise InvalidInput(
                f"column '{shorten(name)}' has {len(values)} values; column '{shorten(columns[0][0])}' has {rows}"
            )
    return rows
