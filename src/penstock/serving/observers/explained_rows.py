"""Takes some live rows of a version to be explained: one in each interval, and few at a time.

They never leave the worker's memory; only the sizes of their attributions do.
"""

from collections.abc import Callable, Sequence
from random import random
from time import monotonic_ns
from typing import Final

import numpy as np

from penstock.core.tensors import Array, Tensor

TOGETHER: Final = 8
"""Rows that are explained together."""

MOST_WAITING: Final = 64
"""Rows that wait; while there are as many, none are taken."""

MOST_VALUES: Final = 1024
"""Numbers of a row; a larger one is not explained."""

Row = tuple[Array, ...]
"""One row of each input, in the order of the names."""


class ExplainedRows:
    """The rows of one version that wait; lives on the event loop. ``names`` are the inputs of a row, ``rate`` the rows
    a second. ``explain`` is called whenever enough rows wait; it may take them later."""

    def __init__(
        self,
        names: Sequence[str],
        rate: float,
        explain: Callable[["ExplainedRows"], None],
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._names = tuple(names)
        self._interval_ns = int(1e9 / rate)
        self._explain = explain
        self._clock = clock
        self._next_ns = clock()
        self._rows: list[Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    def offer(self, inputs: Sequence[Tensor]) -> None:
        """Take one of these rows, each with the same chance, if the interval is over."""
        now = self._clock()
        if now < self._next_ns:
            return
        if len(self._rows) < MOST_WAITING and (row := self._draw(inputs)) is not None:
            self._rows.append(row)
            self._next_ns = now + self._interval_ns
        if len(self._rows) >= TOGETHER:
            self._explain(self)

    def _draw(self, inputs: Sequence[Tensor]) -> Row | None:
        """Return one row of the inputs, None if they are not rows or a row is too large."""
        by_name = {tensor.name: tensor.data for tensor in inputs}
        arrays = [by_name[name] for name in self._names if name in by_name]
        counts = {len(array) if array.ndim else 0 for array in arrays}
        if len(arrays) != len(self._names) or len(counts) != 1 or counts == {0}:
            return None
        count = counts.pop()
        if sum([array.size for array in arrays]) > MOST_VALUES * count:
            return None
        at = int(random() * count)
        return tuple([array[at : at + 1].copy() for array in arrays])

    def take(self) -> dict[str, Array]:
        """Return up to ``TOGETHER`` waiting rows of each input [rows, ...], those with the shape of the first; none
        without rows."""
        taken, self._rows = self._rows[:TOGETHER], self._rows[TOGETHER:]
        if not taken:
            return {}
        shapes = [part.shape for part in taken[0]]
        alike = [row for row in taken if [part.shape for part in row] == shapes]
        return {name: np.concatenate([row[index] for row in alike]) for index, name in enumerate(self._names)}
