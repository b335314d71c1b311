"""Removes the rows of a subject from the tables that were exported for training. Calls block."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from penstock.core.erasure import ErasureReport, SubjectKey, as_stated, places_of
from penstock.core.versions import VersionKey
from penstock.engine.durable_files import replace_file
from penstock.monitor.erased_rows import OWN, Features

TABLE: Final = "rows.parquet"
EVENT: Final = "event.json"
BATCH_ROWS: Final = 4096

FeaturesOf = Callable[[VersionKey], Features]
"""Returns where the features of a version are."""


@dataclass(frozen=True, slots=True)
class ExportedTable:
    """A table of captured rows, and the model and version in the event that it was exported for ("" if unknown)."""

    path: Path
    version: VersionKey


def exported_tables(folder: Path, model: str | None) -> Iterator[ExportedTable]:
    """Yield the tables below a folder, of one model (None: of all); those whose model is unknown too."""
    for path in sorted(folder.glob(f"*/{TABLE}")):
        table = ExportedTable(path, _exported_for(path.parent / EVENT))
        if model is None or table.version[0] in {model, ""}:
            yield table


def erase_from_tables(folder: Path, model: str | None, key: SubjectKey, features: FeaturesOf) -> ErasureReport:
    """Remove the rows of a subject from the exported tables; those that cannot be searched are problems."""
    report = ErasureReport()
    for table in exported_tables(folder, model):
        name = table.path.parent.name
        try:
            rows = _erase_from(table.path, key, features(table.version))
        except ModuleNotFoundError:
            return report + ErasureReport(problems=("exports need the extra 'parquet' to be searched",))
        except (OSError, ValueError) as error:  # errors of the library are of these kinds
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            report += ErasureReport(problems=(f"the export {name} cannot be searched: {reason}",))
        else:
            report += ErasureReport(exported=rows, files=int(rows > 0))
    return report


def _exported_for(event: Path) -> VersionKey:
    try:
        data = json.loads(event.read_text())["data"]
        return str(data.get("model", "")), str(data.get("version", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", ""


def _erase_from(path: Path, key: SubjectKey, features: Features) -> int:
    """Write a table anew without the rows of the subject; return how many there were."""
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    with parquet.ParquetFile(path) as source:
        batches = source.iter_batches(BATCH_ROWS)
        found = sum(_has(line, key, features) for batch in batches for line in batch.to_pylist())
    if not found:
        return 0
    with parquet.ParquetFile(path) as source, replace_file(path) as scratch:
        scratch.chmod(OWN)
        schema = source.schema_arrow
        with parquet.ParquetWriter(scratch, schema) as target:
            for batch in source.iter_batches(BATCH_ROWS):
                kept = [line for line in batch.to_pylist() if not _has(line, key, features)]
                target.write_table(pa.Table.from_pylist(kept, schema))
    return found


def _has(line: Mapping[str, Any], key: SubjectKey, features: Features) -> bool:
    """Whether a row has the value; ``id`` is a column like others here."""
    for place in places_of(key.column, features):
        if place.tensor in line and line[place.tensor] is not None:
            values = as_stated(np.array(line[place.tensor]).ravel())
            values = values if place.index is None else values[place.index : place.index + 1]
            if key.find(values).any():
                return True
    return False
