"""Tree ensembles as arrays: leaves with their paths and weights, from the attributes of the nodes of ai.onnx.ml."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.explain.nodes import Flags, Floats, Integers, NotExact
from penstock.explain.trees.splits import Splits

MOST_LEAVES = 500_000
"""Leaves of an ensemble that is read at all."""

DEEPEST = 256
"""Splits on the longest path of an ensemble that is read at all."""


@dataclass(frozen=True, slots=True)
class TreeNodes:
    """Nodes of trees: for each split the node on its true and on its false side, and the root of each tree.

    A node is a split (its index) or a leaf (the number of splits plus the index of the leaf).
    """

    splits: Splits
    on_true: Integers
    on_false: Integers
    roots: Integers
    leaves: int


@dataclass(frozen=True, slots=True)
class LeafPaths:
    """The paths to leaves: an element for each split on each path, those of one path together, paths ascending.

    ``path``, ``split``, and ``side``, whether the path takes the true branch; ``leaf`` [paths] is where each path ends.
    A leaf has several paths where exporters let splits share what is below them (sets as chains of "equal").
    """

    path: Integers
    split: Integers
    side: Flags
    leaf: Integers


@dataclass(frozen=True, slots=True)
class LeafWeights:
    """What leaves add to outputs: the leaf, the output and the weight of each addition."""

    leaf: Integers
    output: Integers
    weight: Floats


@dataclass(frozen=True, slots=True)
class Ensemble:
    """A sum of trees: nodes, weights, and what is added to each output [outputs]."""

    nodes: TreeNodes
    weights: LeafWeights
    base: Floats

    @property
    def outputs(self) -> int:
        """The number of outputs."""
        return len(self.base)


@dataclass(frozen=True, slots=True)
class _Step:
    """Nodes that paths reach after as many splits: the node, the place of the one before in its step, and the side."""

    node: Integers
    before: Integers
    side: Flags


def find_paths(nodes: TreeNodes) -> LeafPaths:
    """Return the paths from the roots to leaves, all paths at once, a split at a time.

    Raises ``NotExact`` if there are too many, or if they are too long (a cycle is).
    """
    steps = [_Step(nodes.roots, np.full(len(nodes.roots), -1), np.zeros(len(nodes.roots), dtype=bool))]
    found = 0
    while True:
        splits = np.flatnonzero(steps[-1].node < len(nodes.splits))
        found += len(steps[-1].node) - len(splits)
        if not len(splits):
            return _collect(steps, nodes, found)
        if len(steps) > DEEPEST or found + 2 * len(splits) > MOST_LEAVES:
            raise NotExact(f"the trees have more than {MOST_LEAVES:,} leaves, or paths of more than {DEEPEST} splits")
        steps.append(_next_step(steps[-1], splits, nodes))


def _next_step(step: _Step, splits: NDArray[np.intp], nodes: TreeNodes) -> _Step:
    at = step.node[splits]
    below = np.concatenate([nodes.on_true[at], nodes.on_false[at]])
    return _Step(below, np.tile(splits, 2), np.repeat([True, False], len(splits)))


def _collect(steps: list[_Step], nodes: TreeNodes, count: int) -> LeafPaths:
    """Go back from where paths end, the longest paths first, and join what they met."""
    leaf = np.zeros(count, dtype=np.int64)
    path, place = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    met: list[tuple[Integers, Integers, Flags]] = []
    started = 0
    for depth in range(len(steps) - 1, -1, -1):
        step = steps[depth]
        ends = np.flatnonzero(step.node >= len(nodes.splits))
        numbers = np.arange(started, started + len(ends))
        leaf[numbers] = step.node[ends] - len(nodes.splits)
        started += len(ends)
        path, place = np.concatenate([path, numbers]), np.concatenate([place, ends])
        if depth:
            before = step.before[place]
            met.append((path, steps[depth - 1].node[before], step.side[place]))
            place = before
    return _in_order(met, leaf)


def _in_order(met: list[tuple[Integers, Integers, Flags]], leaf: Integers) -> LeafPaths:
    if not met:
        nothing = np.zeros(0, dtype=np.int64)
        return LeafPaths(nothing, nothing, np.zeros(0, dtype=bool), leaf)
    path, split, side = (np.concatenate(part) for part in zip(*met, strict=True))
    order = np.argsort(path, kind="stable")
    return LeafPaths(path[order], split[order], side[order], leaf)


def weights_of_paths(weights: LeafWeights, paths: LeafPaths, leaves: int) -> LeafWeights:
    """Return what paths add: each adds what its leaf does; ``leaf`` of the result is the path."""
    order = np.argsort(weights.leaf, kind="stable")
    per_leaf = np.bincount(weights.leaf, minlength=leaves)
    counts = per_leaf[paths.leaf]
    first = (np.cumsum(per_leaf) - per_leaf)[paths.leaf]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    place = order[np.repeat(first, counts) + within]
    return LeafWeights(np.repeat(np.arange(len(counts)), counts), weights.output[place], weights.weight[place])
