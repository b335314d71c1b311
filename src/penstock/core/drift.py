"""Whether what comes in still looks like the reference: a detector that may be watched for ever, and effect sizes.

The detector is the e-SR procedure (Shin, Ramdas and Rinaldo, "E-detectors", arXiv 2203.03532): a sum over all possible
starts of a change of the evidence that it began there. While nothing has changed its mean grows by one a row, so the
mean number of rows between false alarms is at least the threshold it is held against. Evidence of a batch is its
likelihood under a Dirichlet mixture around what rows lately looked like, against that under the reference; so the rows
of one batch teach about each other, in whatever order they came.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.float64]

PRIOR = 20.0
"""Rows of the reference that stand beside the rows seen lately."""

DECAY = 0.99
"""What is left of a row's part in the recent picture after one more row."""

FLOOR = 0.01
"""Differences of less than this (in nats a row) are none that matter."""

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


@dataclass(frozen=True, slots=True)
class Detector:
    """One feature's evidence: the logarithm of the e-SR statistic, what rows lately looked like, and since when the
    statistic has been growing (a time of the caller's)."""

    log_m: float = -math.inf
    recent: tuple[float, ...] = ()
    since: float = 0.0


def watch(
    detector: Detector, reference: Counts, forgiven: float, batch: Counts, thinning: float, now: float
) -> Detector:
    """The evidence after one more batch of counts.

    ``thinning`` >= 1 says how many rows are worth one: rows that follow each other are alike where the data is a time
    series.
    """
    rows = float(batch.sum())
    if not rows:
        return detector
    recent = np.asarray(detector.recent) if detector.recent else np.zeros(len(reference))
    expected = PRIOR * reference + recent
    worth, weight = batch / thinning, rows / thinning
    likelihood = _log_beta(expected + worth) - _log_beta(expected)  # of the rows, one after the other
    gain = likelihood - float(worth @ np.log(reference)) - forgiven * weight
    log_m = float(np.logaddexp(detector.log_m, math.log(rows))) + gain
    after = recent * DECAY**weight + worth * (1 - DECAY**weight) / ((1 - DECAY) * weight)
    fresh = log_m <= math.log(rows)  # as if it began with this batch
    return Detector(log_m, tuple(after.tolist()), now if fresh or not detector.recent else detector.since)


def _log_beta(alpha: Counts) -> float:
    return sum(map(math.lgamma, alpha.tolist())) - math.lgamma(float(alpha.sum()))


def thinning_of(correlation: float) -> float:
    """How many rows are worth one when neighbours correlate so.

    The variance of their mean over that of independent rows, for an autoregression of first order.
    """
    bounded = min(0.98, max(0.0, correlation))
    return (1 + bounded) / (1 - bounded)


def alarm(detectors: Sequence[Detector], budget: float) -> list[int]:
    """Which features an alarm is about, none while there is none.

    The mean of the statistics is held against the budget (rows between false alarms of all features together), which
    is valid however they depend on each other.
    """
    if not detectors:
        return []
    logs = np.array([one.log_m for one in detectors])
    top = float(logs.max())
    if not math.isfinite(top):
        return []
    mean = top + math.log(float(np.exp(logs - top).sum()) / len(logs))
    if mean < math.log(budget):
        return []
    return [index for index, one in enumerate(logs.tolist()) if one >= math.log(budget)]


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
    (``PSI ~ (1/n + 1/m) chi^2``), and what does not matter besides. ``moved`` are the places whose shares changed most.
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
    threshold = chi_square_quantile(max(1, used - 1)) * (1 / rows + 1 / m) + 2 * FLOOR
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
        tuple((int(place), float(change[place])) for place in order),
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
