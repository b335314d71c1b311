"""The C library's heap: large blocks go back to the system when they are freed, the rest when asked.

Where the C library has no such calls (it is not glibc), nothing happens, and memory comes back as it does there.
"""

import ctypes
from typing import Final

MMAP_BYTES: Final = 4 << 20
"""Blocks of this size on are mapped one by one, so that freeing one gives it back and leaves no hole in the heap.

Left to itself glibc raises that size to 32 MiB; the holes of such blocks had to be trimmed in one go, which keeps every
thread that allocates waiting: a quarter of a second for a gigabyte.
"""

TOP_BYTES: Final = 64 << 20
"""Free memory at the end of the heap that is kept for the next requests."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def set_up() -> None:
    """Have large blocks mapped one by one; once for each process, before it works."""
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(_M_MMAP_THRESHOLD, MMAP_BYTES)
        option(_M_TRIM_THRESHOLD, TOP_BYTES)


def trim() -> None:
    """Give freed memory back to the system; releases the GIL."""
    trimmed = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trimmed is not None:
        trimmed(0)
