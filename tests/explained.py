"""What tests of explanations share: random trees as attributes, a walk through them, Shapley values by definition.

Nothing here uses the code under test beyond its plain data: the walk and the definition are its oracle.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import permutations
from math import factorial, isnan
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from penstock.explain.nodes import GraphNode, ModelGraph

ML = "ai.onnx.ml"
Floats = NDArray[np.float64]
Run = Callable[[NDArray[Any]], Floats]
_Result = TypeVar("_Result")

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")


def drive(steps: Generator[NDArray[Any], Floats, _Result], run: Run) -> _Result:
    """Run what a method yields until it returns."""
    try:
        wanted = next(steps)
        while True:
            wanted = steps.send(run(wanted))
    except StopIteration as end:
        result: _Result = end.value
        return result


def shapley_values(run: Run, row: NDArray[Any], background: NDArray[Any]) -> Floats:
    """Shapley values [features, outputs] by their definition, over all coalitions, averaged over the background."""
    features = len(row)
    masks = ((np.arange(2**features)[:, None] >> np.arange(features)) & 1).astype(bool)
    mixed = np.where(masks[:, None, :], row, background)
    values = run(mixed.reshape(-1, features)).reshape(len(masks), len(background), -1).mean(axis=1)
    found = np.zeros((features, values.shape[1]))
    for place, mask in enumerate(masks):
        size = int(mask.sum())
        for feature in np.flatnonzero(~mask):
            weight = factorial(size) * factorial(features - size - 1) / factorial(features)
            found[feature] += weight * (values[place | 1 << int(feature)] - values[place])
    return found


def mean_over_orders(run: Run, row: NDArray[Any], background: NDArray[Any]) -> Floats:
    """The same by the other definition: what a feature changes when it joins, averaged over all orders."""
    orders = list(permutations(range(len(row))))
    found = np.zeros((len(row), run(background).shape[1]))
    for order in orders:
        mixed = background.copy()
        before = run(mixed).mean(axis=0)
        for feature in order:
            mixed[:, feature] = row[feature]
            after = run(mixed).mean(axis=0)
            found[feature] += (after - before) / len(orders)
            before = after
    return found


@dataclass(frozen=True)
class RandomTrees:
    """What to make: sizes, the modes of splits, whether NaN may take the true branch, and leaves leave
    outputs out (``sparse``)."""

    features: int
    trees: int = 3
    depth: int = 4
    outputs: int = 1
    modes: tuple[str, ...] = MODES
    tracks: bool = True
    sparse: bool = True
    values: tuple[float, ...] = (-1.0, -0.5, 0.0, 0.5, 1.0)


class _Grower:
    """Lists of attributes that grow by a node at a time."""

    def __init__(self, wanted: RandomTrees, generator: np.random.Generator) -> None:
        self.wanted, self.generator = wanted, generator
        names = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
        self.nodes: dict[str, list[Any]] = {f"nodes_{name}": [] for name in names}
        self.nodes["nodes_missing_value_tracks_true"] = []
        self.leaves: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}

    def grow(self, tree: int, left: int) -> int:
        """Add a node and what is below it, and return its id."""
        number = self.nodes["nodes_treeids"].count(tree)
        is_leaf = left == 0 or (left < self.wanted.depth and self.generator.random() < 0.25)
        self._add(tree, number, "LEAF" if is_leaf else str(self.generator.choice(self.wanted.modes)))
        place = len(self.nodes["nodes_treeids"]) - 1
        if is_leaf:
            self._add_weights(tree, number)
            return number
        self.nodes["nodes_truenodeids"][place] = self.grow(tree, left - 1)
        self.nodes["nodes_falsenodeids"][place] = self.grow(tree, left - 1)
        return number

    def _add(self, tree: int, number: int, mode: str) -> None:
        track = int(self.wanted.tracks and self.generator.random() < 0.5)
        feature = int(self.generator.integers(self.wanted.features))
        row = (tree, number, feature, mode, float(self.generator.choice(self.wanted.values)), 0, 0, track)
        for name, value in zip(self.nodes, row, strict=True):
            self.nodes[name].append(value)

    def _add_weights(self, tree: int, number: int) -> None:
        for output in range(self.wanted.outputs):
            if self.wanted.sparse and self.wanted.outputs > 1 and self.generator.random() < 0.3:
                continue
            weight = float(np.float32(self.generator.normal()))
            for name, value in zip(self.leaves, (tree, number, output, weight), strict=True):
                self.leaves[name].append(value)


def random_attributes(wanted: RandomTrees, seed: int, prefix: str = "target") -> dict[str, Any]:
    """The attributes of an ensemble, as exporters write them."""
    grower = _Grower(wanted, np.random.default_rng(seed))
    for tree in range(wanted.trees):
        grower.grow(tree, wanted.depth)
    return {**grower.nodes, **{f"{prefix}_{name}": listed for name, listed in grower.leaves.items()}}


def _goes_true(mode: str, value: Any, threshold: Any, track: int) -> bool:
    if track and isnan(value):
        return True
    compared = {
        "BRANCH_LEQ": value <= threshold,
        "BRANCH_LT": value < threshold,
        "BRANCH_GTE": value >= threshold,
        "BRANCH_GT": value > threshold,
        "BRANCH_EQ": value == threshold,
        "BRANCH_NEQ": value != threshold,
    }
    return bool(compared[mode])


def walk(attributes: dict[str, Any], rows: NDArray[Any], outputs: int, prefix: str = "target") -> Floats:
    """The sum of the trees for rows [rows, outputs], node by node, compared in single precision."""
    names = ("featureids", "modes", "values", "truenodeids", "falsenodeids", "missing_value_tracks_true")
    keys = list(zip(attributes["nodes_treeids"], attributes["nodes_nodeids"], strict=True))
    nodes = dict(zip(keys, zip(*(attributes[f"nodes_{name}"] for name in names), strict=True), strict=True))
    added: dict[tuple[int, int], list[tuple[int, float]]] = {}
    leaves = zip(*(attributes[f"{prefix}_{name}"] for name in ("treeids", "nodeids", "ids", "weights")), strict=True)
    for tree, node, output, weight in leaves:
        added.setdefault((tree, node), []).append((output, weight))
    found = np.zeros((len(rows), outputs))
    for place, row in enumerate(rows.astype(np.float32)):
        for tree in dict.fromkeys(attributes["nodes_treeids"]):
            for output, weight in added.get((tree, _leaf(nodes, tree, row)), []):
                found[place, output] += weight
    return found


def _leaf(nodes: dict[tuple[int, int], tuple[Any, ...]], tree: int, row: NDArray[np.float32]) -> int:
    node = 0
    while True:
        feature, mode, threshold, on_true, on_false, track = nodes[tree, node]
        if mode == "LEAF":
            return node
        node = on_true if _goes_true(mode, row[feature], np.float32(threshold), track) else on_false


def single_node(op_type: str, attributes: dict[str, Any], output: str = "y", domain: str = ML) -> ModelGraph:
    """A graph of one node from "x" to an output; classifiers have the label first."""
    outputs = ("label", output) if op_type.endswith("Classifier") else (output,)
    node = GraphNode(op_type, domain, ("x",), outputs, attributes)
    return ModelGraph([node], {}, {"x": np.dtype(np.float32)}, outputs)


def random_rows(count: int, features: int, seed: int, *, missing: bool = False) -> Floats:
    """Rows near and on the thresholds of random trees."""
    generator = np.random.default_rng(seed)
    rows = generator.choice([-1.5, -1.0, -0.75, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0], size=(count, features))
    if missing:
        rows[generator.random(rows.shape) < 0.2] = np.nan
    return rows
