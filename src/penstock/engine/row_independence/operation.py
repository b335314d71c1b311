"""One operator and the values it takes, as rules see it: a rule says which of them may depend on rows or count them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penstock.engine.row_independence.graph import Node
from penstock.engine.row_independence.sizes import ONE, SymbolicSize
from penstock.engine.row_independence.values import GraphValue, NotProven, RowAxis, ShapeDependsOnData, normalise_axis


class Operation:
    """A node whose inputs are known.

    Every accessor but ``shape_input`` and ``any_value`` refuses a value that counts the rows, every one but
    ``tensor``, ``padded_tensor`` and ``any_value`` a value that depends on them, and every one but ``padded_tensor`` a
    value that is padded to the longest row; all raise ``NotProven``.
    """

    def __init__(self, node: Node, version: int, values: Sequence[GraphValue | None]) -> None:
        self.node = node
        self.version = version
        self.values = values
        self._fresh = 0
        self._looked_at: set[int] = set()

    @property
    def has_unread_input(self) -> bool:
        """Whether there is an input that the rule has not looked at."""
        return any(self.has(index) and index not in self._looked_at for index in range(len(self.values)))

    def has(self, index: int) -> bool:
        """Whether an input is there."""
        return index < len(self.values) and self.values[index] is not None

    def gives(self, index: int) -> bool:
        """Whether an output is asked for."""
        return index < len(self.node.outputs) and bool(self.node.outputs[index])

    def tensor(self, index: int) -> GraphValue:
        """An input whose elements are used as values."""
        value = self._present_input(index)
        if value.counts_rows:
            raise NotProven("uses the number of rows as a value")
        return value

    def padded_tensor(self, index: int) -> GraphValue:
        """An input as ``tensor`` gives it, but its rows may be padded to the longest of the run."""
        value = self._given_input(index)
        return value if value.padding is not None else self.tensor(index)

    def any_value(self, index: int) -> GraphValue:
        """An input of which only the shape is looked at."""
        return self._present_input(index)

    def tensors(self) -> list[GraphValue]:
        """All inputs, as ``tensor`` gives them."""
        return [self.tensor(index) for index in range(len(self.values)) if self.has(index)]

    def fixed(self, index: int) -> GraphValue:
        """An input that must be the same for all rows."""
        value = self.tensor(index)
        if value.rows is not None:
            raise NotProven(f"takes input {index} from the rows, but it must be the same for all rows")
        return value

    def require_fixed(self, *indices: int) -> None:
        """Refuse if one of these inputs is there and depends on the rows."""
        for index in indices:
            if self.has(index):
                self.fixed(index)

    def absent(self, *indices: int) -> None:
        """Refuse if one of these inputs is there."""
        for index in indices:
            if self.has(index):
                raise NotProven(f"has the optional input {index}, and there is no rule for it")

    def single(self, *indices: int) -> None:
        """Refuse unless these inputs, where they are there, are fixed and have one element."""
        for index in indices:
            if self.has(index) and not self.fixed(index).is_single:
                raise NotProven(f"has input {index} with several elements, which may lie along the rows")

    def shape_input(self, index: int) -> GraphValue:
        """An input that states a shape or part of one; it may count the rows."""
        value = self._present_input(index)
        if value.rows is not None:
            raise ShapeDependsOnData
        return value

    def sizes(self, index: int) -> tuple[SymbolicSize | None, ...]:
        """The elements of a shape input."""
        elements = self.shape_input(index).elements
        if elements is None:
            raise NotProven(f"has shape input {index} with an unknown value")
        return elements

    def numbers(self, index: int) -> tuple[int, ...]:
        """The elements of a fixed input that must be numbers."""
        numbers = self.fixed(index).numbers
        if numbers is None:
            raise NotProven(f"has input {index} with an unknown value")
        return numbers

    def integer(self, name: str, default: int) -> int:
        """A whole-number attribute."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, int):
            raise NotProven(f"has the attribute {name}, which is not a whole number")
        return value

    def flag(self, name: str) -> bool:
        """An attribute that is 0 (the default) or 1."""
        return self.stated_flag(name, default=False)

    def stated_flag(self, name: str, default: bool) -> bool:
        """An attribute that is 0 or 1; runtimes differ in what others mean."""
        value = self.integer(name, int(default))
        if value not in (0, 1):
            raise NotProven(f"has the attribute {name}, which is neither 0 nor 1")
        return value == 1

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An attribute with a list of whole numbers, None if it is not there."""
        if name not in self.node.attributes:
            return None
        value = self.node.attributes[name]
        numbers = tuple(item for item in value if isinstance(item, int)) if isinstance(value, tuple) else None
        if numbers is None or numbers != value:
            raise NotProven(f"has the attribute {name}, which is not a list of whole numbers")
        return numbers

    def text(self, name: str, default: str) -> str:
        """A text attribute."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, str):
            raise NotProven(f"has the attribute {name}, which is not a text")
        return value

    def fresh(self) -> SymbolicSize:
        """A size of which nothing is known but that it is the same for all rows."""
        self._fresh += 1
        return SymbolicSize(1, (f"{next(filter(None, self.node.outputs))}#{self._fresh}",))

    def _present_input(self, index: int) -> GraphValue:
        value = self._given_input(index)
        if value.padding is not None:
            raise NotProven("takes texts that are padded to the longest row")
        return value

    def _given_input(self, index: int) -> GraphValue:
        value = self.values[index] if index < len(self.values) else None
        if value is None:
            raise NotProven(f"has no input {index}")
        self._looked_at.add(index)
        return value


OperatorRule = Callable[[Operation], Sequence[GraphValue]]
"""What an operator gives for what it takes: one value for each output it may have, in order.

Raises:
    NotProven: a row's results would depend on other rows, on their number, or it is not known.
"""


@dataclass(frozen=True, slots=True)
class SliceBounds:
    """What a Slice keeps along one axis; None for bounds that are not known."""

    axis: int
    start: SymbolicSize | None
    end: SymbolicSize | None
    step: SymbolicSize | None


def cuts_of(op: Operation) -> list[SliceBounds]:
    """What a Slice keeps of its first input, along each axis that it names."""
    starts, ends, axes, steps = _stated_cuts(op)
    rank = op.any_value(0).rank
    return [
        SliceBounds(normalise_axis(axis, rank), start, end, step)
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    ]


_Bounds = Sequence[SymbolicSize | None]


def _stated_cuts(op: Operation) -> tuple[_Bounds, _Bounds, Sequence[int], _Bounds]:
    if op.version < 10:
        starts, ends = ([SymbolicSize(integer) for integer in op.integers(name) or ()] for name in ("starts", "ends"))
        return starts, ends, op.integers("axes") or range(len(starts)), [ONE] * len(starts)
    first = op.sizes(1)
    axes = op.numbers(3) if op.has(3) else range(len(first))
    return first, op.sizes(2), axes, op.sizes(4) if op.has(4) else [ONE] * len(first)


def rows_at(value: GraphValue, axis: int) -> RowAxis | None:
    """The rows of a value that may lie along one axis only.

    Raises:
        NotProven: they lie along another.
    """
    if value.rows is not None and value.rows.axis != axis:
        raise NotProven(f"has its rows along axis {value.rows.axis} instead of {axis}")
    return value.rows


def crosses(value: GraphValue, axes: Sequence[int], what: str) -> None:
    """Refuse an operator that works along the axis of the rows.

    Raises:
        NotProven: one of ``axes`` is theirs.
    """
    if value.rows is not None and value.rows.axis in axes:
        raise NotProven(f"{what} the rows (axis {value.rows.axis})")
