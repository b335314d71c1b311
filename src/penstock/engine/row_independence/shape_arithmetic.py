"""Small whole-number tensors that exporters compute shapes with: what they are when they count rows or known sizes."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from penstock.engine.row_independence.operation import Operation, cuts_of
from penstock.engine.row_independence.sizes import ONE, ZERO, SymbolicSize, multiply_sizes
from penstock.engine.row_independence.values import GraphValue, NotProven, whole_numbers

T = TypeVar("T")

LONGEST = 64
"""Elements of a tensor that are followed one by one."""

_INTEGERS = (6, 7)
"""ONNX's INT32 and INT64."""

Element = SymbolicSize | None


def is_followed(values: Sequence[GraphValue | None]) -> bool:
    """Whether the elements of every input are followed."""
    return bool(values) and all(value is not None and value.elements is not None for value in values)


def shape_of(op: Operation) -> list[GraphValue]:
    """Shape, of anything."""
    dims = op.any_value(0).shape
    return [whole_numbers(dims[slice(op.integer("start", 0), op.integer("end", len(dims)))])]


def size_of(op: Operation) -> list[GraphValue]:
    """Size, of anything."""
    return [whole_numbers([multiply_sizes(op.any_value(0).shape)], scalar=True)]


def _constant_of_shape(op: Operation) -> GraphValue | None:
    """ConstantOfShape, where its result is a short vector of whole numbers."""
    numbers, filling = op.shape_input(0).numbers, op.node.constant
    if numbers is None or len(numbers) != 1 or not 0 <= numbers[0] <= LONGEST or filling is None:
        return None
    return None if filling.elements is None else whole_numbers([SymbolicSize(filling.elements[0])] * numbers[0])


def _cast(op: Operation) -> GraphValue | None:
    return op.shape_input(0) if op.integer("to", 0) in _INTEGERS else None


def _gather(op: Operation) -> GraphValue | None:
    data, indices = op.sizes(0), op.shape_input(1).numbers
    if indices is None or op.shape_input(0).rank != 1 or any(not -len(data) <= index < len(data) for index in indices):
        return None
    return whole_numbers([data[index] for index in indices], scalar=op.shape_input(1).rank == 0)


def _slice(op: Operation) -> GraphValue | None:
    if op.shape_input(0).rank != 1 or len(cuts := cuts_of(op)) != 1:
        return None
    start, end, step = (None if size is None else size.number for size in (cuts[0].start, cuts[0].end, cuts[0].step))
    if start is None or end is None or step is None or step < 1:
        return None
    return whole_numbers(op.sizes(0)[slice(start, end, step)])


def _concat(op: Operation) -> GraphValue | None:
    if any(op.shape_input(index).rank != 1 for index in range(len(op.values))):
        return None
    return whole_numbers([size for index in range(len(op.values)) for size in op.sizes(index)])


def _reshape(op: Operation) -> GraphValue | None:
    """Squeeze, Unsqueeze and Reshape of one element or, to the same rank, of several."""
    elements = op.sizes(0)
    target = _target_rank(op)
    if target == 1:
        return whole_numbers(elements)
    return whole_numbers(elements, scalar=True) if target == 0 and len(elements) == 1 else None


def _target_rank(op: Operation) -> int:
    rank = op.shape_input(0).rank
    if op.node.op_type == "Reshape":
        return len(op.sizes(1))
    axes = op.sizes(1) if op.has(1) else op.integers("axes")
    number = 1 if axes is None else len(axes)
    return rank + (number if op.node.op_type == "Unsqueeze" else -number)


def _product(op: Operation) -> GraphValue | None:
    """ReduceProd of a whole vector."""
    fixed = [size for size in op.sizes(0) if size is not None]
    if len(fixed) != len(op.sizes(0)) or op.shape_input(0).rank != 1 or op.flag("noop_with_empty_axes"):
        return None
    return whole_numbers([multiply_sizes(fixed)], scalar=not op.stated_flag("keepdims", default=True))


