"""What graphs do to each feature by itself before trees or sums: casts, scales, replacements of missing values, and
selections and joints of columns.

Each is computed in the precision in which the runtime computes it, so that splits see the same numbers. Shapley values
stay those of the features, as long as every column is made of one feature.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.explain.nodes import Integers, NotExact

SINGLE: np.dtype[Any] = np.dtype(np.float32)

Transform: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]
"""Maps rows [rows, columns] to rows of the same shape, each column by itself."""


class InputTransforms(Protocol):
    """How rows of features become the columns that a model gets."""

    @property
    def result(self) -> np.dtype[Any]:
        """The type of the columns."""

    def apply(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the columns [rows, columns] of rows [rows, features]; raises ``NotExact`` if they do not fit."""

    def trace(self, features: int) -> Integers:
        """Return the feature that each column is made of, of so many; raises ``NotExact`` if they do not fit."""


@dataclass(frozen=True, slots=True)
class GivenInput:
    """An input of the graph: all features, or the feature at its place if the graph has several inputs."""

    place: int
    inputs: int
    result: np.dtype[Any]

    def apply(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the feature or features in the type of the input."""
        chosen = rows[:, self.trace(rows.shape[1])]
        try:
            return chosen.astype(self.result)
        except (TypeError, ValueError) as fault:
            raise NotExact("a feature is not a number") from fault

    def trace(self, features: int) -> Integers:
        """Return the features of the input."""
        if self.inputs == 1:
            return np.arange(features)
        if self.inputs != features:
            raise NotExact("an input of the graph has several of the features")
        return np.array([self.place])


@dataclass(frozen=True, slots=True)
class ChangedColumns:
    """Columns that are changed, each by itself."""

    columns: InputTransforms
    change: Transform
    result: np.dtype[Any]

    def apply(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the changed columns."""
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):  # as silent as the runtime
            return self.change(self.columns.apply(rows))

    def trace(self, features: int) -> Integers:
        """Return the features of the columns."""
        return self.columns.trace(features)


@dataclass(frozen=True, slots=True)
class SelectedColumns:
    """Some of the columns."""

    columns: InputTransforms
    chosen: Integers

    @property
    def result(self) -> np.dtype[Any]:
        """The type of the columns."""
        return self.columns.result

    def apply(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the chosen columns."""
        return self.columns.apply(rows)[:, self.chosen]

    def trace(self, features: int) -> Integers:
        """Return the features of the chosen columns."""
        found = self.columns.trace(features)
        if not self.chosen.size or self.chosen.min() < 0 or self.chosen.max() >= len(found):
            raise NotExact("the graph asks for a feature that rows do not have")
        return found[self.chosen]


@dataclass(frozen=True, slots=True)
class ConcatenatedColumns:
    """Columns side by side."""

    parts: Sequence[InputTransforms]

    @property
    def result(self) -> np.dtype[Any]:
        """The type of the columns."""
        return self.parts[0].result

    def apply(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return all columns."""
        return np.concatenate([part.apply(rows) for part in self.parts], axis=1)

    def trace(self, features: int) -> Integers:
        """Return the features of all columns."""
        return np.concatenate([part.trace(features) for part in self.parts])


@dataclass(frozen=True, slots=True)
class ReshapedColumns:
    """Columns as a matrix of a stated width, which must be theirs."""

    columns: InputTransforms
    width: int

    @property
    def result(self) -> np.dtype[Any]:
        """The type of the columns."""
        return self.columns.result

    def apply(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the columns."""
        return self.columns.apply(rows)

    def trace(self, features: int) -> Integers:
        """Return the features of the columns; raises ``NotExact`` if values would change their rows."""
        found = self.columns.trace(features)
        if len(found) != self.width:
            raise NotExact("Reshape before the model mixes the rows")
        return found


@dataclass(frozen=True, slots=True)
class EncodedCategory:
    """A column for each category of a single column: 1 where it has that category."""

    column: InputTransforms
    categories: NDArray[Any]
    result: np.dtype[Any] = SINGLE

    def apply(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the columns; whole numbers are compared without the fraction, as the runtime does."""
        values = self.column.apply(rows)
        if self.categories.dtype == np.int64:
            with np.errstate(invalid="ignore"):
                values = values.astype(np.int64)
        return np.asarray(values == self.categories).astype(self.result)

    def trace(self, features: int) -> Integers:
        """Return the feature of the column, as often as there are categories."""
        found = self.column.trace(features)
        if len(found) != 1:
            raise NotExact("several features are encoded at once")
        return np.repeat(found, len(self.categories))


def cast_to(dtype: np.dtype[Any]) -> Transform:
    """Return the transform of Cast."""
    return lambda rows: rows.astype(dtype)


def scale_by(offset: NDArray[np.float32], scale: NDArray[np.float32]) -> Transform:
    """Return the transform of Scaler: (x - offset) * scale in single precision."""
    return lambda rows: (rows.astype(np.float32) - offset) * scale


def replace_missing(replaced: float, values: NDArray[Any]) -> Transform:
    """Return the transform of Imputer: one value (or NaN) becomes a value of the feature's own."""

    def replace(rows: NDArray[Any]) -> NDArray[Any]:
        is_missing = np.isnan(rows) if np.isnan(replaced) else rows == replaced
        return np.where(is_missing, values.astype(rows.dtype), rows)

    return replace


def combine(operation: Callable[[Any, Any], Any], constant: NDArray[Any], *, constant_first: bool) -> Transform:
    """Return the transform of Add, Sub, Mul or Div with a constant for each column, or one for all."""
    if constant_first:
        return lambda rows: np.asarray(operation(constant, rows))
    return lambda rows: np.asarray(operation(rows, constant))


def look_up(keys: Sequence[Any], values: NDArray[Any], default: Any) -> Transform:
    """Return the transform of LabelEncoder: a value for each key, and one for all else."""
    table = dict(zip(keys, values.tolist(), strict=True))

    def find(rows: NDArray[Any]) -> NDArray[Any]:
        found = [[table.get(item, default) for item in row] for row in rows.tolist()]
        return np.array(found, dtype=values.dtype).reshape(rows.shape)

    return find
