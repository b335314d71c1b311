"""Reads tables as streams of Arrow record batches: Parquet, CSV, JSON lines and Arrow IPC, in bounded memory.

Text formats are read without guesses: every column of a CSV file is text, so that a value in the millionth line cannot
contradict the first thousand. What a column has to be is known to whoever reads it.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from penstock.core.errors import InvalidInput
from penstock.core.texts import shorten
from penstock.monitor.pyarrow_extra import Batch, require_pyarrow

PARQUET, CSV, JSON_LINES, ARROW = "parquet", "csv", "jsonl", "arrow"
FORMATS: Final[Mapping[str, str]] = {
    ".parquet": PARQUET,
    ".csv": CSV,
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".arrow": ARROW,
    ".feather": ARROW,
}
"""The format of a file by its suffix."""

BLOCK_BYTES: Final = 1 << 20
"""Bytes of a text file that are read at once."""

LONGEST_LINE: Final = 16 << 20
"""Bytes of one line of JSON."""

_ARROW_MAGIC: Final = b"ARROW1"


@dataclass(frozen=True, slots=True)
class TableBatch:
    """Some rows of a table: ``data`` (a record batch), and by their places in it the rows that cannot be read, whose
    values are null."""

    data: Batch
    faults: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TableChunk:
    """Some rows that were read and may have to be parsed by ``load``, on any thread; ``done`` is the part of the file
    (0 to 1) that ends with them."""

    rows: int
    load: Callable[[], TableBatch]
    done: float


def format_of(path: Path) -> str:
    """Return the format of a file by its suffix.

    Raises:
        InvalidInput: the suffix is not known.
    """
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise InvalidInput(f"expected a file name that ends with {', '.join(FORMATS)} (got '{shorten(path.name)}')")
    return found


def has_texts(path: Path) -> bool:
    """Whether numbers may come as texts: always from CSV, and from JSON lines where a column also has other values."""
    return format_of(path) in (CSV, JSON_LINES)


def read_chunks(path: Path, rows: int) -> Iterator[TableChunk]:
    """Yield the rows of a file in order, at most ``rows`` at once; the same file and number give the same chunks.

    Raises:
        InvalidInput: the file is not in the format of its suffix, or has no columns.
        Unsupported: pyarrow is not installed.
        OSError: it cannot be read.
    """
    require_pyarrow()
    read = {PARQUET: _read_parquet, CSV: _read_csv, JSON_LINES: _read_json_lines, ARROW: _read_arrow}[format_of(path)]
    import pyarrow as pa  # noqa: PLC0415 - an extra

    try:
        yield from read(path, rows)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        if isinstance(error, OSError):
            raise
        raise InvalidInput(f"the file is not valid {format_of(path)}: {_describe(error)}") from None


def _describe(error: Exception) -> str:
    return shorten(str(error).partition("\n")[0])


def _make_chunk(batch: Batch, done: float) -> TableChunk:
    whole = TableBatch(batch)
    return TableChunk(batch.num_rows, lambda: whole, done)


def _slice_batch(batch: Batch, rows: int, done: float) -> Iterator[TableChunk]:
    for start in range(0, batch.num_rows, rows):
        yield _make_chunk(batch.slice(start, rows), done)


def _read_parquet(path: Path, rows: int) -> Iterator[TableChunk]:
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    # a buffer of its own for each column: a row group may be larger than memory
    with parquet.ParquetFile(path, buffer_size=BLOCK_BYTES, pre_buffer=False) as file:
        total, done = max(1, file.metadata.num_rows), 0
        for batch in file.iter_batches(batch_size=rows):
            done += batch.num_rows
            yield from _slice_batch(batch, rows, done / total)


def _read_arrow(path: Path, rows: int) -> Iterator[TableChunk]:
    from pyarrow import OSFile, ipc  # noqa: PLC0415 - an extra

    with OSFile(str(path)) as file:
        is_file = file.read(len(_ARROW_MAGIC)) == _ARROW_MAGIC
        file.seek(0)
        if not is_file:
            size = max(1, path.stat().st_size)
            for batch in ipc.open_stream(file):
                yield from _slice_batch(batch, rows, file.tell() / size)
            return
        reader = ipc.open_file(file)
        for index in range(reader.num_record_batches):
            yield from _slice_batch(reader.get_batch(index), rows, (index + 1) / reader.num_record_batches)


def _read_csv(path: Path, rows: int) -> Iterator[TableChunk]:
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import csv  # noqa: PLC0415 - an extra

    names = _csv_names(path)
    size = max(1, path.stat().st_size)
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    with path.open("rb") as opened, pa.PythonFile(opened, "r") as file:
        blocks = csv.open_csv(
            file,
            read_options=csv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=convert,
        )
        for batch in blocks:
            yield from _slice_batch(batch, rows, min(1.0, opened.tell() / size))


def _csv_names(path: Path) -> list[str]:
    """Return the names in the first line.

    Raises:
        InvalidInput: one occurs twice.
    """
    from pyarrow import csv  # noqa: PLC0415 - an extra

    with csv.open_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True)) as reader:
        names: list[str] = reader.schema.names
    check_distinct(names)
    return names


def check_distinct(names: Sequence[str]) -> None:
    """Check that every column has a name of its own.

    Raises:
        InvalidInput: two have the same.
    """
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise InvalidInput(f"two columns are called '{shorten(twice)}'; give every column its own name")


def _read_json_lines(path: Path, rows: int) -> Iterator[TableChunk]:
    size = max(1, path.stat().st_size)
    lines: list[bytes] = []
    held = 0
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE + 1):
            if len(line) > LONGEST_LINE:
                raise InvalidInput(f"a line of JSON has more than {LONGEST_LINE} bytes")
            if line.isspace():
                continue
            lines.append(line)
            held += len(line)
            if len(lines) >= rows or held >= BLOCK_BYTES:
                yield _lines_chunk(lines, file.tell() / size)
                lines, held = [], 0
        if lines:
            yield _lines_chunk(lines, 1.0)


def _lines_chunk(lines: list[bytes], done: float) -> TableChunk:
    return TableChunk(len(lines), lambda: _parse_lines(lines), done)


def _parse_lines(lines: list[bytes]) -> TableBatch:
    """Parse lines of JSON objects: together, or one by one if one of them is wrong or columns are of mixed types."""
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import json as arrow_json  # noqa: PLC0415 - an extra

    with suppress(pa.ArrowInvalid):
        blob = io.BytesIO(b"".join(line if line.endswith(b"\n") else line + b"\n" for line in lines))
        options = arrow_json.ReadOptions(use_threads=False, block_size=max(map(len, lines)) + blob.getbuffer().nbytes)
        table = arrow_json.read_json(blob, read_options=options)
        if table.num_rows == len(lines):
            return TableBatch(table.combine_chunks().to_batches()[0])
    records, faults = list[dict[str, Any]](), dict[int, str]()
    for index, line in enumerate(lines):
        record = _parse_line(line)
        if record is None:
            faults[index] = "expected a JSON object on one line"
        records.append(record or {})
    names = dict.fromkeys(name for record in records for name in record)
    columns = {name: _make_array([record.get(name) for record in records]) for name in names}
    if not columns:
        columns = {"": pa.nulls(len(lines))}
    return TableBatch(pa.RecordBatch.from_pydict(columns), faults)


def _parse_line(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _make_array(values: list[Any]) -> Any:
    """Return a column of values; of mixed ones as their texts."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([value if value is None or isinstance(value, str) else json.dumps(value) for value in values])
