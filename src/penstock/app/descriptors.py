"""Raises the limit of file descriptors, and computes the number of connections it allows."""

import resource
from typing import Final

RESERVED: Final = 128
"""Descriptors that are kept for models, the registry, logs and the other processes."""

FEWEST: Final = 16
MOST: Final = 1 << 20
"""The limit to request if the system sets none."""


def raise_limit() -> int:
    """Raise this process's limit of descriptors to its maximum and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def connection_limit(configured: int, descriptors: int, ports: int) -> int:
    """Return the connections that each of ``ports`` may have: as configured, or fewer if descriptors would run out."""
    return min(configured, max(FEWEST, (descriptors - RESERVED) // ports))
