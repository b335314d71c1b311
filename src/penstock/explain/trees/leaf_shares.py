"""The shares of the features on the paths to leaves: all that depends on trees and background, computed beforehand.

Given the features of a leaf's path that a row misses (bits), what does each of them get, in units of the leaf's weight,
averaged over the background? ``LeafTable`` has the answer for every set of a short path, so
that a row costs one look-up a leaf; ``LeafPairs`` keeps the different sets that background rows miss, with their
frequencies.
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
    """An element for each leaf and each different set that a background row misses."""

    features: int
    leaves: int
    leaf: NDArray[np.int32]
    missed: Sets
    size: NDArray[np.uint8]
    frequency: Floats

    @property
    def nbytes(self) -> int:
        """The memory that is held."""
        return self.leaf.nbytes + self.missed.nbytes + self.size.nbytes + self.frequency.nbytes

    def shares(self, missed: Sets) -> Floats:
        """Return for each leaf and place on its path the share [leaves, features]."""
        gain, loss = gain_and_loss()
        alive = np.flatnonzero((missed[self.leaf] & self.missed) == 0)
        leaf, v = self.leaf[alive], self.size[alive]
        u = np.bitwise_count(missed)
        of_row = sum_by(leaf, loss[v, u[leaf]] * self.frequency[alive], self.leaves)
        of_background = gain[v, u[leaf]] * self.frequency[alive]
        columns = [self._column(place, missed, leaf, alive, of_row, of_background) for place in range(self.features)]
        return np.stack(columns, axis=1)

    def _column(
        self, place: int, missed: Sets, leaf: NDArray[np.int32], alive: NDArray[np.intp], of_row: Floats, gains: Floats
    ) -> Floats:
        """What the feature at one place of each path gets: it is missed by the row, by background rows, or by none."""
        gained = sum_by(leaf, gains * has_bit(self.missed[alive], place), self.leaves)
        return gained - of_row * has_bit(missed, place)


def sum_by(places: NDArray[np.integer[Any]], values: Floats, size: int) -> Floats:
    """Return the sums of the values of each place [size]."""
    return np.asarray(np.bincount(places, values, minlength=size), dtype=np.float64)


def has_bit(sets: Sets, place: int) -> Flags:
    """Return for each set whether it has the feature at a place."""
    return np.asarray((sets & sets.dtype.type(1 << place)) != 0)


def make_pairs(background: Sets, features: int) -> LeafPairs:
    """Return the pairs for leaves with so many features on their paths; ``background`` as for ``make_table``."""
    leaves, rows = background.shape
    ordered = np.sort(background, axis=1)
    starts = np.ones(ordered.shape, dtype=bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    place = np.flatnonzero(starts)
    counts = np.diff(place, append=leaves * rows)
    missed = ordered.ravel()[place]
    leaf = (place // rows).astype(np.int32)
    return LeafPairs(features, leaves, leaf, missed, np.bitwise_count(missed), counts / rows)


def set_type(features: int) -> type[np.uint8 | np.uint16 | np.uint32 | np.uint64]:
    """Return the smallest type of number with a bit for each of so many features."""
    if features <= 8:
        return np.uint8
    if features <= 16:
        return np.uint16
    return np.uint32 if features <= 32 else np.uint64
