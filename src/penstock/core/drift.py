"""Whether what comes in still looks like the reference: a detector that may be watched for ever, and effect sizes.

The detector is the e-SR procedure (Shin, Ramdas and Rinaldo, "E-detectors", arXiv 2203.03532): a sum over all possible
starts of a change of the evidence that it began there. While nothing has changed its mean grows by one a row, so the
mean number of rows between false alarms is at least the threshold it is held against. Evidence of a batch is its
likelihood under a Dirichlet mixture around what rows lately looked like, against that under the reference; so the rows
of one batch teach about each other, in whatever order they came.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.float64]

PRIOR = 20.0
"""Rows of the reference that stand beside the rows seen lately."""

DECAY = 0.99
"""What is left of a row's part in the recent picture after one more row."""

FLOOR = 0.004
"""Differences of less than this (in nats a row) are none that matter."""

NEGLIGIBLE_PSI = 0.02
"""A PSI that would not matter if it were known exactly."""

SMOOTHING = 0.5
"""Rows that every place of the reference is given, so that nothing is impossible."""

LEAST_ROWS = 100
"""Before so many rows nothing is said."""

CALM_LOOKS = 3
"""Windows in a row that have to look like the reference before a drift is over."""


class State(StrEnum):
    """What is known of one feature."""

    OK = "ok"
    DRIFT = "drift"
    INSUFFICIENT_DATA = "insufficient_data"


def shares(counts: ArrayLike) -> Counts:
    """The reference's probabilities, none of them zero."""
    found = np.asarray(counts, float) + SMOOTHING
    return np.asarray(found / found.sum(), float)


def allowance(counts: ArrayLike) -> float:
    """Nats a row that are forgiven: what does not matter, and what the reference itself is off by chance."""
    found = np.asarray(counts, float)
    rows, used = max(1.0, float(found.sum())), int((found > 0).sum())
    return FLOOR + 2.0 * max(0, used - 1) / rows


