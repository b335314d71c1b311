"""Captures requests and their answers for retraining and replay, if a policy asks for it.

Workers append records to segment files of bounded size; the control process deletes the oldest segments over the
budget. A record is two lengths, a JSON head and the bytes of the tensors. Masked values never reach the file.
"""

import json
import os
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from penstock.core.row_shares import RowAmount
from penstock.core.tensors import NUMPY_TYPES, Array, Tensor
from penstock.monitor.answers import prefix_of
from penstock.monitor.columns import Columns
from penstock.monitor.segment_names import next_stamp
from penstock.monitor.value_masks import MAX_SEARCHED_CHARACTERS, request_mask

CAPTURES = "captures"
"""The folder of segments, below the home of a gateway."""

SUFFIX = ".capture"
SEGMENT_BYTES = 8 << 20
MOST_OF_A_BATCH = 64
"""Requests of one batch that are captured at most: writing must not delay a worker."""

MOST_BYTES_OF_ONE = 1 << 20
_LENGTHS = struct.Struct("<II")


class CaptureCounters(Protocol):
    """The counters of captured requests."""

    def count_captured(self, size: int) -> None:
        """Count one captured request of ``size`` bytes."""

    def count_capture_dropped(self) -> None:
        """Count one request that was chosen for capture and could not be written."""


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """One request with its answer: its id, the route by which the version got it, its inputs and outputs, and when it
    came (seconds since the epoch, 0 for now)."""

    id: str
    route: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    at: float = 0.0


