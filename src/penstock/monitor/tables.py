"""Reads training data: CSV, NumPy archives and Parquet, as columns by name."""

import csv
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import InvalidInput, Unsupported
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import NUMPY_TYPES, Array, Tensor

MOST_ROWS = 1_000_000
PARQUET, ZIP = b"PAR1", b"PK\x03\x04"

Table = dict[str, Array]
"""Columns by name; each has as many rows."""


def read_table(file: Path) -> Table:
    """The columns of a file, whose form its first bytes tell.

    Raises:
        InvalidInput: it is none of the forms, or its columns differ in length.
        Unsupported: Parquet, without the library that reads it.
    """
    with file.open("rb") as opened:
        start = opened.read(4)
    if start == PARQUET:
        table = _parquet(file)
    elif start == ZIP:
        table = _archive(file)
    else:
        table = _csv(file)
    lengths = {len(column) for column in table.values()}
    if len(lengths) != 1 or not lengths.pop():
        raise InvalidInput("the data has no rows, or columns of different lengths")
    return {name: column[:MOST_ROWS] for name, column in table.items()}


def _csv(file: Path) -> Table:
    try:
        text = file.read_text(encoding="utf-8-sig")
        rows = list(csv.reader(io.StringIO(text)))
    except (UnicodeDecodeError, csv.Error):
        raise InvalidInput("the data is no CSV, Parquet or npz file") from None
    rows = [row for row in rows if row]
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):
        raise InvalidInput("the CSV data needs a line of names, and as many values in every line")
    return {name: _column([row[index] for row in rows[1:]]) for index, name in enumerate(rows[0])}


def _column(texts: Sequence[str]) -> Array:
    """Numbers where all texts are numbers or nothing, else texts."""
    try:
        return np.array([float(text) if text.strip() else np.nan for text in texts])
    except ValueError:
        return np.array(texts, object)


def _archive(file: Path) -> Table:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile):
        raise InvalidInput("the npz data holds something else than plain arrays") from None


def _parquet(file: Path) -> Table:
    try:
        from pyarrow import parquet  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise Unsupported("Parquet needs the extra 'parquet': pip install 'penstock[parquet]'") from None
    table = parquet.read_table(file)
    return {name: np.asarray(table.column(name).to_numpy(zero_copy_only=False)) for name in table.column_names}


def tensors_of(table: Table, signature: Signature, names: Sequence[str]) -> list[Tensor]:
    """The model's inputs out of a table: arrays by an input's name, else columns by the features' names, else the first
    columns in order.

    Raises:
        InvalidInput: an input cannot be made of the columns there are.
    """
    return [_tensor(table, spec, names if len(signature.inputs) == 1 else ()) for spec in signature.inputs]


def _tensor(table: Table, spec: TensorSpec, names: Sequence[str]) -> Tensor:
    if spec.name in table and table[spec.name].ndim == len(spec.shape):
        return Tensor(spec.name, spec.datatype, _typed(table[spec.name], spec))
    if len(spec.shape) > 2 or (len(spec.shape) == 2 and spec.shape[1] < 0):
        raise InvalidInput(f"input '{spec.name}' needs an array of its name and shape (npz)")
    width = spec.shape[1] if len(spec.shape) == 2 else 1
    flat = [name for name, column in table.items() if column.ndim == 1]
    chosen = list(names) if len(names) == width and set(names) <= set(flat) else flat[:width]
    if len(chosen) != width:
        raise InvalidInput(f"input '{spec.name}' needs {width} columns; the data has {len(flat)}")
    stacked = np.stack([table[name] for name in chosen], axis=1)
    return Tensor(spec.name, spec.datatype, _typed(stacked.reshape(-1) if len(spec.shape) == 1 else stacked, spec))


def _typed(values: Array, spec: TensorSpec) -> Array:
    try:
        if spec.datatype == "BYTES":
            texts: Any = np.array([str(value) for value in values.ravel()], object)
            return np.asarray(texts.reshape(values.shape))
        return np.ascontiguousarray(values.astype(np.float64, copy=False).astype(NUMPY_TYPES[spec.datatype]))
    except (ValueError, TypeError, KeyError):
        raise InvalidInput(f"input '{spec.name}' is {spec.datatype}; the data holds something else") from None
