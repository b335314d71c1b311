"""Segments, the files of remembered answers: a worker appends to its own, the control process searches them.

Each answered row is one record of fixed size, so an answer outlives the processes. A label is written into the record,
so that it counts once. A full segment gets an index of sorted keys beside it. Segments and indexes are read and written
by calls and never mapped: on a full or failing disk one call fails, and the process goes on.
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
"""Records of a full segment."""

AHEAD = 1024
"""Records that one read takes when it looks for new ones."""

MOST_ROWS = 1024
"""Rows of one answer that are remembered."""

ANSWERS = "answers"
"""The folder of segments, below the home of a gateway."""

SUFFIX, INDEX_SUFFIX = ".answers", ".index"
FEW_KEYS = 64

ALL_ROWS = frozenset(range(MOST_ROWS))
"""All rows of an answer that may be remembered."""

ERASED = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
"""The key of an erased record."""


class AnswerWriter:
    """Writes the answers of one version in one worker, on its event loop. ``lost`` counts rows that could not be
    written."""

    def __init__(self, folder: Path, model: str, version: str) -> None:
        self._folder = folder
        self._model = model
        self._name = f"{prefix_of(model)}@{version}"
        self._handle = -1
        self._used = CAPACITY
        self.lost = 0

    def add(self, ids: Sequence[str], sizes: Sequence[int], answers: Answers, split: Sequence[bool] = ()) -> None:
        """Remember the answers to some requests, given the id of each, its number of rows in ``answers``, and whether
        the split chose the version at random (see ``SPLIT``). Rows that cannot be written are counted as ``lost``."""
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
        """Close the open segment; the next answers begin a new one."""
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
                if written < part.nbytes:  # the disk is full, and no record may follow an incomplete one
                    self.lost += len(part) - written // RECORD.itemsize
                    self.close()
            except OSError:
                self.lost += len(part)

    def _begin(self) -> None:
        self.close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{self._name}@{next_stamp(self._folder, SUFFIX)}-{os.getpid()}{SUFFIX}"
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.ftruncate(self._handle, CAPACITY * RECORD.itemsize)  # sets the size only; records take space as they come
        self._used = 0


def is_complete(path: Path) -> bool:
    """Return whether a segment has its final size; a worker is creating it otherwise."""
    return path.stat().st_size == CAPACITY * RECORD.itemsize


class AnswerSegment:
    """A segment as the control process reads it; of one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model, self.version, self.began = path.name.removesuffix(SUFFIX).split("@")
        self.filled = 0
        self._keys = np.zeros(0, np.uint64)
        self._index: AnswerIndex | None = None

    def read(self, first: int, count: int) -> Records:
        """Return a copy of ``count`` records, or of fewer at the end of the file.

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
        """Return copies of the records at ascending positions; those of one answer are adjacent.

        Raises:
            OSError: they cannot be read.
        """
        first, last = int(places[0]), int(places[-1])
        return self.read(first, last - first + 1)[places - first].copy()

    def write(self, places: NDArray[np.intp], records: Records) -> None:
        """Write records at these positions.

        Raises:
            OSError: one cannot be written.
        """
        handle = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            for run in np.split(np.arange(len(places)), np.flatnonzero(np.diff(places) != 1) + 1):
                os.pwrite(handle, records[run].tobytes(), int(places[run[0]]) * RECORD.itemsize)
        finally:
            os.close(handle)

    def erase(self, places: NDArray[np.intp], rows: frozenset[int]) -> int:
        """Erase these rows of the answer whose records are at these positions; return how many had been remembered.

        An erased record keeps its place and its time, and belongs to no request. The others are numbered anew, as the
        rows of the captured request are.

        Raises:
            OSError: they cannot be read or written; what was erased stays erased.
        """
        records = self.at(places)
        gone = np.isin(records["row"], list(rows))
        records["row"] = _number_rows(records["row"], gone)
        erased = np.zeros(int(gone.sum()), RECORD)
        erased["key"], erased["at"] = ERASED, records["at"][gone]
        records[gone] = erased
        self.write(places, records)
        if len(self._keys):
            self._keys[places[gone]] = ERASED
        return len(erased)

    def renew_index(self) -> None:
        """Write the index anew after records were erased.

        Raises:
            OSError: it cannot be written.
        """
        if self._index is not None:
            keys = self.read(0, CAPACITY)["key"].copy()
            self._index = AnswerIndex.make(self.path.with_suffix(INDEX_SUFFIX), keys)

    def refresh(self) -> None:
        """Read the keys of the records that were appended since the last call.

        Raises:
            OSError: they cannot be read.
        """
        if self._index is not None:
            return
        keys, filled = [self._keys], self.filled
        while filled < CAPACITY:
            ahead = self.read(filled, AHEAD)["key"]  # a part at a time, to bound the memory
            more = ahead[: int(np.argmin(ahead != 0))] if (ahead == 0).any() else ahead
            keys.append(more.copy())
            filled += len(more)
            if len(more) < AHEAD:
                break
        self._keys, self.filled = np.concatenate(keys), filled
        if self.filled == CAPACITY:
            with suppress(OSError):  # on a full disk the keys stay in memory until an index can be written
                self._write_index()

    def places(self, keys: Keys) -> dict[int, NDArray[np.intp]]:
        """Return the positions of the records of each key that the segment has, by the index of the key.

        Raises:
            OSError: the index cannot be read.
        """
        if self._index is not None:
            return self._index.places(keys)
        wanted = range(len(keys)) if len(keys) <= FEW_KEYS else np.flatnonzero(np.isin(keys, self._keys)).tolist()
        hits = {index: np.flatnonzero(self._keys == keys[index]) for index in wanted}
        return {index: places for index, places in hits.items() if len(places)}

    def remove(self) -> None:
        """Delete the segment and its index."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(INDEX_SUFFIX).unlink(missing_ok=True)

    def last_at(self) -> float:
        """Return the time of the last answer, or the file's modification time if there is none or it cannot be read
        (seconds since the epoch)."""
        with suppress(OSError):
            self.refresh()
            if self.filled:
                return float(self.read(self.filled - 1, 1)["at"][0])
        return self.path.stat().st_mtime

    def bytes(self) -> int:
        """Return the size on the disk in bytes, with that of the index."""
        index = self.path.with_suffix(INDEX_SUFFIX)
        return sum(file.stat().st_blocks * 512 for file in (self.path, index) if file.exists())

    def _write_index(self) -> None:
        path = self.path.with_suffix(INDEX_SUFFIX)
        try:
            self._index = AnswerIndex(path, CAPACITY)
        except OSError:  # there is none yet, or it cannot be read
            self._index = AnswerIndex.make(path, self._keys)
        self._keys = np.zeros(0, np.uint64)


def _number_rows(rows: NDArray[np.uint16], gone: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Number the rows that are left of each answer from 0 on; an answer begins at its row 0."""
    before: NDArray[np.intp] = np.cumsum(~gone) - ~gone  # rows left before each one
    starts = np.maximum.accumulate(np.where(rows == 0, np.arange(len(rows)), 0))
    numbers: NDArray[np.uint16] = (before - before[starts]).astype(np.uint16)
    return numbers
