"""Turns rows of input tensors into a matrix of numbers and back, whatever their datatypes are.

Explanations only combine values of rows, so a text is the number of its place in a list.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy as np

from penstock.core.bins import Floats
from penstock.core.errors import InvalidInput, Unsupported
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import NUMPY_TYPES, Array, Shape, Tensor
from penstock.monitor.columns import Columns

EXACT_TO: Final = 1 << 53
"""Whole numbers up to this are float64 exactly."""


class InputColumns:
    """The columns of one input in the matrix: the shape of a row of it, and the list of its texts."""

    def __init__(self, spec: TensorSpec, shape: Shape) -> None:
        self.spec = spec
        self.shape = shape
        self.width = prod(shape)
        self._texts: list[Any] = []
        self._places: dict[Any, int] = {}

    def encode(self, array: Array) -> Floats:
        """Return rows [rows, ...] as numbers [rows, width]; raises ``InvalidInput`` for a whole number that is none."""
        flat = array.reshape(-1, self.width)
        if self.spec.datatype == "BYTES":
            places = [self._place(value) for value in flat.ravel().tolist()]
            return np.array(places, float).reshape(flat.shape)
        if flat.dtype.kind in "iu" and flat.size and np.abs(flat.astype(float)).max() > EXACT_TO:
            raise InvalidInput(f"input '{self.spec.name}' has a whole number beyond 2^53, which cannot be explained")
        return flat.astype(np.float64)

    def decode(self, numbers: Floats) -> Array:
        """Return numbers [rows, width] as rows of the input."""
        dtype = NUMPY_TYPES[self.spec.datatype]
        if self.spec.datatype == "BYTES":
            flat = np.empty(numbers.size, object)
            flat[:] = [self._texts[int(place)] for place in numbers.ravel().tolist()]
        elif dtype.kind in "iu":
            bounds = np.iinfo(dtype)
            flat = np.clip(np.rint(np.nan_to_num(numbers)), float(bounds.min), float(bounds.max)).astype(dtype)
        else:
            flat = np.nan_to_num(numbers).round().astype(dtype) if dtype.kind == "b" else numbers.astype(dtype)
        return flat.reshape(len(numbers), *self.shape)

    @property
    def is_text(self) -> bool:
        """Whether its values are texts."""
        return self.spec.datatype == "BYTES"

    def texts(self, numbers: Floats) -> Array:
        """Return the texts [rows, width] that these numbers stand for."""
        found = np.empty(numbers.size, object)
        found[:] = [_to_text(self._texts[int(place)]) for place in numbers.ravel().tolist()]
        return found.reshape(numbers.shape)

    def _place(self, value: Any) -> int:
        place = self._places.setdefault(value, len(self._texts))
        if place == len(self._texts):
            self._texts.append(value)
        return place


def _to_text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


class RowMatrix:
    """The matrix form of a version's rows, for the shapes of one request. ``features`` are the names of its columns.

    Raises:
        Unsupported: an input is of a datatype that cannot be explained.
    """

    def __init__(self, signature: Signature, inputs: Sequence[Tensor], columns: Columns) -> None:
        given = {tensor.name: tensor.data for tensor in inputs}
        self._batching = signature.batching
        self.parts: list[InputColumns] = []
        self.features: list[str] = []
        names = columns.tensors()
        for spec in signature.inputs:
            if spec.name in given:
                if spec.datatype == "BF16":
                    raise Unsupported(f"input '{spec.name}' is of BF16, which cannot be explained")
                shape = given[spec.name].shape[1:] if self._batching else given[spec.name].shape
                part = InputColumns(spec, shape)
                self.parts.append(part)
                self.features += _feature_names(spec.name, part.width, names.get(spec.name, ()))

    @property
    def is_numeric(self) -> bool:
        """Whether every value is a number, so that the graph can be computed from the matrix."""
        return not any(part.is_text for part in self.parts)

    def encode(self, arrays: Mapping[str, Array]) -> Floats | None:
        """Return rows of each input as a matrix [rows, features]; None if an input is missing or has other shapes."""
        encoded = []
        for part in self.parts:
            array = arrays.get(part.spec.name)
            if array is None or not part.width or array.size % part.width:
                return None
            encoded.append(part.encode(array))
        if not encoded or len({len(item) for item in encoded}) != 1:
            return None
        return np.concatenate(encoded, axis=1)

    def values(self, matrix: Floats) -> Array:
        """Return rows of the matrix with their texts, as objects; the matrix itself if every value is a number."""
        if self.is_numeric:
            return matrix
        values, at = np.empty(matrix.shape, object), 0
        for part in self.parts:
            end = at + part.width
            values[:, at:end] = part.texts(matrix[:, at:end]) if part.is_text else matrix[:, at:end]
            at = end
        return values

    def decode(self, matrix: Floats) -> list[Tensor]:
        """Return rows of the matrix as tensors; of a model without rows, ``matrix`` is one."""
        tensors, at = [], 0
        for part in self.parts:
            rows = part.decode(matrix[:, at : at + part.width])
            at += part.width
            data = rows if self._batching else rows.reshape(part.shape)
            tensors.append(Tensor(part.spec.name, part.spec.datatype, data))
        return tensors


def _feature_names(tensor: str, width: int, known: Sequence[str]) -> list[str]:
    if len(known) == width:
        return list(known)
    return [tensor] if width == 1 else [f"{tensor}[{index}]" for index in range(width)]
