"""Whether a version differs from a capture by more than it differs from itself, and by more than is allowed.

Each request is asked twice. That its first answer differs from the captured one is a difference, that its two answers
differ from each other is noise (the idea is Diffy's). Where the answers of a version are noisy, as many requests differ
from the capture by noise alone: so what counts is by how much differences exceed noise.
"""

import math
from dataclasses import dataclass
from typing import Final

Z: Final = 1.6448536
"""The quantile of the normal distribution for 95 % confidence on one side."""


@dataclass(slots=True)
class PairCounts:
    """Requests whose answers were compared; of these, those that ``differ`` from the capture, those whose answers are
    ``noisy``, and those that are both."""

    compared: int = 0
    differ: int = 0
    noisy: int = 0
    both: int = 0

    def add(self, differs: bool, is_noisy: bool) -> None:
        """Count a request."""
        self.compared += 1
        self.differ += differs
        self.noisy += is_noisy
        self.both += differs and is_noisy


@dataclass(frozen=True, slots=True)
class ExcessDifferences:
    """By which share of the requests differences exceed noise: an estimate, and the ``low`` bound that decides."""

    share: float
    low: float


def excess_of(counts: PairCounts) -> ExcessDifferences:
    """Return by how much differences exceed noise; NaN without requests.

    Without any noise each difference counts. With noise, requests that only differ and requests that are only noisy are
    equally likely if the version is as the captured one (McNemar 1947), and the bound has 95 % confidence.
    """
    if not counts.compared:
        return ExcessDifferences(math.nan, math.nan)
    only_differ, only_noisy = counts.differ - counts.both, counts.noisy - counts.both
    excess = only_differ - only_noisy
    margin = Z * math.sqrt(only_differ + only_noisy) if counts.noisy else 0.0
    return ExcessDifferences(max(0.0, excess) / counts.compared, max(0.0, excess - margin) / counts.compared)
