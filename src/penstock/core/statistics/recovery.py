"""Whether a change is over: sequential evidence that rows look like the reference again.

The test of the detector in the other direction. The null hypothesis is composite, "the distribution is still at least
``margin`` away from the reference": in squared Hellinger distance ``margin / 4`` (about ``margin`` nats of
Kullback-Leibler divergence), or by some rare place alone, whose share is ``margin`` nats above the reference's. Each of
the two has an e-process, and the evidence is the smaller one, which is an e-process for both.

The distance of n rows from the reference is measured by ``S = 4 n sum (sqrt p - sqrt r)^2``. Square roots of shares are
about normal, with the same variance ``1 / 4n`` in every direction (Anscombe 1948), so S is about chi-square with one
degree of freedom for each place but one, and noncentral by ``8 n`` times the squared Hellinger distance. The evidence
is the ratio of two densities of S: where the reference is off by no more than its own sampling error (a chi-square
variable times ``1 + n / m``), and at the margin. It is a likelihood ratio of maximal invariants, as that of sequential
t-tests (Perez-Ortiz, Lardy, de Heide and Grunwald, "E-statistics, group invariance and anytime-valid testing", Annals
of Statistics 2024), hence a martingale at the margin whatever the direction of the change. Beyond the margin S is
larger on every path (the modulus of a Brownian motion grows with its drift), so that the ratio is smaller. Unlike a
likelihood maximized over all distributions beyond the margin it does not pay for every direction, which would take
three times the rows at 20 places.

Shares of rare places (missing, out of range) are not normal, and a Hellinger distance is nearly blind to them. Their
test is exact: the likelihood under a beta mixture around the reference, over the greatest one at or above the ceiling
(universal inference: Wasserman, Ramdas and Balakrishnan, PNAS 2020).

Where rows come from several distributions, as by the hour, the reference is the average of what was usual of the same
rows, and the question is whether their average is within the margin of it.

It is not known when a change ends, so evidence starts again every ``SHORTEST`` rows, and that of ``MOST_STARTS`` starts
is kept, whose ages grow about geometrically. Each beginning adds one to the expected sum of all, as in the detector's
e-SR procedure (Shin, Ramdas and Rinaldo, "E-detectors", arXiv 2203.03532), and those that are dropped add nothing. So a
threshold of ``budget / SHORTEST`` makes a false end of a change as rare as a false alarm: on average at least
``budget`` rows pass before one, while the change lasts.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penstock.core.statistics.distributions import Counts, find_shares
from penstock.core.statistics.special_functions import log_gamma, log_gamma_ratio

SHORTEST = 100.0
"""Rows (as much as they are worth) between two starts of the evidence."""

MOST_STARTS = 8
"""Starts whose evidence is kept at a time."""

HOPELESS = -20.0
"""Evidence that has fallen below this is dropped: of rows like the reference it hardly ever falls so low."""

RARE = 0.02
"""Places with smaller shares in the reference are tested alone."""

FURTHER = 0.008
"""Nats by which the distance within which a change is over exceeds what the detector allows: a shift of 0.2 standard
deviations lasts, and one that the detector hardly finds does not keep a column from recovering."""

LOOK_AGAIN = 0.05
"""By what part the rows of the oldest beginning have to grow before the evidence is computed again."""

_STEPS = 30
"""Halvings by which a ceiling is found."""


class Recovery:
    """Evidence that one column's rows are like what is usual again; ``places`` is how many bins it has.

    ``log_e`` is the logarithm of the greatest evidence of all starts that are kept.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self.restart()

    def restart(self) -> None:
        """Forget all evidence."""
        width = self._places
        self._counts, self._usual = np.zeros((0, width)), np.zeros((0, width))  # [starts, places]
        self._rows, self._margins, self._worth = np.zeros(0), np.zeros(0), np.zeros(0)  # [starts], summed over rows
        self._computed_at = 0.0
        self.log_e = -math.inf

    def watch(self, batch: ArrayLike, usual: ArrayLike, margin: float, inflation: float) -> None:
        """Take one more batch of counts [places].

        ``usual`` are the reference's counts [places] for these rows, ``margin`` the nats a row within which a change is
        over, ``inflation`` >= 1 the variance inflation by autocorrelation: so many rows are worth one.
        """
        counts, reference = np.asarray(batch, float) / inflation, np.asarray(usual, float)
        rows = float(counts.sum())
        if not rows:
            return
        if not len(self._rows) or self._rows[-1] >= SHORTEST:
            self._begin()
        self._counts += counts
        self._usual += rows * find_shares(reference)
        self._rows += rows
        self._margins += rows * margin
        self._worth += rows * max(1.0, float(reference.sum()))
        if self._rows[0] >= self._computed_at * (1 + LOOK_AGAIN):
            self._compute()

    def is_over(self, budget: float) -> bool:
        """Whether the change is over, at one false end in ``budget`` rows."""
        return self.log_e >= math.log(max(1.0, budget / SHORTEST))

    def export_state(self) -> dict[str, Any]:
        """The evidence as JSON values."""
        return {
            "counts": self._counts.tolist(),
            "usual": self._usual.tolist(),
            "sums": [self._margins.tolist(), self._worth.tolist()],
        }

    def restore_state(self, saved: Mapping[str, Any]) -> None:
        """Restore the evidence of ``saved``, if it has the same number of places."""
        counts = np.asarray(saved["counts"], float)
        if counts.ndim == 2 and counts.shape[1] == self._places:
            self._counts, self._usual = counts, np.asarray(saved["usual"], float)
            self._rows = counts.sum(axis=1)
            self._margins, self._worth = np.asarray(saved["sums"], float)
            self._compute()

    def _begin(self) -> None:
        """Begin evidence anew, and drop one beginning where there are too many: the one whose neighbours in age are
        nearest to each other."""
        if len(self._rows) >= MOST_STARTS:
            self._drop(1 + int((self._rows[:-2] / np.maximum(self._rows[2:], 1.0)).argmin()))
        self._counts, self._usual = (np.vstack([item, np.zeros(self._places)]) for item in (self._counts, self._usual))
        self._rows, self._margins, self._worth = (np.append(o, 0.0) for o in (self._rows, self._margins, self._worth))

    def _drop(self, which: int | NDArray[np.intp]) -> None:
        self._counts, self._usual = (np.delete(item, which, axis=0) for item in (self._counts, self._usual))
        self._rows, self._margins, self._worth = (
            np.delete(item, which) for item in (self._rows, self._margins, self._worth)
        )

    def _compute(self) -> None:
        self._computed_at = float(self._rows[0])
        log_e = find_recovery_evidence(self._counts, self._usual, self._margins / self._rows, self._worth / self._rows)
        self.log_e = float(np.where(self._rows >= SHORTEST, log_e, -math.inf).max())
        hopeless = np.flatnonzero((log_e < HOPELESS) & (self._rows >= SHORTEST))
        if len(hopeless):
            self._drop(hopeless)
            self._computed_at = float(self._rows[0]) if len(self._rows) else 0.0


