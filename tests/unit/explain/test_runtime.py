"""The operators as ONNX Runtime computes them: what our reading of random nodes adds up to is what it answers."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from penstock.explain.graphs import read_exact_model
from penstock.explain.methods import agrees_with_runtime
from tests.explained import ML, MODES, RandomTrees, random_attributes, random_rows, shapley_values
from tests.unit.explain.runtime import graph_of, runner

FEATURES = 4
ROWS, BACKGROUND = random_rows(40, FEATURES, 1, missing=True), random_rows(6, FEATURES, 2, missing=True)
DTYPES: dict[int, Any] = {TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64}


def model_of(node: onnx.NodeProto, given: int = TensorProto.FLOAT, ml: int = 3, answer: int = 0) -> onnx.ModelProto:
    """A model of one node from "x" to its last output "y"."""
    taken = helper.make_tensor_value_info("x", given, [None, FEATURES])
    made = [helper.make_tensor_value_info("y", answer or TensorProto.FLOAT, None)]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(ML, ml)]
    return helper.make_model(helper.make_graph([node], "g", [taken], made), opset_imports=opsets, ir_version=9)


def check_equal(model: onnx.ModelProto) -> Any:
    """The runtime's answers are ours for every row, with missing values; returns our model."""
    found = read_exact_model(graph_of(model), "y")
    explainer = found.prepare(BACKGROUND)
    outputs = runner(model, "y")(np.concatenate([ROWS, BACKGROUND]))
    assert agrees_with_runtime(explainer, explainer.explain(ROWS), outputs, ROWS, BACKGROUND)
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tracks", [False, True])
def test_each_mode_with_missing_values(mode: str, tracks: bool) -> None:
    attributes = random_attributes(RandomTrees(FEATURES, trees=6, modes=(mode,), tracks=tracks), 1)
    check_equal(model_of(helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain=ML, n_targets=1, **attributes)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["SUM", "AVERAGE"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_mixed_modes_aggregates_and_bases(seed: int, name: str, outputs: int) -> None:
    attributes = random_attributes(RandomTrees(FEATURES, trees=5, outputs=outputs, sparse=False), seed)
    bases = [0.5, -1.0, 2.0][:outputs]
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain=ML,
        n_targets=outputs,
        aggregate_function=name,
        base_values=bases,
        **attributes,
    )
    check_equal(model_of(node))


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_transforms_of_regressors(transform: str, outputs: int) -> None:
    attributes = random_attributes(RandomTrees(FEATURES, trees=5, outputs=outputs), 2)
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain=ML, n_targets=outputs, post_transform=transform, **attributes
    )
    found = check_equal(model_of(node))
    assert bool(found.links) == (outputs > 1 and transform != "NONE")


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize(("classes", "ids", "bases"), [(2, 1, []), (2, 1, [0.5]), (2, 2, []), (3, 3, [0.5, 0.0, -1.0])])
@pytest.mark.parametrize("positive", [False, True])
def test_classifiers_agree_with_the_runtime(
    transform: str, classes: int, ids: int, bases: list[float], positive: bool
) -> None:
    attributes = random_attributes(RandomTrees(FEATURES, trees=5, outputs=ids), 3, prefix="class")
    if positive:
        attributes["class_weights"] = [abs(weight) for weight in attributes["class_weights"]]
    more: dict[str, Any] = {"base_values": bases} if bases else {}
    node = helper.make_node(
        "TreeEnsembleClassifier",
        ["x"],
        ["label", "y"],
        domain=ML,
        classlabels_int64s=list(range(classes)),
        post_transform=transform,
        **attributes,
        **more,
    )
    check_equal(model_of(node))


def test_doubles_are_compared_as_doubles() -> None:
    attributes = random_attributes(RandomTrees(FEATURES, trees=5), 4)
    splits = [value + 1e-12 for value in attributes.pop("nodes_values")]
    weights = attributes.pop("target_weights")
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain=ML,
        n_targets=1,
        nodes_values_as_tensor=helper.make_tensor("v", TensorProto.DOUBLE, [len(splits)], splits),
        target_weights_as_tensor=helper.make_tensor("w", TensorProto.DOUBLE, [len(weights)], weights),
        **attributes,
    )
    check_equal(model_of(node, TensorProto.DOUBLE))


