"""File descriptors of a process: as many as the system allows, and how many connections they are enough for."""

import resource
from typing import Final

RESERVED: Final = 128
"""Descriptors that are kept for models, the registry, logs and the other processes."""

FEWEST: Final = 16
MOST: Final = 1 << 20
"""More is not asked for where the system sets no limit."""


def raise_limit() -> int:
    """Allow this process as many descriptors as it may have; their number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def connection_limit(configured: int, descriptors: int, ports: int) -> int:
    """Connections that each of ``ports`` may have: what is configured, or fewer where descriptors would run out."""
    return min(configured, max(FEWEST, (descriptors - RESERVED) // ports))
