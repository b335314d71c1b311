"""Reads TreeEnsemble (ai.onnx.ml 5) as arrays: splits and leaves in lists of their own, sets of members."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.explain.links import POST_TRANSFORMS
from penstock.explain.nodes import GraphNode, Integers, NotExact
from penstock.explain.trees.attributes import aggregate_scale, ensemble_of
from penstock.explain.trees.ensembles import Ensemble, LeafWeights, TreeNodes
from penstock.explain.trees.splits import MEMBER, MemberSets, Splits, check_modes

AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
"""Names by the numbers of the attributes ``aggregate_function`` and ``post_transform``, as ONNX Runtime 1.31 reads the
latter: the text of the operator has SOFTMAX and LOGISTIC the other way round. What counts is what is answered."""


def read_tensors(node: GraphNode, dtype: np.dtype[Any]) -> tuple[Ensemble, tuple[str, ...]]:
    """Return the sum of a TreeEnsemble before its ``post_transform``, and the links behind it.

    ``dtype`` is the type of the inputs: the runtime compares in it. Raises ``NotExact`` if the trees do not add up, or
    the lists contradict each other.
    """
    precision = np.dtype(np.float64) if dtype == np.float64 else np.dtype(np.float32)
    splits = _read_splits(node, precision)
    nodes = _make_nodes(node, splits)
    targets = node.integers("leaf_targetids")
    weights = np.asarray(node.attributes.get("leaf_weights", ()), dtype=precision).reshape(-1)
    if len(targets) != len(weights) or not len(targets):
        raise NotExact("the lists of the leaves have different lengths")
    added = LeafWeights(np.arange(nodes.leaves), targets, weights.astype(np.float64))
    outputs = node.integer("n_targets", 1)
    scale = aggregate_scale(_name_of(AGGREGATES, node.integer("aggregate_function", 1)), len(nodes.roots))
    return ensemble_of(nodes, added, scale, np.zeros(outputs), outputs), _read_links(node, outputs)


def _read_splits(node: GraphNode, precision: np.dtype[Any]) -> Splits:
    modes = np.asarray(node.attributes.get("nodes_modes", ()), dtype=np.int64).reshape(-1)
    thresholds = np.asarray(node.attributes.get("nodes_splits", ()), dtype=precision).reshape(-1)
    features, tracks = node.integers("nodes_featureids"), node.integers("nodes_missing_value_tracks_true")
    check_modes(modes)
    if {len(features), len(modes), len(thresholds)} != {len(modes)} or len(tracks) not in {0, len(modes)}:
        raise NotExact("the lists of the splits have different lengths")
    nan_is_true = tracks == 1 if len(tracks) else np.zeros(len(modes), dtype=bool)
    members = np.asarray(node.attributes.get("membership_values", ()), dtype=precision).reshape(-1)
    return Splits(features, modes, thresholds, nan_is_true, _read_sets(modes, members))


LONGEST_CHAIN, LARGEST_IN_CHAIN = 30, 30
"""Sets of more members, or with others than 0 to 30, are looked up by whole numbers; smaller ones are compared."""


def _read_sets(modes: Integers, members: NDArray[Any]) -> MemberSets:
    """The members of the sets in the order of the splits that ask for them: NaN ends a set."""
    ends = np.isnan(members)
    number = (np.cumsum(ends) - ends)[~ends]
    asking = np.flatnonzero(modes == MEMBER)
    if ends.sum() + (len(ends) > 0 and not ends[-1]) < len(asking):
        raise NotExact("the trees have fewer sets than splits that ask for them")
    use = number < len(asking)
    number, value = number[use], members[~ends][use]
    outside = (value < 0) | (value > LARGEST_IN_CHAIN)
    is_large = np.bincount(number, minlength=len(asking)) > LONGEST_CHAIN
    is_large |= np.bincount(number, outside, minlength=len(asking)) > 0
    return MemberSets(asking[number], value, is_large[number])


def _make_nodes(node: GraphNode, splits: Splits) -> TreeNodes:
    count, leaves = len(splits), len(node.integers("leaf_targetids"))
    on_true = _find_children(node.integers("nodes_truenodeids"), node.integers("nodes_trueleafs"), count, leaves)
    on_false = _find_children(node.integers("nodes_falsenodeids"), node.integers("nodes_falseleafs"), count, leaves)
    roots = node.integers("tree_roots")
    if not len(roots) or roots.min() < 0 or roots.max() >= count:
        raise NotExact("a tree has a root that does not exist")
    return _lone_leaves(TreeNodes(splits, on_true, on_false, roots, leaves))


def _lone_leaves(nodes: TreeNodes) -> TreeNodes:
    """Trees of one leaf are written as a split with the same leaf on both sides."""
    alone = (nodes.on_true == nodes.on_false)[nodes.roots]
    roots = np.where(alone, nodes.on_true[nodes.roots], nodes.roots)
    kept = np.ones(len(nodes.splits), dtype=bool)
    kept[nodes.roots[alone]] = False
    return _keep_splits(nodes, kept, roots) if alone.any() else nodes


def _keep_splits(nodes: TreeNodes, kept: NDArray[np.bool_], roots: Integers) -> TreeNodes:
    """The nodes without some splits; numbers of splits and leaves move up."""
    count, number = len(kept), np.cumsum(kept) - 1
    moved = np.concatenate([number, np.arange(nodes.leaves) + int(kept.sum())])
    splits, old = nodes.splits, np.flatnonzero(kept)
    use = kept[splits.members.split]
    members = MemberSets(number[splits.members.split[use]], splits.members.value[use], splits.members.truncates[use])
    left = Splits(splits.features[old], splits.modes[old], splits.thresholds[old], splits.nan_is_true[old], members)
    if count and (nodes.on_true.max() >= len(moved) or nodes.on_false.max() >= len(moved)):
        raise NotExact("a tree refers to a node that it does not have")
    return TreeNodes(left, moved[nodes.on_true[old]], moved[nodes.on_false[old]], moved[roots], nodes.leaves)


def _find_children(ids: Integers, are_leaves: Integers, count: int, leaves: int) -> Integers:
    if len(ids) != count or len(are_leaves) != count:
        raise NotExact("the lists of the splits have different lengths")
    most = np.where(are_leaves != 0, leaves, count)
    if ((ids < 0) | (ids >= most)).any():
        raise NotExact("a tree refers to a node that it does not have")
    return np.where(are_leaves != 0, ids + count, ids)


def _name_of(names: tuple[str, ...], number: int) -> str:
    if not 0 <= number < len(names):
        raise NotExact("the ensemble has an attribute with a value that is not known")
    return names[number]


def _read_links(node: GraphNode, outputs: int) -> tuple[str, ...]:
    name = _name_of(TRANSFORMS, node.integer("post_transform", 0))
    if name == "PROBIT":
        raise NotExact("the transform PROBIT behind the scores has no margin that is known")
    return (POST_TRANSFORMS[name],) if outputs > 1 and name != "NONE" else ()
