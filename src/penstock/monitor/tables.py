"""Reads training data: CSV, NumPy archives and Parquet, as columns by name."""

import csv
import io
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.bins import Floats
from penstock.core.errors import InvalidInput
from penstock.core.frames.layout import row_width
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import NUMPY_TYPES, Array, Tensor
from penstock.core.texts import is_number, is_readable
from penstock.monitor.pyarrow_extra import require_pyarrow

MOST_ROWS = 1_000_000
LONGEST_NAME = 100
"""Characters of a column's name that are kept."""

PARQUET, ZIP = b"PAR1", b"PK\x03\x04"

Table = dict[str, Array]
"""Columns by name; each has as many rows."""


def read_table(file: Path) -> Table:
    """Return the columns of a file; its first bytes decide its format.

    Raises:
        InvalidInput: the file has another format, or its columns differ in length.
        Unsupported: it is Parquet, and the library that reads it is not installed.
    """
    with file.open("rb") as opened:
        start = opened.read(4)
    if start == PARQUET:
        table = _read_parquet(file)
    elif start == ZIP:
        table = _archive(file)
    else:
        table = _read_csv(file)
    lengths = {len(column) for column in table.values()}
    if len(lengths) != 1 or not lengths.pop():
        raise InvalidInput("the data has no rows, or columns of different lengths")
    return {name: column[:MOST_ROWS] for name, column in table.items()}


def _read_csv(file: Path) -> Table:
    try:
        text = file.read_text(encoding="utf-8-sig")
        rows = list(csv.reader(io.StringIO(text)))
    except (UnicodeDecodeError, csv.Error):
        raise InvalidInput("the data is not a CSV, Parquet or npz file") from None
    rows = [row for row in rows if row]
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):
        raise InvalidInput("the CSV data needs a line of names, and as many values in every line")
    if len(set(rows[0])) < len(rows[0]):
        twice = next(name for name in rows[0] if rows[0].count(name) > 1)
        raise InvalidInput(f"the CSV data has two columns '{twice[:LONGEST_NAME]}'; give every column its own name")
    return {name: _make_column([row[index] for row in rows[1:]]) for index, name in enumerate(rows[0])}


def _make_column(texts: Sequence[str]) -> Array:
    """Return numbers if all texts are numbers or empty, else texts."""
    try:
        return np.array([float(text) if text.strip() else np.nan for text in texts])
    except ValueError:
        return np.array(texts, object)


def _archive(file: Path) -> Table:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile):
        raise InvalidInput("the npz data does not consist of plain arrays") from None


def _read_parquet(file: Path) -> Table:
    require_pyarrow()
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    table = parquet.read_table(file)
    return {name: np.asarray(table.column(name).to_numpy(zero_copy_only=False)) for name in table.column_names}


@dataclass(frozen=True, slots=True)
class TableInputs:
    """A model's inputs from a table, and the ``names`` of its features, empty if nothing states them."""

    tensors: list[Tensor]
    names: tuple[str, ...] = ()


def inputs_of(
    table: Table, signature: Signature, graph: Sequence[str], card: Sequence[str] = (), labels: Collection[str] = ()
) -> TableInputs:
    """Return the model's inputs from a table.

    An input is the array of its name, else the columns of its features' names, else the first columns in order; if
    there are more than enough columns, those in ``labels`` are left out. The features of a single input have the names
    in the ``graph``'s metadata, else those of the model ``card``, else those of the table. A card lists its names in
    any order; if the table has columns of these names, the order of the table counts.

    Raises:
        InvalidInput: the columns do not make up an input.
    """
    if len(signature.inputs) != 1:
        return TableInputs([_make_tensor(table, spec, _select(table, spec, (), labels)) for spec in signature.inputs])
    [spec] = signature.inputs
    width = row_width(spec)
    carded = [name for name in table if name in card]
    stated = list(graph) if len(graph) == width else carded if len(card) == len(carded) == width else []
    columns = _select(table, spec, stated, labels)
    names = stated or (list(card) if len(card) == width else _find_names(columns))
    return TableInputs([_make_tensor(table, spec, columns)], tuple(names))


