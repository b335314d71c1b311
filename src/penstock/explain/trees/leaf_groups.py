"""Leaves in groups by the number of features on their paths, so that NumPy looks at all of a group at once.

A leaf with several paths counts as several leaves: no row takes two of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from penstock.explain.nodes import Flags, Floats, Integers, NotExact
from penstock.explain.trees.ensembles import Ensemble, LeafPaths, LeafWeights, find_paths, weights_of_paths
from penstock.explain.trees.leaf_shares import Sets, set_type, sum_by
from penstock.explain.trees.shapley_weights import MOST_FEATURES

ALONE = 8
"""Paths of up to so many features are grouped by their exact number."""

MOST_TOGETHER = 4096
"""Paths in a group, so that no single step of work is long."""


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

    ``path``, ``feature`` and ``place`` (0, 1, ...) of each; ``count`` [paths] how many a path has, and for each
    condition of the paths the place of its feature (``condition``).
    """

    path: Integers
    feature: Integers
    place: Integers
    count: Integers
    condition: Integers


def make_groups(ensemble: Ensemble, columns: Integers, features: int) -> list[LeafGroup]:
    """Return the paths that add something and have a split, the groups with the fewest features on a path first.

    ``columns`` has the feature of each column that splits ask for, ``features`` is the number that rows have. Raises
    ``NotExact`` if a path has more than 64 of them.
    """
    paths = find_paths(ensemble.nodes)
    weights = weights_of_paths(ensemble.weights, paths, ensemble.nodes.leaves)
    found = find_features(paths, columns[ensemble.nodes.splits.features], features)
    if found.count.max(initial=0) > MOST_FEATURES:
        raise NotExact(f"the path to a leaf asks for more than {MOST_FEATURES} features")
    adds = np.isin(np.arange(len(paths.leaf)), weights.leaf[weights.weight != 0])
    used = np.where(adds & (found.count > 0), _group_sizes(found.count), 0)
    shape = (features, ensemble.outputs)
    return [_make_group(paths, weights, found, chosen, shape) for chosen in _split_groups(used)]


def _split_groups(sizes: Integers) -> Iterator[Flags]:
    """Yield the paths of each group, at most ``MOST_TOGETHER`` at a time."""
    for size in np.unique(sizes[sizes > 0]):
        places = np.flatnonzero(sizes == size)
        for start in range(0, len(places), MOST_TOGETHER):
            chosen = np.zeros(len(sizes), dtype=bool)
            chosen[places[start : start + MOST_TOGETHER]] = True
            yield chosen


def _group_sizes(count: Integers) -> Integers:
    """What leaves of a group have in common: the number of features, or the type of number for their sets."""
    bits = np.select([count <= 16, count <= 32], [16, 32], 64)
    return np.where(count <= ALONE, count, bits)


def find_features(paths: LeafPaths, asked: Integers, features: int) -> PathFeatures:
    """Return the different features on each path; ``asked`` is the feature of each split."""
    keys = paths.path * features + asked[paths.split]
    different, where = np.unique(keys, return_inverse=True)
    path = different // features
    count = np.bincount(path, minlength=len(paths.leaf))
    place = np.arange(len(path)) - (np.cumsum(count) - count)[path]
    return PathFeatures(path, different % features, place, count, place[where])


def _make_group(
    paths: LeafPaths, weights: LeafWeights, found: PathFeatures, chosen: Flags, shape: tuple[int, int]
) -> LeafGroup:
    numbers = np.cumsum(chosen) - 1
    places = int(found.count[chosen].max())
    condition = np.flatnonzero(chosen[paths.path])
    starts = np.flatnonzero(np.diff(numbers[paths.path[condition]], prepend=-1))
    bits: Sets = np.left_shift(np.uint64(1), found.condition[condition].astype(np.uint64)).astype(set_type(places))
    adds = chosen[weights.leaf] & (weights.weight != 0)
    adding, output, weight = numbers[weights.leaf[adds]], weights.output[adds], weights.weight[adds]
    features, outputs = shape
    target = _features_of(found, chosen, numbers, places, features)[adding] * outputs + output[:, None]
    split, side = paths.split[condition], paths.side[condition]
    return LeafGroup(split, side, bits, starts, target, adding, output, weight, places)


def _features_of(found: PathFeatures, chosen: Flags, numbers: Integers, places: int, features: int) -> Integers:
    """The feature at each place of each chosen path; places without one have the number after the last feature."""
    of_paths = np.full((int(chosen.sum()), places), features)
    use = chosen[found.path]
    of_paths[numbers[found.path[use]], found.place[use]] = found.feature[use]
    return of_paths
