"""Settings of the C library's heap: large blocks are returned to the system when they are freed, the rest on request.

It also decides when the kernel may use huge pages.

Where the C library has no such calls (it is not glibc), nothing happens, and memory comes back as it does there.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MMAP_BYTES: Final = 4 << 20
"""Minimum size of blocks that are mapped one by one, so that freeing one returns it and leaves no hole in the heap.

Left to itself glibc raises that size to 32 MiB; the holes of such blocks had to be trimmed in one go, which keeps every
thread that allocates waiting: a quarter of a second for a gigabyte.
"""

TOP_BYTES: Final = 64 << 20
"""Free memory at the end of the heap that is kept for the next requests."""

_M_ARENA_MAX: Final = -8
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_PR_SET_THP_DISABLE: Final = 41

_lock = threading.Lock()
_loading = 0


def set_up() -> None:
    """Map large blocks one by one, in small pages; once for each process, before it works."""
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(_M_MMAP_THRESHOLD, MMAP_BYTES)
        option(_M_TRIM_THRESHOLD, TOP_BYTES)
    allow_huge_pages(False)


def share_one_arena() -> None:
    """Let all threads of this process allocate from one area: an area for each costs memory, and gains nothing where
    threads mostly wait for the interpreter's lock."""
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(_M_ARENA_MAX, 1)


@contextmanager
def huge_pages() -> Iterator[None]:
    """Allow huge pages for memory that is first touched in this block; on any thread, blocks may overlap.

    Weights gain by them: they are loaded and freed faster. Bodies, tensors and answers lose: the kernel clears two
    megabytes at a touch, and on some machines nothing else runs on that core for 5 to 10 ms.
    """
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(change: int) -> None:
    global _loading  # noqa: PLW0603 - the setting is the process's
    with _lock:
        _loading += change
        allow_huge_pages(_loading > 0)


def allow_huge_pages(allowed: bool) -> None:
    """Set whether this process may get huge pages; a program that it starts begins with the same setting."""
    control = getattr(ctypes.CDLL(None), "prctl", None)
    if control is not None:
        control(_PR_SET_THP_DISABLE, int(not allowed), 0, 0, 0)


def trim_heap() -> None:
    """Return freed memory to the system; releases the GIL."""
    trimmed = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trimmed is not None:
        trimmed(0)
