"""How errors follow each other, and how far apart labels have to be taken for that to be simple."""

import math

import numpy as np
from numpy.typing import NDArray

BLOCK = 16
"""Labels that are weighed together; however labels come, blocks are the same."""

SPACINGS = (1, 2, 4, 8, 16, 32, 64)
LAGS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

FORGOTTEN = 0.15
"""Correlation below which labels have forgotten each other."""

REMAINS = 0.1
"""Dependence (as inflation of a variance, less one) that may remain at a spacing which is chosen."""

CAUTION = 3.0
"""So many times what is measured of it is taken for it."""

SIGNIFICANT = 3.0
"""Standard errors above which a correlation says how those at greater lags fall."""

MOST = 20.0

Floats = NDArray[np.float64]
Labels = NDArray[np.intp]

_PLACES = LAGS[-1] + np.arange(BLOCK) - np.array(LAGS)[:, None]
_ROWS = 4 * np.arange(len(LAGS))[:, None]


class Dependence:
    """Counts of pairs of labels: ``counts`` [lags, before, now], of right (0) and wrong (1); memory is constant."""

    def __init__(self) -> None:
        self.counts: Floats = np.zeros((len(LAGS), 2, 2))
        self._history: Labels = np.full(LAGS[-1], -1, np.intp)

    def before(self, spacing: int, block: Labels) -> Labels:
        """The labels that lie ``spacing`` before each of the block [BLOCK], -1 where there is none."""
        return np.concatenate([self._history, block])[LAGS[-1] - spacing : LAGS[-1] - spacing + BLOCK]

    def learn(self, block: Labels) -> None:
        """Take a block [BLOCK] into the counts, and remember it."""
        past = np.concatenate([self._history, block])[_PLACES]
        pairs = (_ROWS + 2 * past + block)[past >= 0]
        self.counts += np.bincount(pairs, minlength=self.counts.size).reshape(self.counts.shape)
        self.remember(block)

    def remember(self, block: Labels) -> None:
        """Keep a block as what lies before the next."""
        self._history = np.concatenate([self._history[BLOCK:], block])

    def bursts(self) -> float:
        """Independent runs of errors: runs among labels that are as far apart as it takes to forget each other."""
        rows = float(self.counts[0].sum())
        forgotten = max(FORGOTTEN, 2 / math.sqrt(max(1.0, rows)))
        lags = [index for index, one in enumerate(_correlations(self.counts)) if one < forgotten]
        index = min(lags, default=len(LAGS) - 1)
        return float(self.counts[index, 0, 1]) / LAGS[index]

    def correlation(self, spacing: int) -> float:
        """How much more often an error follows an error, ``spacing`` labels later, than it follows a right answer."""
        (a, b), (c, d) = self.counts[LAGS.index(spacing)].tolist()
        found: float = (d + 0.5) / (c + d + 1) - (b + 0.5) / (a + b + 1)
        return found

    def spacing(self) -> tuple[int, float]:
        """The smallest spacing at which a Markov chain describes the errors well, and the inflation (>= 1) to take for
        what remains."""
        correlations, rows = _correlations(self.counts), float(self.counts[0].sum())
        doubt = 1 / math.sqrt(max(1.0, rows))
        left = [_excess(correlations[index : index + 3], doubt, 2.0) for index in range(len(SPACINGS))]
        index = next((index for index, one in enumerate(left) if one <= REMAINS), len(left) - 1)
        index = min(2 * index, index + 1, len(left) - 1)  # where memory is longer than a chain's, one step to be safe
        forgiven = 0.0 if index else 1.0  # by chance alone, unless memory is known to be longer than a chain's
        excess = _excess(correlations[index : index + 3], doubt, forgiven)
        return SPACINGS[index], min(MOST, 1 + CAUTION * excess + doubt)


def _correlations(counts: Floats) -> list[float]:
    rows = np.maximum(counts.sum(axis=(1, 2)), 1.0)
    before, now = counts[:, 1, :].sum(axis=1) / rows, counts[:, :, 1].sum(axis=1) / rows
    spread = np.sqrt(np.maximum(before * (1 - before) * now * (1 - now), 1e-12))
    found: list[float] = ((counts[:, 1, 1] / rows - before * now) / spread).tolist()
    return found


def _excess(correlations: list[float], doubt: float, errors: float) -> float:
    """The inflation of the variance over a Markov chain's, less one, beyond so many of its standard errors.

    By the correlations at one, two and four times a spacing, of which each is off by ``doubt``: the sum of all supposes
    that they fall geometrically from the second on, if that is more than chance, and a chain's is that of
    ``(1 + r) / (1 - r)``.
    """
    one, two, four = (min(0.98, max(0.0, value)) for value in correlations)
    decay = min(0.97, math.sqrt(four / two)) if two > SIGNIFICANT * doubt else 0.0
    inflation = 1 + 2 * one + 2 * two / (1 - decay)
    return max(0.0, inflation * (1 - one) / (1 + one) - 1 - errors * doubt * math.sqrt(inflation))
