"""Captures requests and their answers for retraining and replay, if a policy asks for it.

Workers append records to segment files of bounded size; the control process deletes the oldest segments over the
budget. A record is two lengths, a JSON head and the bytes of the tensors. Masked values never reach the file.
"""

import json
import os
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from penstock.core.row_shares import RowAmount
from penstock.core.tensors import NUMPY_TYPES, Array, Tensor
from penstock.monitor.answers import prefix_of
from penstock.monitor.columns import Columns
from penstock.monitor.segment_names import next_stamp

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
    """One request with its answer: its id, the route by which the version got it, its inputs and outputs."""

    id: str
    route: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]


class CaptureWriter:
    """Writes the captured requests of one version in one worker. Calls block; one thread may use it at a time.

    ``target`` is the model and the version. ``masked`` names tensors or columns whose values are left out.
    """

    def __init__(self, folder: Path, target: tuple[str, str], columns: tuple[Columns, Columns], masked: Sequence[str]):
        self._folder = folder
        self._name = f"{prefix_of(target[0])}@{target[1]}"
        self._masks = [_ValueMask(group, masked) for group in columns]
        self._handle = -1
        self._size = SEGMENT_BYTES

    def write(self, requests: Sequence[AnsweredRequest], tally: CaptureCounters) -> None:
        """Append these requests, and count those that are too many, too large, or cannot be written."""
        for index, request in enumerate(requests):
            record = self._record(request) if index < MOST_OF_A_BATCH else b""
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
        head: dict[str, Any] = {"id": request.id, "at": time.time(), "route": request.route, "tensors": []}
        parts = []
        for side, mask, tensors in zip(("inputs", "outputs"), self._masks, (inputs, outputs), strict=True):
            for tensor in tensors:
                data = mask(tensor)
                if data is None:
                    continue
                entry = {"side": side, "name": tensor.name, "datatype": tensor.datatype, "shape": list(data.shape)}
                if tensor.datatype == "BYTES":
                    entry["values"] = [_text(value) for value in data.ravel().tolist()]
                else:
                    parts.append(np.ascontiguousarray(data).tobytes())
                head["tensors"].append(entry)
        return CapturedRequest(head, b"".join(parts)).pack()


class _ValueMask:
    """Leaves out masked values: whole tensors, or columns by name or by index (``x[0]``). A mask by index still holds
    when the columns get names."""

    def __init__(self, columns: Columns, masked: Sequence[str]) -> None:
        self._tensors = frozenset(masked)
        self._columns = {
            tensor: [index for index, name in enumerate(names) if {name, f"{tensor}[{index}]"} & self._tensors]
            for tensor, names in columns.tensors().items()
        }

    def __call__(self, tensor: Tensor) -> Array | None:
        """Return the data of a tensor without masked values, None if all of it is masked."""
        if tensor.name in self._tensors:
            return None
        hidden = self._columns.get(tensor.name)
        if not hidden:
            return tensor.data
        data = tensor.data.reshape(len(tensor.data), -1).copy() if tensor.data.ndim else tensor.data.copy()
        data[..., hidden] = np.nan if data.dtype.kind == "f" else "" if data.dtype == object else 0
        return data.reshape(tensor.data.shape)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def segments(folder: Path, model: str, version: str) -> list[Path]:
    """Return the segments of a version, oldest first."""
    files = folder.glob(f"{prefix_of(model)}@{version}@*{SUFFIX}")
    return sorted(files, key=lambda path: path.name.rsplit("@", 1)[1])


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


def records(path: Path) -> Iterator[tuple[CapturedRequest, RowAmount]]:
    """Yield the records of a file with their amounts, oldest first. An incomplete record ends the file, and a file that
    was deleted meanwhile has none."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        while len(lengths := file.read(_LENGTHS.size)) == _LENGTHS.size:
            head_size, body_size = _LENGTHS.unpack(lengths)
            text, body = file.read(head_size), file.read(body_size)
            if len(text) < head_size or len(body) < body_size:
                return
            record = CapturedRequest(json.loads(text), body)
            yield record, RowAmount(record.rows, _LENGTHS.size + head_size + body_size)