@pytest.mark.parametrize("given", [TensorProto.INT64, TensorProto.INT32])
def test_whole_numbers_are_compared_in_single_precision(given: int) -> None:
    """2^24 + 1 is not a number of single precision; the runtime compares 2^24."""
    large = float(2**24)
    wanted = RandomTrees(FEATURES, trees=5, values=(-1.0, 0.0, 1.0, large, large + 2))
    attributes = random_attributes(wanted, 4, prefix="class") | {"classlabels_int64s": [0, 1]}
    node = helper.make_node("TreeEnsembleClassifier", ["x"], ["label", "y"], domain=ML, **attributes)
    model = model_of(node, given)
    rows = np.random.default_rng(1).choice(
        [-1.0, 0.0, 1.0, large, large + 1, large + 2, large + 3], size=(40, FEATURES)
    )
    explainer = read_exact_model(graph_of(model), "y").prepare(rows[:5])
    outputs = runner(model, "y")(np.concatenate([rows, rows[:5]]))
    assert agrees_with_runtime(explainer, explainer.explain(rows), outputs, rows, rows[:5])


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize(("classes", "scores"), [(2, 1), (2, 2), (3, 3)])
def test_linear_classifiers_agree_with_the_runtime(transform: str, classes: int, scores: int) -> None:
    weights = np.random.default_rng(1).normal(size=(scores, FEATURES))
    node = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "y"],
        domain=ML,
        coefficients=weights.ravel().tolist(),
        intercepts=[0.25] * scores,
        classlabels_ints=list(range(classes)),
        post_transform=transform,
    )
    model = model_of(node, ml=1)
    rows, background = random_rows(20, FEATURES, 3), random_rows(5, FEATURES, 4)
    found = read_exact_model(graph_of(model), "y").prepare(background)
    outputs = runner(model, "y")(np.concatenate([rows, background]))
    assert agrees_with_runtime(found, found.explain(rows), outputs, rows, background)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("targets", [1, 2])
def test_linear_regressors_agree_with_the_runtime(transform: str, targets: int) -> None:
    weights = np.random.default_rng(1).normal(size=(targets, FEATURES))
    node = helper.make_node(
        "LinearRegressor",
        ["x"],
        ["y"],
        domain=ML,
        coefficients=weights.ravel().tolist(),
        intercepts=[0.25] * targets,
        targets=targets,
        post_transform=transform,
    )
    model = model_of(node, ml=1)
    rows, background = random_rows(20, FEATURES, 3), random_rows(5, FEATURES, 4)
    found = read_exact_model(graph_of(model), "y").prepare(background)
    outputs = runner(model, "y")(np.concatenate([rows, background]))
    assert agrees_with_runtime(found, found.explain(rows), outputs, rows, background)


def tensors(given: int, modes: list[int], transform: int = 0, aggregate: int = 1) -> onnx.NodeProto:
    """Two trees of TreeEnsemble (ai.onnx.ml 5): three splits with four leaves, and a lone leaf."""
    dtype = DTYPES[given]
    return helper.make_node(
        "TreeEnsemble",
        ["x"],
        ["y"],
        domain=ML,
        n_targets=2,
        aggregate_function=aggregate,
        post_transform=transform,
        tree_roots=[0, 3],
        nodes_splits=onnx.numpy_helper.from_array(np.array([0.25, 0.5, 0.0, 0.0], dtype=dtype)),
        nodes_featureids=[0, 1, 2, 0],
        nodes_modes=onnx.numpy_helper.from_array(np.array([*modes, 0], dtype=np.uint8)),
        nodes_truenodeids=[1, 0, 2, 4],
        nodes_trueleafs=[0, 1, 1, 1],
        nodes_falsenodeids=[2, 1, 3, 4],
        nodes_falseleafs=[0, 1, 1, 1],
        nodes_missing_value_tracks_true=[1, 0, 1, 0],
        leaf_targetids=[0, 1, 0, 1, 1],
        leaf_weights=onnx.numpy_helper.from_array(np.array([1.5, -2.0, 3.0, 0.5, 10.0], dtype=dtype)),
        membership_values=onnx.numpy_helper.from_array(np.array([1, 2, np.nan, 2, 0, -1, np.nan], dtype=dtype)),
    )


@pytest.mark.parametrize("given", list(DTYPES))
@pytest.mark.parametrize("modes", [[0, 1, 2], [3, 4, 5], [0, 6, 6], [6, 0, 6]])
@pytest.mark.parametrize(("transform", "aggregate"), [(0, 1), (0, 0), (1, 1), (2, 1), (3, 1)])
def test_trees_of_version_5(given: int, modes: list[int], transform: int, aggregate: int) -> None:
    model = model_of(tensors(given, modes, transform, aggregate), given, ml=5, answer=given)
    found = check_equal(model)
    if not transform:
        rows, run = ROWS[:3], runner(model, "y")
        for row, attributions in zip(rows, found.prepare(BACKGROUND).explain(rows).attributions, strict=True):
            np.testing.assert_allclose(attributions, shapley_values(run, row, BACKGROUND), atol=1e-6)
