"""Detects changes of a rate of errors, where errors may follow each other.

See ADR 35 for the derivation. In short: labels are taken at a spacing of ``k``, which gives ``k`` interleaved streams
(phases) that are watched beside each other. In each the errors are held to be a Markov chain of two states, so that the
chance ``q`` of an error is predicted from the label ``k`` before; what that leaves of dependence is taken from the
weight of the evidence. A tilt ``t`` bets that the odds of an error are ``e^t`` times what they were: its factor
``e^(t x) / (1 - q + q e^t)`` has the mean 1 while nothing has changed. The sums over all starts of a change of the
products since (e-SR procedure: Shin, Ramdas and Rinaldo, "E-detectors", arXiv 2203.03532) therefore grow by one a label
on average, over all phases together.
"""

import math

import numpy as np

from penstock.core.statistics.error_dependence import BLOCK, SPACINGS, ErrorAutocorrelation, Floats, LabelIndices

MULTIPLES = (-8.0, -4.0, -2.0, -1.0, 1.0, 2.0, 4.0, 8.0)
"""The tilts, in units of the smallest."""

WEIGHTS = np.array((0.09, 0.07, 0.05, 0.05, 0.12, 0.36, 0.16, 0.1))
"""The parts of the evidence that the tilts have, with the sum 1. Any such parts keep its mean, and a bet with the part
``w`` costs ``-ln w`` nats before it is believed: so most has what is to be found soonest, about twice as many errors.
"""

NEGLIGIBLE = 0.0072
"""Nats a label, while labels are independent, that the smallest tilt gains from a change of its own size."""

SMALLEST = 1.0
"""Maximum of the smallest tilt, however rare errors are."""

MARGIN = 0.6
"""Part of the smallest tilt within which errors are what they were: above one half, where that tilt begins to win."""

BURSTS = 16
"""Runs of errors before their dependence is known; until then labels are taken at the widest spacing."""

FAR = 0.3
"""Maximum correlation of labels at the widest spacing, while it has not been measured."""

UNMEASURED = 1.25
"""Assumed inflation of a variance at the widest spacing until then."""

SUSPICIOUS = 4.0
"""Evidence (nats) above which labels do not show how errors follow each other: a change of their rate looks like it."""

GREATEST = 1e100
GROWTH = 1.25
"""Growth of the number of labels after which dependence is measured again."""


class StartSums:
    """The e-SR statistics of some bets in each phase: ``m`` [phases, bets]."""

    def __init__(self, bets: int, spacing: int = 1) -> None:
        self.m: Floats = np.zeros((spacing, bets))

    def respace(self, spacing: int) -> None:
        """Continue with as much evidence in another number of phases."""
        self.m = np.tile(self.total() / spacing, (spacing, 1))

    def take(self, at: int, factors: Floats, onset_probability: float = 1.0) -> None:
        """Take a block's factors [BLOCK, bets], of which the first is label number ``at``; a change may begin at the
        share ``onset_probability`` of the labels."""
        spacing, bets = self.m.shape
        rounds = factors.reshape(-1, min(spacing, BLOCK), bets)
        first = at % spacing
        phases = slice(first, first + rounds.shape[1])
        products = np.cumprod(rounds, axis=0)
        starts = onset_probability * (1 + (1 / products[:-1]).sum(axis=0))
        self.m[phases] = np.minimum(GREATEST, products[-1] * (self.m[phases] + starts))

    def total(self) -> Floats:
        """Return the sum over all phases [bets]."""
        total: Floats = self.m.sum(axis=0)
        return total


