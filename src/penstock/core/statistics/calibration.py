"""Whether answers are as often right as their probabilities say."""

import math
from collections.abc import Sequence

import numpy as np

TILTS = (-4.0, -2.0, -1.0, 1.0, 2.0)
"""Changes of the log-odds of being right that the gap's evidence bets on."""


class Gap:
    """Evidence that answers are not as often right as their probabilities say.

    A tilt ``t`` bets that the odds of being right are ``e^t`` times what they should be. Its factor for one answer is
    the likelihood ratio ``e^(t right) / (1 - q + q e^t)``. The denominator is the exact moment generating function of a
    Bernoulli variable, so under calibration the mean factor is 1 for every chance ``q`` in [0, 1], however small the
    variance ``q (1 - q)``; no chance has to be clipped. The e-SR statistic of each tilt (Shin, Ramdas and Rinaldo,
    "E-detectors", arXiv 2203.03532) then grows by one an answer on average while nothing is wrong, and so does the mean
    over the tilts: between two false alarms at a threshold lie at least that many answers on average.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget all evidence."""
        self._logs = [-math.inf] * len(TILTS)

    def see(self, chance: float, right: bool) -> None:
        """One answer with its calibrated chance to be right, in [0, 1], and whether it was."""
        for index, tilt in enumerate(TILTS):
            gain = (tilt if right else 0.0) - math.log1p(chance * math.expm1(tilt))
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
