"""Exact Shapley values of sums of trees against a background (interventional TreeSHAP), by leaves.

Prepared once for each model and background: for every leaf, which features of its path each background row misses.
A row then costs a comparison for each split, a set of missed features for each leaf, and a look-up (``leaf_shares``).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.slices import PauseWork, no_pause
from penstock.explain.exact import ShapleyValues
from penstock.explain.links import OutputMap
from penstock.explain.nodes import Flags, Floats, NotExact
from penstock.explain.transforms import InputTransforms
from penstock.explain.trees.ensembles import Ensemble
from penstock.explain.trees.leaf_groups import LeafGroup, make_groups
from penstock.explain.trees.leaf_shares import LeafPairs, LeafShares, make_table, sum_by, table_bytes

LONGEST_IN_TABLES = 8
"""Features on the paths of leaves that may get a table: it has 2^k rows for each leaf."""

MOST_TABLE_BYTES = 32 * 2**20
"""Memory of the tables of one model; leaves beyond it are explained by pairs."""

MOST_PAIRS = 6_000_000
"""Leaves times background rows that are explained by pairs: about 20 ms for every explained row."""

MOST_SETS = 25_000_000
"""Leaves times background rows at all: what is computed once for each of them."""


@dataclass(frozen=True, slots=True)
class TreeModel:
    """A sum of trees, what happens to inputs before them, the outputs made of it, and the links behind them."""

    ensemble: Ensemble
    transforms: InputTransforms
    output_map: OutputMap
    links: tuple[str, ...]

    @property
    def outputs(self) -> int:
        """The number of outputs."""
        return len(self.output_map.offset)

    def times(self, factor: Floats) -> "TreeModel":
        """Return the model with its outputs multiplied with a number, or with one for each."""
        return replace(self, output_map=self.output_map.times(factor))

    def plus(self, addend: Floats) -> "TreeModel":
        """Return the model with a number added to its outputs, or one to each."""
        return replace(self, output_map=self.output_map.plus(addend))

    def prepare(self, background: NDArray[Any], pause: PauseWork = no_pause) -> "TreeExplainer":
        """Return what explains rows against a background [rows, features]; ``pause`` is called between slices of work.

        Raises ``NotExact`` if a path has too many features, or leaves times rows are too many.
        """
        rows, features = background.shape
        columns = self.transforms.trace(features)
        if self.ensemble.nodes.splits.features.max(initial=-1) >= len(columns):
            raise NotExact("a split asks for a feature that rows do not have")
        groups = make_groups(self.ensemble, columns, features)
        with_table = choose_tables(groups, rows)
        decided = [self._decide(row, pause) for row in self.transforms.apply(background)]
        prepared = tuple(
            _prepare(group, table, decided, pause) for group, table in zip(groups, with_table, strict=True)
        )
        constant = self.ensemble.base + _constant_weights(self.ensemble)
        scores = constant + np.stack([_sum_of(prepared, row, len(constant), pause) for row in decided])
        return TreeExplainer(self, features, prepared, constant, scores)

    def _decide(self, row: NDArray[Any], pause: PauseWork) -> Flags:
        pause()
        return self.ensemble.nodes.splits.decide(row)


@dataclass(frozen=True, slots=True)
class PreparedGroup:
    """A group of leaves with the shares of their features."""

    leaves: LeafGroup
    shares: LeafShares


@dataclass(frozen=True, slots=True)
class TreeExplainer:
    """A sum of trees and a background.

    ``constant`` [scores] is what no feature changes, ``background_scores`` [rows, scores] the sums of the background.
    """

    model: TreeModel
    features: int
    groups: tuple[PreparedGroup, ...]
    constant: Floats
    background_scores: Floats

    @property
    def method(self) -> str:
        """The kind of model."""
        return "tree"

    @property
    def links(self) -> tuple[str, ...]:
        """What turns the explained margin into the answer, in order."""
        return self.model.links

    @property
    def outputs(self) -> int:
        """The number of outputs that are explained."""
        return len(self.model.output_map.offset)

    @property
    def memory_bytes(self) -> int:
        """What is kept."""
        return sum(group.leaves.nbytes + group.shares.nbytes for group in self.groups)

    @property
    def background_prediction(self) -> Floats:
        """The sums for the rows of the background [rows, outputs]."""
        return self.model.output_map.apply(self.background_scores)

    def tolerances(self, rows: NDArray[Any]) -> Floats:
        """How far the runtime's sums in single precision may be from ours [rows, 1]."""
        largest = float(np.abs(self.model.ensemble.weights.weight).max())
        factor = float(np.abs(self.model.output_map.matrix).max(initial=1.0))
        error = factor * largest * len(self.model.ensemble.nodes.roots) * 1e-6 + 1e-5
        return np.full((len(rows), 1), error)

    def explain(self, rows: NDArray[Any], pause: PauseWork = no_pause) -> ShapleyValues:
        """Return the Shapley values of rows [rows, features], one row after the other."""
        found = [self._explain_row(row, pause) for row in self.model.transforms.apply(rows)]
        attributions = np.stack([shares for shares, _ in found])
        scores = np.stack([score for _, score in found])
        to_outputs = self.model.output_map
        base = to_outputs.apply(self.background_scores.mean(axis=0))
        return ShapleyValues(attributions @ to_outputs.matrix, base, to_outputs.apply(scores))

    def _explain_row(self, row: NDArray[Any], pause: PauseWork) -> tuple[Floats, Floats]:
        decided = self.model.ensemble.nodes.splits.decide(row)
        scores = len(self.constant)
        total = np.zeros((self.features + 1) * scores)
        reached = self.constant.copy()
        for group in self.groups:
            pause()
            missed = group.leaves.missed(decided)
            total += group.leaves.spread(group.shares.shares(missed), len(total))
            reached += group.leaves.reach(missed, scores)
        return total.reshape(-1, scores)[:-1], reached


