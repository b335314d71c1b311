"""The signature of a model: its inputs and outputs, and the only check of a request's tensors against them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from struct import Struct
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.tensors import NUMPY_TYPES, PLAIN, Array, Shape, Tensor, shape_text, unknown_datatype
from penstock.core.texts import shorten

Feeds = dict[str, Array]
TensorPosition = tuple[str, int]
"""An input's name and one of its axes."""

InputLayout = tuple[str, str, np.dtype[Any], int, int, Shape]
"""One input in the bytes of a request: name, datatype, NumPy's type, number of elements, offset in bytes, shape."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output as callers see it: ``shape`` counts the batch dimension, -1 is any size.

    ``graph_shape`` is the shape the graph wants where the configuration states another one (``reshape``);
    its one -1 or batch dimension is filled from the request.
    """

    name: str
    datatype: str
    shape: Shape
    optional: bool = False
    graph_shape: Shape | None = None
    labels: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the part of a sentence that every error uses: ``'x' FP32 [-1, 30]``."""
        return f"'{self.name}' {self.datatype} {shape_text(self.shape)}"


LARGEST_ROW: Final = 4096
"""Maximum bytes of a packed row; larger ones are not copied."""


@dataclass(frozen=True, slots=True)
class RowForm:
    """The form of the most common request, one row of a model's only input as raw bytes; ``pack`` makes them from
    numbers.
    """

    name: str
    datatype: str
    dtype: np.dtype[Any]
    shape: Shape
    dims: list[int]
    elements: int
    pack: Callable[..., bytes]

    def is_only_input(self, inputs: tuple[InputLayout, ...]) -> bool:
        """Whether a request of these inputs has such a row, and nothing else."""
        if len(inputs) != 1:
            return False
        name, datatype, _, _, _, shape = inputs[0]
        return shape == self.shape and name == self.name and datatype == self.datatype

    def feeds(self, rows: bytes, count: int = 1) -> Feeds:
        """Return the feeds of a run of so many rows, one after the other in ``rows``: a read-only view."""
        shape = self.shape if count == 1 else (count, *self.shape[1:])
        return {self.name: np.ndarray(shape, self.dtype, rows)}

    def tensor(self, row: bytes) -> Tensor:
        """Return one row as a tensor."""
        return Tensor(self.name, self.datatype, np.frombuffer(row, self.dtype).reshape(self.shape))


def _row_form(inputs: Sequence[TensorSpec], batching: bool) -> RowForm | None:
    if not batching or len(inputs) != 1 or inputs[0].graph_shape is not None or inputs[0].datatype not in PLAIN:
        return None
    name, datatype, shape = inputs[0].name, inputs[0].datatype, (1, *inputs[0].shape[1:])
    elements, dtype = prod(shape), NUMPY_TYPES[datatype]
    if min(shape) < 1 or elements * dtype.itemsize > LARGEST_ROW:
        return None
    code = {"l": "q", "L": "Q"}.get(dtype.char, dtype.char)  # of eight bytes, wherever we are
    return RowForm(name, datatype, dtype, shape, list(shape), elements, Struct(f"<{elements}{code}").pack)


class BoundInputs:
    """A request's arrays in the graph's form: its rows (1 for a model that does not batch) and its elements."""

    __slots__ = ("elements", "feeds", "rows")

    def __init__(self, feeds: Feeds, rows: int, elements: int) -> None:
        self.feeds = feeds
        self.rows = rows
        self.elements = elements


class Signature:
    """Inputs and outputs of one version.

    ``batching`` says that every first dimension is a free batch dimension; ``max_batch_size`` bounds it
    (rows, 0 = no bound stated); ``all_floats`` that every input is FP32 or FP64; ``row`` is how the
    commonest request looks, if it has so simple a form. ``symbolic_dims`` are the places (input and axis) of each name
    that the graph gives to several free dimensions of its inputs: they must be of one size.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        batching: bool = False,
        max_batch_size: int = 0,
        symbolic_dims: Mapping[str, Sequence[TensorPosition]] = MappingProxyType({}),
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.batching = batching
        self.max_batch_size = max_batch_size
        self.row = _row_form(self.inputs, batching)
        self.all_floats = all(spec.datatype in ("FP32", "FP64") for spec in inputs)
        self._inputs = {spec.name: (spec, spec.datatype, len(spec.shape), _fixed_dims(spec.shape)) for spec in inputs}
        self._outputs = {spec.name: spec for spec in outputs}
        self._reshaped = [(spec.name, spec.graph_shape) for spec in inputs if spec.graph_shape is not None]
        self.symbolic_dims = symbolic_dims
        self._equal_dims = _to_compare(symbolic_dims, batching)
        self._adapts = bool(max_batch_size or self._reshaped or self._equal_dims)

    def row_form(self) -> RowForm:
        """Return the form of packed rows; a transport makes packed rows only for a signature with one.

        Raises:
            ValueError: the signature has none.
        """
        if self.row is None:
            raise ValueError("the signature has no form for packed rows")
        return self.row

    def output(self, name: str) -> TensorSpec:
        """Return the output with this name.

        Raises:
            InvalidInput: the model has no such output.
        """
        try:
            return self._outputs[name]
        except KeyError:
            raise InvalidInput(
                f"unknown output '{shorten(name)}'; the model gives {_list_specs(self.outputs)}"
            ) from None

    def check(self, name: str, datatype: str, shape: Sequence[int]) -> TensorSpec:
        """The input that a tensor is for, of which only the head is known: so nothing is made of data that the model
        does not take.

        Raises:
            InvalidInput: there is no such input, or it takes another datatype, rank or dimension.
        """
        checks = self._inputs.get(name)
        if checks is None:
            raise InvalidInput(f"unknown input '{shorten(name)}'; the model takes {_list_specs(self.inputs)}")
        spec, expected, rank, fixed = checks
        if datatype not in NUMPY_TYPES:
            raise unknown_datatype(name, datatype)
        if datatype != expected or len(shape) != rank:
            raise _mismatch_fault(spec, datatype, shape)
        for index, dim in fixed:
            if shape[index] != dim:
                raise _mismatch_fault(spec, datatype, shape)
        if self.max_batch_size and self.batching and shape[0] > self.max_batch_size:
            raise _large_batch(shape[0], self.max_batch_size)
        return spec

    def bind(self, tensors: Sequence[Tensor]) -> BoundInputs:
        """Return the arrays to feed the graph, keyed by input name, each in the graph's shape.

        Raises:
            InvalidInput: an input is unknown, doubled, missing, or of the wrong datatype, rank or dimension;
                the inputs disagree on the batch size or another dimension of one name, or it is over the bound.
        """
        feeds: Feeds = {}
        specs = self._inputs
        rows, elements, batching = 1, 0, self.batching
        for tensor in tensors:
            name, data = tensor.name, tensor.data
            if name not in specs:
                raise InvalidInput(f"unknown input '{shorten(name)}'; the model takes {_list_specs(self.inputs)}")
            spec, datatype, rank, fixed = specs[name]
            shape = data.shape
            if tensor.datatype != datatype or len(shape) != rank:
                raise _mismatch_fault(spec, tensor.datatype, shape)
            for index, dim in fixed:
                if shape[index] != dim:
                    raise _mismatch_fault(spec, tensor.datatype, shape)
            if batching:
                if feeds and shape[0] != rows:
                    raise InvalidInput(
                        f"the inputs disagree on the batch size: {shape[0]} rows in '{name}', not {rows}"
                    )
                rows = shape[0]
            elements += data.size
            feeds[name] = data
        if len(feeds) != len(specs) or len(tensors) != len(feeds):
            self._check_all_once(tensors)
        if self._adapts:
            self._adapt(feeds, rows)
        return BoundInputs(feeds, rows, elements)

    def _adapt(self, feeds: Feeds, rows: int) -> None:
        if self.max_batch_size and rows > self.max_batch_size:
            raise _large_batch(rows, self.max_batch_size)
        for dim, places in self._equal_dims:
            _check_equal(dim, places, feeds)
        for name, graph_shape in self._reshaped:
            if name in feeds:
                feeds[name] = _reshape(feeds[name], graph_shape, self.batching)

    def _check_all_once(self, tensors: Sequence[Tensor]) -> None:
        names = [tensor.name for tensor in tensors]
        for name in names:
            if names.count(name) > 1:
                raise InvalidInput(f"input '{name}' is given {names.count(name)} times; expected it once")
        for spec in self.inputs:
            if spec.name not in names and not spec.optional:
                raise InvalidInput(f"missing input {spec.describe()}")


