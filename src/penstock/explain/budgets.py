"""How long an explanation may go on: rows that may be run, and a deadline that is kept by the pace so far."""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from penstock.core.slices import PauseWork, no_pause
from penstock.explain.nodes import Floats

Rows: TypeAlias = NDArray[Any]
_Result = TypeVar("_Result")
Steps: TypeAlias = Generator[Rows, Floats, _Result]
"""Yields rows [m, features] to run and receives their outputs [m, outputs]."""

Method = Literal["auto", "exact", "enumeration", "permutation"]
OutputScale = Literal["value", "probability"]


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """How to explain.

    ``method``: "auto" takes the first of exact, enumeration and permutation that is possible within the budget.
    ``seed`` decides the order of background rows and the permutations. ``max_rows``: rows that may be run in all,
    ``chunk_rows``: in one step. ``deadline_ns``: by ``clock``; None = no deadline. ``pause`` is
    called between slices of work. ``output_scale``: what the
    outputs of the model are, for the answer.
    """

    method: Method = "auto"
    seed: int = 0
    max_rows: int = 60_000
    chunk_rows: int = 2048
    deadline_ns: int | None = None
    clock: Callable[[], int] = time.monotonic_ns
    pause: PauseWork = no_pause
    output_scale: OutputScale = "value"


class RowRunner:
    """Runs rows in chunks, counts them, and knows how long a row takes."""

    def __init__(self, options: ExplainOptions) -> None:
        self._options = options
        self.rows = 0
        self._spent_ns = 0

    def run(self, rows: Rows) -> Steps[Floats]:
        """Yield rows in chunks, and return their outputs [rows, outputs]."""
        parts = []
        for start in range(0, len(rows), self._options.chunk_rows):
            part = rows[start : start + self._options.chunk_rows]
            began = self._options.clock()
            outputs = yield part
            self._spent_ns += self._options.clock() - began
            self.rows += len(part)
            parts.append(np.asarray(outputs, dtype=np.float64).reshape(len(part), -1))
        return np.concatenate(parts)

    def allows(self, rows: int) -> bool:
        """Whether so many rows more are within the budget, at the pace so far."""
        return self.rows + rows <= self._options.max_rows and not self.misses_deadline(rows)

    def misses_deadline(self, rows: int) -> bool:
        """Whether the deadline would pass before so many rows more are run."""
        if self._options.deadline_ns is None:
            return False
        expected = self._spent_ns * rows // max(1, self.rows)
        return self._options.clock() + expected > self._options.deadline_ns
