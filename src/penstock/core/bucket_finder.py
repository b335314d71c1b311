"""Finds the bucket of a value fast: most values of a histogram fall in the bucket of the one before."""

from collections.abc import Sequence
from typing import Final

_ABOVE_ALL: Final = 1 << 60


class BucketFinder:
    """Finds buckets as ``bisect_left(edges, value)`` does; ``edges`` ascend, and values are below 2 to the 60.

    Belongs to one thread. Once compiled, a search creates no objects.
    """

    __slots__ = ("_above", "_below", "_bucket", "_edges")

    def __init__(self, edges: Sequence[int]) -> None:
        self._edges: list[int] = list(edges)
        self._bucket = 0
        self._below = -1  # the value before lay above this, and not above ``_above``
        self._above: int = self._edges[0] if self._edges else _ABOVE_ALL

    def find(self, value: int) -> int:
        """Return the bucket of a value, which is not negative: the first whose edge is not below it."""
        if not self._below < value <= self._above:
            self._search(value)
        return self._bucket

    def _search(self, value: int) -> None:
        edges, low, high = self._edges, 0, len(self._edges)
        while low < high:
            middle = (low + high) >> 1
            if edges[middle] < value:
                low = middle + 1
            else:
                high = middle
        self._bucket = low
        self._below = edges[low - 1] if low else -1
        self._above = edges[low] if low < len(edges) else _ABOVE_ALL
