"""Writes streams of Arrow record batches as tables: Parquet, CSV, JSON lines and Arrow IPC, in bounded memory."""

import json
import math
from pathlib import Path
from typing import Any, Final, Protocol

from penstock.core.errors import InvalidInput
from penstock.core.texts import shorten
from penstock.monitor.pyarrow_extra import Batch

GROUP_ROWS: Final = 1 << 16
GROUP_BYTES: Final = 32 << 20
"""Rows and bytes of a row group that is written, at most: a writer of Parquet holds one of them in memory."""


class TableWriter(Protocol):
    """Writes record batches of one schema to a file. Of one thread at a time."""

    def write(self, batch: Batch) -> None:
        """Append rows.

        Raises:
            InvalidInput: a column has another type than in the first batch.
        """

    def close(self) -> None:
        """Complete the file."""


def open_writer(path: Path, file_format: str) -> TableWriter:
    """Return a writer of ``file_format`` to a file, which is created with the first rows."""
    return _Writer(path, file_format)


class _Writer:
    def __init__(self, path: Path, file_format: str) -> None:
        self._path, self._format = path, file_format
        self._schema: Any = None
        self._sink: Any = None

    def write(self, batch: Batch) -> None:
        if self._sink is None:
            batch = _without_null_columns(batch)
            self._schema = batch.schema
            self._sink = _open_sink(self._path, self._format, self._schema)
        self._sink.write(_fit_schema(batch, self._schema))

    def close(self) -> None:
        if self._sink is not None:
            self._sink.close()


def _without_null_columns(batch: Batch) -> Batch:
    """Return rows whose columns without any value are texts: later rows may have one."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    types = [pa.string() if pa.types.is_null(item.type) else item.type for item in batch.schema]
    return batch.cast(pa.schema([item.with_type(kind) for item, kind in zip(batch.schema, types, strict=True)]))


def _fit_schema(batch: Batch, schema: Any) -> Batch:
    """Return rows in a schema.

    Raises:
        InvalidInput: they have other columns, or values that do not fit.
    """
    import pyarrow as pa  # noqa: PLC0415 - an extra

    if batch.schema.equals(schema):
        return batch
    columns = []
    for item in schema:
        at = batch.schema.get_field_index(item.name)
        try:
            columns.append(pa.nulls(batch.num_rows, item.type) if at < 0 else batch.column(at).cast(item.type))
        except pa.ArrowException:
            raise InvalidInput(
                f"column '{shorten(item.name)}' changes from {item.type} to {batch.schema.field(at).type}; "
                "leave it out of --join"
            ) from None
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _open_sink(path: Path, file_format: str, schema: Any) -> Any:
    match file_format:
        case "parquet":
            return _ParquetSink(path, schema)
        case "csv":
            from pyarrow import csv  # noqa: PLC0415 - an extra

            return csv.CSVWriter(path, schema)
        case "arrow":
            from pyarrow import ipc  # noqa: PLC0415 - an extra

            return ipc.new_file(path, schema)
    return _JsonLinesSink(path)


class _ParquetSink:
    """Writes row groups of ``GROUP_ROWS`` rows: small ones would be slow to read."""

    def __init__(self, path: Path, schema: Any) -> None:
        from pyarrow import parquet  # noqa: PLC0415 - an extra

        self._writer = parquet.ParquetWriter(path, schema)
        self._held: list[Batch] = []
        self._rows = self._bytes = 0

    def write(self, batch: Batch) -> None:
        self._held.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa  # noqa: PLC0415 - an extra

        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held), row_group_size=self._rows)
        self._held, self._rows, self._bytes = [], 0, 0

    def close(self) -> None:
        self._flush()
        self._writer.close()


class _JsonLinesSink:
    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def write(self, batch: Batch) -> None:
        for record in batch.to_pylist():
            self._file.write(json.dumps(_finite_or_none(record), default=str, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()


def _finite_or_none(value: Any) -> Any:
    """Return a value of JSON: numbers that are not finite become null."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite_or_none(item) for key, item in value.items()}
        case list():
            return [_finite_or_none(item) for item in value]
    return value