def find_recovery_evidence(counts: Counts, usual: Counts, margins: Counts, worth: Counts) -> Counts:
    """The log e-values [tests] that counts [tests, places] are within ``margins`` (nats) [tests] of what is usual.

    ``usual`` [tests, places] are in the proportion of the reference's shares; ``worth`` [tests] is how many rows the
    reference was made of.
    """
    share = usual / usual.sum(axis=1)[:, None]
    return np.minimum(_distance_log_ratio(counts, share, margins, worth), _rare_log_e(counts, share, margins, worth))


def _distance_log_ratio(counts: Counts, share: Counts, margins: Counts, worth: Counts) -> Counts:
    """The log ratio of the densities of the distance; rare places count as one."""
    rows, rare = counts.sum(axis=1), share < RARE
    pooled = _pool_rare(counts / rows[:, None], rare)
    degrees = np.count_nonzero(_pool_rare(share, rare), axis=1) - 1.0
    distance = 4 * rows * ((np.sqrt(pooled) - np.sqrt(_pool_rare(share, rare))) ** 2).sum(axis=1)
    spread, off = 1 + rows / worth, 2 * rows * margins
    half = np.maximum(degrees, 1.0) / 2
    near = -half * np.log(spread) + distance / 2 * (1 - 1 / spread)
    ratio = near + off / 2 - _log_0f1(half, off * distance / 4)
    return np.where(degrees > 0, ratio, math.inf)