def _is_array_of(table: Table, spec: TensorSpec) -> bool:
    return spec.name in table and table[spec.name].ndim == len(spec.shape)


def _select(table: Table, spec: TensorSpec, names: Sequence[str], labels: Collection[str]) -> list[str]:
    """Return the columns that make up an input, none if the table has the array of its name.

    Raises:
        InvalidInput: there are too few.
    """
    if _is_array_of(table, spec):
        return []
    width = row_width(spec)
    if len(spec.shape) > 2 or width < 0:
        raise InvalidInput(f"input '{spec.name}' needs an array of its name and shape (npz)")
    flat = [name for name, column in table.items() if column.ndim == 1]
    if len(names) == width and set(names) <= set(flat):
        return list(names)
    if width == 1 and spec.name in flat:
        return [spec.name]
    if len(flat) < width:
        raise InvalidInput(f"input '{spec.name}' needs {width} columns; the data has {len(flat)}")
    features = [name for name in flat if name not in labels]
    return (features if len(features) >= width else flat)[:width]


def _find_names(columns: Sequence[str]) -> list[str]:
    """Return the names of a table's columns, none if they cannot be names (a table without a header)."""
    are_names = all(name.strip() and is_readable(name) and not is_number(name) for name in columns)
    return [name.strip()[:LONGEST_NAME] for name in columns] if are_names else []


def _make_tensor(table: Table, spec: TensorSpec, columns: Sequence[str]) -> Tensor:
    if not columns:
        return Tensor(spec.name, spec.datatype, _convert_values(table[spec.name], spec))
    stacked = np.stack([table[name] for name in columns], axis=1)
    return Tensor(
        spec.name, spec.datatype, _convert_values(stacked.reshape(-1) if len(spec.shape) == 1 else stacked, spec)
    )


TIME_NAMES = ("timestamp", "time", "datetime")
"""A column with one of these names that is not a feature of the model holds the times of the rows."""

_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3), (0.0, 1.0))
"""Numbers above these are nanoseconds, microseconds, milliseconds or seconds since the epoch."""


def times_of(table: Table, name: str, features: Collection[str], rows: int) -> Floats | None:
    """Return the times [rows] of the rows (seconds since the epoch) from the column of this name, or else of one of
    ``TIME_NAMES``; None without one.

    Times are ISO 8601 (UTC if no zone is stated), dates of Parquet, or numbers since the epoch.

    Raises:
        InvalidInput: the column was named, and is missing or holds no times.
    """
    candidates = [column for column in ((name,) if name else TIME_NAMES) if column in table and column not in features]
    times = _read_seconds(table[candidates[0]], rows) if candidates else None
    if name and times is None:
        raise InvalidInput(f"the data has no column '{name[:64]}' of times (ISO 8601, or seconds since the epoch)")
    return times


def _read_seconds(column: Array, rows: int) -> Floats | None:
    if column.shape != (rows,):
        return None
    try:
        if column.dtype.kind == "M":
            return column.astype("datetime64[us]").astype(np.float64) / 1e6
        if column.dtype.kind in "OSU":
            return np.array([_parse_epoch(str(item)) for item in column.tolist()])
        numbers = column.astype(np.float64)
    except (ValueError, TypeError):
        return None
    if not np.isfinite(numbers).all():
        return None
    size = float(np.median(np.abs(numbers)))
    return np.asarray(numbers / next(unit for least, unit in _UNITS if size >= least), np.float64)


def _parse_epoch(text: str) -> float:
    moment = datetime.fromisoformat(text.strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _convert_values(values: Array, spec: TensorSpec) -> Array:
    try:
        if spec.datatype == "BYTES":
            texts: Any = np.array([str(value) for value in values.ravel()], object)
            return np.asarray(texts.reshape(values.shape))
        return np.ascontiguousarray(values.astype(np.float64, copy=False).astype(NUMPY_TYPES[spec.datatype]))
    except (ValueError, TypeError, KeyError):
        raise InvalidInput(f"input '{spec.name}' is {spec.datatype}; the data does not fit it") from None
