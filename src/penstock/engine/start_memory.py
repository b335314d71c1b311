"""Returns the memory that only a start needed: free parts of the heap, and the pages of libraries that it went through.

A start reads much of each library once, where it is initialised, and the kernel maps sixteen pages around each one that
is read. Mapped pages of a file count as this process's memory; unmapped they stay in the system's page cache. What is
used again is mapped again at its first use: a page fault of about a microsecond for sixteen pages.
"""

import ctypes
import mmap
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from penstock.engine import heap

_MAPPINGS: Final = Path("/proc/self/maps")
_CODE: Final = "r-xp"
_CONSTANTS: Final = "r--p"
_NONE: Final = "---p"

_IDENTITY: Final = b"\x7fELF\x02\x01"
"""How a program or library begins: ELF, 64 bits, little-endian; see elf(5) for all that follows."""

_PART_TABLE: Final = struct.Struct("<32xQ14xHH")
_PART: Final = struct.Struct("<IIQQQQQQ")
_LOADED: Final = 1
_EXECUTABLE: Final = 1
_WRITABLE: Final = 2

Read = Callable[[int, int], bytes]
"""Returns so many bytes at an address."""


class Mapping(NamedTuple):
    """One line of ``/proc/self/maps``: where a part of a file is in memory, and what the process may do there."""

    start: int
    end: int
    access: str
    offset: int
    file: str


def release_start_memory() -> None:
    """Return it to the system, once the process has started; on any thread, while others work.

    Where the system has no such list of mappings, only the heap is trimmed.
    """
    heap.trim_heap()
    advise = getattr(ctypes.CDLL(None), "madvise", None)
    if advise is None:
        return
    with suppress(OSError):
        for start, end in library_constants(_MAPPINGS.read_text(errors="surrogateescape"), ctypes.string_at):
            advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def library_constants(text: str, read: Read) -> list[tuple[int, int]]:
    """Return the address ranges of code and constants of the program and its libraries: those which the loader maps
    from the file and never changes.

    A range counts only if it is mapped as the file's own table says. So data that the loader changes first and protects
    then is left out, and a library that is just being loaded, and files that are read in another way.

    Args:
        text: the content of ``/proc/self/maps``, see proc(5).
        read: reads the memory of this process.
    """
    mappings = set(_read_mappings(text))
    programs = {item.file for item in mappings if item.access == _CODE}
    first_parts = [item for item in mappings if item.offset == 0 and item.access != _NONE and item.file in programs]
    parts = (part for item in first_parts for part in _constant_parts(item, read))
    return sorted((part.start, part.end) for part in parts if part in mappings)


def _read_mappings(text: str) -> Iterator[Mapping]:
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/"):
            start, _, end = fields[0].partition("-")
            yield Mapping(int(start, 16), int(end, 16), fields[1], int(fields[2], 16), fields[5])


def _constant_parts(first: Mapping, read: Read) -> Iterator[Mapping]:
    """Yield where the parts of a program without write access must be, if this mapping is its beginning."""
    head = read(first.start, mmap.PAGESIZE)
    if not head.startswith(_IDENTITY):
        return
    at, size, number = _PART_TABLE.unpack_from(head)
    if size != _PART.size or at + size * number > len(head):
        return
    parts = [part for part in _PART.iter_unpack(head[at : at + size * number]) if part[0] == _LOADED]
    shift = first.start - min((_page_of(part[3]) for part in parts), default=0)
    for _, flags, offset, address, _, _, length, _ in parts:
        if not flags & _WRITABLE:
            access = _CODE if flags & _EXECUTABLE else _CONSTANTS
            start, end = _page_of(address) + shift, _page_of(address + length + mmap.PAGESIZE - 1) + shift
            yield Mapping(start, end, access, _page_of(offset), first.file)


def _page_of(address: int) -> int:
    return address // mmap.PAGESIZE * mmap.PAGESIZE
