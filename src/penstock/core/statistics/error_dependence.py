"""Measures the dependence of errors, and the spacing of labels at which a Markov chain describes it."""

import math

import numpy as np
from numpy.typing import NDArray

BLOCK = 16
"""Labels that are processed together; blocks do not depend on how labels arrive."""

SPACINGS = (1, 2, 4, 8, 16, 32, 64)
LAGS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

FORGOTTEN = 0.15
"""Correlation below which labels count as independent."""

REMAINS = 0.1
"""Dependence (inflation of a variance, less one) that may remain at the chosen spacing."""

SAFETY_FACTOR = 3.0
"""Factor of the measured excess."""

SIGNIFICANT = 3.0
"""Standard errors above which a correlation determines the decay at greater lags."""

MOST = 20.0

MOST_OF_NEIGHBOURS = 0.9
"""Maximum assumed correlation of neighbours while labels are few."""

MOST_OF_BETS = 10_000.0
_HALVINGS = 16

Floats = NDArray[np.float64]
LabelIndices = NDArray[np.intp]

_PLACES = LAGS[-1] + np.arange(BLOCK) - np.array(LAGS)[:, None]
_ROWS = 4 * np.arange(len(LAGS))[:, None]


class ErrorAutocorrelation:
    """Counts of pairs of labels: ``counts`` [lags, before, now], of right (0) and wrong (1); memory is constant."""

    def __init__(self) -> None:
        self.counts: Floats = np.zeros((len(LAGS), 2, 2))
        self._history: LabelIndices = np.full(LAGS[-1], -1, np.intp)

    def before(self, spacing: int, block: LabelIndices) -> LabelIndices:
        """Return the labels ``spacing`` before each of the block [BLOCK], -1 if there is none."""
        return np.concatenate([self._history, block])[LAGS[-1] - spacing : LAGS[-1] - spacing + BLOCK]

    def learn(self, block: LabelIndices) -> None:
        """Count a block [BLOCK], and remember it."""
        past = np.concatenate([self._history, block])[_PLACES]
        pairs = (_ROWS + 2 * past + block)[past >= 0]
        self.counts += np.bincount(pairs, minlength=self.counts.size).reshape(self.counts.shape)
        self.remember(block)

    def remember(self, block: LabelIndices) -> None:
        """Remember a block for the next one."""
        self._history = np.concatenate([self._history[BLOCK:], block])

    @property
    def rate(self) -> float:
        """Return the share of errors by the Krichevsky-Trofimov estimator."""
        pairs = self.counts[0]
        rate: float = (float(pairs[:, 1].sum()) + 0.5) / (float(pairs.sum()) + 1)
        return rate

    def bursts(self) -> float:
        """Return the number of independent runs of errors: runs among labels that are far enough apart."""
        rows = float(self.counts[0].sum())
        forgotten = max(FORGOTTEN, 2 / math.sqrt(max(1.0, rows)))
        lags = [index for index, correlation in enumerate(_find_correlations(self.counts)) if correlation < forgotten]
        index = min(lags, default=len(LAGS) - 1)
        return float(self.counts[index, 0, 1]) / LAGS[index]

    def correlation(self, spacing: int) -> float:
        """Return how much more often an error follows an error, ``spacing`` labels later, than it follows a right
        answer.
        """
        (a, b), (c, d) = self.counts[LAGS.index(spacing)].tolist()
        correlation: float = (d + 0.5) / (c + d + 1) - (b + 0.5) / (a + b + 1)
        return correlation

    def spacing(self) -> tuple[int, float]:
        """Return the smallest spacing at which a Markov chain describes the errors well, and the inflation (>= 1) for
        the rest.
        """
        correlations, rows = _find_correlations(self.counts), float(self.counts[0].sum())
        standard_error = 1 / math.sqrt(max(1.0, rows))
        left = [
            _excess_inflation(correlations[index : index + 3], standard_error, 2.0) for index in range(len(SPACINGS))
        ]
        index = next((index for index, item in enumerate(left) if item <= REMAINS), len(left) - 1)
        index = min(2 * index, index + 1, len(left) - 1)  # where memory is longer than a chain's, one step to be safe
        tolerated = 0.0 if index else 1.0  # by chance alone, unless memory is known to be longer than a chain's
        excess = _excess_inflation(correlations[index : index + 3], standard_error, tolerated)
        return SPACINGS[index], min(MOST, 1 + SAFETY_FACTOR * excess + standard_error)

    def inflation(self) -> float:
        """The variance of a sum of many labels over that of independent ones, with what is not known yet.

        It is one and twice the sum of the correlations at all lags, up to the first that may be chance (Geyer,
        "Practical Markov chain Monte Carlo", 1992, ends the sum likewise); between two lags it is taken along a
        straight line, which lies above a geometric fall. A standard error is added to the first correlation.
        """
        correlations, rows = _find_correlations(self.counts), float(self.counts[0].sum())
        standard_error = 1 / math.sqrt(max(1.0, rows))
        heights = [max(0.0, correlation) for correlation in correlations]
        total = min(MOST_OF_NEIGHBOURS, heights[0] + standard_error)
        for index in range(len(LAGS) - 1):
            if correlations[index] <= SIGNIFICANT * standard_error:
                break
            apart = LAGS[index + 1] - LAGS[index]
            total += ((apart - 1) * heights[index] + (apart + 1) * heights[index + 1]) / 2
        return 1 + 2 * total


