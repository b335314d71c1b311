"""What follows the explained score: its map to outputs, and the links that turn a margin into what is answered."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from penstock.explain.nodes import Floats

LinkFunction: TypeAlias = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class OutputMap:
    """Outputs as sums of scores: ``matrix`` [scores, outputs] and ``offset`` [outputs]; Shapley values follow the
    matrix."""

    matrix: Floats
    offset: Floats

    def apply(self, scores: Floats) -> Floats:
        """Return the outputs of scores [..., scores]."""
        return scores @ self.matrix + self.offset

    def times(self, factor: Floats) -> "OutputMap":
        """Return the map with every output multiplied with a number or a number for each."""
        return OutputMap(self.matrix * factor, self.offset * factor)

    def plus(self, addend: Floats) -> "OutputMap":
        """Return the map with a number added to every output, or a number for each."""
        return OutputMap(self.matrix, self.offset + addend)


def identity_map(outputs: int) -> OutputMap:
    """Return the map of scores that are the outputs."""
    return OutputMap(np.eye(outputs), np.zeros(outputs))


def sigmoid(margins: Floats) -> Floats:
    """Return 1 / (1 + e^-x) without an overflow."""
    raised = np.exp(-np.abs(margins))
    return np.where(margins >= 0, 1 / (1 + raised), raised / (1 + raised))


def softmax(margins: Floats) -> Floats:
    """Return shares of e^x along the last axis."""
    raised = np.exp(margins - margins.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def softmax_zero(margins: Floats) -> Floats:
    """Return the softmax of the runtime that leaves scores of (about) zero at zero."""
    is_zero = np.abs(margins) <= 1e-7
    raised = np.where(is_zero, 0.0, np.exp(margins - margins.max(axis=-1, keepdims=True)))
    total = raised.sum(axis=-1, keepdims=True)
    return np.asarray(np.where(is_zero, margins, raised / np.where(total == 0, 1.0, total)))


def shares_of_total(values: Floats) -> Floats:
    """Return each value divided by the sum of magnitudes along the last axis (Normalizer with the norm L1)."""
    total = np.abs(values).sum(axis=-1, keepdims=True)
    return np.asarray(values / np.where(total == 0, 1.0, total))


LINKS: dict[str, LinkFunction] = {
    "logistic": sigmoid,
    "softmax": softmax,
    "softmax_zero": softmax_zero,
    "normalised": shares_of_total,
    "exponential": np.exp,
}
"""The functions by which a margin becomes an answer, by name."""

POST_TRANSFORMS = {"LOGISTIC": "logistic", "SOFTMAX": "softmax", "SOFTMAX_ZERO": "softmax_zero"}
"""The links by the names of the attribute ``post_transform``."""


def apply_links(margins: Floats, links: tuple[str, ...]) -> Floats:
    """Return what the graph answers for margins [rows, outputs]."""
    for link in links:
        margins = LINKS[link](margins)
    return margins
