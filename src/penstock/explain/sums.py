"""Sums of exact models of one kind: exporters split large ensembles, and graphs add them."""

from dataclasses import replace

import numpy as np

from penstock.explain.linear import LinearModel
from penstock.explain.links import OutputMap, identity_map
from penstock.explain.nodes import Floats, Integers, NotExact
from penstock.explain.transforms import GivenInput, InputTransforms
from penstock.explain.trees.ensembles import Ensemble, LeafWeights, TreeNodes
from penstock.explain.trees.model import TreeModel
from penstock.explain.trees.splits import MemberSets, Splits


def add_models(first: TreeModel | LinearModel, second: TreeModel | LinearModel) -> TreeModel | LinearModel:
    """Return the model that answers the sum of two; raises ``NotExact`` if they are of different kinds or inputs."""
    if first.links or second.links:
        raise NotExact("the graph adds answers behind their links")
    if not _same_inputs(first.transforms, second.transforms) or first.outputs != second.outputs:
        raise NotExact("the graph adds models of different inputs")
    if isinstance(first, TreeModel) and isinstance(second, TreeModel):
        return _add_trees(first, second)
    if isinstance(first, LinearModel) and isinstance(second, LinearModel):
        both = OutputMap(first.sums.matrix + second.sums.matrix, first.sums.offset + second.sums.offset)
        return replace(first, sums=both)
    raise NotExact("the graph adds trees and weighted sums")


def _same_inputs(first: InputTransforms, second: InputTransforms) -> bool:
    """Whether two models get the features as they are; transforms are functions, which cannot be compared."""
    return isinstance(first, GivenInput) and first == second


def _add_trees(first: TreeModel, second: TreeModel) -> TreeModel:
    one, other = plain_ensemble(first), plain_ensemble(second)
    joined = Ensemble(_join_nodes(one.nodes, other.nodes), _join_weights(one, other), one.base + other.base)
    return replace(first, ensemble=joined, output_map=identity_map(len(joined.base)))


def plain_ensemble(model: TreeModel) -> Ensemble:
    """Return an ensemble whose scores are the outputs: the weights and bases go through the map of the outputs."""
    weights, matrix = model.ensemble.weights, model.output_map.matrix
    score, output = np.nonzero(matrix)
    parts = [(weights.output == a, b, matrix[a, b]) for a, b in zip(score, output, strict=True)]
    leaf = np.concatenate([weights.leaf[use] for use, _, _ in parts])
    place = np.concatenate([np.full(int(use.sum()), b) for use, b, _ in parts])
    weight: Floats = np.concatenate([weights.weight[use] * factor for use, _, factor in parts])
    return Ensemble(model.ensemble.nodes, LeafWeights(leaf, place, weight), model.output_map.apply(model.ensemble.base))


def _join_nodes(one: TreeNodes, other: TreeNodes) -> TreeNodes:
    count = len(one.splits) + len(other.splits)

    def of_one(places: Integers) -> Integers:
        return np.where(places < len(one.splits), places, places + len(other.splits))

    def of_other(places: Integers) -> Integers:
        moved = places - len(other.splits) + count + one.leaves
        return np.where(places < len(other.splits), places + len(one.splits), moved)

    return TreeNodes(
        _join_splits(one.splits, other.splits),
        np.concatenate([of_one(one.on_true), of_other(other.on_true)]),
        np.concatenate([of_one(one.on_false), of_other(other.on_false)]),
        np.concatenate([of_one(one.roots), of_other(other.roots)]),
        one.leaves + other.leaves,
    )


def _join_splits(one: Splits, other: Splits) -> Splits:
    members = MemberSets(
        np.concatenate([one.members.split, other.members.split + len(one)]),
        np.concatenate([one.members.value, other.members.value]),
        np.concatenate([one.members.truncates, other.members.truncates]),
    )
    return Splits(
        np.concatenate([one.features, other.features]),
        np.concatenate([one.modes, other.modes]),
        np.concatenate([one.thresholds, other.thresholds]),
        np.concatenate([one.nan_is_true, other.nan_is_true]),
        members,
    )


def _join_weights(one: Ensemble, other: Ensemble) -> LeafWeights:
    return LeafWeights(
        np.concatenate([one.weights.leaf, other.weights.leaf + one.nodes.leaves]),
        np.concatenate([one.weights.output, other.weights.output]),
        np.concatenate([one.weights.weight, other.weights.weight]),
    )
