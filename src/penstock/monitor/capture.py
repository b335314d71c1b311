"""Keeps some requests and their answers as they were, for retraining and replay: off unless a policy asks for it.

Workers append to segment files of bounded size; the control process deletes the oldest beyond the room there is. A
record is two lengths, a JSON head and the tensors' bytes; what is masked never reaches the file.
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

from penstock.core.row_shares import Amount
from penstock.core.tensors import NUMPY_TYPES, Array, Tensor
from penstock.monitor.answers import prefix_of
from penstock.monitor.columns import Columns
from penstock.monitor.segment_names import next_stamp

CAPTURES = "captures"
"""The folder of segments, below a gateway's home."""

SUFFIX = ".capture"
SEGMENT_BYTES = 8 << 20
MOST_OF_A_BUNCH = 64
"""Requests of one bunch that are kept at most: writing must not hold a worker up."""

MOST_BYTES_OF_ONE = 1 << 20
_LENGTHS = struct.Struct("<II")


class Tally(Protocol):
    """Whoever counts what is captured."""

    def count_captured(self, size: int) -> None:
        """One request was kept, in so many bytes."""

    def count_capture_dropped(self) -> None:
        """One request that should have been kept was not."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: its id, why this version answered, what it brought, and what was answered."""

    id: str
    route: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]


class CaptureWriter:
    """One worker's end, for one version; ``masked`` names tensors or columns whose values are left out."""

    def __init__(self, folder: Path, target: tuple[str, str], columns: tuple[Columns, Columns], masked: Sequence[str]):
        self._folder = folder
        self._name = f"{prefix_of(target[0])}@{target[1]}"
        self._masks = [_Mask(side, masked) for side in columns]
        self._handle = -1
        self._size = SEGMENT_BYTES

    def write(self, seen: Sequence[Seen], tally: Tally) -> None:
        """Keep these requests."""
        for index, one in enumerate(seen):
            record = self._record(one) if index < MOST_OF_A_BUNCH else b""
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
        """Write nothing more."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle, self._size = -1, SEGMENT_BYTES

    def _begin(self) -> None:
        self.close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{self._name}@{next_stamp(self._folder, SUFFIX)}-{os.getpid()}{SUFFIX}"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._handle, self._size = os.open(path, flags, 0o600), 0

    def _record(self, one: Seen) -> bytes:
        """A request's bytes, none for one that is too large."""
        if sum(tensor.data.nbytes for tensor in (*one.inputs, *one.outputs)) > MOST_BYTES_OF_ONE:
            return b""
        head: dict[str, Any] = {"id": one.id, "at": time.time(), "route": one.route, "tensors": []}
        parts = []
        for side, mask, tensors in zip(("inputs", "outputs"), self._masks, (one.inputs, one.outputs), strict=True):
            for tensor in tensors:
                data = mask(tensor)
                if data is None:
                    continue
                told = {"side": side, "name": tensor.name, "datatype": tensor.datatype, "shape": list(data.shape)}
                if tensor.datatype == "BYTES":
                    told["values"] = [_text(value) for value in data.ravel().tolist()]
                else:
                    parts.append(np.ascontiguousarray(data).tobytes())
                head["tensors"].append(told)
        return Record(head, b"".join(parts)).packed()


class _Mask:
    """Leaves out what nobody may see: whole tensors, or columns of them by name or by place (``x[0]``), so that a mask
    by place holds on when the columns get names."""

    def __init__(self, columns: Columns, masked: Sequence[str]) -> None:
        self._tensors = frozenset(masked)
        self._columns = {
            tensor: [index for index, name in enumerate(names) if {name, f"{tensor}[{index}]"} & self._tensors]
            for tensor, names in columns.tensors().items()
        }

    def __call__(self, tensor: Tensor) -> Array | None:
        """What may be kept of a tensor, None for nothing."""
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
    """A version's segments, oldest first."""
    found = folder.glob(f"{prefix_of(model)}@{version}@*{SUFFIX}")
    return sorted(found, key=lambda one: one.name.rsplit("@", 1)[1])


def sweep(folder: Path, most_bytes: int) -> int:
    """Delete the oldest segments beyond the room there is; the bytes that are left."""
    found = sorted(folder.glob(f"*{SUFFIX}"), key=lambda one: one.name.rsplit("@", 1)[1], reverse=True)
    total = 0
    for path in found:
        size = path.stat().st_size
        if total + size > most_bytes:
            path.unlink(missing_ok=True)
        else:
            total += size
    return total


@dataclass(frozen=True, slots=True)
class Record:
    """A request that was kept: its ``head`` (also its ``labels`` row by row, NaN where none came, once they were looked
    up) and the tensors' bytes."""

    head: Mapping[str, Any]
    body: bytes

    @property
    def id(self) -> str:
        """The request's id."""
        return str(self.head["id"])

    @property
    def labels(self) -> Sequence[float]:
        """The labels of its rows, as far as they were looked up."""
        found: Sequence[float] = self.head.get("labels", ())
        return found

    @property
    def rows(self) -> int:
        """How many rows its longest tensor has."""
        return max((one["shape"][0] for one in self.head["tensors"] if one["shape"]), default=1)

    def labelled(self, labels: Sequence[float]) -> "Record":
        """The same with labels."""
        return replace(self, head={**self.head, "labels": list(labels)}) if labels else self

    def packed(self) -> bytes:
        """The record as files have it."""
        text = json.dumps(self.head, separators=(",", ":")).encode()
        return _LENGTHS.pack(len(text), len(self.body)) + text + self.body

    def arrays(self) -> dict[str, dict[str, Array]]:
        """``inputs`` and ``outputs`` by name."""
        found: dict[str, dict[str, Array]] = {"inputs": {}, "outputs": {}}
        at = 0
        for one in self.head["tensors"]:
            if one["datatype"] == "BYTES":
                array = np.array(one["values"], object).reshape(one["shape"])
            else:
                dtype = np.dtype(NUMPY_TYPES[one["datatype"]])
                count = int(np.prod(one["shape"], dtype=np.int64))
                array = np.frombuffer(self.body, dtype, count, at).reshape(one["shape"])
                at += array.nbytes
            found[one["side"]][one["name"]] = array
        return found


def records(path: Path) -> Iterator[tuple[Record, Amount]]:
    """The records of a file, oldest first, and how much each is. One that is still being written ends it, and a file
    that was deleted meanwhile has none."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        while len(lengths := file.read(_LENGTHS.size)) == _LENGTHS.size:
            head_size, body_size = _LENGTHS.unpack(lengths)
            text, body = file.read(head_size), file.read(body_size)
            if len(text) < head_size or len(body) < body_size:
                return
            record = Record(json.loads(text), body)
            yield record, Amount(record.rows, _LENGTHS.size + head_size + body_size)
