"""The files that answers are remembered in: a worker appends to its own, the control process searches them.

Each answered row is one record of fixed size, so an answer is remembered over the end of any process, and is told of
once: what is told is written into the record. Full segments get an index of sorted hashes beside them.
Segments and indexes are read and written by calls, never mapped: a full or failing disk is an error of one call then,
and not the end of the process.
"""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penstock.monitor.answer_index import AnswerIndex
from penstock.monitor.answers import RECORD, SPLIT, Answers, Keys, Records, keys_of, prefix_of
from penstock.monitor.segment_names import next_stamp

CAPACITY = 1 << 16
"""Records of a segment."""

AHEAD = 1024
"""Records that are looked at together for new ones."""

MOST_ROWS = 1024
"""Rows of one answer that are remembered."""

ANSWERS = "answers"
"""The folder of segments, below a gateway's home."""

SUFFIX, INDEX_SUFFIX = ".answers", ".index"
FEW = 64


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
                written = os.pwrite(self._handle, part.tobytes(), self._used * RECORD.itemsize)
                self._used += len(part)
                if written < part.nbytes:  # the disk became full: nothing may follow the torn record
                    self.lost += len(part) - written // RECORD.itemsize
                    self.close()
            except OSError:
                self.lost += len(part)

    def _begin(self) -> None:
        self.close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{self._name}@{next_stamp(self._folder, SUFFIX)}-{os.getpid()}{SUFFIX}"
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.ftruncate(self._handle, CAPACITY * RECORD.itemsize)  # room by name only: pages are set aside as they fill
        self._used = 0


def is_whole(path: Path) -> bool:
    """Whether a segment has its size; else it is being made at this moment."""
    return path.stat().st_size == CAPACITY * RECORD.itemsize


class Segment:
    """A segment as the control process sees it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model, self.version, self.began = path.name.removesuffix(SUFFIX).split("@")
        self.filled = 0
        self._keys = np.zeros(0, np.uint64)
        self._index: AnswerIndex | None = None

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
        if self._index is not None:
            return
        found, filled = [self._keys], self.filled
        while filled < CAPACITY:
            ahead = self.read(filled, AHEAD)["key"]  # a part at a time: what is looked at takes memory
            more = ahead[: int(np.argmin(ahead != 0))] if (ahead == 0).any() else ahead
            found.append(more.copy())
            filled += len(more)
            if len(more) < AHEAD:
                break
        self._keys, self.filled = np.concatenate(found), filled
        if self.filled == CAPACITY:
            with suppress(OSError):  # without room for an index, the keys stay in memory until there is
                self._sort()

    def places(self, keys: Keys) -> dict[int, NDArray[np.intp]]:
        """The places of the records of each key that is here, by its index; raises ``OSError``."""
        if self._index is not None:
            return self._index.places(keys)
        wanted = range(len(keys)) if len(keys) <= FEW else np.flatnonzero(np.isin(keys, self._keys)).tolist()
        hits = {one: np.flatnonzero(self._keys == keys[one]) for one in wanted}
        return {one: places for one, places in hits.items() if len(places)}

    def remove(self) -> None:
        """Delete it."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(INDEX_SUFFIX).unlink(missing_ok=True)

    def last_at(self) -> float:
        """When the last answer was given, in seconds since the epoch; when the file was made, if there is none."""
        with suppress(OSError):  # one that cannot be read goes by the age of its file
            self.refresh()
            if self.filled:
                return float(self.read(self.filled - 1, 1)["at"][0])
        return self.path.stat().st_mtime

    def bytes(self) -> int:
        """What it takes on the disk, with its index."""
        index = self.path.with_suffix(INDEX_SUFFIX)
        return sum(file.stat().st_blocks * 512 for file in (self.path, index) if file.exists())

    def _sort(self) -> None:
        path = self.path.with_suffix(INDEX_SUFFIX)
        try:
            self._index = AnswerIndex(path, CAPACITY)
        except OSError:  # there is none yet, or none that could be read
            self._index = AnswerIndex.make(path, self._keys)
        self._keys = np.zeros(0, np.uint64)
