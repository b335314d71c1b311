"""What is known of one value of a graph: its dimensions, where the rows lie in it, and small whole numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from penstock.engine.row_independence.sizes import ONE, ROWS, SymbolicSize


class NotProven(Exception):
    """An operator that the proof cannot pass; the text says why, as the rest of a sentence that begins with it."""


class ShapeDependsOnData(NotProven):
    """An operator that gives more or fewer elements for other data, and so perhaps more or fewer rows."""

    def __init__(self) -> None:
        super().__init__("has a result whose shape depends on the data")


class Nondeterministic(NotProven):
    """An operator that gives other results each time, even for the same inputs."""


@dataclass(frozen=True, slots=True)
class RowAxis:
    """The axis along which a value holds its rows: ``outer`` blocks one after the other, each with all rows in order,
    each row ``inner`` places wide. The axis is ``outer * rows * inner`` long."""

    axis: int
    outer: SymbolicSize = ONE
    inner: SymbolicSize = ONE

    def __post_init__(self) -> None:
        if self.outer.counts_rows or self.inner.counts_rows:
            raise NotProven("has a dimension with the number of rows twice")

    @property
    def size(self) -> SymbolicSize:
        """The length of the axis."""
        return self.outer * ROWS * self.inner

    def at(self, axis: int) -> "RowAxis":
        """The same rows along another axis."""
        return replace(self, axis=axis)


@dataclass(frozen=True, slots=True)
class GraphValue:
    """One value. What lies at the places of a row depends on that row of the inputs alone; without ``rows`` the value
    is *fixed*: the same in every run whose inputs have rows of the same shapes.

    ``dims`` is None where not even the rank of a fixed value is known. ``elements`` are those of a whole-number or
    boolean tensor of rank 0 or 1, as far as they are known (None = not); they may count the rows. ``decimals`` are
    those of a vector of floating-point numbers in the file. ``padding`` is the text that fills each row at the end of
    the last axis, which is as long as the longest row of the run needs.
    """

    dims: tuple[SymbolicSize, ...] | None
    rows: RowAxis | None = None
    elements: tuple[SymbolicSize | None, ...] | None = None
    decimals: tuple[float, ...] | None = None
    padding: str | None = None

    @property
    def shape(self) -> tuple[SymbolicSize, ...]:
        """The dimensions.

        Raises:
            NotProven: the rank is not known.
        """
        if self.dims is None:
            raise NotProven("takes a value whose rank is not known")
        return self.dims

    @property
    def rank(self) -> int:
        """The number of dimensions; raises as ``shape``."""
        return len(self.shape)

    @property
    def counts_rows(self) -> bool:
        """Whether an element depends on how many rows the run has."""
        return self.elements is not None and any(
            element is not None and element.counts_rows for element in self.elements
        )

    @property
    def numbers(self) -> tuple[int, ...] | None:
        """The elements, None unless all of them are numbers."""
        numbers = [None if element is None else element.number for element in self.elements or ()]
        fixed = [item for item in numbers if item is not None]
        return tuple(fixed) if self.elements is not None and len(fixed) == len(numbers) else None

    @property
    def is_single(self) -> bool:
        """Whether it is a scalar or a vector of one element."""
        return self.dims is not None and self.dims in ((), (ONE,))


UNKNOWN = GraphValue(None)
"""A fixed value of which nothing is known."""


def make_fixed(dims: Sequence[SymbolicSize]) -> GraphValue:
    """A fixed value of these dimensions."""
    return GraphValue(tuple(dims))


def whole_numbers(elements: Sequence[SymbolicSize | None], scalar: bool = False) -> GraphValue:
    """A vector, or a scalar, of these elements."""
    return GraphValue(() if scalar else (SymbolicSize(len(elements)),), None, tuple(elements))


def laid_out(dims: Sequence[SymbolicSize], rows: RowAxis | None) -> GraphValue:
    """A value with its rows along one axis; the length of that axis follows from them."""
    if rows is None:
        return GraphValue(tuple(dims))
    return GraphValue((*dims[: rows.axis], rows.size, *dims[rows.axis + 1 :]), rows)


def normalise_axis(axis: int, rank: int) -> int:
    """An axis counted from the front.

    Raises:
        NotProven: there is no such axis.
    """
    if not -rank <= axis < rank:
        raise NotProven(f"names axis {axis} of a value with rank {rank}")
    return axis % rank
