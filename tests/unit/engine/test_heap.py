"""The C library's heap gives back what is large as soon as it is freed."""

import subprocess
import sys

MEASURE = """
import resource
from penstock.engine import heap

def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

heap.set_up()
before = resident()
blocks = [bytearray(heap.MMAP_BYTES) for _ in range(16)]
kept = [bytearray(1000) for _ in range(16)]
for block in blocks:
    block[::4096] = b"x" * len(block[::4096])
held = resident() - before
del blocks, block
print(held, resident() - before)
heap.trim_heap()
"""


def test_large_blocks_go_back_when_they_are_freed() -> None:
    """In a process of its own: what its heap is set to stays so."""
    ended = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    held, left = map(int, ended.stdout.split())
    assert held > 60 << 20
    assert left < 8 << 20


PAGES = """
import ctypes
from penstock.engine import heap

def are_off() -> int:
    return ctypes.CDLL(None).prctl(42, 0, 0, 0, 0)  # PR_GET_THP_DISABLE

heap.set_up()
seen = [are_off()]
with heap.huge_pages():
    with heap.huge_pages():
        seen.append(are_off())
    seen.append(are_off())
seen.append(are_off())
print(*seen)
"""


def test_huge_pages_are_for_the_time_of_a_load() -> None:
    """Loads may overlap; once the last has ended, bodies and answers lie in small pages again."""
    ended = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["1", "0", "0", "1"]
