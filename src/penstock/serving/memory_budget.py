"""The bytes that one worker may hold for its callers at a time: unfinished bodies, queued answers, mirrored calls."""

from typing import Final

from penstock.core.errors import Fault, OverBudget, TooLarge
from penstock.core.limits import MEMORY_SETTING

DEFAULT_MEMORY_BYTES: Final = 1 << 30
"""The default budget."""

TRIM_BYTES, BURST_BYTES = 16 << 20, 1 << 20
"""Bytes freed since the last trim that make another trim worth its time, and bytes freed between two checks up to which
there is no burst."""

SPARE_SHARE: Final = 2
"""Mirrored calls and samples may use memory up to the budget divided by this, so that they refuse no caller."""

BURST_SHARE: Final = 16
"""A burst is over, too, once what was freed between two looks is so small a share of all that was freed since the last
trim. So the heap is trimmed now and then under steady traffic, and as soon as a burst ends."""


class MemoryBudget:
    """The budget of one worker; every method belongs to the worker's event loop.

    Code that keeps bytes for a caller calls ``take`` before it keeps them, and ``give_back`` once when it drops them.
    """

    __slots__ = ("_freed", "_seen", "limit", "used")

    def __init__(self, limit_bytes: int) -> None:
        self.limit = limit_bytes
        self.used = 0
        self._freed = self._seen = 0  # bytes since the last trim, and those of them at the last look

    def take(self, size: int) -> bool:
        """Reserve ``size`` bytes (0 or more); return False, with nothing reserved, if they do not fit."""
        used = self.used + size
        if used > self.limit:
            return False
        self.used = used
        return True

    def refusal(self, size: int, text: str) -> Fault:
        """Return the error of a request whose ``size`` bytes do not fit: for now, with ``text``, or never."""
        if size <= self.limit:
            return OverBudget(text)
        return TooLarge(
            f"the request needs {size} bytes at a time, and the server holds at most {self.limit} for all its callers "
            f"({MEMORY_SETTING}); ask for less at a time"
        )

    def take_spare(self, size: int) -> bool:
        """Reserve bytes that no caller waits for; only while at most half of the budget is used, including them."""
        return (self.used + size) * SPARE_SHARE <= self.limit and self.take(size)

    def give_back(self, size: int) -> None:
        """Release ``size`` bytes that ``take`` has reserved."""
        self.used -= size
        self._freed += size

    def note_freed(self, size: int) -> None:
        """Note ``size`` freed bytes that were never reserved here, such as the tensors of an answered call."""
        self._freed += size

    def trim_due(self) -> bool:
        """Whether the heap should be trimmed now; call it about once a second.

        It should once much memory was freed and the burst is over: memory trimmed during a burst is needed again.
        """
        lately, self._seen = self._freed - self._seen, self._freed
        if self._freed < TRIM_BYTES:
            return False
        if lately > max(BURST_BYTES, self._freed // BURST_SHARE):
            return False
        self._freed = self._seen = 0
        return True
