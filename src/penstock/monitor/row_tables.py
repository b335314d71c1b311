"""Writes captured requests as Parquet, one line for each row with its label."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import NotFound
from penstock.engine.durable_files import replace_file
from penstock.monitor.capture import SEGMENT_BYTES, CapturedRequest
from penstock.monitor.captured_rows import RowSelection
from penstock.monitor.pyarrow_extra import require_pyarrow


def write_table(batches: Iterable[Sequence[CapturedRequest]], selection: RowSelection, output: Path) -> int:
    """Write these requests of a version to ``output``, and return the number of rows.

    Raises:
        NotFound: there are none.
        Unsupported: the library that writes Parquet is not installed.
    """
    require_pyarrow()
    with replace_file(output) as scratch:
        total = _write(batches, selection.version, scratch)
        if not total:
            raise NotFound(f"nothing was captured of model '{selection.model}' version '{selection.version}'")
    return total


def in_batches(requests: Iterable[CapturedRequest], size: int = SEGMENT_BYTES) -> Iterator[list[CapturedRequest]]:
    """Yield the records in batches of about ``size`` bytes of tensors."""
    batch, held = list[CapturedRequest](), 0
    for record in requests:
        batch.append(record)
        held += len(record.body) + 1  # so that a batch of records without tensors ends as well
        if held >= size:
            yield batch
            batch, held = [], 0
    yield batch


def _write(batches: Iterable[Sequence[CapturedRequest]], version: str, output: Path) -> int:
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    total, writer = 0, None
    try:
        for batch in batches:
            lines = [line for item in batch for line in _make_lines(item, version)]
            if not lines:
                continue
            table = pa.Table.from_pylist(lines, None if writer is None else writer.schema)
            if writer is None:
                index = table.schema.get_field_index("label")  # the first batch may have no labels
                table = table.cast(table.schema.set(index, pa.field("label", pa.float64())))
                writer = parquet.ParquetWriter(output, table.schema)
            writer.write_table(table)
            total += len(lines)
    finally:
        if writer is not None:
            writer.close()
    return total


def _make_lines(request: CapturedRequest, version: str) -> Iterator[dict[str, Any]]:
    arrays, head = request.arrays(), request.head
    tensors = {**arrays["inputs"], **{f"output:{name}": data for name, data in arrays["outputs"].items()}}
    for row in range(request.rows):
        line = {"id": request.id, "row": row, "at": head["at"], "version": version, "route": head["route"]}
        label = request.labels[row] if row < len(request.labels) else None
        line["label"] = None if label is None or np.isnan(label) else label
        for name, data in tensors.items():
            value = data[row] if data.ndim and len(data) == request.rows else data
            line[name] = value.tolist() if isinstance(value, np.ndarray) and value.ndim else _to_scalar(value)
        yield line


def _to_scalar(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic | np.ndarray) else value
