"""Detects changes against a reference: detectors whose false alarms are bounded however long they run.

The e-SR procedure (Shin, Ramdas and Rinaldo, "E-detectors", arXiv 2203.03532): a sum over all possible
starts of a change of the evidence that it began there. While nothing has changed its mean grows by one a row, so the
mean number of rows between false alarms is at least the threshold it is held against. Evidence of a batch is its
likelihood under a Dirichlet mixture around what rows lately looked like, against that under the reference; so the rows
of one batch teach about each other, in whatever order they came. There are two such bets, with a short and a long
memory, and the mean of their statistics is a statistic again.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from penstock.core.statistics.distributions import SMOOTHING, Counts
from penstock.core.statistics.special_functions import chi_square_quantile, log_gamma_ratio

PRIOR = 20.0
"""Rows of the reference that are mixed with the recent rows."""

DECAYS = (0.99, 0.999)
"""What is left of a row's part in the recent picture after one more row, of two bets: what rows looked like over some
hundred rows finds a large change soon, and over a thousand, whose own error is smaller, a small one that lasts."""

MIN_ONSET_PROBABILITY = 1e-12
"""Minimum share of rows at which a change may begin."""

DAY_S = 86_400.0

NEGLIGIBLE = 0.004
"""Differences (in nats a row) below this do not matter."""


REFERENCES_OFF = 0.01
"""Tolerated number of references that chance makes worse than allowed, over all of their columns."""

FEW_A_PLACE, MOST_FOR_FEW = 6.0, 0.65
"""What places with few rows of the reference add to the quantile: the part ``FEW_A_PLACE * places / rows`` of it, this
at most (simulated: 2 to 20 places, 100 to 1000 rows)."""


def onset_probability(rows: int, passed_s: float, budget: float, daily: float) -> float:
    """The probability that a change begins at one of ``rows`` rows or labels, for at most ``daily`` false alarms a day.

    Of rows at which changes begin one in ``budget`` is a false alarm at most; so it is all of them, or as many as the
    time allows that has passed since the rows before. ``daily`` 0: there is no such bound.
    """
    if not daily:
        return 1.0
    return max(MIN_ONSET_PROBABILITY, min(1.0, daily * max(0.0, passed_s) / DAY_S * budget / max(1, rows)))


def find_allowance(counts: ArrayLike, columns: int = 1) -> float:
    """Return the allowed nats a row: irrelevant differences, and the sampling error of the reference."""
    return NEGLIGIBLE + sampling_error(counts, columns)


def sampling_error(counts: ArrayLike, columns: int = 1) -> float:
    """Nats a row that a reference of these counts may be off by chance, as one of ``columns`` watched together.

    While rows come from p, a likelihood ratio against the reference r has the mean ``sum p^2 / r`` a row at most (see
    ``seasons``: Renyi's divergence of order 2). Of a reference that is a sample of m rows of p, m times the logarithm
    of that is about chi-square (Pearson), with a degree of freedom for each place in use but one, and one for the
    places that the sample lacks. Its ``1 - REFERENCES_OFF / columns`` quantile is allowed: by Bonferroni's inequality
    all columns together are then within what is allowed, but for one reference in a hundred. Where places have few
    rows the tail is heavier, for the observed counts stand in the denominators.
    """
    totals = np.asarray(counts, float)
    rows, used = max(1.0, float(totals.sum())), max(1, int((totals > 0).sum()))
    z = NormalDist().inv_cdf(1 - REFERENCES_OFF / max(1, columns))
    return (1 + min(MOST_FOR_FEW, FEW_A_PLACE * used / rows)) * chi_square_quantile(used, z) / rows


class ChangeDetector:
    """Detectors of several features that are watched together.

    ``references`` are each feature's probabilities, ``allowances`` each one's nats a row that are not evidence.
    """

    def __init__(self, references: Sequence[Counts], allowances: Sequence[float]) -> None:
        self.expect(references, allowances)
        self.restart()

    def expect(self, references: Sequence[Counts], allowances: Sequence[float]) -> None:
        """Use these references from now on, with the same numbers of features and places."""
        width = max((len(reference) for reference in references), default=1)
        self._used = np.array([len(reference) for reference in references], np.intp)[:, None] > np.arange(width)
        self._shares = np.ones((len(references), width))
        for row, reference in zip(self._shares, references, strict=True):
            row[: len(reference)] = reference
        self._logs = np.log(self._shares)
        self._allowances = np.asarray(allowances, float)
        self._prior = PRIOR * self._shares * self._used

    def __len__(self) -> int:
        return len(self._shares)

    def restart(self) -> None:
        """Discard all evidence."""
        bets = (len(DECAYS), len(self._shares))
        self._log_m = np.full(bets, -math.inf)
        self._recent = np.zeros((len(DECAYS), *self._shares.shape))
        self._since, self._risen = np.zeros(bets), np.zeros(bets)

    @property
    def log_m(self) -> Counts:
        """Return the logarithms of the e-SR statistics [features], each the mean of its bets'."""
        return np.asarray(np.logaddexp.reduce(self._log_m, axis=0) - math.log(len(DECAYS)), float)

    @property
    def recent(self) -> Counts:
        """Return the recent distribution of rows [features, places], by the short memory."""
        return np.asarray(self._recent[0], float)

    @property
    def since(self) -> Counts:
        """The time (the caller's) since when evidence has been gathering [features]: the last at which the running sum
        (CUSUM) of the bet with the most evidence was not above nothing."""
        best = self._log_m.argmax(axis=0)
        return np.asarray(self._since[best, np.arange(len(best))], float)

    def batch(self, counts: Sequence[ArrayLike]) -> Counts:
        """Return each feature's counts as the matrix for ``watch``."""
        matrix = np.zeros(self._shares.shape)
        for row, count in zip(matrix, counts, strict=True):
            filled = np.asarray(count, float)
            row[: len(filled)] = filled
        return matrix

    def watch(self, batch: Counts, inflation: float, now: float, onset_probability: float = 1.0) -> None:
        """Take one more batch of counts [features, places].

        ``inflation`` >= 1 is the variance inflation by autocorrelation: so many rows are worth one. The likelihood
        ratio is raised to the power of one over it. ``onset_probability`` is the share of the rows at which a change
        may begin: the mean of a statistic grows by so much a row while nothing changes, so the expected number of
        alarms at a threshold is the sum of rows times their ``onset_probability`` over the threshold at most.
        """
        rows = batch.sum(axis=1)
        observed = rows > 0
        if not observed.any():
            return
        log_begun = np.log(np.maximum(rows, 1.0)) + math.log(onset_probability)
        worth, weight = batch / inflation, rows / inflation
        for bet, decay in enumerate(DECAYS):
            gain = self._gain(self._recent[bet], worth, weight)
            self._log_m[bet] = np.where(observed, np.logaddexp(self._log_m[bet], log_begun) + gain, self._log_m[bet])
            fresh = observed & (self._risen[bet] <= 0)
            self._since[bet] = np.where(fresh, now, self._since[bet])
            self._risen[bet] = np.where(observed, np.maximum(self._risen[bet] + gain, 0.0), self._risen[bet])
            discount = decay**weight
            share = (1 - discount) / ((1 - decay) * np.maximum(weight, 1e-9))
            self._recent[bet] = self._recent[bet] * discount[:, None] + worth * share[:, None]

    def _gain(self, recent: Counts, worth: Counts, weight: Counts) -> Counts:
        """Return the log likelihood ratios [features] of a batch with this many effective rows, less the allowance."""
        expected = self._prior + recent
        cells = np.where(self._used, log_gamma_ratio(np.where(self._used, expected, 1.0), worth), 0.0)
        likelihood = cells.sum(axis=1) - log_gamma_ratio(expected.sum(axis=1), weight)  # of the rows, one by one
        return np.asarray(likelihood - (worth * self._logs).sum(axis=1) - self._allowances * weight, float)

    def find_alarm(self, budget: float) -> list[int]:
        """Return the features that an alarm is about, none while there is none.

        The mean of the statistics is held against the budget (rows between false alarms of all features together),
        which is valid however they depend on each other.
        """
        log_m = self.log_m
        top = float(log_m.max(initial=-math.inf))
        if not math.isfinite(top):
            return []
        mean = top + math.log(float(np.exp(log_m - top).sum()) / len(self))
        if mean < math.log(budget):
            return []
        return [index for index, item in enumerate(log_m.tolist()) if item >= math.log(budget)]

    def distances(self, windows: Counts) -> tuple[list[float], list[float]]:
        """Return PSI and Jensen-Shannon distance of each feature's window [features, places], as ``scores``."""
        rows = windows.sum(axis=1)
        smooth = np.where(self._used, windows + SMOOTHING, 1.0)
        p = np.where(self._used, smooth / (rows + SMOOTHING * self._used.sum(axis=1))[:, None], 1.0)
        r = self._shares
        psi = ((p - r) * np.log(p / r)).sum(axis=1)
        middle = (p + r) / 2
        js = (p * np.log(p / middle) + r * np.log(r / middle)).sum(axis=1) / 2
        has_rows = rows > 0
        return np.where(has_rows, psi, 0.0).tolist(), np.where(has_rows, np.sqrt(np.maximum(js, 0.0)), 0.0).tolist()

    def export_state(self) -> dict[str, list[Any]]:
        """Return the evidence as JSON values."""
        finite = np.where(np.isfinite(self._log_m), self._log_m, -1e9)
        return {
            "log_m": finite.tolist(),
            "recent": self._recent.tolist(),
            "since": self._since.tolist(),
            "risen": self._risen.tolist(),
        }

    def restore_state(self, saved: Mapping[str, Any]) -> None:
        """Restore the evidence of ``saved``, if it has the same numbers of features, places and bets."""
        log_m, recent = np.asarray(saved["log_m"], float), np.asarray(saved["recent"], float)
        if log_m.shape == self._log_m.shape and recent.shape == self._recent.shape:
            self._log_m = np.where(log_m <= -1e8, -math.inf, log_m)
            self._recent, self._since = recent, np.asarray(saved["since"], float)
            self._risen = np.asarray(saved["risen"], float)
