"""Reads captured requests back from the Parquet that `penstock capture` writes, row group by row group.

Parquet has a line for each row of a request and no datatypes of the protocol: those come from the model's metadata.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.tensors import Array, Tensor, numpy_type
from penstock.monitor.capture import CapturedRequest, packed_request
from penstock.monitor.capture_parts import CapturePart, ReadCounts, RecordWithSize, time_of
from penstock.monitor.pyarrow_extra import require_pyarrow

BATCH: Final = 1024
"""Rows that are read at a time."""

SORTED_BYTES: Final = 16 << 20
"""Row groups up to this size are read whole and put in the order of time: in a file of a fleet, one may hold the rows
of several gateways one after the other."""

_NEEDED: Final = ("id", "row", "at")

Document = Mapping[str, Any]
Line = dict[str, Any]


def table_parts(file: Path, inputs: Sequence[Document], outputs: Sequence[Document]) -> list[CapturePart]:
    """Return the row groups of a file as parts; ``inputs`` and ``outputs`` are the tensors in the model's metadata.

    Raises:
        InvalidInput: the file was not written by `penstock capture`.
        Unsupported: the library that reads Parquet is not installed.
        OSError: the file cannot be read.
    """
    require_pyarrow()
    from pyarrow import ArrowInvalid, parquet  # noqa: PLC0415 - an extra

    try:
        opened = parquet.ParquetFile(file)
    except ArrowInvalid:
        raise InvalidInput(f"{file.name} is not a Parquet file") from None
    with opened:
        names = opened.schema_arrow.names
        if missing := [name for name in _NEEDED if name not in names]:
            raise InvalidInput(f"{file.name} has no column '{missing[0]}'; expected a file of `penstock capture`")
        tensors = [("inputs", spec, spec["name"]) for spec in inputs]
        tensors += [("outputs", spec, f"output:{spec['name']}") for spec in outputs]
        tensors = [column for column in tensors if column[2] in names]
        groups = [opened.metadata.row_group(number) for number in range(opened.metadata.num_row_groups)]
        starts = [_start(group, opened, number) for number, group in enumerate(groups)]
    return [
        CapturePart(start, group.num_rows, partial(_read_group, file, number, tensors))
        for number, (start, group) in enumerate(zip(starts, groups, strict=True))
    ]


def _start(group: Any, opened: Any, number: int) -> float:
    """Return the earliest time in a row group: by its statistics, or by its first rows."""
    columns = (group.column(place) for place in range(group.num_columns))
    statistics = next((column.statistics for column in columns if column.path_in_schema == "at"), None)
    if statistics is not None and statistics.has_min_max:
        return float(statistics.min)
    first = next(opened.iter_batches(1, row_groups=[number], columns=["at"]), None)
    return 0.0 if first is None or not len(first) else float(first.column(0)[0].as_py())


def _read_group(
    file: Path, number: int, tensors: Sequence[tuple[str, Document, str]], counts: ReadCounts
) -> Iterator[RecordWithSize]:
    from pyarrow import ArrowException, parquet  # noqa: PLC0415 - an extra

    columns = [*_NEEDED, *(column for _, _, column in tensors)]
    try:
        with parquet.ParquetFile(file) as opened:
            batches = opened.iter_batches(BATCH, row_groups=[number], columns=columns)
            requests = _group_requests(line for batch in batches for line in batch.to_pylist())
            found: Iterator[RecordWithSize] = ((_request(lines, tensors), len(lines)) for lines in requests)
            if opened.metadata.row_group(number).total_byte_size <= SORTED_BYTES:
                found = iter(sorted(found, key=lambda sized: time_of(sized[0])))
            yield from found
    except FileNotFoundError:
        counts.deleted += 1
    except (ArrowException, ValueError, TypeError, OSError):
        counts.damaged += 1


def _group_requests(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Yield the lines of each request: a request begins with row 0."""
    request: list[Line] = []
    for line in lines:
        if request and (line["row"] == 0 or line["id"] != request[0]["id"]):
            yield request
            request = []
        request.append(line)
    if request:
        yield request


def _request(lines: Sequence[Line], tensors: Sequence[tuple[str, Document, str]]) -> CapturedRequest:
    head = {"id": lines[0]["id"], "at": lines[0]["at"]}
    columns = ((side, spec, [line[column] for line in lines]) for side, spec, column in tensors)
    return packed_request(head, [(side, _join_tensor(spec, values)) for side, spec, values in columns])


def _join_tensor(spec: Document, values: Sequence[Any]) -> Tensor:
    """Return a tensor from its part in each row; one that has no rows is whole in each."""
    first = _make_array(spec, values[0])
    if first.ndim == len(spec["shape"]):
        return Tensor(spec["name"], spec["datatype"], first)
    return Tensor(spec["name"], spec["datatype"], _make_array(spec, list(values)))


def _make_array(spec: Document, values: Any) -> Array:
    return np.asarray(values, numpy_type(spec["name"], spec["datatype"]))
