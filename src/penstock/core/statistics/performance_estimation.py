"""Performance without labels: what a model's own probabilities say of how often it is right.

CBPE (confidence-based performance estimation, as NannyML describes it): where probabilities are calibrated, the
expected share of right answers is the mean probability of the class that was answered. It holds while inputs change,
and is blind to a change of what the inputs mean; the gap between it and what labels show is a sign of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

SHRINKAGE = 5.0
"""Rows by which a bin's measured chance is drawn to its own middle."""

BAND = 3.0
"""Standard errors to each side of an estimate."""


@dataclass(frozen=True, slots=True)
class CalibrationCurve:
    """For each bin of a probability [bins]: its middle, the calibrated chance, and that chance's standard error."""

    middles: Floats
    probabilities: Floats
    errors: Floats
    calibrated: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimated accuracy with its band, over so many rows; for two classes also of the second of them the F1,
    precision, recall and area under the ROC curve."""

    rows: int
    accuracy: float
    low: float
    high: float
    calibrated: bool
    f1: float | None = None
    precision: float | None = None
    recall: float | None = None
    roc_auc: float | None = None


def calibration_curve(counts: Sequence[int], right: Sequence[int] = ()) -> CalibrationCurve:
    """What probabilities were worth where labels were known (``right`` of ``counts`` rows of each bin came true);
    without labels they are taken at their word."""
    middles = (np.arange(len(counts)) + 0.5) / len(counts)
    if not right:
        return CalibrationCurve(middles, middles, np.zeros(len(counts)), calibrated=False)
    rows = np.asarray(counts, float)
    probabilities = (np.asarray(right, float) + SHRINKAGE * middles) / (rows + SHRINKAGE)
    errors = np.sqrt(probabilities * (1 - probabilities) / (rows + SHRINKAGE))
    return CalibrationCurve(middles, probabilities, errors, calibrated=True)


def estimate(classes: int, counts: ArrayLike, curve: CalibrationCurve) -> Estimate | None:
    """The performance that ``counts`` rows of each bin of probability let expect; None without rows.

    The bins are of the second class's probability where there are two classes, else of the greatest one.
    """
    c = np.asarray(counts, float)
    rows = float(c.sum())
    if not rows:
        return None
    g = curve.probabilities
    two = classes == 2
    second = curve.middles >= 0.5
    right = np.where(second, g, 1 - g) if two else g
    accuracy = float((c * right).sum()) / rows
    variance = float((c * right * (1 - right)).sum() + ((c * curve.errors) ** 2).sum()) / rows**2
    reach = BAND * math.sqrt(variance)
    low, high = max(0.0, accuracy - reach), min(1.0, accuracy + reach)
    if not two:
        return Estimate(int(rows), accuracy, low, high, curve.calibrated)
    hits, missed = float((c * g)[second].sum()), float((c * g)[~second].sum())
    positive = float(c[second].sum())
    return Estimate(
        int(rows),
        accuracy,
        low,
        high,
        curve.calibrated,
        f1=2 * hits / (positive + hits + missed) if positive + hits + missed else None,
        precision=hits / positive if positive else None,
        recall=hits / (hits + missed) if hits + missed else None,
        roc_auc=_find_area(c * g, c * (1 - g)),
    )


def _find_area(positive: Floats, negative: Floats) -> float | None:
    """The area under the ROC curve of two histograms over the same bins; equals within a bin count half."""
    pairs = float(positive.sum() * negative.sum())
    if not pairs:
        return None
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum()) / pairs