def _pool_rare(share: Counts, rare: NDArray[np.bool_]) -> Counts:
    return np.column_stack([np.where(rare, 0.0, share), np.where(rare, share, 0.0).sum(axis=1)])


def _log_0f1(b: Counts, z: Counts) -> Counts:
    """The logarithms of confluent hypergeometric limit functions, by the terms around the greatest ones."""
    peak = (np.sqrt(b * b + 4 * z) - b) / 2
    wide = 6 * np.sqrt(peak + 1) + 12
    first = np.maximum(0.0, np.trunc(peak - wide))[:, None]
    k, item = first + np.arange(math.ceil(2 * float(wide.max()))), b[:, None]
    terms = k * np.log(np.maximum(z, 1e-300))[:, None] - log_gamma(k + 1) - log_gamma_ratio(item, k)
    return np.asarray(np.logaddexp.reduce(terms, axis=1), float)


def _rare_log_e(counts: Counts, share: Counts, margins: Counts, worth: Counts) -> Counts:
    """The least log e-value of all rare places, each against a share at or above its ceiling."""
    is_rare = (share < RARE).any(axis=0)
    rows, share, own = counts.sum(axis=1)[:, None], share[:, is_rare], counts[:, is_rare]
    prior, others = share * worth[:, None], (1 - share) * worth[:, None]
    near = log_gamma_ratio(prior, own) + log_gamma_ratio(others, rows - own) - log_gamma_ratio(prior + others, rows)
    most = np.maximum(own / rows, _share_ceilings(share, margins))
    far = _times_log(own, most) + _times_log(rows - own, 1 - most)
    return np.asarray(np.where(share < RARE, near - far, math.inf).min(axis=1, initial=math.inf), float)


def _times_log(counts: Counts, share: Counts) -> Counts:
    return counts * np.log(np.where(counts > 0, share, 1.0))


def _share_ceilings(share: Counts, margins: Counts) -> Counts:
    """The share above each ``share`` at which it alone is ``margins`` nats away; about 1 where there is none."""
    low, high = share, np.full(share.shape, 1 - 1e-12)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        apart = middle * np.log(middle / share) + (1 - middle) * np.log((1 - middle) / (1 - share))
        near = apart < margins[:, None]
        low, high = np.where(near, middle, low), np.where(near, high, middle)
    return high


class Recoveries:
    """The same for those of many columns that have changed."""

    def __init__(self) -> None:
        self._open: dict[int, Recovery] = {}

    def find_recovered(
        self,
        changed: Collection[int],
        alarmed: Collection[int],
        batch: Sequence[ArrayLike],
        usual: Sequence[ArrayLike],
        allowances: Sequence[float],
        inflation: float,
        budget: float,
    ) -> set[int]:
        """Take one more batch of each column's counts; which of the ``changed`` columns are over it.

        ``usual`` are each column's counts of the reference now, ``allowances`` the nats a row that its detector allows.
        Evidence begins when a column changes, and anew at each further alarm about it.
        """
        going = [index for index in changed if index not in alarmed]
        self._open = {index: self._open.get(index) or Recovery(len(np.asarray(usual[index]))) for index in going}
        for index, item in self._open.items():
            item.watch(batch[index], usual[index], allowances[index] + FURTHER, inflation)
        return {index for index, item in self._open.items() if item.is_over(budget)}

    def export_state(self) -> dict[str, Any]:
        """The evidence as JSON values."""
        return {str(index): item.export_state() for index, item in self._open.items()}

    def restore_state(self, saved: Mapping[str, Any], widths: Sequence[int]) -> None:
        """Restore the evidence of ``saved``; ``widths`` are the places of each column."""
        for name, evidence_saved in saved.items():
            if int(name) < len(widths):
                self._open[int(name)] = Recovery(widths[int(name)])
                self._open[int(name)].restore_state(evidence_saved)
