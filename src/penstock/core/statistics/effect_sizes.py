"""How far a window is from the reference: effect sizes, with the thresholds below which they are chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from penstock.core.statistics.distributions import Counts, shares
from penstock.core.statistics.special_functions import chi_square_quantile

NEGLIGIBLE_PSI = 0.02
"""A PSI that would not matter if it were known exactly."""


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
