"""Parts of an answer: large parts are not copied, and small parts are joined."""

from collections.abc import Sequence
from typing import Final

Parts = Sequence[bytes | memoryview]

Payload = bytes | list[bytes | memoryview]
"""A payload: whole, or in parts if some are too large to copy. No part is empty."""

SMALL: Final = 1 << 13
"""Maximum bytes of a part to copy: sending such a part by itself would cost more."""


def size_of(payload: Payload) -> int:
    """Return the bytes of a payload."""
    return len(payload) if isinstance(payload, bytes) else sum([len(part) for part in payload])


def merge_small(parts: Parts) -> list[bytes | memoryview]:
    """Join small parts that follow each other, and drop empty ones."""
    found: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = []
    for part in parts:
        if len(part) < SMALL:
            if len(part):
                small.append(part)
            continue
        if small:
            found.append(b"".join(small))
            small = []
        found.append(part)
    if small:
        found.append(b"".join(small))
    return found