class CaptureWriter:
    """Writes the captured requests of one version in one worker. Calls block; one thread may use it at a time.

    ``target`` is the model and the version. ``masked`` and ``patterns``: see ``ValueMask``.
    """

    def __init__(
        self,
        folder: Path,
        target: tuple[str, str],
        columns: tuple[Columns, Columns],
        masked: Sequence[str],
        patterns: Sequence[str] = (),
    ):
        self._folder = folder
        self._name = f"{prefix_of(target[0])}@{target[1]}"
        self._mask = request_mask(columns, masked, patterns)
        self._batching = columns[0].batching
        self._handle = -1
        self._size = SEGMENT_BYTES

    def write(self, requests: Sequence[AnsweredRequest], tally: CaptureCounters) -> None:
        """Append these requests, and count those that are too many, too large, or cannot be written."""
        if self._handle >= 0 and not os.fstat(self._handle).st_nlink:
            self.close()  # the segment was deleted, or written anew without the rows of a subject
        left = MAX_SEARCHED_CHARACTERS
        for index, request in enumerate(requests):
            left -= self._mask.inputs.count_searched(request.inputs) + self._mask.outputs.count_searched(
                request.outputs
            )
            record = self._record(request) if index < MOST_OF_A_BATCH and left >= 0 else b""
            if not record or len(record) > MOST_BYTES_OF_ONE:
                tally.count_capture_dropped()
                continue
            try:
                if self._size + len(record) > SEGMENT_BYTES:
                    self._begin()
                self._size += os.write(self._handle, record)
                tally.count_captured(len(record))
            except OSError:
                tally.count_capture_dropped()

    def close(self) -> None:
        """Close the open segment; the next request begins a new one."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle, self._size = -1, SEGMENT_BYTES

    def _begin(self) -> None:
        self.close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{self._name}@{next_stamp(self._folder, SUFFIX)}-{os.getpid()}{SUFFIX}"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._handle, self._size = os.open(path, flags, 0o600), 0

    def _record(self, request: AnsweredRequest) -> bytes:
        """Return the bytes of a request, none if it is too large."""
        inputs, outputs = request.inputs, request.outputs
        if sum(tensor.data.nbytes for tensor in (*inputs, *outputs)) > MOST_BYTES_OF_ONE:
            return b""
        head = {"id": request.id, "at": request.at or time.time(), "route": request.route, "batching": self._batching}
        if masked := self._mask.masked_sides(inputs, outputs):
            head["masked"] = masked
        kept = [("inputs", tensor) for tensor in self._mask.inputs.apply(inputs)]
        kept += [("outputs", tensor) for tensor in self._mask.outputs.apply(outputs)]
        return packed_request(head, kept).pack()


def packed_request(head: Mapping[str, Any], tensors: Iterable[tuple[str, Tensor]]) -> "CapturedRequest":
    """Return the record of a request with these tensors, each with its side, ``inputs`` or ``outputs``."""
    entries, parts = [], []
    for side, tensor in tensors:
        entry = {"side": side, "name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.data.shape)}
        if tensor.datatype == "BYTES":
            entry["values"] = [_format_value(value) for value in tensor.data.ravel().tolist()]
        else:
            parts.append(np.ascontiguousarray(tensor.data).tobytes())
        entries.append(entry)
    return CapturedRequest({**head, "tensors": entries}, b"".join(parts))


def _format_value(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def list_segments(folder: Path, model: str, version: str) -> list[Path]:
    """Return the segments of a version, oldest first."""
    files = folder.glob(f"{prefix_of(model)}@{version}@*{SUFFIX}")
    return sorted(files, key=lambda path: path.name.rsplit("@", 1)[1])


def segments_of(folder: Path, prefix: str | None) -> dict[tuple[str, str], list[Path]]:
    """Return the segments of all versions of a model (None: of all models), by the prefix of the model (see
    ``prefix_of``) and the version; oldest first."""
    found: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(folder.glob(f"{prefix or '*'}@*{SUFFIX}"), key=lambda path: path.name.rsplit("@", 1)[1]):
        model, version, _ = path.name.split("@", 2)
        found.setdefault((model, version), []).append(path)
    return found


def sweep(folder: Path, most_bytes: int) -> int:
    """Delete the oldest segments over the budget, and return the bytes that are left."""
    files = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.name.rsplit("@", 1)[1], reverse=True)
    total = 0
    for path in files:
        size = path.stat().st_size
        if total + size > most_bytes:
            path.unlink(missing_ok=True)
        else:
            total += size
    return total


@dataclass(frozen=True, slots=True)
class CapturedRequest:
    """A captured request: its ``head`` and the bytes of its tensors. After ``with_labels`` the head also has the
    ``labels`` row by row, NaN for a row without one."""

    head: Mapping[str, Any]
    body: bytes

    @property
    def id(self) -> str:
        """The request's id."""
        return str(self.head["id"])

    @property
    def labels(self) -> Sequence[float]:
        """The labels of its rows, empty before ``with_labels``."""
        labels: Sequence[float] = self.head.get("labels", ())
        return labels

    @property
    def rows(self) -> int:
        """Number of rows of its longest tensor."""
        return max((tensor["shape"][0] for tensor in self.head["tensors"] if tensor["shape"]), default=1)

    def with_labels(self, labels: Sequence[float]) -> "CapturedRequest":
        """Return the record with labels."""
        return replace(self, head={**self.head, "labels": list(labels)}) if labels else self

    def pack(self) -> bytes:
        """Return the bytes of the record in a file."""
        text = json.dumps(self.head, separators=(",", ":")).encode()
        return _LENGTHS.pack(len(text), len(self.body)) + text + self.body

    def arrays(self) -> dict[str, dict[str, Array]]:
        """Return the tensors by name, separately for ``inputs`` and ``outputs``."""
        arrays: dict[str, dict[str, Array]] = {"inputs": {}, "outputs": {}}
        at = 0
        for entry in self.head["tensors"]:
            if entry["datatype"] == "BYTES":
                array = np.array(entry["values"], object).reshape(entry["shape"])
            else:
                dtype = np.dtype(NUMPY_TYPES[entry["datatype"]])
                count = int(np.prod(entry["shape"], dtype=np.int64))
                array = np.frombuffer(self.body, dtype, count, at).reshape(entry["shape"])
                at += array.nbytes
            arrays[entry["side"]][entry["name"]] = array
        return arrays


def read_segment(path: Path) -> Iterator[tuple[CapturedRequest, RowAmount]]:
    """Yield the records of a file with their amounts, oldest first. An incomplete record ends the file, and a file that
    was deleted meanwhile has none."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        yield from read_records(file)


def read_records(file: BinaryIO) -> Iterator[tuple[CapturedRequest, RowAmount]]:
    """Yield the complete records from the position of a file on, and leave the position behind the last one."""
    while len(lengths := file.read(_LENGTHS.size)) == _LENGTHS.size:
        head_size, body_size = _LENGTHS.unpack(lengths)
        text, body = file.read(head_size), file.read(body_size)
        if len(text) < head_size or len(body) < body_size:
            file.seek(-len(text) - len(body), os.SEEK_CUR)
            break
        record = CapturedRequest(json.loads(text), body)
        yield record, RowAmount(record.rows, _LENGTHS.size + head_size + body_size)
    file.seek(-len(lengths), os.SEEK_CUR)
