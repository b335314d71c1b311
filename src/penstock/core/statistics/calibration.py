"""Detects that answers are right less or more often than their probabilities say, and the end of such a gap."""

import math
from collections.abc import Sequence

import numpy as np

from penstock.core.statistics.column_state import ColumnPhase
from penstock.core.statistics.error_dependence import BLOCK, ErrorAutocorrelation, inflations_of_bets
from penstock.core.statistics.error_rates import BURSTS

LEAST = 100
"""Minimum answers before the end of a gap."""

TILTS = (-4.0, -2.0, -1.0, 1.0, 2.0)
"""Changes of the log-odds of being right that the gap's evidence bets on."""

MARGIN = 0.5
"""Change of the log-odds of being right within which a gap is over: half of the smallest bet, where that bet begins to
win."""

BETS = (*TILTS, -MARGIN, MARGIN)
"""All bets, on a gap and on its end."""

SAFETY_FACTOR = 1.5
"""Factor of the measured inflation above one."""

UNKNOWN = 19.0
"""Inflation that is supposed at least while fewer than ``BURSTS`` runs of errors are known: that of a Markov chain
whose neighbours correlate by 0.9."""

GROWTH = 1.1
"""Growth of the number of answers after which their dependence is measured again."""


class Gap:
    """Evidence that answers are not as often right as their probabilities say.

    A tilt ``t`` bets that the odds of being right are ``e^t`` times what they should be. Its factor for one answer is
    the likelihood ratio ``e^(t right) / (1 - q + q e^t)``. The denominator is the exact moment generating function of a
    Bernoulli variable, so under calibration the mean factor is 1 for every probability ``q`` in [0, 1], however small
    the variance ``q (1 - q)``; no probability has to be clipped. The e-SR statistic of each tilt (Shin, Ramdas and
    Rinaldo, "E-detectors", arXiv 2203.03532) then grows by one an answer on average while nothing is wrong, and so does
    the mean over the tilts: between two false alarms at a threshold lie at least that many answers on average. Where a
    change may begin at a share of the answers only (``onset_probability``, above 0), it grows by that share.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Discard all evidence."""
        self._logs = [-math.inf] * len(TILTS)

    def add(
        self,
        probability: float,
        right: bool,
        onset_probability: float = 1.0,
        inflations: Sequence[float] = (1.0,) * len(TILTS),
    ) -> None:
        """One answer with its calibrated probability to be right, in [0, 1], and whether it was; ``inflations`` >= 1
        divide the gain of each tilt, because answers follow each other."""
        for index, (tilt, inflation) in enumerate(zip(TILTS, inflations, strict=True)):
            gain = _log_factor(tilt, probability, right) / inflation
            self._logs[index] = _add_onset(self._logs[index], onset_probability) + gain

    @property
    def log_e(self) -> float:
        """Return the logarithm of the mean statistic."""
        top = max(self._logs)
        if not math.isfinite(top):
            return -math.inf
        return top + math.log(sum(math.exp(log - top) for log in self._logs) / len(self._logs))

    @property
    def is_worse(self) -> bool:
        """Whether most evidence says that answers are right less often than they should be."""
        return TILTS[self._logs.index(max(self._logs))] < 0


class GapRecovery:
    """Evidence that a gap is over: the same procedure in the other direction.

    The null hypothesis is that the log-odds of being right are still off by ``MARGIN`` or more to the side of the gap
    (``is_worse``: downward). The likelihood ratio of the stated probability against that at the margin has a mean of at
    most 1 under all of it (monotone likelihood ratio), so while the gap lasts at least ``e^log_e`` answers lie on
    average before an end that is none.
    """

    def __init__(self, worse: bool) -> None:
        self._tilt = -MARGIN if worse else MARGIN
        self.log_e = -math.inf

    def add(self, probability: float, right: bool, inflation: float = 1.0) -> None:
        """One answer with its calibrated probability to be right, in [0, 1], and whether it was; ``inflation`` as of
        ``Gap``."""
        self.log_e = _add_onset(self.log_e) - _log_factor(self._tilt, probability, right) / inflation


