"""Fixed bins for what models answer, the same for every version of a model, so that versions can be compared.

A class or label is its own bin; scores of several classes count as the class with the greatest; other numbers fall in
bins a fourth of an octave wide, by sign; texts by a hash. Every row that is not finite falls in a bin of its own.
"""

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from penstock.core.tensors import Array

OUTPUT_BINS = 256
NOT_FINITE = OUTPUT_BINS - 1
OTHER = OUTPUT_BINS - 2
"""Labels beyond the bins there are."""

CLASSES = 200
"""Labels and classes 0 to this have bins of their own."""

PER_OCTAVE = 4
SPAN = 120
"""Bins of each sign: magnitudes from 2^-15 to 2^15; what lies beyond counts with the last."""

MIDDLE = 128

Bins = NDArray[np.intp]


def bins_of(output: Array, batching: bool) -> Bins:
    """The bin of each row of an output; the first axis is rows for models that batch, else all is one row."""
    if not output.size:
        return np.zeros(0, np.intp)
    rows = output.reshape(len(output), -1) if batching and output.ndim else output.reshape(1, -1)
    if output.dtype == object or output.dtype.kind in "SU":
        return np.array([_text_bin(row) for row in rows], np.intp)
    if output.dtype.kind in "biu":
        values = rows.reshape(-1)
        return np.where((values >= 0) & (values < CLASSES), values, OTHER).astype(np.intp)
    return _float_bins(rows.astype(np.float64, copy=False))


def _text_bin(row: Array) -> int:
    told = b"\0".join(one if isinstance(one, bytes) else str(one).encode() for one in row.tolist())
    return crc32(told) % CLASSES


def _float_bins(rows: NDArray[np.float64]) -> Bins:
    width = rows.shape[1]
    finite = np.isfinite(rows).all(axis=1)
    if 1 < width <= CLASSES:
        return np.where(finite, rows.argmax(axis=1), NOT_FINITE)
    values = np.where(finite, rows.mean(axis=1) if width > 1 else rows[:, 0], 1.0)
    with np.errstate(divide="ignore"):
        steps = np.floor(np.log2(np.abs(values)) * PER_OCTAVE) + SPAN // 2
    steps = np.clip(np.nan_to_num(steps, neginf=0.0), 0, SPAN - 1).astype(np.intp)
    return np.where(finite, np.where(values >= 0, MIDDLE + steps, MIDDLE - 1 - steps), NOT_FINITE)
