"""Whether answers are as often right as their probabilities say."""

import math
from collections.abc import Sequence

import numpy as np

TILTS = (-1.5, -0.75, 0.75)
"""Changes of the logit of being right that the gap's evidence bets on."""

SUREST = 0.98
"""Bets never rest on more certainty than this."""


class Gap:
    """Evidence that answers are not as often right as their probabilities say.

    While they are, each tilt of those chances is a fair bet, so the e-SR statistic of its gains grows by one a row on
    average; the mean over the tilts is held against rows between false alarms. The two tilts downward look for a model
    that has become wrong, the one upward for one that is better than it says.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget all evidence."""
        self._logs = [-math.inf] * len(TILTS)

    def see(self, chance: float, right: bool) -> None:
        """One answer with its calibrated chance to be right, and whether it was."""
        q = min(SUREST, max(1 - SUREST, chance))
        odds = q / (1 - q)
        for index, tilt in enumerate(TILTS):
            tilted = odds * math.exp(tilt)
            p = tilted / (1 + tilted)
            gain = math.log(p / q) if right else math.log((1 - p) / (1 - q))
            log_m = self._logs[index]
            self._logs[index] = (math.log1p(math.exp(log_m)) if log_m < 30 else log_m) + gain

    @property
    def log_e(self) -> float:
        """The logarithm of the mean statistic."""
        top = max(self._logs)
        if not math.isfinite(top):
            return -math.inf
        return top + math.log(sum(math.exp(one - top) for one in self._logs) / len(self._logs))


def calibration_error(chances: Sequence[float], right: Sequence[bool], bins: int = 10) -> float | None:
    """The expected calibration error (Naeini, Cooper and Hauskrecht 2015): the mean distance, over bins of equal width,
    between how sure answers were and how many were right."""
    if not chances:
        return None
    sure, true = np.asarray(chances, float), np.asarray(right, float)
    places = np.minimum((sure * bins).astype(np.intp), bins - 1)
    rows = np.bincount(places, minlength=bins)
    gaps = np.abs(np.bincount(places, true, bins) - np.bincount(places, sure, bins))
    return float(gaps[rows > 0].sum() / len(sure))
