"""Keeps some requests and their answers as they were, for retraining and replay: off unless a policy asks for it.

Workers append to segment files of bounded size; the control process deletes the oldest beyond the room there is. A
record is two lengths, a JSON head and the tensors' bytes; what is masked never reaches the file.
"""

import json
import os
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from penstock.core.bins import Floats
from penstock.core.errors import NotFound, Unsupported
from penstock.core.tensors import NUMPY_TYPES, Array, Tensor
from penstock.engine.durable_files import replacing
from penstock.monitor.answer_store import AnswerStore
from penstock.monitor.answers import keys_of, prefix_of
from penstock.monitor.columns import Columns

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

    def captured(self, size: int) -> None:
        """One request was kept, in so many bytes."""

    def not_captured(self) -> None:
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
                tally.not_captured()
                continue
            try:
                if self._size + len(record) > SEGMENT_BYTES:
                    self._begin()
                self._size += os.write(self._handle, record)
                tally.captured(len(record))
            except OSError:
                tally.not_captured()

    def close(self) -> None:
        """Write nothing more."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle, self._size = -1, SEGMENT_BYTES

    def _begin(self) -> None:
        self.close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{self._name}@{time.time_ns():020d}-{os.getpid()}{SUFFIX}"
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
        text, body = json.dumps(head, separators=(",", ":")).encode(), b"".join(parts)
        return _LENGTHS.pack(len(text), len(body)) + text + body


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


def captured(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a segment, oldest first: the head, and ``inputs`` and ``outputs`` as arrays by name. A record that
    is still being written ends it."""
    with path.open("rb") as file:
        while len(lengths := file.read(_LENGTHS.size)) == _LENGTHS.size:
            head_size, body_size = _LENGTHS.unpack(lengths)
            text, body = file.read(head_size), file.read(body_size)
            if len(text) < head_size or len(body) < body_size:
                return
            head = json.loads(text)
            yield {**head, **_arrays(head["tensors"], body)}


def _arrays(told: Sequence[Mapping[str, Any]], body: bytes) -> dict[str, dict[str, Array]]:
    found: dict[str, dict[str, Array]] = {"inputs": {}, "outputs": {}}
    at = 0
    for one in told:
        if one["datatype"] == "BYTES":
            array = np.array(one["values"], object).reshape(one["shape"])
        else:
            dtype = np.dtype(NUMPY_TYPES[one["datatype"]])
            count = int(np.prod(one["shape"], dtype=np.int64))
            array = np.frombuffer(body, dtype, count, at).reshape(one["shape"])
            at += array.nbytes
        found[one["side"]][one["name"]] = array
    return found


