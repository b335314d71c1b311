"""Remembers on disk what versions answered, so that labels and rewards can be joined whenever they come.

A worker appends one record of fixed size for each answered row to a segment file of its own; the control process
finds rows by a hash of the request's id, and writes into the record what it was told. So an answer is remembered over
the end of any process, and is told of once. Full segments get an index of sorted hashes beside them. Segments are read
and written by calls, never mapped: a full or failing disk is an error of one call then, and not the end of the process.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from penstock.core.tensors import Array, Tensor
from penstock.engine.durable_files import replacing

log = logging.getLogger("penstock.control")

SCORES = 4
"""Probabilities of classes that are remembered of a row; of more classes only the greatest is."""

RECORD = np.dtype(
    [
        ("key", "<u8"),
        ("at", "<f8"),
        ("answer", "<f8"),
        ("label", "<f8"),
        ("told_at", "<f8"),
        ("scores", "<f4", (SCORES,)),
        ("reward", "<f4"),
        ("row", "<u2"),
        ("form", "u1"),
        ("marks", "u1"),
    ]
)
"""One row: seconds since the epoch, what was answered (``form`` says what it means) and what was told since (see
``marks``)."""

NUMBER, CLASS, TEXT = range(3)
"""Forms of an answer: a number, a class by its number, a text by its CRC-32."""

LABELLED, REWARDED, SPLIT = 1, 2, 4
"""Bits of ``marks``: what was told of the row, and whether the split chose the version that answered it, by chance."""

CAPACITY = 1 << 16
"""Records of a segment."""

AHEAD = 1024
"""Records that are looked at together for new ones."""

MOST_ROWS = 1024
"""Rows of one answer that are remembered."""

MOST_BYTES = 256 << 20
"""Room for the segments of one gateway; the oldest go first."""

LONGEST_TEXT = 1024
"""Characters of a text that tell it from others of its length."""

LONGEST_ID = 512
"""Bytes of an id that tell it from others."""

ANSWERS = "answers"
"""The folder of segments, below a gateway's home."""

SUFFIX, INDEX_SUFFIX = ".answers", ".index"
INDEX = np.dtype([("key", "<u8"), ("place", "<u4")])
FEW = 64

Records = NDArray[Any]
Keys = NDArray[np.uint64]

