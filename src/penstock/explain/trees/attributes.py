"""Reads TreeEnsembleRegressor and TreeEnsembleClassifier (ai.onnx.ml 1 and 3) as arrays.

Rules of the runtime that the operators' text leaves open are here: the first node listed of a tree is its root, and a
number is compared in the precision of the thresholds (float, or double for inputs of doubles).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.explain.links import OutputMap, identity_map
from penstock.explain.nodes import Flags, Floats, GraphNode, Integers, NotExact
from penstock.explain.trees.chains import merge_chains
from penstock.explain.trees.ensembles import Ensemble, LeafWeights, TreeNodes
from penstock.explain.trees.splits import LEAF, MODES, Splits, check_modes, no_sets

Precision = type[np.float32 | np.float64]


@dataclass(frozen=True, slots=True)
class _Ids:
    """Ranks of the trees, and the place of each (tree, node) in the lists."""

    trees: Integers
    width: int
    sorted_keys: Integers
    order: Integers

    def find(self, trees: Integers, nodes: Integers) -> Integers:
        """The places of nodes; raises NotExact if one is missing."""
        rank = np.searchsorted(self.trees, trees).clip(max=len(self.trees) - 1)
        wanted = rank * self.width + nodes
        at = np.searchsorted(self.sorted_keys, wanted).clip(max=len(self.sorted_keys) - 1)
        known = (self.trees[rank] == trees) & (nodes >= 0) & (nodes < self.width)
        if not (known & (self.sorted_keys[at] == wanted)).all():
            raise NotExact("a tree refers to a node that it does not have")
        return np.asarray(self.order[at])


def read_tree_nodes(node: GraphNode, precision: Precision) -> tuple[TreeNodes, _Ids, Integers]:
    """Return the nodes of an ensemble, the ids to find them, and the number of each as split or leaf.

    Raises ``NotExact`` for lists that contradict each other.
    """
    trees, ids = node.integers("nodes_treeids"), node.integers("nodes_nodeids")
    modes = _read_modes(node)
    _check_lengths(node, len(modes), precision)
    is_split = modes != LEAF
    places = _ids_of(trees, ids)
    numbers = np.where(is_split, np.cumsum(is_split) - 1, is_split.sum() + np.cumsum(~is_split) - 1)
    on_true = numbers[places.find(trees[is_split], node.integers("nodes_truenodeids")[is_split])]
    on_false = numbers[places.find(trees[is_split], node.integers("nodes_falsenodeids")[is_split])]
    first = np.flatnonzero(np.diff(trees, prepend=trees[0] - 1))
    if len(first) != len(places.trees):
        raise NotExact("the nodes of a tree are not listed together")
    found = TreeNodes(
        _read_splits(node, is_split, modes, precision), on_true, on_false, numbers[first], int((~is_split).sum())
    )
    return found, places, numbers


def _read_modes(node: GraphNode) -> Integers:
    try:
        modes = np.array([MODES[name] for name in node.texts("nodes_modes")], dtype=np.int64)
    except KeyError as fault:
        raise NotExact("a tree has a kind of split that is not known") from fault
    if not modes.size:
        raise NotExact("the ensemble has no trees")
    check_modes(modes)
    return modes


def _check_lengths(node: GraphNode, count: int, precision: Precision) -> None:
    names = ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
    lengths = {len(node.integers(f"nodes_{name}")) for name in names} | {len(node.array("nodes_values", precision))}
    if lengths != {count}:
        raise NotExact("the lists of the trees have different lengths")


def _ids_of(trees: Integers, ids: Integers) -> _Ids:
    known, rank = np.unique(trees, return_inverse=True)
    width = int(ids.max()) + 1
    if ids.min() < 0 or width > 2**31:
        raise NotExact("a tree has ids of nodes that are too large")
    keys = rank * width + ids
    order = np.argsort(keys, kind="stable")
    if (np.diff(keys[order]) == 0).any():
        raise NotExact("a tree has two nodes of one id")
    return _Ids(known, width, keys[order], order)


def _read_splits(node: GraphNode, is_split: Flags, modes: Integers, precision: Precision) -> Splits:
    tracks = node.integers("nodes_missing_value_tracks_true")
    nan_is_true = np.zeros(len(modes), dtype=bool)
    nan_is_true[: len(tracks)] = tracks[: len(modes)] == 1
    features, values = node.integers("nodes_featureids"), node.array("nodes_values", precision)
    return Splits(features[is_split], modes[is_split], values[is_split], nan_is_true[is_split], no_sets())


def read_weights(node: GraphNode, prefix: str, places: _Ids, numbers: Integers, precision: Precision) -> LeafWeights:
    """Return what the leaves add: ``prefix`` is "target" or "class"."""
    trees, ids = node.integers(f"{prefix}_treeids"), node.integers(f"{prefix}_nodeids")
    outputs, weights = node.integers(f"{prefix}_ids"), node.array(f"{prefix}_weights", precision)
    if len({len(trees), len(ids), len(outputs), len(weights)}) != 1 or not len(trees):
        raise NotExact("the lists of the leaves' weights have different lengths")
    splits = int(numbers.size - _leaf_count(node))
    leaf = numbers[places.find(trees, ids)] - splits
    if leaf.min() < 0:
        raise NotExact("a split has a weight of its own")
    if len(np.unique(np.stack([leaf, outputs]), axis=1)[0]) != len(leaf):
        raise NotExact("a leaf has two weights for one output")
    return LeafWeights(leaf, outputs, weights.astype(np.float64))


def _leaf_count(node: GraphNode) -> int:
    return sum(name == "LEAF" for name in node.texts("nodes_modes"))


def read_regressor(node: GraphNode, precision: Precision) -> Ensemble:
    """Return the sum of a TreeEnsembleRegressor before its ``post_transform``.

    Raises ``NotExact`` if the trees are not summed or averaged, or its lists contradict each other.
    """
    nodes, places, numbers = read_tree_nodes(node, precision)
    weights = read_weights(node, "target", places, numbers, precision)
    scale = aggregate_scale(node.text("aggregate_function", "SUM"), len(nodes.roots))
    targets = node.integer("n_targets", 0)
    base = node.array("base_values", precision).astype(np.float64)
    if targets > 1 and base.any():
        _check_every_row_adds(node, targets)
    return ensemble_of(nodes, weights, scale, base if base.size else np.zeros(targets), targets)


def _check_every_row_adds(node: GraphNode, targets: int) -> None:
    """Raise unless some tree adds to a target whatever the row: the runtime leaves the base out where none does."""
    modes, trees = np.array(node.texts("nodes_modes")), node.integers("nodes_treeids")
    known, rank = np.unique(trees, return_inverse=True)
    leaves = np.bincount(rank[modes == "LEAF"], minlength=len(known))
    adding = np.searchsorted(known, node.integers("target_treeids")) * targets + node.integers("target_ids")
    adds = np.bincount(adding, minlength=len(known) * targets).reshape(len(known), targets)
    if not (adds == leaves[:, None]).any(axis=0).all():
        raise NotExact("the base values of a target that not every row reaches are not always added")


def aggregate_scale(name: str, trees: int) -> float:
    """Return what the sum of the trees is multiplied with; raises ``NotExact`` if the trees do not add up."""
    if name == "AVERAGE":
        return 1 / trees
    if name == "SUM" or trees == 1:
        return 1.0
    raise NotExact(f"the trees are not added, the {name.lower()}imum of them counts")


def ensemble_of(nodes: TreeNodes, weights: LeafWeights, scale: float, base: Floats, outputs: int) -> Ensemble:
    """Return the ensemble, after the checks that all kinds share."""
    if len(base) != outputs or outputs < 1 or weights.output.min() < 0 or weights.output.max() >= outputs:
        raise NotExact("the trees have weights for outputs that they do not have")
    if not (np.isfinite(weights.weight).all() and np.isfinite(base).all()):
        raise NotExact("a leaf has a weight that is not finite")
    if nodes.splits.features.size and nodes.splits.features.min() < 0:
        raise NotExact("a split asks for a feature that does not exist")
    return Ensemble(merge_chains(nodes), LeafWeights(weights.leaf, weights.output, weights.weight * scale), base)


def read_classifier(node: GraphNode, precision: Precision) -> tuple[Ensemble, OutputMap, bool]:
    """Return the sum of a TreeEnsembleClassifier before its ``post_transform``, the scores of the classes from it, and
    whether the runtime applies that transform.

    Two classes with weights of only one: LOGISTIC gives the other class the negative margin. No other transform is
    applied; the other class gets the negative if weights of both signs occur, and otherwise one minus the score.
    """
    nodes, places, numbers = read_tree_nodes(node, precision)
    weights = read_weights(node, "class", places, numbers, precision)
    classes = len(node.texts("classlabels_strings")) or len(node.integers("classlabels_int64s"))
    base = node.array("base_values", precision).astype(np.float64)
    if classes == 2 and len(np.unique(weights.output)) == 1:
        return _one_score(nodes, weights, base, node.text("post_transform", "NONE") == "LOGISTIC")
    if base.size and classes <= 2 and base.any():
        raise NotExact("the classifier has two scores with base values, which runtimes read in different ways")
    start = base if len(base) == classes else np.zeros(classes)
    return ensemble_of(nodes, weights, 1.0, start, classes), identity_map(classes), True


def _one_score(
    nodes: TreeNodes, weights: LeafWeights, base: Floats, logistic: bool
) -> tuple[Ensemble, OutputMap, bool]:
    single = LeafWeights(weights.leaf, np.zeros_like(weights.output), weights.weight)
    is_negative = logistic or bool((weights.weight < 0).any())
    scores = OutputMap(np.array([[-1.0, 1.0]]), np.array([0.0 if is_negative else 1.0, 0.0]))
    return ensemble_of(nodes, single, 1.0, base[-1:] if base.size else np.zeros(1), 1), scores, logistic


def input_precision(dtype: np.dtype[Any]) -> Precision:
    """Return the precision in which the runtime compares inputs of a type."""
    return np.float64 if dtype == np.float64 else np.float32