class Panel:
    """Detectors of several features that are watched together.

    ``references`` are each feature's probabilities, ``forgiven`` each one's nats a row that are no evidence. ``log_m``
    [features] are the logarithms of the e-SR statistics, ``recent`` [features, places] what rows lately looked like,
    ``since`` [features] the time (the caller's) since when evidence has been gathering: the last at which its running
    sum (CUSUM) was not above nothing.
    """

    def __init__(self, references: Sequence[Counts], forgiven: Sequence[float]) -> None:
        width = max((len(one) for one in references), default=1)
        self._used = np.array([len(one) for one in references], np.intp)[:, None] > np.arange(width)
        self._shares = np.ones((len(references), width))
        for row, one in zip(self._shares, references, strict=True):
            row[: len(one)] = one
        self._logs = np.log(self._shares)
        self._forgiven = np.asarray(forgiven, float)
        self._prior = PRIOR * self._shares * self._used
        self.restart()

    def __len__(self) -> int:
        return len(self._shares)

    def restart(self) -> None:
        """Forget all evidence."""
        self.log_m = np.full(len(self._shares), -math.inf)
        self.recent = np.zeros(self._shares.shape)
        self.since = np.zeros(len(self._shares))
        self._risen = np.zeros(len(self._shares))

    def batch(self, counts: Sequence[ArrayLike]) -> Counts:
        """Each feature's counts as the matrix that ``watch`` takes."""
        found = np.zeros(self._shares.shape)
        for row, one in zip(found, counts, strict=True):
            filled = np.asarray(one, float)
            row[: len(filled)] = filled
        return found

    def watch(self, batch: Counts, thinning: float, now: float) -> None:
        """Take one more batch of counts [features, places].

        ``thinning`` >= 1 says how many rows are worth one: rows that follow each other are alike where the data is a
        time series.
        """
        rows = batch.sum(axis=1)
        seen = rows > 0
        if not seen.any():
            return
        expected = self._prior + self.recent
        worth, weight = batch / thinning, rows / thinning
        cells = np.where(self._used, log_gamma_ratio(np.where(self._used, expected, 1.0), worth), 0.0)
        likelihood = cells.sum(axis=1) - log_gamma_ratio(expected.sum(axis=1), weight)  # of the rows, one by one
        gain = likelihood - (worth * self._logs).sum(axis=1) - self._forgiven * weight
        log_rows = np.log(np.maximum(rows, 1.0))
        log_m = np.logaddexp(self.log_m, log_rows) + gain
        fresh = seen & (self._risen <= 0)
        self._risen = np.where(seen, np.maximum(self._risen + gain, 0.0), self._risen)
        kept = DECAY**weight
        share = (1 - kept) / ((1 - DECAY) * np.maximum(weight, 1e-9))
        self.recent = self.recent * kept[:, None] + worth * share[:, None]
        self.log_m = np.where(seen, log_m, self.log_m)
        self.since = np.where(fresh, now, self.since)

    def alarm(self, budget: float) -> list[int]:
        """Which features an alarm is about, none while there is none.

        The mean of the statistics is held against the budget (rows between false alarms of all features together),
        which is valid however they depend on each other.
        """
        top = float(self.log_m.max(initial=-math.inf))
        if not math.isfinite(top):
            return []
        mean = top + math.log(float(np.exp(self.log_m - top).sum()) / len(self))
        if mean < math.log(budget):
            return []
        return [index for index, one in enumerate(self.log_m.tolist()) if one >= math.log(budget)]

    def distances(self, windows: Counts) -> tuple[list[float], list[float]]:
        """PSI and Jensen-Shannon distance of each feature's window [features, places], as ``scores`` has them."""
        rows = windows.sum(axis=1)
        smooth = np.where(self._used, windows + SMOOTHING, 1.0)
        p = np.where(self._used, smooth / (rows + SMOOTHING * self._used.sum(axis=1))[:, None], 1.0)
        r = self._shares
        psi = ((p - r) * np.log(p / r)).sum(axis=1)
        middle = (p + r) / 2
        js = (p * np.log(p / middle) + r * np.log(r / middle)).sum(axis=1) / 2
        some = rows > 0
        return np.where(some, psi, 0.0).tolist(), np.where(some, np.sqrt(np.maximum(js, 0.0)), 0.0).tolist()

    def kept(self) -> dict[str, list[Any]]:
        """The evidence as JSON values."""
        finite = np.where(np.isfinite(self.log_m), self.log_m, -1e9)
        return {
            "log_m": finite.tolist(),
            "recent": self.recent.tolist(),
            "since": self.since.tolist(),
            "risen": self._risen.tolist(),
        }

    def take_up(self, kept: Mapping[str, Any]) -> None:
        """Go on with the evidence of ``kept``, if it is of as many features and places."""
        log_m, recent = np.asarray(kept["log_m"], float), np.asarray(kept["recent"], float)
        if log_m.shape == self.log_m.shape and recent.shape == self.recent.shape:
            self.log_m = np.where(log_m <= -1e8, -math.inf, log_m)
            self.recent, self.since = recent, np.asarray(kept["since"], float)
            self._risen = np.asarray(kept["risen"], float)


_STIRLING = (1 / 12, -1 / 360, 1 / 1260)
_RAISED = 8


def log_gamma_ratio(base: Counts, more: Counts) -> Counts:
    """``ln Gamma(base + more) - ln Gamma(base)``, element by element, for ``base`` > 0: Stirling's series at arguments
    that the recurrence has raised by eight; good to 1e-9."""
    return np.asarray(_log_gamma(base + more) - _log_gamma(base), float)


def _log_gamma(x: Counts) -> Counts:
    low = x.copy()
    for step in range(1, _RAISED):
        low = low * (x + step)
    raised = x + _RAISED
    series = sum(weight / raised ** (2 * power + 1) for power, weight in enumerate(_STIRLING))
    return np.asarray((raised - 0.5) * np.log(raised) - raised + series - np.log(low), float)


def thinning_of(correlation: float) -> float:
    """How many rows are worth one when neighbours correlate so.

    The variance of their mean over that of independent rows, for an autoregression of first order.
    """
    bounded = min(0.98, max(0.0, correlation))
    return (1 + bounded) / (1 - bounded)


@dataclass(frozen=True, slots=True)
class Scores:
    """Effect sizes between reference and window: they say how much, not whether."""

    rows: int
    psi: float
    psi_threshold: float
    js: float
    hellinger: float
    ks: float
    wasserstein: float
    ks_threshold: float = math.inf
    chi_square: float = 0.0
    chi_square_threshold: float = 0.0
    moved: tuple[tuple[int, float], ...] = field(default=())

    @property
    def calm(self) -> bool:
        """Whether the window looks like the reference."""
        return self.psi <= self.psi_threshold