def inflations_of_bets(rate: float, inflation: float, tilts: Floats) -> Floats:
    """By what the logarithms of bets [tilts] on the odds of an error have to be divided where errors follow each other.

    The variance alone is not enough: what a long run of errors wins grows exponentially with its length. Errors are
    taken for the Markov chain of this ``rate`` whose sums have the variance ``inflation``. The mean of a product of
    factors ``e^(s x)`` along it grows by the greatest eigenvalue ``g(s)`` of the chain's matrix, in which ways to an
    error are multiplied by ``e^s`` (Dembo and Zeitouni, "Large deviations techniques", theorem 3.1.2). Divided by the
    smallest ``f >= 1`` with ``f ln g(t / f) <= ln(1 - rate + rate e^t)``, a bet with the tilt t no longer grows on
    average; ``f ln g(t / f)`` falls as f rises, for ``ln g`` is convex.
    """
    correlation = (inflation - 1) / (inflation + 1)
    again, anew = rate + correlation * (1 - rate), rate * (1 - correlation)
    low, high = np.zeros(len(tilts)), np.full(len(tilts), math.log(MOST_OF_BETS))
    stated = np.log1p(rate * np.expm1(tilts))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        factors = np.exp(tilts / np.exp(middle))
        trace = 1 - anew + again * factors
        growth = np.log((trace + np.sqrt(trace**2 - 4 * correlation * factors)) / 2)
        fair = np.exp(middle) * growth <= stated
        low, high = np.where(fair, low, middle), np.where(fair, middle, high)
    return np.asarray(np.exp(high), float)


def _find_correlations(counts: Floats) -> list[float]:
    rows = np.maximum(counts.sum(axis=(1, 2)), 1.0)
    before, now = counts[:, 1, :].sum(axis=1) / rows, counts[:, :, 1].sum(axis=1) / rows
    spread = np.sqrt(np.maximum(before * (1 - before) * now * (1 - now), 1e-12))
    correlations: list[float] = ((counts[:, 1, 1] / rows - before * now) / spread).tolist()
    return correlations


def _excess_inflation(correlations: list[float], standard_error: float, errors: float) -> float:
    """The inflation of the variance over a Markov chain's, less one, beyond so many of its standard errors.

    By the correlations at one, two and four times a spacing, of which each is off by ``standard_error``: the sum of all
    supposes that they fall geometrically from the second on, if that is more than chance, and a chain's is that of
    ``(1 + r) / (1 - r)``.
    """
    item, two, four = (min(0.98, max(0.0, value)) for value in correlations)
    decay = min(0.97, math.sqrt(four / two)) if two > SIGNIFICANT * standard_error else 0.0
    inflation = 1 + 2 * item + 2 * two / (1 - decay)
    return max(0.0, inflation * (1 - item) / (1 + item) - 1 - errors * standard_error * math.sqrt(inflation))
