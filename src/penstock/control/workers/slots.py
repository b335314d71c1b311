"""Slot files: a worker's counters as memory that several processes map, and the lock that proves who writes them."""

import fcntl
import mmap
import os
import struct
from collections.abc import Sequence
from pathlib import Path

from penstock.monitor.counters.layout import SLOT_BYTES
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import ReadTotals, Totals

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid


class SlotLock:
    """The lock of one slot's file, whatever the layout of its memory.

    A worker owns its slot by a record lock on the file. The kernel names the lock's owner and frees it when the
    worker ends, whatever the reason, so a live owner is never a matter of trust in what the memory says.
    """

    def __init__(self, path: Path, writable: bool = False) -> None:
        flags = os.O_RDWR if writable else os.O_RDONLY
        self._handle = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)

    def acquire(self) -> bool:
        """Become the owner, for as long as this process lives; False if another process is."""
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def owner(self) -> int:
        """Process id of the owner, 0 if there is none."""
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(self._handle, fcntl.F_GETLK, asked))
        return 0 if kind == fcntl.F_UNLCK else int(pid)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._handle)


class SlotFile(SlotLock):
    """One slot's file, mapped into this process; ``slot`` gives access to its counters until its last view is gone.

    Raises:
        ValueError: the file is shorter than a slot, because another release made it.
    """

    def __init__(self, path: Path, writable: bool = True) -> None:
        super().__init__(path, writable)
        try:
            protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
            self.slot = Slot(memoryview(mmap.mmap(self._handle, SLOT_BYTES, mmap.MAP_SHARED, protection)))
        except BaseException:
            self.close()
            raise


def create(path: Path) -> None:
    """Create a slot file of zeros with its memory allocated, so that no write to it can fail later.

    Raises:
        OSError: the file system is full.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(handle, 0, SLOT_BYTES)
    finally:
        os.close(handle)


def sum_totals(slots: Sequence[Slot]) -> ReadTotals:
    """Reads a block's counters, added up over slots."""
    return lambda block: Totals.of(slots, block)
