"""The shares of the features on the paths to leaves: all that depends on trees and background, computed beforehand.

Given the features of a leaf's path that a row misses (bits), what does each of them get, in units of the leaf's weight,
averaged over the background? ``LeafTable`` has the answer for every set of a short path, so
that a row costs one look-up a leaf; ``LeafPairs`` keeps the sets that the background rows miss.
"""

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.explain.nodes import Flags, Floats, Integers
from penstock.explain.trees.shapley_weights import gain_and_loss, subset_weights

Sets: TypeAlias = NDArray[np.unsignedinteger[Any]]
"""Sets of features of a path: bit i is the path's i-th feature."""


class LeafShares(Protocol):
    """What the features of leaves get, by the sets of features that a row misses."""

    @property
    def nbytes(self) -> int:
        """The memory that is held."""

    def shares(self, missed: Sets) -> Floats:
        """Return for each leaf and place on its path the share [leaves, features of the path]."""


@dataclass(frozen=True, slots=True)
class LeafTable:
    """A row of shares for each leaf and each set [leaves * 2^k, k]."""

    table: Floats
    first: Integers

    @property
    def nbytes(self) -> int:
        """The memory that is held."""
        return self.table.nbytes + self.first.nbytes

    def shares(self, missed: Sets) -> Floats:
        """Return for each leaf and place on its path the share [leaves, k]."""
        return np.asarray(self.table[self.first + missed])


def make_table(background: Sets, features: int) -> LeafTable:
    """Return the table for leaves with so many features on their paths; ``background`` is what each background row
    misses of each leaf [leaves, rows]."""
    leaves, rows = background.shape
    first = np.arange(leaves) * 2**features
    frequency = np.bincount((first[:, None] + background).ravel(), minlength=leaves * 2**features) / rows
    weights = subset_weights(features).reshape(2**features, -1)
    table = frequency.reshape(leaves, -1) @ weights
    return LeafTable(table.reshape(-1, features), first)


def table_bytes(features: int) -> int:
    """Return the memory of a table for one leaf."""
    return int(2**features * features * 8)


@dataclass(frozen=True, slots=True)
class LeafPairs:
    """What each background row misses of each leaf [leaves, rows]."""

    features: int
    background: Sets

    @property
    def nbytes(self) -> int:
        """The memory that is held."""
        return self.background.nbytes

    def shares(self, missed: Sets) -> Floats:
        """Return for each leaf and place on its path the share [leaves, features].

        Most pairs of a leaf and a background row are out at once, because both rows miss a feature.
        """
        gain, loss = gain_and_loss()
        leaves, rows = self.background.shape
        alive = np.flatnonzero((missed[:, None] & self.background) == 0)
        leaf, sets = alive // rows, self.background.ravel()[alive]
        weight = np.bitwise_count(sets) * np.int64(len(gain)) + np.bitwise_count(missed)[leaf]
        of_row, gains = sum_by(leaf, loss.ravel()[weight], leaves), gain.ravel()[weight]
        columns = [_share_column(place, missed, leaf, sets, gains, of_row) for place in range(self.features)]
        return np.asarray(np.stack(columns, axis=1) / rows)


def _share_column(
    place: int, missed: Sets, leaf: NDArray[np.intp], sets: Sets, gains: Floats, of_row: Floats
) -> Floats:
    """What the feature at one place of each path gets: it is missed by the row, by background rows, or by none."""
    has = np.flatnonzero(has_bit(sets, place))
    return sum_by(leaf[has], gains[has], len(missed)) - of_row * has_bit(missed, place)


def sum_by(places: NDArray[np.integer[Any]], values: Floats, size: int) -> Floats:
    """Return the sums of the values of each place [size]."""
    return np.asarray(np.bincount(places, values, minlength=size), dtype=np.float64)


def has_bit(sets: Sets, place: int) -> Flags:
    """Return for each set whether it has the feature at a place."""
    return np.asarray((sets & sets.dtype.type(1 << place)) != 0)


def set_type(features: int) -> type[np.uint8 | np.uint16 | np.uint32 | np.uint64]:
    """Return the smallest type of number with a bit for each of so many features."""
    if features <= 8:
        return np.uint8
    if features <= 16:
        return np.uint16
    return np.uint32 if features <= 32 else np.uint64
