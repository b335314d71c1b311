"""Arrow record batches as frames and back, and changes of them: texts to numbers, rows to places, more columns."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.frames.frame import Frame, FrameColumn
from penstock.core.frames.records import check_names
from penstock.core.tensors import Array
from penstock.core.texts import shorten
from penstock.monitor.pyarrow_extra import Batch


def check_batch(value: object) -> None:
    """Check that a value is a record batch; raises ``TypeError``."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    if not isinstance(value, pa.RecordBatch):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise TypeError(f"expected a pyarrow.RecordBatch, got {kind}; a pyarrow.Table has them in to_batches()")


def parse_numbers(batch: Batch, texts: Collection[str]) -> Batch:
    """Return rows of a CSV file whose columns are numbers or truth values, except those in ``texts`` and those with a
    value that is neither."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    names = batch.schema.names
    columns = [
        column if name in texts else _parse_column(column) for name, column in zip(names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names)


def _parse_column(column: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - an extra

    if not pa.types.is_string(column.type):
        return column
    for kind in (pa.int64(), pa.float64(), pa.bool_()):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    return column


def place_rows(batch: Batch, places: Sequence[int], rows: int) -> Batch:
    """Return ``rows`` rows that have those of a batch at these places, in order, and nulls at the others."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    indices = np.zeros(rows, np.int64)
    absent = np.ones(rows, np.bool_)
    indices[places] = np.arange(len(places))
    absent[places] = False
    return batch.take(pa.array(indices, mask=absent))


def append_columns(batch: Batch, names: Sequence[str], added: Batch) -> Batch:
    """Return the columns of a batch, and those of another with these names behind them."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    return pa.RecordBatch.from_arrays([*batch.columns, *added.columns], [*batch.schema.names, *names])


def values_of(batch: Batch, name: str) -> list[Any]:
    """Return the values of a column, None where there is none."""
    values: list[Any] = batch.column(batch.schema.get_field_index(name)).to_pylist()
    return values


def frame_of(batch: Batch) -> Frame:
    """Return the columns of numbers, texts and truth values of rows; numbers without nulls are not copied.

    Raises:
        InvalidInput: a column has another type, or the name of another column.
    """
    names = check_names(batch.schema.names)
    columns = {name: _column_of(name, column) for name, column in zip(names, batch.columns, strict=True)}
    return Frame(columns, batch.num_rows)


def _column_of(name: str, column: Any) -> FrameColumn:
    import pyarrow as pa  # noqa: PLC0415 - an extra

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    missing = np.asarray(column.is_null()) if column.null_count else None
    if pa.types.is_null(kind):
        return FrameColumn(np.zeros(len(column)), missing)
    if pa.types.is_boolean(kind):
        return FrameColumn(_fill_missing(column, False).to_numpy(zero_copy_only=False), missing)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return FrameColumn(_fill_missing(column, "").to_numpy(zero_copy_only=False), missing)
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return FrameColumn(_make_numbers(_fill_missing(column, 0).to_numpy(zero_copy_only=False)), missing)
    raise InvalidInput(f"column '{shorten(name)}' is {kind}; expected numbers, texts or truth values")


def _fill_missing(column: Any, filler: Any) -> Any:
    return column.fill_null(filler) if column.null_count else column


def _make_numbers(values: Array) -> Array:
    """Return numbers in a type that frames have."""
    if values.dtype.kind == "f":
        return values if values.dtype.itemsize >= 4 else values.astype(np.float32)
    wide = np.uint64 if values.dtype == np.uint64 else np.int64
    return values.astype(wide, copy=False)


def batch_of(frame: Frame) -> Batch:
    """Return a frame as a record batch."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    columns = [pa.array(column.values, mask=column.missing) for column in frame.columns.values()]
    return pa.RecordBatch.from_arrays(columns, list(frame.columns))


def nested_values(batch: Batch, name: str) -> Array | None:
    """Return the values of a column of lists as one flat array, None if the column is not a list.

    Raises:
        InvalidInput: a list, or one of its values, is null.
    """
    import pyarrow as pa  # noqa: PLC0415 - an extra

    column = batch.column(batch.schema.get_field_index(name))
    if not _is_list(column.type):
        return None
    while _is_list(column.type):
        if column.null_count:
            raise InvalidInput(f"column '{shorten(name)}': expected a list in every row")
        column = column.flatten()
    if column.null_count or not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise InvalidInput(f"column '{shorten(name)}': expected lists of numbers")
    values: Array = column.to_numpy(zero_copy_only=False)
    return values


def _is_list(kind: Any) -> bool:
    import pyarrow as pa  # noqa: PLC0415 - an extra

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
