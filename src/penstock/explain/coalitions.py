"""Rows in which some features are of the explained row and the others of a background row, and what they say.

Both kinds answer for one background row at a time: all coalitions of few features (exact for that background row), or
one random order of the features and its reverse, whose errors partly cancel out.
"""

from dataclasses import dataclass
from math import factorial
from typing import Protocol

import numpy as np

from penstock.explain.nodes import Flags, Floats

MOST_ENUMERATED = 10
"""Features of which all coalitions are run."""


class Coalitions(Protocol):
    """Which features rows take from the explained row: [coalitions, features], without none and all."""

    @property
    def masks(self) -> Flags:
        """The coalitions."""

    def attribute(self, nothing: Floats, between: Floats, everything: Floats) -> Floats:
        """Return attributions [features, outputs] of the outputs of the background row [outputs], of the coalitions
        [coalitions, outputs] and of the explained row [outputs]."""


@dataclass(frozen=True, slots=True)
class AllCoalitions:
    """All coalitions, with the weights [features, 2^features] by which they count."""

    masks: Flags
    weights: Floats

    def attribute(self, nothing: Floats, between: Floats, everything: Floats) -> Floats:
        """Return the Shapley values for one background row."""
        values = np.concatenate([nothing[None], between, everything[None]])
        return np.asarray(self.weights @ values)


def all_coalitions(features: int) -> AllCoalitions:
    """Return all coalitions of at most ``MOST_ENUMERATED`` features."""
    masks = ((np.arange(2**features)[:, None] >> np.arange(features)) & 1).astype(bool)
    size = masks.sum(axis=1)
    weight = [factorial(s) * factorial(features - s - 1) / factorial(features) for s in range(features)]
    with_it = np.array([0.0, *weight])[size]
    without_it = np.array([*weight, 0.0])[size]
    return AllCoalitions(masks[1:-1], np.where(masks.T, with_it, -without_it))


@dataclass(frozen=True, slots=True)
class OrderPair:
    """An order of the features and its reverse: the features join one by one."""

    masks: Flags
    order: np.ndarray[tuple[int, ...], np.dtype[np.intp]]

    def attribute(self, nothing: Floats, between: Floats, everything: Floats) -> Floats:
        """Return what each feature changes when it joins, as the mean of both directions."""
        half = len(between) // 2
        found = np.empty((len(self.order), len(nothing)))
        found[self.order] = _find_changes(nothing, between[:half], everything)
        found[self.order[::-1]] += _find_changes(nothing, between[half:], everything)
        return found / 2


def _find_changes(nothing: Floats, between: Floats, everything: Floats) -> Floats:
    return np.diff(np.concatenate([nothing[None], between, everything[None]]), axis=0)


def order_pair(features: int, generator: np.random.Generator) -> OrderPair:
    """Return a random order and its reverse."""
    order = generator.permutation(features)
    rank = np.argsort(order)
    steps = np.arange(1, features)[:, None]
    return OrderPair(np.concatenate([rank < steps, features - 1 - rank < steps]), order)