def _to_compare(
    symbolic_dims: Mapping[str, Sequence[TensorPosition]], batching: bool
) -> list[tuple[str, list[TensorPosition]]]:
    """Return the positions to compare for each name; those of the batch dimension are compared anyway."""
    first = 1 if batching else 0
    kept = [(dim, [place for place in places if place[1] >= first]) for dim, places in symbolic_dims.items()]
    return [(dim, places) for dim, places in kept if len(places) > 1]


def _check_equal(dim: str, places: Sequence[TensorPosition], feeds: Feeds) -> None:
    size, where = -1, ""
    for name, axis in places:
        array = feeds.get(name)
        if array is None:  # an optional input
            continue
        if size < 0:
            size, where = array.shape[axis], name
        elif array.shape[axis] != size:
            raise InvalidInput(
                f"the dimension '{dim}' is {size} in input '{where}' and {array.shape[axis]} in input '{name}'; "
                "the model takes one size"
            )


def _fixed_dims(shape: Shape) -> tuple[tuple[int, int], ...]:
    """Return the dimensions that a tensor must have exactly, with their positions."""
    return tuple((index, dim) for index, dim in enumerate(shape) if dim >= 0)


def _list_specs(specs: Iterable[TensorSpec]) -> str:
    return ", ".join(spec.describe() for spec in specs) or "nothing"


def _mismatch_fault(spec: TensorSpec, datatype: str, shape: Sequence[int]) -> InvalidInput:
    """Return the error for a tensor that its input does not accept."""
    if datatype != spec.datatype:
        return InvalidInput(f"input '{spec.name}' got {datatype}; expected {spec.describe()}")
    got = f"rank {len(shape)} {shape_text(shape)}" if len(shape) != len(spec.shape) else f"shape {shape_text(shape)}"
    return InvalidInput(f"input '{spec.name}' got {got}; expected {spec.describe()}")


def _large_batch(rows: int, most: int) -> InvalidInput:
    return InvalidInput(f"a batch of {rows} rows is over the model's limit of {most}")


def _reshape(array: Array, graph_shape: Shape, batching: bool) -> Array:
    wanted = (array.shape[0], *graph_shape[1:]) if batching else graph_shape
    try:
        return array.reshape(wanted)
    except ValueError:
        raise InvalidInput(
            f"a tensor of shape {shape_text(array.shape)} cannot be reshaped to {shape_text(wanted)}"
        ) from None
