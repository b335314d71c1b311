"""The bytes that one worker may hold for its callers at a time: unfinished bodies, queued answers, mirrored calls."""

from typing import Final

DEFAULT_MEMORY_BYTES: Final = 1 << 30
"""The budget of what is given none."""

TRIM_BYTES: Final = 16 << 20
"""Bytes given back since the last trim that make another one worth its time."""


class MemoryBudget:
    """One worker's budget; every method belongs to the worker's event loop.

    Whoever keeps bytes for a caller takes them before it keeps them and gives them back, once, when it lets go of them.
    """

    __slots__ = ("_untrimmed", "limit", "used")

    def __init__(self, limit_bytes: int) -> None:
        self.limit = limit_bytes
        self.used = 0
        self._untrimmed = 0

    def take(self, size: int) -> bool:
        """Reserve ``size`` bytes (0 or more); False, with nothing reserved, where they do not fit."""
        used = self.used + size
        if used > self.limit:
            return False
        self.used = used
        return True

    def give_back(self, size: int) -> None:
        """Return ``size`` bytes that ``take`` has reserved."""
        self.used -= size
        self._untrimmed += size

    def released(self, size: int) -> None:
        """Note ``size`` bytes that were freed and never reserved here, such as the tensors of an answered call."""
        self._untrimmed += size

    def trim_due(self) -> bool:
        """Whether so much was freed since the last time this was true that the heap should be trimmed now."""
        if self._untrimmed < TRIM_BYTES:
            return False
        self._untrimmed = 0
        return True
