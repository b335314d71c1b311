"""Fixed bins of a model's outputs, the same for every version, so that versions can be compared.

A class or label has its own bin, and scores of several classes count as the class with the greatest score. Other
numbers fall in bins a quarter of an octave wide, by sign, and texts in bins by a hash. Rows that are not finite share
one bin.
"""

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from penstock.core.tensors import Array

OUTPUT_BINS = 256
NOT_FINITE = OUTPUT_BINS - 1
OTHER = OUTPUT_BINS - 2
"""The bin of labels that have no bin of their own."""

CLASSES = 200
"""Labels and classes from 0 to one less than this have bins of their own."""

PER_OCTAVE = 4
SPAN = 120
"""Bins of each sign, for magnitudes from 2^-15 to 2^15; values beyond count in the last bins."""

MIDDLE = 128

BinIndices = NDArray[np.intp]


def bins_of(output: Array, batching: bool) -> BinIndices:
    """Return the bin [rows] of each row of an output; the first axis is rows if the model is ``batching``, else the
    output is one row."""
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
    text = b"\0".join(value if isinstance(value, bytes) else str(value).encode() for value in row.tolist())
    return crc32(text) % CLASSES


def _float_bins(rows: NDArray[np.float64]) -> BinIndices:
    width = rows.shape[1]
    finite = np.isfinite(rows).all(axis=1)
    if 1 < width <= CLASSES:
        return np.where(finite, rows.argmax(axis=1), NOT_FINITE)
    values = np.where(finite, rows.mean(axis=1) if width > 1 else rows[:, 0], 1.0)
    with np.errstate(divide="ignore"):
        steps = np.floor(np.log2(np.abs(values)) * PER_OCTAVE) + SPAN // 2
    steps = np.clip(np.nan_to_num(steps, neginf=0.0), 0, SPAN - 1).astype(np.intp)
    return np.where(finite, np.where(values >= 0, MIDDLE + steps, MIDDLE - 1 - steps), NOT_FINITE)