_MIX = np.random.default_rng(0x70656E73746F636B).integers(
    1 << 32, 1 << 63, (2, LONGEST_ID // 8), np.uint64
) | np.uint64(1)
_HALF, _THIRD = np.uint64(29), np.uint64(32)


def keys_of(model: str, ids: Sequence[str]) -> Keys:
    """A hash of each id, never zero: a sum of mixed words of eight bytes, so that the ids of a bunch take one pass."""
    raw = np.array([one.encode(errors="replace")[:LONGEST_ID] for one in ids], "S")
    width = max(1, -(-raw.itemsize // 8))
    words = raw.astype(f"S{8 * width}").view("<u8").reshape(len(raw), width)
    mixed = words * _MIX[0, :width]
    mixed ^= mixed >> _HALF
    mixed *= _MIX[1, :width]
    mixed ^= mixed >> _THIRD
    seed = np.uint64(int.from_bytes(sha256(model.encode()).digest()[:8], "little"))
    found: Keys = (mixed.sum(axis=1, dtype=np.uint64) + seed) * _MIX[0, 0]
    found ^= found >> _THIRD
    return np.maximum(found, np.uint64(1))


@dataclass(frozen=True, slots=True)
class Answers:
    """What was predicted, row by row: ``values`` [rows] of a form, and ``scores`` [rows, SCORES], NaN where there are
    none."""

    form: int
    values: NDArray[np.float64]
    scores: NDArray[np.float32]


def answers_of(outputs: Sequence[Tensor], batching: bool = True) -> Answers | None:
    """What was predicted: the first output of labels or texts, else the class with the greatest score, else the first
    number; a row for each of the first axis where the model is ``batching``, else one."""
    labels = next((one.data for one in outputs if one.data.dtype.kind != "f" and one.data.size), None)
    floats = [_rows(one.data, batching) for one in outputs if one.data.dtype.kind == "f" and one.data.size]
    scores = next((one for one in floats if one.shape[1] > 1), None)
    if labels is None and scores is None and not floats:
        return None
    if labels is not None:
        first = _rows(labels, batching)[:, 0]
        form, values = (TEXT, _texts(first)) if first.dtype.kind in "OSU" else (CLASS, first.astype(np.float64))
    elif scores is not None:
        form, values = CLASS, scores.argmax(axis=1).astype(np.float64)
    else:
        form, values = NUMBER, floats[0][:, 0].astype(np.float64)
    kept = np.full((len(values), SCORES), np.nan, np.float32)
    if scores is not None and len(scores) == len(values):
        if scores.shape[1] <= SCORES:
            kept[:, : scores.shape[1]] = scores
        else:
            kept[:, 0] = scores.max(axis=1)
    return Answers(form, values, kept)


def _rows(data: Array, batching: bool) -> Array:
    return data.reshape(len(data), -1) if batching and data.ndim else data.reshape(1, -1)


def _texts(values: Array) -> NDArray[np.float64]:
    return np.array([text_token(one) for one in values.tolist()], np.float64)


def text_token(value: Any) -> float:
    """The number that stands for a text: of a long one, for how it begins and how long it is."""
    text = value if isinstance(value, bytes) else str(value)
    token = crc32(text[:LONGEST_TEXT] if isinstance(text, bytes) else text[:LONGEST_TEXT].encode())
    return float(token if len(text) <= LONGEST_TEXT else crc32(b"%d" % len(text), token))


def label_token(label: Any, form: int) -> float | None:
    """The number that stands for a label beside an answer of this form; None where it cannot be one."""
    if form == TEXT:
        return text_token(label)
    try:
        number = float(label)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def prefix_of(model: str) -> str:
    """What the names of a model's segments begin with."""
    return sha256(model.encode()).hexdigest()[:16]


class AnswerWriter:
    """One worker's end, for one version; lives on the event loop. ``lost`` counts rows that could not be written."""

    def __init__(self, folder: Path, model: str, version: str) -> None:
        self._folder = folder
        self._model = model
        self._name = f"{prefix_of(model)}@{version}"
        self._handle = -1
        self._used = CAPACITY
        self.lost = 0

    def add(self, ids: Sequence[str], sizes: Sequence[int], answers: Answers, split: Sequence[bool] = ()) -> None:
        """Remember the answers to some requests: each one's id, how many rows of ``answers`` are its own, and whether
        the split sent it here (see ``SPLIT``)."""
        keys, rows = keys_of(self._model, ids), len(answers.values)
        marks = np.asarray(split, np.uint8) * np.uint8(SPLIT) if split else np.zeros(len(ids), np.uint8)
        records = np.zeros(rows, RECORD)
        if rows == len(ids):
            records["key"], records["marks"] = keys, marks
        else:
            counts = np.asarray(sizes, np.intp)
            records["key"], records["marks"] = np.repeat(keys, counts), np.repeat(marks, counts)
            records["row"] = np.minimum(np.arange(rows) - np.repeat(np.cumsum(counts) - counts, counts), MOST_ROWS)
        records["at"] = time.time()
        records["answer"], records["form"], records["scores"] = answers.values, answers.form, answers.scores
        self._append(records if rows == len(ids) else records[records["row"] < MOST_ROWS])

    def close(self) -> None:
        """Write nothing more."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle, self._used = -1, CAPACITY

    def _append(self, records: Records) -> None:
        for start in range(0, len(records), CAPACITY):
            part = records[start : start + CAPACITY]
            try:
                if self._used + len(part) > CAPACITY:
                    self._begin()
                os.pwrite(self._handle, part.tobytes(), self._used * RECORD.itemsize)
                self._used += len(part)
            except OSError:
                self.lost += len(part)

    def _begin(self) -> None:
        self.close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{self._name}@{time.time_ns():020d}-{os.getpid()}{SUFFIX}"
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.ftruncate(self._handle, CAPACITY * RECORD.itemsize)  # room by name only: pages are set aside as they fill
        self._used = 0


class Segment:
    """A segment as the control process sees it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model, self.version, self.began = path.name.removesuffix(SUFFIX).split("@")
        self.filled = 0
        self._keys = np.zeros(0, np.uint64)
        self._index: Records | None = None

    def read(self, first: int, count: int) -> Records:
        """A copy of so many records, of fewer at the end.

        Raises:
            OSError: they cannot be read.
        """
        handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            raw = os.pread(handle, count * RECORD.itemsize, first * RECORD.itemsize)
        finally:
            os.close(handle)
        return np.frombuffer(bytearray(raw[: len(raw) - len(raw) % RECORD.itemsize]), RECORD)

    def at(self, places: NDArray[np.intp]) -> Records:
        """Copies of the records at ascending places; those of one answer lie side by side.

        Raises:
            OSError: they cannot be read.
        """
        first, last = int(places[0]), int(places[-1])
        return self.read(first, last - first + 1)[places - first].copy()

    def write(self, places: NDArray[np.intp], records: Records) -> None:
        """Put records in their places.

        Raises:
            OSError: one cannot be written.
        """
        handle = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            for run in np.split(np.arange(len(places)), np.flatnonzero(np.diff(places) != 1) + 1):
                os.pwrite(handle, records[run].tobytes(), int(places[run[0]]) * RECORD.itemsize)
        finally:
            os.close(handle)

    def refresh(self) -> None:
        """See what has been appended since.

        Raises:
            OSError: it cannot be read.
        """
        if self.filled == CAPACITY:
            return
        found = [self._keys]
        while self.filled < CAPACITY:
            ahead = self.read(self.filled, AHEAD)["key"]  # a part at a time: what is looked at takes memory
            more = ahead[: int(np.argmin(ahead != 0))] if (ahead == 0).any() else ahead
            found.append(more.copy())
            self.filled += len(more)
            if len(more) < AHEAD:
                break
        self._keys = np.concatenate(found)
        if self.filled == CAPACITY:
            self._sort()

    def places(self, keys: Keys) -> dict[int, NDArray[np.intp]]:
        """The places of the records of each key that is here, by its index."""
        if self._index is not None:
            low = np.searchsorted(self._index["key"], keys, side="left")
            high = np.searchsorted(self._index["key"], keys, side="right")
            found = np.flatnonzero(high > low)
            return {int(one): np.sort(self._index["place"][low[one] : high[one]]).astype(np.intp) for one in found}
        wanted = range(len(keys)) if len(keys) <= FEW else np.flatnonzero(np.isin(keys, self._keys)).tolist()
        hits = {one: np.flatnonzero(self._keys == keys[one]) for one in wanted}
        return {one: places for one, places in hits.items() if len(places)}

    def remove(self) -> None:
        """Delete it."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(INDEX_SUFFIX).unlink(missing_ok=True)

    def last_at(self) -> float:
        """When the last answer was given, in seconds since the epoch; when the file was made, if there is none."""
        with suppress(OSError):  # an index that cannot be made must not keep its segment from going
            self.refresh()
        return float(self.read(self.filled - 1, 1)["at"][0]) if self.filled else self.path.stat().st_mtime

    def bytes(self) -> int:
        """What it takes on the disk."""
        return self.path.stat().st_blocks * 512

    def _sort(self) -> None:
        path = self.path.with_suffix(INDEX_SUFFIX)
        if not path.exists():
            index = np.zeros(CAPACITY, INDEX)
            index["place"] = np.argsort(self._keys, kind="stable")
            index["key"] = self._keys[index["place"]]
            with replacing(path) as scratch:  # others may make it too
                index.tofile(scratch)
        self._index = np.memmap(path, INDEX, "r", shape=(CAPACITY,))
        self._keys = np.zeros(0, np.uint64)


@dataclass(frozen=True, slots=True)
class Joined:
    """One row that was labelled: its version, what was answered, what was told, and ``at`` which time that was known.

    ``answered_at`` is the time of the answer (seconds since the epoch); ``by_split`` says that chance chose the
    version.
    """

    version: str
    form: int
    answer: float
    scores: tuple[float, ...]
    label: float
    at: float
    answered_at: float = 0.0
    by_split: bool = False

    @property
    def right(self) -> bool:
        """Whether the answer was the label; a probability counts as the class it is nearer to."""
        return bool(self.label == self.answer or (self.is_chance and (self.answer >= 0.5) == (self.label >= 0.5)))

    @property
    def is_chance(self) -> bool:
        """Whether a single number may be the probability of what the label says."""
        return self.form == NUMBER and 0 <= self.answer <= 1 and self.label in (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Told:
    """What somebody says of an answer: its label or labels (one a row; None says nothing), a reward from 0 to 1, and
    when it became known (seconds since the epoch, 0 for now)."""

    id: str
    label: Any = None
    reward: float | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Rewarded:
    """One answer that was rewarded: its version, the reward, the time of the answer (seconds since the epoch), and
    whether chance chose the version."""

    version: str
    reward: float
    answered_at: float
    by_split: bool


@dataclass(slots=True)
class Taken:
    """What became of what was told: rows that were joined, answers that were rewarded, versions of what came too late,
    was told of before, or could not be a label, what belongs to no answer that is remembered, and what could not be
    written down."""

    joined: list[Joined]
    rewards: list[Rewarded]
    late: list[str]
    doubled: list[str]
    unusable: list[str]
    unknown: list[Told]
    failed: list[Told]

    @classmethod
    def nothing(cls) -> "Taken":
        """Nothing yet."""
        return cls([], [], [], [], [], [], [])

    def add(self, other: "Taken") -> None:
        """Count what became of other things that were told, too."""
        self.joined += other.joined
        self.rewards += other.rewards
        self.late += other.late
        self.doubled += other.doubled
        self.unusable += other.unusable
        self.unknown += other.unknown
        self.failed += other.failed


class AnswerStore:
    """The control process's end; blocks, and is used by one thread at a time."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._segments: dict[str, Segment] = {}

    def take(self, model: str, told: Sequence[Told], now: float, horizon_s: float) -> Taken:
        """Join what was told to the answers, and write it down; an answer older than the horizon is too late."""
        taken = Taken.nothing()
        if not told:
            return taken
        keys = keys_of(model, [one.id for one in told])
        left = np.arange(len(told))
        for segment in self._newest_first(model):
            if not len(left):
                break
            hits = segment.places(keys[left])
            for index, places in hits.items():
                one = told[int(left[index])]
                try:
                    taken.add(_join(segment, places, one, now, horizon_s))
                except OSError as error:
                    log.warning("a label could not be written down: %s", error.strerror)
                    taken.failed.append(one)
            left = np.delete(left, list(hits))
        taken.unknown += [told[int(index)] for index in left]
        return taken

    def labelled(self, model: str, version: str, most: int) -> list[Joined]:
        """The rows that were labelled last, oldest first: what a successor of this process learns anew from."""
        found: list[Joined] = []
        for segment in self._newest_first(model):
            if segment.version != version:
                continue
            records = segment.read(0, segment.filled)
            marked = records[(records["marks"] & LABELLED) > 0]
            found += [_joined_of(version, one) for one in marked]
            if len(found) >= most:
                break
        return sorted(found, key=lambda one: one.at)[-most:]

    def versions(self, model: str) -> set[str]:
        """The versions of a model of which answers are remembered."""
        self._look()
        return {one.version for one in self._segments.values() if one.model == prefix_of(model)}

    def labels(self, model: str, version: str, ids: Sequence[str]) -> dict[str, list[float]]:
        """The labels of these requests, row by row (NaN where none was told)."""
        keys, found = keys_of(model, ids), dict[str, list[float]]()
        for segment in self._newest_first(model):
            if segment.version == version:
                for index, places in segment.places(keys).items():
                    records = segment.at(places)
                    records = records[_last(records) :]
                    values = np.where((records["marks"] & LABELLED) > 0, records["label"], np.nan)
                    found.setdefault(ids[index], values.tolist())
        return found

    def sweep(self, now: float, horizon_s: float) -> None:
        """Delete what is too old for any label, and the oldest beyond the room there is."""
        self._look()
        total = 0
        for segment in sorted(self._segments.values(), key=lambda one: one.began, reverse=True):
            total += segment.bytes()
            if total > self._most_bytes or now - segment.last_at() > 2 * horizon_s:
                segment.remove()
                del self._segments[segment.path.name]

    def _newest_first(self, model: str) -> Iterator[Segment]:
        self._look()
        mine = [one for one in self._segments.values() if one.model == prefix_of(model)]
        for segment in sorted(mine, key=lambda one: one.began, reverse=True):
            try:
                segment.refresh()
            except OSError as error:
                log.warning("remembered answers cannot be read: %s", error.strerror)
                continue
            yield segment

    def _look(self) -> None:
        try:
            names = {one.name for one in os.scandir(self._folder) if one.name.endswith(SUFFIX)}
        except OSError:
            names = set()
        for name in self._segments.keys() - names:
            del self._segments[name]
        for name in names - self._segments.keys():
            path = self._folder / name
            if path.stat().st_size == CAPACITY * RECORD.itemsize:  # else it is being made at this moment
                self._segments[name] = Segment(path)


def _last(records: Records) -> int:
    """Where the last answer begins among those of an id that was used again."""
    starts = np.flatnonzero(records["row"] == 0)
    return int(starts[-1]) if len(starts) else 0


def _join(segment: Segment, places: NDArray[np.intp], told: Told, now: float, horizon_s: float) -> "Taken":
    """Write down what was told of one request; of an id that was used again, the last time counts.

    Raises:
        OSError: it cannot be written down; nothing is counted then.
    """
    taken, known = Taken.nothing(), told.at or now
    records = segment.at(places)
    first = _last(records)
    places, records = places[first:], records[first:]
    if known - float(records["at"][0]) > horizon_s:
        taken.late.append(segment.version)
        return taken
    if told.reward is not None:
        _reward(segment.version, records[:1], told.reward, taken)
    labels = told.label if isinstance(told.label, list) else [told.label]
    for index, label in enumerate(labels[: len(records)]):
        if label is not None:
            _label(segment.version, records[index : index + 1], label, known, taken)
    if taken.joined or taken.rewards:
        segment.write(places, records)
    return taken


def _reward(version: str, record: Records, reward: float, taken: Taken) -> None:
    if record["marks"][0] & REWARDED:
        taken.doubled.append(version)
        return
    record["reward"] = reward
    record["marks"] |= REWARDED
    by_split = bool(record["marks"][0] & SPLIT)
    taken.rewards.append(Rewarded(version, reward, float(record["at"][0]), by_split))


def _label(version: str, record: Records, label: Any, known: float, taken: Taken) -> None:
    if record["marks"][0] & LABELLED:
        taken.doubled.append(version)
        return
    token = label_token(label, int(record["form"][0]))
    if token is None:
        taken.unusable.append(version)
        return
    record["label"], record["told_at"] = token, known
    record["marks"] |= LABELLED
    taken.joined.append(_joined_of(version, record[0]))


def _joined_of(version: str, record: Mapping[str, Any]) -> Joined:
    scores = tuple(float(one) for one in record["scores"])
    answer, label, at = float(record["answer"]), float(record["label"]), float(record["told_at"])
    by_split = bool(int(record["marks"]) & SPLIT)
    return Joined(version, int(record["form"]), answer, scores, label, at, float(record["at"]), by_split)
