"""A frame: named columns of numbers, texts and truth values, some of them missing; what tables of every form become."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from penstock.core.errors import InvalidInput
from penstock.core.tensors import Array
from penstock.core.texts import shorten

Missing = NDArray[Any]
"""Truth values [rows]: whether the value of a row is missing."""


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """Limits of what is read as a frame: ``rows``, ``columns``, their product (``cells``), and the characters of the
    whole text."""

    rows: int = 1 << 20
    columns: int = 10_000
    cells: int = 1 << 24
    text_characters: int = 64 << 20

    def check(self, rows: int, columns: int) -> None:
        """Raise ``InvalidInput`` if a frame of this size is over a limit."""
        for size, most, what in ((rows, self.rows, "rows"), (columns, self.columns, "columns")):
            if size > most:
                raise InvalidInput(f"the data has {size} {what}, over the limit of {most}; send less at a time")
        if rows * columns > self.cells:
            raise InvalidInput(
                f"the data has {rows * columns} values, over the limit of {self.cells}; send fewer rows at a time"
            )

    def check_text(self, text: str | bytes) -> None:
        """Raise ``InvalidInput`` if a text is longer than the limit."""
        if len(text) > self.text_characters:
            raise InvalidInput(
                f"the data has {len(text)} characters, over the limit of {self.text_characters}; send less at a time"
            )


DEFAULT_LIMITS: Final = FrameLimits()


@dataclass(frozen=True, slots=True, eq=False)
class FrameColumn:
    """The values [rows] of one column: float64, float32, int64, uint64, bool, or object for texts (``str``).

    ``missing`` marks the rows without a value, None if there are none; what ``values`` has there means nothing.
    """

    values: Array
    missing: Missing | None = None

    def __len__(self) -> int:
        return len(self.values)

    def part(self, first: int, last: int) -> "FrameColumn":
        """Return the rows from ``first`` until before ``last``, as far as there are any."""
        return FrameColumn(self.values[first:last], None if self.missing is None else self.missing[first:last])

    def to_list(self) -> list[Any]:
        """Return Python values, None where one is missing; float32 as the shortest decimal that is the same number."""
        values: list[Any] = (
            list(map(float, self.values.astype(str).tolist()))
            if self.values.dtype == "float32"
            else self.values.tolist()
        )
        if self.missing is not None:
            for row in self.missing.nonzero()[0].tolist():
                values[row] = None
        return values


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Columns by name, in order; each has ``rows`` values."""

    columns: Mapping[str, FrameColumn]
    rows: int

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the columns, in order."""
        return tuple(self.columns)

    def part(self, first: int, last: int) -> "Frame":
        """Return the rows from ``first`` until before ``last``, as far as there are any."""
        rows = max(0, min(last, self.rows) - first)
        return Frame({name: column.part(first, last) for name, column in self.columns.items()}, rows)

    def select(self, names: Iterable[str]) -> "Frame":
        """Return the columns with these names, in their order.

        Raises:
            InvalidInput: there is no such column.
        """
        wanted = list(names)
        for name in wanted:
            if name not in self.columns:
                raise InvalidInput(f"the data has no column '{shorten(name)}'; it has {list_names(self.columns)}")
        return Frame({name: self.columns[name] for name in wanted}, self.rows)


MOST_SHOWN: Final = 8
"""Names that an error message shows."""


def list_names(names: Iterable[str]) -> str:
    """Return names as error messages list them; of many the first."""
    quoted = [f"'{shorten(name)}'" for name in names]
    more = [f"and {len(quoted) - MOST_SHOWN} more"] if len(quoted) > MOST_SHOWN else []
    return ", ".join([*quoted[:MOST_SHOWN], *more]) or "none"
