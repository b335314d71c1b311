"""How sure a model is: the probability that is counted of each answer, and its histogram."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.core.bins import Floats, Places

SCORE_BINS = 50
"""Bins of a probability, evenly from 0 to 1."""


@dataclass(frozen=True, slots=True)
class ConfidenceHistogram:
    """How sure the model was: ``counts`` [SCORE_BINS] of the probability of the second class of two, or of the class
    with the greatest of more (``classes``); ``right`` says how many of those came true (the second class did; the
    answer was right), where the data had labels."""

    classes: int
    counts: tuple[int, ...]
    right: tuple[int, ...] = ()


def confidence_of(scores: Floats) -> Floats | None:
    """The probability that is counted: of the second class of two, of the greatest of more; None where the scores are
    no probabilities."""
    if not ((scores >= 0) & (scores <= 1)).all():
        return None
    if scores.shape[1] > 1 and (np.abs(scores.sum(axis=1) - 1) > 1e-3).any():
        return None
    found: Floats = scores[:, -1] if scores.shape[1] <= 2 else scores.max(axis=1)
    return found


def score_bins(sure: Floats) -> Places:
    """The bin of each probability."""
    return np.minimum((sure * SCORE_BINS).astype(np.intp), SCORE_BINS - 1)


def confidence_in(values: Mapping[str, Any] | None) -> ConfidenceHistogram | None:
    """How sure a model was, from its JSON values."""
    if values is None:
        return None
    return ConfidenceHistogram(values["classes"], tuple(values["counts"]), tuple(values["right"]))
