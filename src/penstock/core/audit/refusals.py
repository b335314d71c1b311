"""Bounds the entries about refused requests: repeated refusals of one kind are one entry with their number.

The first refusal of a kind is recorded at once, so that it is seen soon; those that follow within the window are
counted, and recorded together at its end. Beyond ``MOST_KINDS`` kinds in a window, the rest is one entry.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

WINDOW_S: Final = 60.0
MOST_KINDS: Final = 20
"""Kinds of one window that have entries of their own: two each, one at once and one with the number of the others."""

Kind = TypeVar("Kind", bound=Hashable)


@dataclass(frozen=True, slots=True)
class CountedRefusals(Generic[Kind]):
    """Refusals to record: ``kind`` None stands for all kinds beyond the limit."""

    kind: Kind | None
    count: int


class RefusalWindow(Generic[Kind]):
    """The refusals of the present window. Of one thread or event loop; times are seconds of a steady clock."""

    def __init__(self) -> None:
        self._began = float("-inf")
        self._counts: dict[Kind, int] = {}
        self._others = 0

    def add(self, kind: Kind, now: float, count: int = 1) -> list[CountedRefusals[Kind]]:
        """Count refusals, and return what to record now."""
        due = self.collect(now)
        if kind in self._counts:
            self._counts[kind] += count
        elif len(self._counts) < MOST_KINDS:
            self._counts[kind] = 0
            due.append(CountedRefusals(kind, count))
        else:
            self._others += count
        return due

    def collect(self, now: float) -> list[CountedRefusals[Kind]]:
        """Return the counts of a window that is over, and begin the next one."""
        if now - self._began < WINDOW_S:
            return []
        counts: list[tuple[Kind | None, int]] = [*self._counts.items(), (None, self._others)]
        due = [CountedRefusals(kind, count) for kind, count in counts if count]
        self._began, self._counts, self._others = now, {}, 0
        return due
