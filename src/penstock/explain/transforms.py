"""What graphs do to each feature by itself before trees or sums: casts, scales, replacements of missing values.

Each is computed in the precision in which the runtime computes it, so that splits see the same numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Transform: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]
"""Maps rows [rows, features] to rows of the same shape, each feature by itself."""


@dataclass(frozen=True, slots=True)
class InputTransforms:
    """The type of the graph's input, the transforms behind it in order, and the type of their result."""

    dtype: np.dtype[Any]
    result: np.dtype[Any]
    steps: tuple[Transform, ...] = ()

    def apply(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows [rows, features] as the model behind the transforms gets them."""
        with np.errstate(invalid="ignore", over="ignore"):  # as silent as the runtime
            found = rows.astype(self.dtype)
            for step in self.steps:
                found = step(found)
        return found

    def then(self, step: Transform, result: np.dtype[Any]) -> "InputTransforms":
        """Return these transforms and one more, with the type of what it makes."""
        return InputTransforms(self.dtype, result, (*self.steps, step))


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
    """Return the transform of Add, Sub, Mul or Div with a constant for each feature, or one for all."""
    if constant_first:
        return lambda rows: np.asarray(operation(constant, rows))
    return lambda rows: np.asarray(operation(rows, constant))
