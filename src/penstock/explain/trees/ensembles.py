"""Tree ensembles as arrays: leaves with their paths and weights, from the attributes of the nodes of ai.onnx.ml."""

from dataclasses import dataclass

import numpy as np

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
    """The paths to the leaves: an element for each split on each path, those of one leaf together, leaves ascending.

    ``leaf``, ``split``, and ``side``, whether the path takes the true branch.
    """

    leaf: Integers
    split: Integers
    side: Flags
    reached: Integers
    """The leaves that have a way from a root, ascending."""


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


def find_paths(nodes: TreeNodes) -> LeafPaths:
    """Return the paths to all leaves, by climbing from each leaf to its root, all leaves at once.

    Raises ``NotExact`` for what is no tree: a node with two parents, a cycle.
    """
    parent, side = _parents(nodes)
    count = len(nodes.splits)
    at = np.arange(count, count + nodes.leaves)
    leaf = np.arange(nodes.leaves)
    parts: list[tuple[Integers, Integers, Flags]] = []
    for _ in range(DEEPEST):
        above = parent[at]
        going = above >= 0
        if not going.any():
            return _joined(parts, at, leaf, nodes)
        parts.append((leaf[going], above[going], side[at[going]]))
        at = np.where(going, above, at)
    raise NotExact(f"a tree is deeper than {DEEPEST} splits")


def _parents(nodes: TreeNodes) -> tuple[Integers, Flags]:
    """The parent of each node (-1 = none), and whether it is on its parent's true side."""
    count = len(nodes.splits)
    if nodes.leaves > MOST_LEAVES:
        raise NotExact(f"the trees have more than {MOST_LEAVES:,} leaves")
    children = np.concatenate([nodes.on_true, nodes.on_false])
    if np.bincount(children, minlength=1).max(initial=0) > 1 or np.isin(nodes.roots, children).any():
        raise NotExact("a node of a tree is below two others")
    parent = np.full(count + nodes.leaves, -1, dtype=np.int64)
    parent[children] = np.tile(np.arange(count), 2)
    side = np.zeros(count + nodes.leaves, dtype=bool)
    side[nodes.on_true] = True
    return parent, side


def _joined(
    parts: list[tuple[Integers, Integers, Flags]], tops: Integers, leaf: Integers, nodes: TreeNodes
) -> LeafPaths:
    reached = leaf[np.isin(tops, nodes.roots)]
    if not parts:
        nothing = np.zeros(0, dtype=np.int64)
        return LeafPaths(nothing, nothing, np.zeros(0, dtype=bool), reached)
    leaves, splits, sides = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(leaves, kind="stable")
    order = order[np.isin(leaves[order], reached)]
    return LeafPaths(leaves[order], splits[order], sides[order], reached)