class RateWatch:
    """One rate of errors; ``known`` are wrong and right answers from before any label."""

    def __init__(self, known: tuple[float, float]) -> None:
        self._known = known
        self.rows = self.wrong = 0.0
        self._labels = 0
        self._dependence = ErrorAutocorrelation()
        self.spacing, self.inflation = SPACINGS[-1], UNMEASURED
        self._measured, self._measure_at = False, 0.0
        self._sums = StartSums(len(MULTIPLES), self.spacing)
        self._risen: Floats = np.zeros(len(MULTIPLES))
        self._since = np.zeros((len(MULTIPLES), 3))
        self._recovery = StartSums(1, self.spacing)
        self._worse = True

    def usual(self) -> tuple[float, float]:
        """Return the wrong answers and all answers of the usual rate."""
        return self._known[0] + self.wrong, sum(self._known) + self.rows

    @property
    def rate(self) -> float:
        """Return the usual rate by the Krichevsky-Trofimov estimator."""
        wrong, rows = self.usual()
        return (wrong + 0.5) / (rows + 1)

    def bursts(self) -> float:
        """Return the number of independent runs of errors from which their dependence is known."""
        return self._dependence.bursts()

    def smallest(self) -> float:
        """Return the smallest tilt."""
        return min(SMALLEST, math.sqrt(2 * NEGLIGIBLE / (self.rate * (1 - self.rate))))

    def learn(self, block: LabelIndices) -> None:
        """Add a block to the usual rate, without a test."""
        self._dependence.learn(block)
        self._labels += BLOCK
        self.rows += BLOCK
        self.wrong += float(block.sum())

    def measure(self) -> None:
        """Choose the spacing again, if there are enough new labels, and no sign of a change among them."""
        suspicious = float(self._risen.max()) > SUSPICIOUS
        if self.rows < self._measure_at or suspicious or self.bursts() < BURSTS:
            return
        self._measured, self._measure_at = True, self.rows * GROWTH
        spacing, self.inflation = self._dependence.spacing()
        if spacing != self.spacing:
            self.spacing = spacing
            self._sums.respace(spacing)

    def watch(self, block: LabelIndices, onset_probability: float = 1.0) -> None:
        """Test a block, in which a change may begin at the share ``onset_probability``, then add it to the
        usual rate.
        """
        gains = self._gains(block, self.smallest() * np.array(MULTIPLES)) / self.inflation
        self._sums.take(self._labels, np.exp(gains), onset_probability)
        fresh = self._risen <= 0
        self._since[fresh] = (self._labels, self.rows, self.wrong)
        self._risen = np.maximum(self._risen + gains.sum(axis=0) / self.spacing, 0.0)
        self.learn(block)

    def _gains(self, block: LabelIndices, tilts: Floats) -> Floats:
        """Return the logarithms of the factors [BLOCK, tilts]."""
        rate, correlation = self.rate, self._dependence.correlation(self.spacing)
        least = -0.99 * min(rate / (1 - rate), (1 - rate) / rate)
        correlation = max(least, correlation if self._measured else min(FAR, correlation))
        after = [rate * (1 - correlation), rate + correlation * (1 - rate), rate]  # the last: nothing lies before
        probabilities = np.clip(after, 1e-6, 1 - 1e-6)
        before = self._dependence.before(self.spacing, block)
        table = -np.log1p(probabilities[:, None] * np.expm1(tilts))
        gains: Floats = table[before] + block[:, None] * tilts
        return gains

    def evidence(self) -> float:
        """Return the weighted mean of the tilts' statistics."""
        return float(self._sums.total() @ WEIGHTS)

    def top(self) -> tuple[int, bool]:
        """Return the label (the middle of a block) from which the strongest evidence grows, and whether it is for more
        errors.
        """
        top = int(self._risen.argmax())
        return int(self._since[top, 0]) + BLOCK // 2, MULTIPLES[top] > 0

    def begin(self, worse: bool) -> None:
        """Begin a change to more errors, or to fewer; labels since then are not usual."""
        _, self.rows, self.wrong = self._since[int(self._risen.argmax())].tolist()
        self._worse = worse
        self._recovery = StartSums(1, self.spacing)

    def watch_recovery(self, block: LabelIndices) -> None:
        """Test a block for the end of the change."""
        rate = self.rate
        worth = max(1.0, self.usual()[1] / self.inflation)
        standard_error = 1 / math.sqrt(worth * rate * (1 - rate))
        tilt = (MARGIN * self.smallest() + min(standard_error, self.smallest())) * (1 if self._worse else -1)
        gains = -self._gains(block, np.array([tilt])) / self.inflation
        self._recovery.take(self._labels, np.exp(gains))
        self._dependence.remember(block)
        self._labels += BLOCK

    def recovered(self) -> float:
        """Return the evidence that the change is over."""
        return float(self._recovery.total()[0])

    def restart(self) -> None:
        """Discard all evidence, but not the usual rate."""
        self._sums = StartSums(len(MULTIPLES), self.spacing)
        self._risen[:] = 0
