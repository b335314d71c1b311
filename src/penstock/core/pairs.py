"""Compares two answers to the same request."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from penstock.core.tensors import Array, Tensor

RELATIVE = 1e-3
ABSOLUTE = 1e-5
"""Tolerance within which numbers are equal: ``|a - b| <= ABSOLUTE + RELATIVE * |b|``."""

MOST_CLASSES = 200
"""A last axis of 2 to this many floats holds scores of classes, and the greatest is the answer."""


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """The difference: ``flips`` counts rows with another class or label; differences are of finite numbers."""

    disagrees: bool = False
    flips: int = 0
    elements: int = 0
    sum_abs: float = 0.0
    max_abs: float = 0.0

    def plus(self, other: "OutputDifference") -> "OutputDifference":
        """Return both together; the greater number of flips, because a label and its scores are one answer."""
        return OutputDifference(
            self.disagrees or other.disagrees,
            max(self.flips, other.flips),
            self.elements + other.elements,
            self.sum_abs + other.sum_abs,
            max(self.max_abs, other.max_abs),
        )


def compare(primary: Sequence[Tensor], shadow: Sequence[Tensor]) -> OutputDifference:
    """Compare answers output by output; answers of another form disagree."""
    difference = OutputDifference(disagrees=len(primary) != len(shadow))
    for one, other in zip(primary, shadow, strict=False):
        difference = difference.plus(_compare(one, other))
    return difference


def find_disagreeing_rows(primary: Sequence[Tensor], shadow: Sequence[Tensor], rows: int) -> NDArray[np.bool_]:
    """Return for each of ``rows`` rows [rows] whether ``compare`` would find that this row alone disagrees; the first
    axis of every output is rows."""
    apart = np.full(rows, len(primary) != len(shadow))
    for one, other in zip(primary, shadow, strict=False):
        apart |= _disagreeing_rows(one, other, rows)
    return apart


def _disagreeing_rows(one: Tensor, other: Tensor, rows: int) -> NDArray[np.bool_]:
    shape = one.data.shape
    if (one.name, one.datatype, shape) != (other.name, other.datatype, other.data.shape) or shape[:1] != (rows,):
        return np.ones(rows, np.bool_)
    if one.data.dtype.kind != "f":
        return _any_of_row(one.data != other.data, rows)
    a, b = one.data.astype(np.float64), other.data.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    odd = ~(finite | (a == b) | (np.isnan(a) & np.isnan(b)))
    if a.ndim > 1 and 1 < a.shape[-1] <= MOST_CLASSES:
        return _any_of_row(a.argmax(axis=-1) != b.argmax(axis=-1), rows) | _any_of_row(odd, rows)
    known = np.where(finite, a, 0.0)
    beyond = np.abs(known - np.where(finite, b, 0.0)) > ABSOLUTE + RELATIVE * np.abs(known)
    return _any_of_row(odd | beyond, rows)


def _any_of_row(differs: Array, rows: int) -> NDArray[np.bool_]:
    return np.asarray(differs.reshape(rows, prod(differs.shape[1:])).any(axis=1), np.bool_)


def _compare(one: Tensor, other: Tensor) -> OutputDifference:
    if one.name != other.name or one.datatype != other.datatype or one.data.shape != other.data.shape:
        return OutputDifference(disagrees=True)
    if one.data.dtype.kind != "f":
        flips = _count_differing_rows(one.data != other.data)
        return OutputDifference(disagrees=flips > 0, flips=flips)
    a, b = one.data.astype(np.float64), other.data.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    apart = np.abs(np.where(finite, a, 0.0) - np.where(finite, b, 0.0))
    odd = ~(finite | (a == b) | (np.isnan(a) & np.isnan(b)))
    numbers = OutputDifference(False, 0, a.size, float(apart.sum()), float(apart.max(initial=0.0)))
    if a.ndim > 1 and 1 < a.shape[-1] <= MOST_CLASSES:
        flips = int((a.argmax(axis=-1) != b.argmax(axis=-1)).sum())
        return numbers.plus(OutputDifference(disagrees=bool(flips or odd.any()), flips=flips))
    beyond = odd | (apart > ABSOLUTE + RELATIVE * np.abs(np.where(finite, a, 0.0)))
    return numbers.plus(OutputDifference(disagrees=bool(beyond.any())))


def _count_differing_rows(differs: Array) -> int:
    return int(_any_of_row(differs if differs.ndim else differs.reshape(1), len(differs) if differs.ndim else 1).sum())
