"""The checkpoint of a scoring run: what was scored so far, so that a run that was interrupted goes on from there.

It is a file of records that only grows: a head (JSON) with the digests of input and model, then the outputs of each
batch in order. Each record has its length and its CRC-32, so that the torn end of an interrupted write is found and cut
off. The results themselves are written anew from it, since a Parquet file cannot be continued.
"""

import fcntl
import json
import os
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self
from zlib import crc32

import numpy as np

from penstock.core.errors import Conflict, DataLoss
from penstock.core.tensors import Array, Tensor
from penstock.scoring.rows import ScoredRows

SUFFIX: Final = ".checkpoint"
FORM: Final = 1
SYNC_S: Final = 5.0
"""Seconds between two times when the file is surely on the disk."""

MOST_BYTES: Final = 1 << 31
"""Bytes of one record."""

_HEAD: Final = struct.Struct("<II")

Document = Mapping[str, Any]


class ScoringCheckpoint:
    """The checkpoint beside a result. Of one process and one thread at a time."""

    def __init__(self, target: Path, identity: Document) -> None:
        self.path = target.with_name(target.name + SUFFIX)
        self._identity = {"form": FORM, **identity}
        self._file: IO[bytes] | None = None
        self._synced = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._file is not None:
            self._sync()
            self._file.close()

    def open(self, resume: bool) -> Iterator[ScoredRows]:
        """Open the file, and return what was scored before; nothing unless ``resume``. The records must be read to the
        end before the next one is appended.

        Raises:
            Conflict: another run writes it.
            DataLoss: the earlier run was of another input, model or form of the result.
        """
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._file = file = os.fdopen(handle, "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"another run writes '{self.path.name}'; wait for its end") from None
        head = _read(file) if resume else None
        if head is None:
            self._begin()
            return iter(())
        self._compare(json.loads(head))
        return self._records()

    def _begin(self) -> None:
        file = self._opened()
        file.seek(0)
        file.truncate()
        self._write(json.dumps(self._identity, sort_keys=True).encode())
        self._sync()

    def _compare(self, found: Document) -> None:
        for name, value in self._identity.items():
            if found.get(name) != value:
                raise DataLoss(
                    f"the checkpoint is of another {name}: it has {found.get(name)}, this run has {value}; "
                    "score without --resume to begin anew"
                )

    def _records(self) -> Iterator[ScoredRows]:
        file = self._opened()
        end = file.tell()
        while (payload := _read(file)) is not None:
            end = file.tell()
            yield _decode(payload)
        file.seek(end)
        file.truncate()

    def append(self, rows: ScoredRows) -> None:
        """Add a batch."""
        self._write(_encode(rows))
        self._opened().flush()  # a process that is killed has written it
        if time.monotonic() - self._synced >= SYNC_S:
            self._sync()

    def remove(self) -> None:
        """Delete the file: the result is complete."""
        self.path.unlink(missing_ok=True)

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            raise ValueError("the checkpoint is not open")
        return self._file

    def _write(self, payload: bytes) -> None:
        file = self._opened()
        file.write(_HEAD.pack(len(payload), crc32(payload)))
        file.write(payload)

    def _sync(self) -> None:
        file = self._opened()
        file.flush()
        os.fsync(file.fileno())
        self._synced = time.monotonic()


def _read(file: IO[bytes]) -> bytes | None:
    """Return the next record, None at the end or where the file is torn."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    size, check = _HEAD.unpack(head)
    payload = file.read(size) if size <= MOST_BYTES else b""
    return payload if size and len(payload) == size and crc32(payload) == check else None


def _encode(rows: ScoredRows) -> bytes:
    tensors = [*rows.outputs, *rows.explained]
    parts = [_encode_array(tensor.data) for tensor in tensors]
    head = json.dumps(
        {
            "rows": rows.rows,
            "faults": list(rows.faults.items()),
            "disagreeing": rows.disagreeing,
            "max_abs_diff": rows.max_abs_diff,
            "tensors": [
                [tensor.name, tensor.datatype, kind, tensor.data.shape, len(part)]
                for tensor, (kind, part) in zip(tensors, parts, strict=True)
            ],
            "explained": len(rows.explained),
        }
    ).encode()
    return b"".join((struct.pack("<I", len(head)), head, *(part for _, part in parts)))


def _decode(payload: bytes) -> ScoredRows:
    size = struct.unpack_from("<I", payload)[0]
    head, at = json.loads(payload[4 : 4 + size]), 4 + size
    tensors: list[Tensor] = []
    for name, datatype, kind, shape, length in head["tensors"]:
        tensors.append(Tensor(name, datatype, _decode_array(kind, shape, payload[at : at + length])))
        at += length
    faults = {int(row): str(reason) for row, reason in head["faults"]}
    disagreeing: Sequence[int] | None = head["disagreeing"]
    outputs = len(tensors) - head["explained"]
    return ScoredRows(
        head["rows"], tensors[:outputs], faults, disagreeing, head["max_abs_diff"], explained=tensors[outputs:]
    )


def _encode_array(array: Array) -> tuple[str, bytes]:
    if array.dtype.kind == "O":
        return "texts", json.dumps([_decode_item(item) for item in array.ravel().tolist()]).encode()
    return array.dtype.str, np.ascontiguousarray(array).tobytes()


def _decode_array(kind: str, shape: Sequence[int], data: bytes) -> Array:
    if kind != "texts":
        return np.frombuffer(data, np.dtype(kind)).reshape(shape)
    texts = np.empty(shape, object)
    texts.ravel()[:] = json.loads(data)
    return texts


def _decode_item(item: Any) -> str:
    return item.decode(errors="replace") if isinstance(item, bytes) else str(item)
