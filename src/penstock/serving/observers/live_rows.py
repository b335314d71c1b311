"""Keeps a few recent rows of a version's inputs in memory: explanations compare rows with them.

They never leave the worker's memory, are replaced as traffic goes on, and are not kept at all where a policy masks
inputs.
"""

from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Final

import numpy as np

from penstock.core.tensors import Array, Tensor

CAPACITY: Final = 128
"""Rows that are kept."""

INTERVAL_NS: Final = 2_000_000_000
"""Once there are enough, one row replaces the oldest in this time: they are those of about four minutes."""

AT_ONCE: Final = CAPACITY // 2
"""Maximum rows of one batch of requests, so that the first batch is not all there is."""

MOST_ROW_BYTES: Final = 8192
MOST_CHARACTERS: Final = 4096

Row = tuple[Array, ...]
"""One row of each input, in the order of the first request."""


class LiveRows:
    """The kept rows of one version; lives on the event loop. ``names`` are the inputs of a row, in order."""

    def __init__(self, names: Sequence[str], clock: Callable[[], int] = monotonic_ns) -> None:
        self._names = tuple(names)
        self._rows: deque[Row] = deque(maxlen=CAPACITY)
        self._clock = clock
        self._last_ns = -INTERVAL_NS
        self.has_large = False
        """Whether rows came that are too large to be kept."""

    def __len__(self) -> int:
        return len(self._rows)

    def offer(self, inputs: Sequence[Tensor]) -> None:
        """Keep some rows of the stacked inputs of one or several requests."""
        now, full = self._clock(), len(self._rows) == CAPACITY
        if full and now - self._last_ns < INTERVAL_NS:
            return
        by_name = {tensor.name: tensor.data for tensor in inputs}
        arrays = [by_name[name] for name in self._names if name in by_name]
        rows = {len(array) if array.ndim else 0 for array in arrays}
        if len(arrays) != len(self._names) or len(rows) != 1 or rows == {0}:
            return
        count = rows.pop()
        for index in _spread(count, 1 if full else min(AT_ONCE, count)):
            row = tuple([array[index : index + 1] for array in arrays])
            if _is_small(row):
                self._rows.append(tuple([part.copy() for part in row]))
            else:
                self.has_large = True
        self._last_ns = now

    def tensors(self) -> dict[str, Array]:
        """Return the kept rows of each input [rows, ...] that have the shape of the newest; none without rows."""
        rows = tuple(self._rows)  # explanations ask on a thread
        if not rows:
            return {}
        shapes = [part.shape for part in rows[-1]]
        alike = [row for row in rows if [part.shape for part in row] == shapes]
        return {name: np.concatenate([row[index] for row in alike]) for index, name in enumerate(self._names)}


def _spread(count: int, most: int) -> Sequence[int]:
    """Return ``most`` places of rows, spread evenly over all of them."""
    return range(0, count, max(1, count // most))[:most]


def _is_small(row: Row) -> bool:
    texts = [value for part in row if part.dtype == object for value in part.ravel().tolist()]
    return sum([part.nbytes for part in row]) <= MOST_ROW_BYTES and sum(map(len, texts)) <= MOST_CHARACTERS