def held_out(model: str, ids: Sequence[str], share: float) -> NDArray[np.bool_]:
    """Which requests are kept from training, for exams: about this share of them, by a hash of their ids."""
    return keys_of(model, ids) % np.uint64(10_000) < round(share * 10_000) if ids else np.zeros(0, np.bool_)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Rows that labels came for: the inputs by name [rows, ...], what should have been answered [rows], and the number
    of the request that each row came with [rows]; None where each came alone."""

    inputs: Sequence[Tensor]
    labels: Floats
    requests: NDArray[np.intp] | None = None

    def units(self) -> NDArray[np.intp]:
        """The request that each row came with [rows]."""
        return np.arange(len(self.labels)) if self.requests is None else self.requests


def labelled(folder: Path, answers: AnswerStore, target: tuple[str, str], share: float, most: int) -> Labelled | None:
    """The newest held-out rows of a version that labels came for, at most so many; None without any."""
    parts: list[tuple[Mapping[str, Array], list[float]]] = []
    told: dict[str, str] = {}
    total = 0
    for path in reversed(segments(folder, *target)):
        records = list(captured(path))
        records = [one for one, held in zip(records, _held(target[0], records, share), strict=True) if held]
        known = answers.labels(*target, [one["id"] for one in records]) if records else {}
        for one in reversed(records):
            labels, inputs = known.get(one["id"], []), one["inputs"]
            if labels and _alike(inputs, parts[0][0] if parts else inputs, len(labels)) and total < most:
                told = told or {part["name"]: part["datatype"] for part in one["tensors"] if part["side"] == "inputs"}
                parts.append((inputs, labels))
                total += len(labels)
    if not parts:
        return None
    truth = np.concatenate([np.asarray(one, np.float64) for _, one in parts])
    sound = np.isfinite(truth)
    tensors = [Tensor(name, told[name], np.concatenate([one[name] for one, _ in parts])[sound]) for name in parts[0][0]]
    requests = np.repeat(np.arange(len(parts)), [len(one) for _, one in parts])
    return Labelled(tensors, truth[sound], requests[sound]) if sound.any() else None


def _held(model: str, records: Sequence[Mapping[str, Any]], share: float) -> NDArray[np.bool_]:
    return held_out(model, [one["id"] for one in records], share)


def _alike(inputs: Mapping[str, Array], first: Mapping[str, Array], rows: int) -> bool:
    """Whether these inputs are so many rows, and of the same form as others."""
    return inputs.keys() == first.keys() and all(
        data.ndim > 0 and len(data) == rows and data.shape[1:] == first[name].shape[1:] for name, data in inputs.items()
    )


def export(folder: Path, answers: AnswerStore, target: tuple[str, str], output: Path, without: float = 0.0) -> int:
    """Write a version's captured rows as Parquet, one line a row, with the labels that came, ``without`` the share that
    is held out for exams; how many rows.

    Raises:
        NotFound: nothing was captured.
        Unsupported: without the library that writes Parquet.
    """
    try:
        import pyarrow  # noqa: F401, PLC0415 - an extra
    except ModuleNotFoundError:
        raise Unsupported("Parquet needs the extra 'parquet': pip install 'penstock[parquet]'") from None
    with replacing(output) as scratch:
        total = _write(folder, answers, target, scratch, without)
        if not total:
            raise NotFound(f"nothing was captured of model '{target[0]}' version '{target[1]}'")
    return total


def _write(folder: Path, answers: AnswerStore, target: tuple[str, str], output: Path, without: float) -> int:
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    total, writer = 0, None
    try:
        for path in segments(folder, *target):
            records = list(captured(path))
            held = _held(target[0], records, without)
            lines = _lines([one for one, out in zip(records, held, strict=True) if not out], answers, target)
            if not lines:
                continue
            table = pa.Table.from_pylist(lines, None if writer is None else writer.schema)
            if writer is None:
                place = table.schema.get_field_index("label")  # labels may come with a later segment only
                table = table.cast(table.schema.set(place, pa.field("label", pa.float64())))
                writer = parquet.ParquetWriter(output, table.schema)
            writer.write_table(table)
            total += len(lines)
    finally:
        if writer is not None:
            writer.close()
    return total


def _lines(records: Sequence[Mapping[str, Any]], answers: AnswerStore, target: tuple[str, str]) -> list[dict[str, Any]]:
    known = answers.labels(*target, [one["id"] for one in records]) if records else {}
    lines = []
    for one in records:
        labels = known.get(one["id"], [])
        tensors = {**one["inputs"], **{f"output:{name}": data for name, data in one["outputs"].items()}}
        rows = max((len(data) for data in tensors.values() if data.ndim), default=1)
        for row in range(rows):
            line = {"id": one["id"], "row": row, "at": one["at"], "version": target[1], "route": one["route"]}
            label = labels[row] if row < len(labels) else None
            line["label"] = None if label is None or np.isnan(label) else label
            for name, data in tensors.items():
                value = data[row] if data.ndim and len(data) == rows else data
                line[name] = value.tolist() if isinstance(value, np.ndarray) and value.ndim else _scalar(value)
            lines.append(line)
    return lines


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic | np.ndarray) else value
