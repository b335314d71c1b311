"""Which of the calls that wait together are run together: a pure plan, and what a run of so many rows takes."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

MOST_ROWS = 64
"""Rows of one run made of several calls; beyond that a run gains little and its callers wait."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run takes: nanoseconds for itself, and for each row of it; fitted to measured runs."""

    base_ns: float
    row_ns: float

    def most_rows(self, budget_ns: float) -> int:
        """The most rows of a run that stays within a budget, at least 1."""
        if self.row_ns <= 0:
            return MOST_ROWS
        return max(1, min(MOST_ROWS, int((budget_ns - self.base_ns) / self.row_ns)))


def fitted(rows: int, one_ns: int, all_ns: int) -> Cost:
    """The cost of a model whose run took ``one_ns`` for one row and ``all_ns`` for ``rows`` (more than one)."""
    row_ns = max(0.0, (all_ns - one_ns) / (rows - 1))
    return Cost(max(0.0, one_ns - row_ns), row_ns)


def plan(keys: Sequence[Hashable], rows: Sequence[int], most_rows: int) -> list[list[int]]:
    """The calls of each run, by their places: only calls of one key go together, in their order, ``most_rows`` at most;
    a call of more rows, or of none, goes alone."""
    runs: list[list[int]] = []
    filling: dict[Hashable, tuple[list[int], int]] = {}
    for place, (key, number) in enumerate(zip(keys, rows, strict=True)):
        begun = filling.get(key)
        if begun is not None and number and begun[1] + number <= most_rows:
            begun[0].append(place)
            filling[key] = begun[0], begun[1] + number
            continue
        run = [place]
        runs.append(run)
        if number:
            filling[key] = run, number
    return runs
