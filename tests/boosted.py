"""Boosted trees with the structure that the exporters of LightGBM and CatBoost write, and their own predictions.

The libraries themselves are large; what their exporters write was looked at with LightGBM 4.7 (onnxmltools 1.16) and
CatBoost 1.2.10. The predictions here are computed from the trees by NumPy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
ML = "ai.onnx.ml"
FEATURES, TREES = 4, 6

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Trees:
    """Trees of three nodes and four leaves: features, thresholds, and each leaf's weight for each score."""

    features: NDArray[np.int64]
    thresholds: Floats
    weights: Floats

    def scores(self, rows: Floats) -> Any:
        """The sum over the trees; a value up to the threshold goes left."""
        right = rows[:, self.features] > self.thresholds  # rows, trees, nodes
        leaf = np.where(right[..., 0], 2 + right[..., 2], 0 + right[..., 1])
        return np.sum([self.weights[tree][leaf[:, tree]] for tree in range(TREES)], axis=0, dtype=np.float64)


def grown(scores: int, seed: int) -> Trees:
    """Made-up trees for so many scores."""
    generator = np.random.default_rng(seed)
    weights = generator.normal(size=(TREES, 4, scores)).astype(np.float32)
    thresholds = generator.normal(size=(TREES, 3)).astype(np.float32)
    return Trees(generator.integers(0, FEATURES, (TREES, 3)), thresholds, weights)


@dataclass(frozen=True)
class Export:
    """A model file, the names it has, and what the library predicts."""

    model: onnx.ModelProto
    trees: Trees
    labels: Sequence[Any]
    given: str
    sigmoid: bool

    def probabilities(self, rows: Floats) -> Any:
        """One column for each class."""
        scores = self.trees.scores(rows)
        if self.sigmoid:
            one = 1 / (1 + np.exp(-scores[:, -1]))
            return np.stack([1 - one, one], axis=1)
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)

    def predictions(self, rows: Floats) -> list[Any]:
        """The likeliest class of each row."""
        return [self.labels[place] for place in self.probabilities(rows).argmax(axis=1)]


def _nodes(trees: Trees, mode: str) -> dict[str, Any]:
    """The attributes of all nodes: with BRANCH_LEQ the true side is the left one, with BRANCH_GT the right one."""
    left, right = [1, 3, 5], [2, 4, 6]
    taken, other = (left, right) if mode == "BRANCH_LEQ" else (right, left)
    return {
        "nodes_treeids": [tree for tree in range(TREES) for _ in range(7)],
        "nodes_nodeids": list(range(7)) * TREES,
        "nodes_featureids": [n for tree in trees.features for n in (*tree.tolist(), 0, 0, 0, 0)],
        "nodes_values": [n for tree in trees.thresholds for n in (*tree.tolist(), 0.0, 0.0, 0.0, 0.0)],
        "nodes_modes": [*[mode] * 3, *["LEAF"] * 4] * TREES,
        "nodes_truenodeids": [*taken, 0, 0, 0, 0] * TREES,
        "nodes_falsenodeids": [*other, 0, 0, 0, 0] * TREES,
        "nodes_hitrates": [1.0] * 7 * TREES,
        "nodes_missing_value_tracks_true": [0] * 7 * TREES,
    }


def _leaves(trees: Trees, prefix: str, ids: Sequence[int]) -> dict[str, Any]:
    places = [(tree, leaf, score) for tree in range(TREES) for leaf in range(4) for score in range(len(ids))]
    return {
        f"{prefix}_treeids": [tree for tree, _, _ in places],
        f"{prefix}_nodeids": [leaf + 3 for _, leaf, _ in places],
        f"{prefix}_ids": [ids[score] for _, _, score in places],
        f"{prefix}_weights": [float(trees.weights[place]) for place in places],
    }


def _classlabels(labels: Sequence[Any]) -> dict[str, Any]:
    return {"classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s": list(labels)}


def _outputs(labels: Sequence[Any], dim: str | int) -> list[Any]:
    key = STRING if isinstance(labels[0], str) else INT64
    mapping = helper.make_map_type_proto(key, helper.make_tensor_type_proto(FLOAT, None))
    return [
        helper.make_tensor_value_info("label", key, [dim]),
        helper.make_value_info("probabilities", helper.make_sequence_type_proto(mapping)),
    ]