def _where(op: Operation) -> GraphValue | None:
    conditions = op.shape_input(0).numbers
    if conditions is None:
        return None
    length, scalar = _common_length(op)
    chosen, yes, no = _stretch(conditions, length), _stretch(op.sizes(1), length), _stretch(op.sizes(2), length)
    elements: list[Element] = [one if choice else other for choice, one, other in zip(chosen, yes, no, strict=True)]
    return whole_numbers(elements, scalar)


def _common_length(op: Operation) -> tuple[int, bool]:
    """The length of what the inputs are broadcast to, and whether it is a scalar."""
    lengths = {len(op.sizes(index)) for index in range(len(op.values))} - {1}
    if len(lengths) > 1:
        raise NotProven("computes a shape from vectors of different lengths")
    return next(iter(lengths), 1), all(op.shape_input(index).rank == 0 for index in range(len(op.values)))


def _stretch(elements: Sequence[T], length: int) -> Sequence[T]:
    return elements if len(elements) == length else list(elements) * length


def _pairwise(compute: Callable[[SymbolicSize, SymbolicSize], Element]) -> "Arithmetic":
    def rule(op: Operation) -> GraphValue | None:
        if len(op.values) != 2:
            return None
        length, scalar = _common_length(op)
        one, other = (_stretch(op.sizes(index), length) for index in range(2))
        return whole_numbers([_of_pair(compute, a, b) for a, b in zip(one, other, strict=True)], scalar)

    return rule


def _of_pair(compute: Callable[[SymbolicSize, SymbolicSize], Element], one: Element, other: Element) -> Element:
    result = None if one is None or other is None else compute(one, other)
    counting = any(size is not None and size.counts_rows for size in (one, other))
    if result is not None and result.is_trusted:
        return result
    if counting:
        raise NotProven("computes with the number of rows")
    return None


def _divide(one: SymbolicSize, other: SymbolicSize) -> Element:
    exact = one.divided_by(other)
    if exact is not None or one.number is None or not other.number:
        return exact
    quotient = abs(one.number) // abs(other.number)
    return SymbolicSize(quotient if (one.number < 0) == (other.number < 0) else -quotient)


def _equal(one: SymbolicSize, other: SymbolicSize) -> Element:
    if one == other:
        return ONE
    if one.number is not None and other.number is not None:
        return ZERO
    numbers = [size.number for size in (one, other) if size.number is not None]
    is_negative = bool(numbers) and numbers[0] < 0 and max(one.factor, other.factor) > 0
    return ZERO if is_negative else None  # a size is never negative


def _numbers_only(compute: Callable[[int, int], int]) -> Callable[[SymbolicSize, SymbolicSize], Element]:
    def either(one: SymbolicSize, other: SymbolicSize) -> Element:
        return None if one.number is None or other.number is None else SymbolicSize(compute(one.number, other.number))

    return either


Arithmetic = Callable[[Operation], GraphValue | None]

ARITHMETIC: dict[str, Arithmetic] = {
    "Identity": lambda op: op.shape_input(0),
    "Cast": _cast,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Reshape": _reshape,
    "ReduceProd": _product,
    "Where": _where,
    "Mul": _pairwise(lambda one, other: one * other),
    "Div": _pairwise(_divide),
    "Add": _pairwise(_numbers_only(lambda one, other: one + other)),
    "Sub": _pairwise(_numbers_only(lambda one, other: one - other)),
    "Max": _pairwise(_numbers_only(max)),
    "Min": _pairwise(_numbers_only(min)),
    "Equal": _pairwise(_equal),
    "Greater": _pairwise(_numbers_only(lambda one, other: int(one > other))),
    "Less": _pairwise(_numbers_only(lambda one, other: int(one < other))),
}
"""Operators of ai.onnx on followed elements; None where the result cannot be followed."""


def compute_elements(op: Operation) -> list[GraphValue] | None:
    """The result of an operator on followed elements; None where it is not followed.

    Raises:
        NotProven: what is not followed would count the rows.
    """
    rule = ARITHMETIC.get(op.node.op_type)
    value = None if rule is None else rule(op)
    return None if value is None or len(value.elements or ()) > LONGEST else [value]
