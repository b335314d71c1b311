"""The memory that this process may use: the machine's, reduced by control groups and resource limits."""

import os
import resource
from pathlib import Path

from penstock.engine.threads import group_folders, text_of


def read_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process and those of its control group may use together; ``root`` is the parent of
    ``proc`` and ``sys``.

    An address-space limit (``RLIMIT_AS``) holds for each process, and counts only where it is the smallest of all.
    """
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    own = [] if address_space == resource.RLIM_INFINITY else [address_space]
    return min([physical, *own, *read_group_limits(root)])


def read_group_limits(root: Path) -> list[int]:
    """Return the memory limits (bytes) of this process's control groups and all groups above them."""
    limits: list[int] = []
    for folder in group_folders(text_of(root / "proc/self/cgroup"), "memory"):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            text = text_of(root / folder / name).strip()
            if text.isdecimal() and int(text) > 0:  # the word "max" stands for no limit
                limits.append(int(text))
    return limits