def lightgbm(labels: Sequence[Any], seed: int) -> Export:
    """A classifier of LightGBM: its label is said to be one, whatever the rows; two classes have one score."""
    sigmoid = len(labels) == 2
    trees = grown(1 if sigmoid else len(labels), seed)
    label_attributes = _classlabels(labels)
    ensemble = helper.make_node(
        "TreeEnsembleClassifier",
        ["input"],
        ["label_tensor", "probability_tensor"],
        domain=ML,
        post_transform="LOGISTIC" if sigmoid else "SOFTMAX",
        **_nodes(trees, "BRANCH_LEQ"),
        **_leaves(trees, "class", range(len(trees.weights[0, 0]))),
        **label_attributes,
    )
    are_texts = isinstance(labels[0], str)
    nodes = [
        ensemble,
        helper.make_node("Identity", ["label_tensor"], ["lgbmlabel"]),
        helper.make_node("Identity", ["probability_tensor"], ["lgbmprobabilities"]),
        helper.make_node("Identity", ["lgbmlabel"], ["label"])
        if are_texts
        else helper.make_node("Cast", ["lgbmlabel"], ["label"], to=INT64),
        helper.make_node("ZipMap", ["lgbmprobabilities"], ["probabilities"], domain=ML, **label_attributes),
    ]
    taken = helper.make_tensor_value_info("input", FLOAT, [None, FEATURES])
    graph = helper.make_graph(nodes, "g", [taken], _outputs(labels, 1))
    opsets = [helper.make_opsetid("", 8 if are_texts else 9), helper.make_opsetid(ML, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=4, producer_name="OnnxMLTools")
    return Export(model, trees, labels, "input", sigmoid)


def lightgbm_regressor(seed: int) -> Export:
    """A regressor of LightGBM."""
    trees = grown(1, seed)
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        ["input"],
        ["output"],
        domain=ML,
        n_targets=1,
        post_transform="NONE",
        **_nodes(trees, "BRANCH_LEQ"),
        **_leaves(trees, "target", [0]),
    )
    taken = helper.make_tensor_value_info("input", FLOAT, [None, FEATURES])
    given = helper.make_tensor_value_info("variable", FLOAT, [None, 1])
    nodes = [ensemble, helper.make_node("Identity", ["output"], ["variable"])]
    opsets = [helper.make_opsetid("", 8), helper.make_opsetid(ML, 1)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [taken], [given]), opset_imports=opsets, ir_version=4, producer_name="OnnxMLTools"
    )
    return Export(model, trees, [], "input", sigmoid=False)


def catboost(labels: Sequence[Any], seed: int) -> Export:
    """A classifier of CatBoost: no operator set but that of ai.onnx.ml, a score and its opposite for two classes."""
    sigmoid = len(labels) == 2
    trees = grown(1 if sigmoid else len(labels), seed)
    both = Trees(trees.features, trees.thresholds, np.concatenate([-trees.weights, trees.weights], axis=2))
    written = both if sigmoid else trees
    label_attributes = _classlabels(labels)
    nodes = [
        helper.make_node(
            "TreeEnsembleClassifier",
            ["features"],
            ["label", "probability_tensor"],
            domain=ML,
            post_transform="LOGISTIC" if sigmoid else "SOFTMAX",
            **_nodes(trees, "BRANCH_GT"),
            **_leaves(written, "class", range(len(labels))),
            **label_attributes,
        ),
        helper.make_node("ZipMap", ["probability_tensor"], ["probabilities"], domain=ML, **label_attributes),
    ]
    taken = helper.make_tensor_value_info("features", FLOAT, ["N", FEATURES])
    inner = helper.make_tensor_value_info("probability_tensor", FLOAT, ["N", len(labels)])
    graph = helper.make_graph(nodes, "CatBoostModel", [taken], _outputs(labels, "N"), value_info=[inner])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(ML, 2)], ir_version=3, producer_name="CatBoost")
    return Export(model, trees, labels, "features", sigmoid)
