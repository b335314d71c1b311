"""After a start, pages of libraries that are as in their files leave the process, and nothing else does."""

import ctypes
import mmap
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.engine.start_memory import library_constants

PAGE = mmap.PAGESIZE
BASE = 0x7F0000000000
CODE, CONSTANTS, DATA = 5, 4, 6
PARTS = ((CONSTANTS, 0, 0, PAGE + 8), (CODE, 2 * PAGE, 2 * PAGE, 100), (CONSTANTS, 3 * PAGE, 3 * PAGE, PAGE),
         (DATA, 4 * PAGE + 16, 5 * PAGE + 16, 3 * PAGE))  # fmt: skip
LOADED = (
    "r--p 0 0-2 /lib/a.so",
    "r-xp 2 2-3 /lib/a.so",
    "r--p 3 3-4 /lib/a.so",
    "r--p 4 5-6 /lib/a.so",  # its tables of addresses, which the loader has changed
    "rw-p 5 6-9 /lib/a.so",
)


def mappings(lines: tuple[str, ...]) -> str:
    """The text of ``/proc/self/maps`` for lines of access, offset, range (in pages) and file."""
    rows = []
    for line in lines:
        access, offset, pages, *file = line.split()
        start, end = (BASE + int(page) * PAGE for page in pages.split("-"))
        rows.append(f"{start:x}-{end:x} {access} {int(offset) * PAGE:08x} fe:00 17       {' '.join(file)}")
    return "\n".join(rows)


def program(parts: tuple[tuple[int, int, int, int], ...] = PARTS, identity: bytes = b"\x7fELF\x02\x01") -> bytes:
    """The first page of a program with these parts: flags, offset, address and length of each."""
    head = identity.ljust(32, b"\0") + struct.pack("<Q14xHH", 64, 56, len(parts) + 1)
    table = [struct.pack("<IIQQQQQQ", 1, flags, at, to, to, size, size, PAGE) for flags, at, to, size in parts]
    return head.ljust(64, b"\0") + b"".join([struct.pack("<IIQQQQQQ", 4, 4, 0, 0, 0, 9, 9, 4), *table])


def pages(text: str, page: bytes) -> list[tuple[int, int]]:
    found = library_constants(text, lambda _, size: page.ljust(size, b"\0")[:size])
    return [((start - BASE) // PAGE, (end - BASE) // PAGE) for start, end in found]


def test_code_and_constants_are_found_but_no_changed_data() -> None:
    assert pages(mappings(LOADED), program()) == [(0, 2), (2, 3), (3, 4)]


@pytest.mark.parametrize(
    "lines",
    [
        ("r--p 0 0-9 /data/weights.bin", "rw-p 0 10-11"),
        ("r--p 0 0-2 /lib/a.so", "r-xp 2 2-3 /lib/b.so"),
        (),
    ],
)
def test_files_without_code_stay(lines: tuple[str, ...]) -> None:
    assert pages(mappings(lines), program()) == []


def test_a_library_that_is_being_loaded_keeps_what_is_not_in_its_place_yet() -> None:
    loading = ("r--p 0 0-2 /lib/a.so", "r-xp 2 2-3 /lib/a.so", "r--p 3 3-9 /lib/a.so")
    assert pages(mappings(loading), program()) == [(0, 2), (2, 3)]


@pytest.mark.parametrize(
    "page",
    [
        program(identity=b"\x7fELF\x01\x01"),
        program(identity=b"\x7fELF\x02\x02"),
        program(PARTS * 30),
        program(())[:54] + struct.pack("<HH", 57, 1),
        program(()),
        b"",
    ],
    ids=["32 bits", "big-endian", "a table beyond the page", "other entries", "no parts", "empty"],
)
def test_other_programs_stay(page: bytes) -> None:
    assert pages(mappings(LOADED), page) == []


def test_a_program_at_a_fixed_address_is_found() -> None:
    fixed = tuple((flags, at, BASE + to, size) for flags, at, to, size in PARTS)
    assert pages(mappings(LOADED), program(fixed)) == [(0, 2), (2, 3), (3, 4)]


def test_ranges_of_this_process_are_those_of_its_libraries() -> None:
    found = library_constants(Path("/proc/self/maps").read_text(encoding="utf-8"), ctypes.string_at)
    assert sum(end - start for start, end in found) > 1 << 20


RELEASE = """
import ctypes, mmap, sys
import numpy
from penstock.engine.start_memory import release_start_memory

def resident():
    rows = dict(line.split(":") for line in open("/proc/self/smaps_rollup").read().splitlines()[1:])
    return int(rows["Rss"].split()[0]), int(rows["Anonymous"].split()[0])

before = resident()
release_start_memory()
after = resident()
print(before[0] - after[0], before[1] - after[1], numpy.linalg.det(numpy.eye(3)))
"""


@pytest.mark.processes
def test_a_process_works_on_without_the_pages_of_its_start() -> None:
    ended = subprocess.run([sys.executable, "-c", RELEASE], capture_output=True, text=True, check=True, timeout=120)
    released, changed, result = ended.stdout.split()
    assert int(released) > 4 << 10
    assert abs(int(changed)) < 1 << 10
    assert result == "1.0"
