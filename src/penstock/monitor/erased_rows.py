"""Removes the rows of a subject from captured requests. Calls block.

A segment is written anew without them and takes the place of the old one at once. A worker that was writing to the old
one notices it at its next requests; what it has written meanwhile is taken over.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from penstock.core.erasure import ID, ColumnPlace, SubjectKey, places_of
from penstock.core.tensors import Array, Tensor
from penstock.engine.durable_files import replace_file, sync
from penstock.monitor.capture import CapturedRequest, packed_request, read_records

OUTPUT: Final = "output:"
GRACE_S: Final = 0.1
"""Time in which a worker may still write to a segment that was replaced."""

OWN: Final = 0o600

Features = Mapping[str, ColumnPlace]
"""Where the features of a version are, by their names."""

Rows = NDArray[np.bool_]


@dataclass(slots=True)
class ErasedRequests:
    """Requests of one model that lost rows: the numbers of these rows, and of all they had, by the ids of the requests;
    how many rows in all, and how many files were written anew."""

    gone: dict[str, tuple[frozenset[int], int]] = field(default_factory=dict)
    rows: int = 0
    files: int = 0

    def add(self, request: str, gone: Rows) -> None:
        """Note the rows of a request that are gone."""
        earlier, _ = self.gone.get(request, (frozenset[int](), 0))
        self.gone[request] = earlier | frozenset(np.flatnonzero(gone).tolist()), len(gone)
        self.rows += int(gone.sum())


def erase_from_segments(paths: Sequence[Path], key: SubjectKey, features: Features) -> ErasedRequests:
    """Remove the rows of a subject from these segments of captured requests of one model.

    Raises:
        OSError: a segment cannot be written; those before it are.
    """
    erased = ErasedRequests()
    for path in paths:
        try:
            with path.open("rb") as file:
                _erase_from(path, file, key, features, erased)
        except FileNotFoundError:  # the budget has removed it meanwhile
            continue
    return erased


def rows_of_subject(record: CapturedRequest, key: SubjectKey, features: Features) -> Rows:
    """Return which rows of a request have the value. Without a batch dimension, or where it is not known to have one,
    the whole request belongs to the subject."""
    found = np.zeros(record.rows, bool)
    if key.column == ID:
        return np.full(record.rows, record.id == key.value)
    arrays = record.arrays()
    tensors = {**arrays["inputs"], **{f"{OUTPUT}{name}": data for name, data in arrays["outputs"].items()}}
    for place in places_of(key.column, features):
        if place.tensor in tensors and record.rows:
            found |= _rows_with(tensors[place.tensor], place.index, key, record.rows)
    return found if record.head.get("batching") else np.full(record.rows, found.any())


def _rows_with(data: Array, index: int | None, key: SubjectKey, rows: int) -> Rows:
    by_row = _is_by_row(data, rows)
    values = data.reshape(rows, -1) if by_row else data.reshape(1, -1)
    if index is not None:
        values = values[:, index : index + 1]
    hits = key.find(values).any(axis=1)
    return np.asarray(hits) if by_row else np.full(rows, hits.any())


def _is_by_row(data: Array, rows: int) -> bool:
    return data.ndim > 0 and len(data) == rows


def _erase_from(path: Path, file: BinaryIO, key: SubjectKey, features: Features, erased: ErasedRequests) -> None:
    if not any(rows_of_subject(record, key, features).any() for record, _ in read_records(file)):
        return
    file.seek(0)
    with replace_file(path) as scratch:
        scratch.chmod(OWN)
        with scratch.open("wb") as target:
            _copy(file, target, key, features, erased)
    erased.files += 1
    time.sleep(GRACE_S)
    with path.open("ab") as target:
        _copy(file, target, key, features, erased)
    sync(path)


def _copy(source: BinaryIO, target: BinaryIO, key: SubjectKey, features: Features, erased: ErasedRequests) -> None:
    """Copy the next records without the rows of the subject."""
    for record, _ in read_records(source):
        gone = rows_of_subject(record, key, features)
        if gone.any():
            erased.add(record.id, gone)
        if not gone.all():
            target.write(_without_rows(record, gone).pack())


def _without_rows(record: CapturedRequest, gone: Rows) -> CapturedRequest:
    if not gone.any():
        return record
    arrays, kept = record.arrays(), []
    for entry in record.head["tensors"]:
        data = arrays[entry["side"]][entry["name"]]
        data = data[~gone] if _is_by_row(data, len(gone)) else data
        kept.append((entry["side"], Tensor(entry["name"], entry["datatype"], data)))
    return packed_request(record.head, kept)