def _prepare(group: LeafGroup, table: bool, decided: list[Flags], pause: PauseWork) -> PreparedGroup:
    missed = np.empty((len(group.starts), len(decided)), dtype=group.bit.dtype)
    for place, row in enumerate(decided):
        pause()
        missed[:, place] = group.missed(row)
    return PreparedGroup(group, make_table(missed, group.places) if table else LeafPairs(group.places, missed))


def _sum_of(groups: tuple[PreparedGroup, ...], decided: Flags, scores: int, pause: PauseWork) -> Floats:
    pause()
    parts = [group.leaves.reach(group.leaves.missed(decided), scores) for group in groups]
    return np.asarray(np.sum([np.zeros(scores), *parts], axis=0), dtype=np.float64)


def _constant_weights(ensemble: Ensemble) -> Floats:
    """The weights of trees that are only a leaf."""
    count = len(ensemble.nodes.splits)
    alone = ensemble.nodes.roots[ensemble.nodes.roots >= count] - count
    use = np.isin(ensemble.weights.leaf, alone)
    return sum_by(ensemble.weights.output[use], ensemble.weights.weight[use], ensemble.outputs)


def choose_tables(groups: list[LeafGroup], rows: int) -> list[bool]:
    """Return for each group whether it gets a table: the shortest paths first, while memory lasts.

    Raises ``NotExact`` if the rest are too many, or all are.
    """
    left, pairs, chosen = MOST_TABLE_BYTES, 0, []
    for group in groups:
        needed = table_bytes(group.places) * len(group.starts) if group.places <= LONGEST_IN_TABLES else left + 1
        chosen.append(needed <= left)
        left -= needed if chosen[-1] else 0
        pairs += 0 if chosen[-1] else len(group.starts) * rows
    if pairs > MOST_PAIRS or sum(len(group.starts) for group in groups) * rows > MOST_SETS:
        raise NotExact("the trees have too many leaves for exact values within the budget of memory and time")
    return chosen
