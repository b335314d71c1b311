"""The index of a full segment of answers: sorted keys with the positions of their records, in a file."""

import errno
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penstock.engine.durable_files import replace_file
from penstock.monitor.answers import Keys

ENTRY = np.dtype([("key", "<u8"), ("place", "<u4")])
STEP = 64
"""The key of every entry at a multiple of this stays in memory, so that one short read finds the entries of a key."""

FEW_KEYS = 256
"""A search for more keys than this reads the whole index at once."""

Entries = NDArray[np.void]


class AnswerIndex:
    """The index in a file with ``size`` entries. The file is read by calls and never mapped.

    Raises:
        OSError: the file cannot be read or is incomplete.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._steps: Keys = self._read(0, size)["key"][::STEP].copy()

    @classmethod
    def make(cls, path: Path, keys: Keys) -> "AnswerIndex":
        """Write the index of these keys [records].

        Raises:
            OSError: it cannot be written.
        """
        entries = np.zeros(len(keys), ENTRY)
        entries["place"] = np.argsort(keys, kind="stable")
        entries["key"] = keys[entries["place"]]
        with replace_file(path) as scratch:  # another process may write the same index
            entries.tofile(scratch)
        return cls(path, len(keys))

    def places(self, keys: Keys) -> dict[int, NDArray[np.intp]]:
        """Return the ascending positions of the records of each key that the segment has, by the index of the key.

        Raises:
            OSError: the index cannot be read.
        """
        if len(keys) > FEW_KEYS:
            return _find_places(self._read(0, self._size), keys)
        first = np.maximum(np.searchsorted(self._steps, keys, side="left") - 1, 0) * STEP
        last = np.searchsorted(self._steps, keys, side="right") * STEP
        places_of: dict[int, NDArray[np.intp]] = {}
        handle = self._open()
        try:
            for index in range(len(keys)):
                part = self._part(handle, int(first[index]), int(last[index] - first[index]))
                if (places := _find_places(part, keys[index : index + 1]).get(0)) is not None:
                    places_of[index] = places
        finally:
            os.close(handle)
        return places_of

    def _read(self, first: int, count: int) -> Entries:
        handle = self._open()
        try:
            return self._part(handle, first, count)
        finally:
            os.close(handle)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def _part(self, handle: int, first: int, count: int) -> Entries:
        count = min(count, self._size - first)
        raw = os.pread(handle, count * ENTRY.itemsize, first * ENTRY.itemsize)
        if len(raw) < count * ENTRY.itemsize:
            raise OSError(errno.EIO, "the index of a segment of answers is incomplete")
        return np.frombuffer(raw, ENTRY)


def _find_places(entries: Entries, keys: Keys) -> dict[int, NDArray[np.intp]]:
    low = np.searchsorted(entries["key"], keys, side="left")
    high = np.searchsorted(entries["key"], keys, side="right")
    rows = np.flatnonzero(high > low)
    return {int(key): np.sort(entries["place"][low[key] : high[key]]).astype(np.intp) for key in rows}
