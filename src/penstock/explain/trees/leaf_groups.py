"""Leaves in groups by the number of features on their paths, so that NumPy looks at all of a group at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.explain.nodes import Flags, Floats, Integers, NotExact
from penstock.explain.trees.ensembles import Ensemble, LeafPaths, find_paths
from penstock.explain.trees.leaf_shares import Sets, set_type, sum_by
from penstock.explain.trees.shapley_weights import MOST_FEATURES

ALONE = 8
"""Paths of up to so many features are grouped by their exact number."""


@dataclass(frozen=True, slots=True)
class LeafGroup:
    """Leaves whose paths are looked at together.

    ``split``, ``side`` and ``bit``: the conditions of the paths, with the bit of their feature; ``starts``: where each
    leaf's conditions begin. ``target`` [additions, places]: where a share is added, as feature * outputs + output.
    ``leaf``, ``output`` and ``weight``: what leaves add to outputs.
    """

    split: Integers
    side: Flags
    bit: Sets
    starts: Integers
    target: Integers
    leaf: Integers
    output: Integers
    weight: Floats
    places: int

    def missed(self, decided: Flags) -> Sets:
        """Return for each leaf the features of its path that a row misses, by what its splits decide."""
        fails = decided[self.split] != self.side
        return np.asarray(np.bitwise_or.reduceat(self.bit * fails, self.starts), dtype=self.bit.dtype)

    def spread(self, shares: Floats, size: int) -> Floats:
        """Return what features get [size, see ``target``] of the shares [leaves, places] of this group's leaves."""
        weighted = shares[self.leaf] * self.weight[:, None]
        return sum_by(self.target.ravel(), weighted.ravel(), size)

    def reach(self, missed: Sets, outputs: int) -> Floats:
        """Return what the leaves that a row reaches add to the outputs [outputs]."""
        hit = np.flatnonzero(missed[self.leaf] == 0)
        return sum_by(self.output[hit], self.weight[hit], outputs)

    @property
    def nbytes(self) -> int:
        """The memory that is held."""
        arrays = (self.split, self.side, self.bit, self.starts, self.target, self.leaf, self.output, self.weight)
        return sum(array.nbytes for array in arrays)


@dataclass(frozen=True, slots=True)
class PathFeatures:
    """The different features on each path.

    ``leaf``, ``feature`` and ``place`` (0, 1, ...) of each; ``count`` [leaves] how many a leaf has, and for each
    condition of the paths the place of its feature (``condition``).
    """

    leaf: Integers
    feature: Integers
    place: Integers
    count: Integers
    condition: Integers


def make_groups(ensemble: Ensemble, features: int) -> list[LeafGroup]:
    """Return the leaves that add something and have a path, the groups with the fewest features on a path first.

    ``features`` is the number that rows have. Raises ``NotExact`` if a path has more than 64 of them.
    """
    paths = find_paths(ensemble.nodes)
    found = find_features(paths, ensemble, features)
    if found.count.max(initial=0) > MOST_FEATURES:
        raise NotExact(f"the path to a leaf asks for more than {MOST_FEATURES} features")
    adds = np.isin(np.arange(ensemble.nodes.leaves), ensemble.weights.leaf[ensemble.weights.weight != 0])
    sizes = _group_sizes(found.count)
    used = np.where(adds & (found.count > 0), sizes, 0)
    return [_group(ensemble, paths, found, used == size, features) for size in np.unique(used[used > 0])]


def _group_sizes(count: Integers) -> Integers:
    """What leaves of a group have in common: the number of features, or the type of number for their sets."""
    bits = np.select([count <= 16, count <= 32], [16, 32], 64)
    return np.where(count <= ALONE, count, bits)


def find_features(paths: LeafPaths, ensemble: Ensemble, features: int) -> PathFeatures:
    """Return the different features on each path."""
    keys = paths.leaf * features + ensemble.nodes.splits.features[paths.split]
    different, where = np.unique(keys, return_inverse=True)
    leaf = different // features
    count = np.bincount(leaf, minlength=ensemble.nodes.leaves)
    place = np.arange(len(leaf)) - (np.cumsum(count) - count)[leaf]
    return PathFeatures(leaf, different % features, place, count, place[where])


def _group(ensemble: Ensemble, paths: LeafPaths, found: PathFeatures, chosen: Flags, features: int) -> LeafGroup:
    numbers = np.cumsum(chosen) - 1
    places = int(found.count[chosen].max())
    condition = np.flatnonzero(chosen[paths.leaf])
    leaf = numbers[paths.leaf[condition]]
    starts = np.flatnonzero(np.diff(leaf, prepend=-1))
    bits: Sets = np.left_shift(np.uint64(1), found.condition[condition].astype(np.uint64)).astype(set_type(places))
    adds = chosen[ensemble.weights.leaf] & (ensemble.weights.weight != 0)
    adding, output = numbers[ensemble.weights.leaf[adds]], ensemble.weights.output[adds]
    target = _features_of(found, chosen, numbers, places, features)[adding] * ensemble.outputs + output[:, None]
    weight = ensemble.weights.weight[adds]
    return LeafGroup(
        paths.split[condition], paths.side[condition], bits, starts, target, adding, output, weight, places
    )


def _features_of(
    found: PathFeatures, chosen: Flags, numbers: Integers, places: int, features: int
) -> NDArray[np.int64]:
    """The feature at each place of each chosen leaf's path; places without one have the number after the last."""
    of_leaves = np.full((int(chosen.sum()), places), features)
    use = chosen[found.leaf]
    of_leaves[numbers[found.leaf[use]], found.place[use]] = found.feature[use]
    return of_leaves
