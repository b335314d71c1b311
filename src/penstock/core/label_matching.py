"""Which labels of several versions may be compared: those of answers of the same time, labelled at the same age.

Labels come late, and not at once for every version: a nightly job labels one version first, some outcomes are known in
a second and others in a month. So labels fall into cells. A cell holds the labels of one class of age (each twice as
old as the one before) and of the answers of one stretch of time. A cell is closed at the moment from which no label
can fall into it any more, the same moment for all versions; then it counts once, and only if every version has labels
in it. If not, its labels are given to the cell of twice the length around it, until that is longer than ``WIDEST_S``
and the age itself; then they count for nobody. A batch of labels of one version alone is therefore no evidence.

Within a cell all versions had the same opportunity to be labelled. Whether a cell counts depends on when labels came,
never on what they say; so the counts of each cell are a stratum of its own, as a stratified test asks for
(`core.statistics.odds_ratio`).
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import frexp
from typing import Any

FINEST_S = 1
"""Seconds of answers in the shortest cell."""

WIDEST_S = 1024
"""Seconds of answers in the longest cell, if the labels are younger than that."""

OLDEST = 26
"""Classes of age: below a second, below 2, 4, 8 seconds, up to about a year."""

Sums = tuple[int, float, float]
"""The number of values, their sum and the sum of their squares."""

NOTHING: Sums = (0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class StratumCell:
    """Labels of one class of ``age``, of answers in the period ``index`` of the length of ``level``."""

    age: int
    level: int
    index: int

    @property
    def length_s(self) -> int:
        """Return the seconds of answers that it holds."""
        return _finest_level(self.age) << self.level

    @property
    def closes_s(self) -> int:
        """Return the time from which no label can fall into it, in seconds since the beginning."""
        return (self.index + 1) * self.length_s + age_limit_s(self.age)

    @property
    def wider(self) -> "StratumCell | None":
        """Return the cell of twice the length around it, None for the longest."""
        if 2 * self.length_s > max(WIDEST_S, age_limit_s(self.age)):
            return None
        return StratumCell(self.age, self.level + 1, self.index // 2)


@dataclass(frozen=True, slots=True)
class Stratum:
    """The labels of one closed cell by version; every version has some."""

    closed_s: int
    age: int
    sums: Mapping[str, Sums]


def age_class(age_s: float) -> int:
    """Return the class of an age in seconds: 0 below a second, else ``k`` from ``2**(k-1)`` to ``2**k``."""
    return max(0, frexp(age_s)[1])


def age_limit_s(age: int) -> int:
    """Return the upper limit of the age of labels of a class, in seconds."""
    return 1 << age


def _finest_level(age: int) -> int:
    return max(FINEST_S, age_limit_s(age) // 2)


class LabelMatching:
    """Labels of several versions that wait for those of the others; times are seconds since one beginning.

    What ``close`` returns depends only on the labels and the time, not on the order or the calls in which they came.
    ``unmatched`` counts the labels that found no match. Memory is bounded: of each class a few cells are open.
    """

    def __init__(self, versions: Iterable[str]) -> None:
        self.versions = tuple(versions)
        self.closed_s = 0.0
        self.unmatched = 0
        self._cells: dict[StratumCell, dict[str, Sums]] = {}

    def add(self, version: str, answered_s: float, age_s: float, value: float) -> None:
        """Add a value from 0 to 1 that labels a version's answer, with the age of the answer at that time (seconds).

        A label that is written down a moment late belongs where it would if it had come then.
        """
        age = age_class(max(age_s, self.closed_s - answered_s))
        if version in self.versions and answered_s >= 0 and age < OLDEST:
            cell = StratumCell(age, 0, int(answered_s // _finest_level(age)))
            self._add(cell, version, (1, value, value * value))

    def close(self, now_s: float) -> list[Stratum]:
        """Return the strata of all cells that have closed by now, in the order in which they closed."""
        self.closed_s = max(self.closed_s, now_s)
        due = [(cell.closes_s, cell.level, cell.age, cell.index) for cell in self._cells]
        heapq.heapify(due)
        closed = []
        while due and due[0][0] <= self.closed_s:
            closes_s, level, age, index = heapq.heappop(due)
            cell = StratumCell(age, level, index)
            sums = self._cells.pop(cell)
            if len(sums) == len(self.versions):
                closed.append(Stratum(closes_s, age, sums))
                continue
            wider = self._widen(cell, sums)
            if wider is not None:
                heapq.heappush(due, (wider.closes_s, wider.level, wider.age, wider.index))
        return closed

    def waiting(self) -> dict[str, int]:
        """Return how many labels of each version wait for others, or for their time."""
        waiting = dict.fromkeys(self.versions, 0)
        for sums in self._cells.values():
            for version, (count, _, _) in sums.items():
                waiting[version] += count
        return waiting

    def _widen(self, cell: StratumCell, sums: Mapping[str, Sums]) -> StratumCell | None:
        """Move the labels of a cell to the one around it; return that cell if it is new."""
        wider = cell.wider
        if wider is None:
            self.unmatched += sum(count for count, _, _ in sums.values())
            return None
        existing = wider in self._cells
        for version, item in sums.items():
            self._add(wider, version, item)
        return None if existing else wider

    def _add(self, cell: StratumCell, version: str, more: Sums) -> None:
        sums = self._cells.setdefault(cell, {})
        sums[version] = add_sums(sums.get(version, NOTHING), more)

    # As it is kept.

    def export_state(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        cells = [[cell.age, cell.level, cell.index, sums] for cell, sums in self._cells.items()]
        return {
            "versions": self.versions,
            "closed_s": self.closed_s,
            "unmatched": self.unmatched,
            "cells": cells,
        }

    @classmethod
    def from_state(cls, values: Mapping[str, Any]) -> "LabelMatching":
        """Restore the state."""
        matching = cls(values["versions"])
        matching.closed_s, matching.unmatched = values["closed_s"], values["unmatched"]
        for age, level, index, sums in values["cells"]:
            for version, (count, total, squares) in sums.items():
                matching._add(StratumCell(age, level, index), version, (count, total, squares))
        return matching


def add_sums(one: Sums, other: Sums) -> Sums:
    """Return the sum of both."""
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def describe_delay(ages: Mapping[int, int]) -> dict[str, float] | None:
    """Return the ages of labels in seconds, by the number of each class: an upper bound of the median, and of all; None
    without labels.
    """
    counted = sorted((age, count) for age, count in ages.items() if count)
    if not counted:
        return None
    middle = next(_indices_reaching(counted, sum(count for _, count in counted) / 2))
    return {"median_below": float(age_limit_s(middle)), "all_below": float(age_limit_s(counted[-1][0]))}


def _indices_reaching(counted: Iterable[tuple[int, int]], rank: float) -> Iterator[int]:
    covered = 0
    for age, count in counted:
        covered += count
        if covered >= rank:
            yield age
