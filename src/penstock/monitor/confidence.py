"""The confidence of a model: the probability that is counted for each answer, and its histogram."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.core.bins import Floats, Places

SCORE_BINS = 50
"""Bins of a probability, evenly from 0 to 1."""


@dataclass(frozen=True, slots=True)
class ConfidenceHistogram:
    """Counts of a model's confidence.

    ``counts`` [SCORE_BINS] are counts of the probability of the second of two classes, or of the greatest probability
    of more ``classes``. ``right`` [SCORE_BINS] counts how many of them came true (the second class was right; the
    answer was right); it is empty if the data had no labels.
    """

    classes: int
    counts: tuple[int, ...]
    right: tuple[int, ...] = ()


def confidence_of(scores: Floats) -> Floats | None:
    """Return the probability [rows] to count for each row of scores [rows, classes]: that of the second of two classes,
    or the greatest of more; None if the scores are not probabilities."""
    if not ((scores >= 0) & (scores <= 1)).all():
        return None
    if scores.shape[1] > 1 and (np.abs(scores.sum(axis=1) - 1) > 1e-3).any():
        return None
    confidence: Floats = scores[:, -1] if scores.shape[1] <= 2 else scores.max(axis=1)
    return confidence


def score_bins(probabilities: Floats) -> Places:
    """Return the bin [rows] of each probability [rows]."""
    return np.minimum((probabilities * SCORE_BINS).astype(np.intp), SCORE_BINS - 1)


def decode_confidence(values: Mapping[str, Any] | None) -> ConfidenceHistogram | None:
    """Return a histogram from its JSON values."""
    if values is None:
        return None
    return ConfidenceHistogram(values["classes"], tuple(values["counts"]), tuple(values["right"]))
