"""How far a window is from the reference: effect sizes, with the thresholds below which they are chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from penstock.core.statistics.autocorrelation import crossing_inflation, variance_inflation
from penstock.core.statistics.distributions import Counts, find_shares
from penstock.core.statistics.special_functions import chi_square_quantile

NEGLIGIBLE_PSI = 0.02
"""A PSI that would not matter if it were known exactly."""

FEW = 5.0
"""Expected rows in a place for its square to be about that of a normal variable."""


@dataclass(frozen=True, slots=True)
class EffectSizes:
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
    def within_threshold(self) -> bool:
        """Whether the window looks like the reference."""
        return self.psi <= self.psi_threshold


def compare_counts(
    reference: Sequence[float],
    window: Sequence[float],
    edges: Sequence[float] = (),
    std: float = 0.0,
    correlation: float = 0.0,
) -> EffectSizes:
    """Compare a window's counts with the reference's, place by place.

    PSI, Jensen-Shannon distance (natural logarithm, root), Hellinger distance, the Kolmogorov-Smirnov statistic over
    the places in order, and the Wasserstein distance of the finite numbers in standard deviations of the reference.
    ``psi_threshold`` is the 0.99 quantile without a difference, from both sample sizes and the places in use
    (``PSI ~ (1/n + 1/m) chi^2``), and what does not matter besides; it serves Jensen-Shannon and Hellinger too, whose
    squares are an eighth of PSI nearby. The thresholds of Kolmogorov-Smirnov and of chi-square (of two samples, over
    places that are not rare) are their 0.99 quantiles. ``moved`` are the places whose shares changed most.

    ``correlation`` is that of neighbouring rows of the window, which makes all thresholds wider: see ``_find_quantile``
    and ``crossing_inflation``. They are exceeded in one window of a hundred at most.
    """
    known, counted = np.asarray(reference, float), np.asarray(window, float)
    rows, m = float(counted.sum()), float(known.sum())
    if not rows or not m:
        return EffectSizes(int(rows), 0.0, math.inf, 0.0, 0.0, 0.0, 0.0)
    r, p = find_shares(known), find_shares(counted)
    psi = float(((p - r) * np.log(p / r)).sum())
    middle = (p + r) / 2
    js = float((p * np.log(p / middle)).sum() + (r * np.log(r / middle)).sum()) / 2
    used = int(((counted > 0) | (known > 0)).sum())
    quantile = _find_quantile(max(1, used - 1), rows, m, correlation)
    chi_square, degrees = _chi_square(known, counted)
    change = p - r
    order = np.argsort(-np.abs(change))[:3]
    return EffectSizes(
        int(rows),
        psi,
        quantile + NEGLIGIBLE_PSI,
        math.sqrt(max(0.0, js)),
        math.sqrt(max(0.0, 1 - float(np.sqrt(p * r).sum()))),
        float(np.abs(np.cumsum(change)[: len(edges) + 1] if len(edges) else np.cumsum(change)).max()),
        _find_wasserstein(known, counted, edges, std),
        math.sqrt(-math.log(0.005) / 2 * (crossing_inflation(correlation) / rows + 1 / m)),
        chi_square,
        _find_quantile(degrees, rows, m, correlation) / (1 / rows + 1 / m),
        tuple((int(index), float(change[index])) for index in order),
    )


def _find_quantile(degrees: int, rows: float, m: float, correlation: float) -> float:
    """The 0.99 quantile of PSI without a difference, as far as it is chance.

    PSI is a sum of as many squares as there are places but one, each with the variance ``inflation / n + 1 / m``. In an
    autoregression of first order the k-th Hermite polynomial of the numbers has the autocorrelation ``correlation^k``
    (Mehler's formula), and what any function of them has lies below the largest: so the k-th largest inflation of
    functions of the places is that of the k-th polynomial at most (Cauchy's interlacing theorem). The sum is taken for
    a multiple of a chi-square variable of the same mean and variance (Satterthwaite 1946).
    """
    correlations = max(0.0, correlation) ** np.arange(1, degrees + 1)
    variances = np.array([variance_inflation(item) for item in correlations.tolist()]) / rows + 1 / m
    total, squares = float(variances.sum()), float((variances**2).sum())
    return chi_square_quantile(total**2 / squares) * squares / total


def _chi_square(reference: Counts, window: Counts) -> tuple[float, int]:
    """Pearson's statistic of two samples, and its degrees of freedom, over the places that either has.

    Places of which fewer than ``FEW`` rows of the smaller sample are expected count as one (Cochran, "Some methods for
    strengthening the common chi-square tests", 1954), together with the least frequent other place if neither sample
    has so many there. Otherwise two or three rows beyond everything the reference had, where it had one, exceed the
    threshold by themselves.
    """
    used = (reference + window) > 0
    samples = np.array([reference[used], window[used]])
    expected = samples.sum(axis=0) / samples.sum() * samples.sum(axis=1).min()
    order = np.argsort(expected)
    rare = int((expected < FEW).sum())
    if rare and samples[:, order[:rare]].sum(axis=1).max() < FEW:
        rare = min(rare + 1, len(order))
    samples = np.column_stack([samples[:, order[:rare]].sum(axis=1), samples[:, order[rare:]]])[:, 0 if rare else 1 :]
    usual = np.outer(samples.sum(axis=1), samples.sum(axis=0)) / samples.sum()
    return float(((samples - usual) ** 2 / usual).sum()), max(1, samples.shape[1] - 1)


def _find_wasserstein(reference: Counts, window: Counts, edges: Sequence[float], std: float) -> float:
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
