"""Parts of an answer: what is large stays as it is, and what is small between it is put together."""

from collections.abc import Sequence
from typing import Final

Parts = Sequence[bytes | memoryview]

Payload = bytes | list[bytes | memoryview]
"""What is sent: whole, or in parts where some are too large to be copied. No part is empty."""

SMALL: Final = 1 << 13
"""Bytes of a part that is copied: sending it by itself would cost more."""


def size_of(payload: Payload) -> int:
    """Bytes of a payload."""
    return len(payload) if isinstance(payload, bytes) else sum([len(part) for part in payload])


def join_payload(payload: Payload) -> bytes:
    """A payload in one piece, copied where it is in parts."""
    return payload if isinstance(payload, bytes) else b"".join(payload)


def merge_small(parts: Parts) -> list[bytes | memoryview]:
    """The same bytes in fewer parts: small ones that follow each other become one, and empty ones go."""
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
