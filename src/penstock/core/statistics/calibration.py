"""Whether answers are as often right as their probabilities say, and whether they are so again."""

import math
from collections.abc import Sequence

import numpy as np

TILTS = (-4.0, -2.0, -1.0, 1.0, 2.0)
"""Changes of the log-odds of being right that the gap's evidence bets on."""

MARGIN = 0.5
"""Change of the log-odds of being right within which a gap is over: half of the smallest bet, where that bet begins to
win."""


class Gap:
    """Evidence that answers are not as often right as their probabilities say.

    A tilt ``t`` bets that the odds of being right are ``e^t`` times what they should be. Its factor for one answer is
    the likelihood ratio ``e^(t right) / (1 - q + q e^t)``. The denominator is the exact moment generating function of a
    Bernoulli variable, so under calibration the mean factor is 1 for every chance ``q`` in [0, 1], however small the
    variance ``q (1 - q)``; no chance has to be clipped. The e-SR statistic of each tilt (Shin, Ramdas and Rinaldo,
    "E-detectors", arXiv 2203.03532) then grows by one an answer on average while nothing is wrong, and so does the mean
    over the tilts: between two false alarms at a threshold lie at least that many answers on average. Where a change
    may begin at a share of the answers only (``beginnings``, above 0), it grows by that share.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget all evidence."""
        self._logs = [-math.inf] * len(TILTS)

    def see(self, chance: float, right: bool, beginnings: float = 1.0) -> None:
        """One answer with its calibrated chance to be right, in [0, 1], and whether it was."""
        for index, tilt in enumerate(TILTS):
            self._logs[index] = _one_more(self._logs[index], beginnings) + _log_factor(tilt, chance, right)

    @property
    def log_e(self) -> float:
        """The logarithm of the mean statistic."""
        top = max(self._logs)
        if not math.isfinite(top):
            return -math.inf
        return top + math.log(sum(math.exp(one - top) for one in self._logs) / len(self._logs))

    @property
    def worse(self) -> bool:
        """Whether most evidence says that answers are less often right than they should be."""
        return TILTS[self._logs.index(max(self._logs))] < 0


class GapRecovery:
    """Evidence that a gap is over: the same procedure in the other direction.

    The null hypothesis is that the log-odds of being right are still off by ``MARGIN`` or more to the side of the gap
    (``worse``: downward). The likelihood ratio of the stated chance against that at the margin has a mean of at most 1
    under all of it (monotone likelihood ratio), so while the gap lasts at least ``e^log_e`` answers lie on average
    before an end that is none.
    """

    def __init__(self, worse: bool) -> None:
        self._tilt = -MARGIN if worse else MARGIN
        self.log_e = -math.inf

    def see(self, chance: float, right: bool) -> None:
        """One answer with its calibrated chance to be right, in [0, 1], and whether it was."""
        self.log_e = _one_more(self.log_e) - _log_factor(self._tilt, chance, right)


def _one_more(log_m: float, begun: float = 1.0) -> float:
    """The logarithm of a sum to which one start of a change, or a part of one, is added."""
    return math.log(begun + math.exp(log_m)) if log_m < 30 else log_m


def _log_factor(tilt: float, chance: float, right: bool) -> float:
    return (tilt if right else 0.0) - math.log1p(chance * math.expm1(tilt))


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