class GapWatch:
    """One version's gap, in the order in which labels came: it begins by evidence, and is over by as much; one thread.

    While answers are as often right as their probabilities say, gaps begin at most once in ``budget`` labels on
    average. Where answers are right and wrong in runs, the logarithm of each factor is divided by so much that its bet
    does not win from runs alone (``inflations_of_bets``), at the end of a gap as at its beginning. A factor to a power
    below 1 has a mean of at most 1 (Jensen), so for independent answers the bound stays, whatever it is divided by.
    """

    def __init__(self, budget: float) -> None:
        self._threshold = math.log(budget)
        self._gap = Gap()
        self._recovery: GapRecovery | None = None
        self._dependence = ErrorAutocorrelation()
        self._block: list[int] = []
        self._answers = 0
        self._measure_at = 0.0
        self._inflations = self._gain_divisors()
        self.state = ColumnPhase.INSUFFICIENT_DATA

    @property
    def log_e(self) -> float:
        """Return the logarithm of the evidence for a gap, as it was when one began."""
        return self._gap.log_e

    def add(self, probability: float, right: bool, onset_probability: float = 1.0) -> bool | None:
        """One answer with its calibrated probability to be right, in [0, 1], and whether it was, at the share
        ``onset_probability`` of which a gap may begin: True where one begins by it, False where one is over."""
        self._answers += 1
        began = self._recovery is not None
        if self._recovery is None:
            self._watch(probability, right, onset_probability)
        else:
            self._recover(self._recovery, probability, right)
        self._learn(right)
        begins = self._recovery is not None
        return begins if begins != began else None

    def _watch(self, probability: float, right: bool, onset_probability: float) -> None:
        self._gap.add(probability, right, onset_probability, self._inflations[:-2])
        if self._gap.log_e >= self._threshold:
            self.state, self._recovery = ColumnPhase.DRIFT, GapRecovery(self._gap.is_worse)
        elif self._answers >= LEAST:
            self.state = ColumnPhase.OK

    def _recover(self, recovery: GapRecovery, probability: float, right: bool) -> None:
        recovery.add(probability, right, max(self._inflations[-2:]))
        if recovery.log_e >= self._threshold:
            self._gap.restart()
            self.state, self._recovery = ColumnPhase.OK, None

    def _learn(self, right: bool) -> None:
        """Learn how wrong answers follow each other; if that is known, not during a gap."""
        self._block.append(int(not right))
        if len(self._block) < BLOCK:
            return
        block = np.array(self._block, np.intp)
        self._block = []
        if self._recovery is not None and self._dependence.bursts() >= BURSTS:
            self._dependence.remember(block)
            return
        self._dependence.learn(block)
        if self._answers >= self._measure_at:
            self._measure_at = self._answers * GROWTH
            self._inflations = self._gain_divisors()

    def _gain_divisors(self) -> list[float]:
        """Return the divisors of the gains of ``BETS``, by the known dependence of errors."""
        inflation = 1 + SAFETY_FACTOR * (self._dependence.inflation() - 1)
        if self._dependence.bursts() < BURSTS:
            inflation = max(inflation, UNKNOWN)
        divisors: list[float] = inflations_of_bets(self._dependence.rate, inflation, -np.array(BETS)).tolist()
        return divisors


def _add_onset(log_m: float, begun: float = 1.0) -> float:
    """Return the logarithm of a sum plus one start of a change, or a part of one."""
    return math.log(begun + math.exp(log_m)) if log_m < 30 else log_m


def _log_factor(tilt: float, probability: float, right: bool) -> float:
    return (tilt if right else 0.0) - math.log1p(probability * math.expm1(tilt))


def calibration_error(probabilities: Sequence[float], right: Sequence[bool], bins: int = 10) -> float | None:
    """The expected calibration error (Naeini, Cooper and Hauskrecht 2015): the mean distance, over bins of equal width,
    between how sure answers were and how many were right."""
    if not probabilities:
        return None
    sure, true = np.asarray(probabilities, float), np.asarray(right, float)
    places = np.minimum((sure * bins).astype(np.intp), bins - 1)
    rows = np.bincount(places, minlength=bins)
    gaps = np.abs(np.bincount(places, true, bins) - np.bincount(places, sure, bins))
    return float(gaps[rows > 0].sum() / len(sure))
