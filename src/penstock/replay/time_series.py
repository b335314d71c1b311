"""Counts over the time of a replay in a bounded number of steps, which become twice as long when they are used up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MOST_STEPS: Final = 600


@dataclass(frozen=True, slots=True)
class SeriesStep:
    """The counts of a step, in the order of the series' names; ``second`` is its start."""

    second: float
    counts: tuple[int, ...]


class TimeSeries:
    """Counts of some names in steps of a second or longer."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.step_s = 1.0
        self._counts: list[list[int]] = []

    def add(self, second: float, name: str, count: int = 1) -> None:
        """Count at a moment, in seconds since the start."""
        place = int(max(second, 0.0) / self.step_s)
        while place >= MOST_STEPS:
            self._halve()
            place = int(max(second, 0.0) / self.step_s)
        while len(self._counts) <= place:
            self._counts.append([0] * len(self.names))
        self._counts[place][self.names.index(name)] += count

    def steps(self) -> list[SeriesStep]:
        """Return the steps from the start to the last one with a count."""
        return [SeriesStep(place * self.step_s, tuple(counts)) for place, counts in enumerate(self._counts)]

    def _halve(self) -> None:
        """Join steps in pairs."""
        self.step_s *= 2
        pairs = [self._counts[place : place + 2] for place in range(0, len(self._counts), 2)]
        self._counts = [[sum(column) for column in zip(*pair, strict=True)] for pair in pairs]