def scores(
    reference: Sequence[float], window: Sequence[float], edges: Sequence[float] = (), std: float = 0.0
) -> Scores:
    """Compare a window's counts with the reference's, place by place.

    PSI, Jensen-Shannon distance (natural logarithm, root), Hellinger distance, the Kolmogorov-Smirnov statistic over
    the places in order, and the Wasserstein distance of the finite numbers in standard deviations of the reference.
    ``psi_threshold`` is the 0.99 quantile without a difference, from both sample sizes and the places in use
    (``PSI ~ (1/n + 1/m) chi^2``), and what does not matter besides; it serves Jensen-Shannon and Hellinger too, whose
    squares are an eighth of PSI nearby. The thresholds of Kolmogorov-Smirnov and of chi-square (of two samples) are
    their 0.99 quantiles. ``moved`` are the places whose shares changed most.
    """
    counted = np.asarray(window, float)
    rows, m = float(counted.sum()), float(sum(reference))
    if not rows or not m:
        return Scores(int(rows), 0.0, math.inf, 0.0, 0.0, 0.0, 0.0)
    r = shares(reference)
    p = shares(window)
    psi = float(((p - r) * np.log(p / r)).sum())
    middle = (p + r) / 2
    js = float((p * np.log(p / middle)).sum() + (r * np.log(r / middle)).sum()) / 2
    used = int(((counted > 0) | (np.asarray(reference) > 0)).sum())
    threshold = chi_square_quantile(max(1, used - 1)) * (1 / rows + 1 / m) + NEGLIGIBLE_PSI
    change = p - r
    order = np.argsort(-np.abs(change))[:3]
    return Scores(
        int(rows),
        psi,
        threshold,
        math.sqrt(max(0.0, js)),
        math.sqrt(max(0.0, 1 - float(np.sqrt(p * r).sum()))),
        float(np.abs(np.cumsum(change)[: len(edges) + 1] if len(edges) else np.cumsum(change)).max()),
        _wasserstein(np.asarray(reference, float), counted, edges, std),
        math.sqrt(-math.log(0.005) / 2 * (1 / rows + 1 / m)),
        _chi_square(np.asarray(reference, float), counted),
        chi_square_quantile(max(1, used - 1)),
        tuple((int(place), float(change[place])) for place in order),
    )


def _chi_square(reference: Counts, window: Counts) -> float:
    """Pearson's statistic of two samples over the places that either has."""
    used = (reference + window) > 0
    m, n = float(reference.sum()), float(window.sum())
    both = (reference + window)[used] / (m + n)
    return float(
        ((reference[used] - m * both) ** 2 / (m * both)).sum() + ((window[used] - n * both) ** 2 / (n * both)).sum()
    )


def _wasserstein(reference: Counts, window: Counts, edges: Sequence[float], std: float) -> float:
    """By the edges: what lies below the first or above the last edge counts as lying on it."""
    if len(edges) < 2 or std <= 0:
        return 0.0
    finite = len(edges) + 1
    a, b = reference[:finite], window[:finite]
    if not a.sum() or not b.sum():
        return 0.0
    gaps = np.abs(np.cumsum(a)[:-1] / a.sum() - np.cumsum(b)[:-1] / b.sum())
    # at edge k everything in places 0..k lies below; between two edges the difference is taken as linear
    widths = np.diff(np.asarray(edges))
    return float(((gaps[:-1] + gaps[1:]) / 2 * widths).sum() / std)


NINETY_NINE = 2.3263478740408408
"""The 0.99 quantile of the normal distribution."""


def chi_square_quantile(degrees: int, z: float = NINETY_NINE) -> float:
    """A quantile of the chi-square distribution (Wilson and Hilferty 1931), within three per cent."""
    a = 2 / (9 * degrees)
    return degrees * (1 - a + z * math.sqrt(a)) ** 3


@dataclass(frozen=True, slots=True)
class Standing:
    """What is said of one feature; ``calm`` counts the windows in a row that looked like the reference, ``since`` is
    when a drift began, by the evidence."""

    state: State = State.INSUFFICIENT_DATA
    calm: int = 0
    since: float = 0.0


def judged(standing: Standing, rows: int, found: Scores, alarmed: bool, since: float) -> Standing:
    """What is said after one more look."""
    if alarmed:
        return Standing(State.DRIFT, 0, since)
    if standing.state is State.DRIFT:
        enough = found.rows >= LEAST_ROWS
        calm = standing.calm + 1 if enough and found.calm else 0
        return Standing(State.OK, 0, 0.0) if calm >= CALM_LOOKS else replace(standing, calm=calm)
    return Standing(State.OK if rows >= LEAST_ROWS else State.INSUFFICIENT_DATA)
