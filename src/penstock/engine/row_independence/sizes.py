"""Dimensions as products of a number and named sizes; the name ``rows`` stands for the number of rows of a run."""

from dataclasses import dataclass
from math import prod

ROWS_NAME = "rows"
MAX_FACTOR = 1 << 31
"""Whole numbers beyond this might have overflowed in the graph."""

MAX_NAMES = 6


@dataclass(frozen=True, slots=True)
class SymbolicSize:
    """``factor`` times the sizes ``names`` (sorted, each as often as it is a factor); without names it is a number.

    A named size is some dimension: 0 or more, and the same in every run whose inputs have rows of the same shapes.
    """

    factor: int
    names: tuple[str, ...] = ()

    def __mul__(self, other: "SymbolicSize") -> "SymbolicSize":
        factor = self.factor * other.factor
        return SymbolicSize(factor, tuple(sorted(self.names + other.names)) if factor else ())

    def divided_by(self, other: "SymbolicSize") -> "SymbolicSize | None":
        """The quotient, None unless it is exact whatever the named sizes are."""
        if not other.factor or self.factor % other.factor:
            return None
        names = list(self.names)
        for name in other.names:
            if name not in names:
                return None if self.factor else ZERO
            names.remove(name)
        return SymbolicSize(self.factor // other.factor, tuple(names))

    @property
    def number(self) -> int | None:
        """Its value, None where that is not the same for every request."""
        return None if self.names else self.factor

    @property
    def counts_rows(self) -> bool:
        """Whether it grows with the number of rows."""
        return ROWS_NAME in self.names

    @property
    def is_trusted(self) -> bool:
        """Whether whole numbers of the graph can hold it."""
        return abs(self.factor) < MAX_FACTOR and len(self.names) <= MAX_NAMES


ZERO = SymbolicSize(0)
ONE = SymbolicSize(1)
ROWS = SymbolicSize(1, (ROWS_NAME,))


def multiply_sizes(sizes: "tuple[SymbolicSize, ...] | list[SymbolicSize]") -> SymbolicSize:
    """The product of sizes, 1 of none."""
    return prod(sizes, start=ONE)
