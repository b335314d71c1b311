"""Reading graphs as exact models: which chains are accepted, what they become, and why others are refused."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from penstock.explain.graphs import read_exact_model
from penstock.explain.linear import LinearModel
from penstock.explain.links import apply_links
from penstock.explain.nodes import GraphNode, ModelGraph, NotExact
from tests.explained import ML, RandomTrees, random_attributes, random_rows, shapley_values, single_node, walk

FEATURES = 4
ROWS, BACKGROUND = random_rows(3, FEATURES, 1), random_rows(6, FEATURES, 2)
TREES = random_attributes(RandomTrees(FEATURES), 1) | {"n_targets": 1}
FLOAT, DOUBLE, INT64 = 1, 11, 7


def node(op_type: str, inputs: str, outputs: str, domain: str = "", **attributes: Any) -> GraphNode:
    return GraphNode(op_type, domain, tuple(inputs.split()), tuple(outputs.split()), attributes)


def graph(*nodes: GraphNode, dtype: Any = np.float32, **constants: Any) -> ModelGraph:
    arrays: dict[str, NDArray[Any]] = {name: np.asarray(value) for name, value in constants.items()}
    return ModelGraph(nodes, arrays, {"x": np.dtype(dtype)}, ("y",))


def trees(inputs: str = "x", outputs: str = "y") -> GraphNode:
    return node("TreeEnsembleRegressor", inputs, outputs, ML, **TREES)


def answers(found: Any) -> Any:
    """What the explainer says the graph answers for the rows, with its Shapley values."""
    shares = found.prepare(BACKGROUND).explain(ROWS)
    return shares.attributions, apply_links(shares.prediction, found.links)


def test_what_exporters_hang_behind_a_model_is_accepted() -> None:
    chain = graph(
        trees(outputs="a"),
        node("Cast", "a", "b", to=DOUBLE),
        node("Mul", "b two", "c"),
        node("Add", "one c", "d"),
        node("Sub", "d half", "e"),
        node("Div", "e four", "f"),
        node("Reshape", "f shape", "g"),
        node("Identity", "g", "y"),
        two=2.0,
        one=[1.0],
        half=[[0.5]],
        four=4.0,
        shape=[-1, 1],
    )
    plain, plain_answers = answers(read_exact_model(graph(trees()), "y"))
    found, found_answers = answers(read_exact_model(chain, "y"))
    np.testing.assert_allclose(found, plain / 2)
    np.testing.assert_allclose(found_answers, (2 * plain_answers + 0.5) / 4)


def test_what_is_taken_from_a_constant_turns_signs() -> None:
    turned = graph(trees(outputs="a"), node("Sub", "one a", "y"), one=1.0)
    plain, plain_answers = answers(read_exact_model(graph(trees()), "y"))
    found, found_answers = answers(read_exact_model(turned, "y"))
    np.testing.assert_allclose(found, -plain)
    np.testing.assert_allclose(found_answers, 1 - plain_answers)


@pytest.mark.parametrize(("op_type", "link"), [("Sigmoid", "logistic"), ("Softmax", "softmax"), ("Exp", "exponential")])
def test_links_leave_a_margin(op_type: str, link: str) -> None:
    found = read_exact_model(graph(trees(outputs="a"), node(op_type, "a", "y")), "y")
    assert found.links == (link,)
    np.testing.assert_allclose(answers(found)[0], answers(read_exact_model(graph(trees()), "y"))[0])


def test_sums_of_ensembles_are_one_ensemble() -> None:
    other = random_attributes(RandomTrees(FEATURES, trees=2), 9) | {"n_targets": 1, "base_values": [3.0]}
    added = graph(
        trees(outputs="a"),
        node("TreeEnsembleRegressor", "x", "b", ML, **other),
        trees(outputs="c"),
        node("Sum", "a b c", "y"),
    )
    found, found_answers = answers(read_exact_model(added, "y"))
    np.testing.assert_allclose(found_answers, 2 * walk(TREES, ROWS, 1) + walk(other, ROWS, 1) + 3)
    expected = shapley_values(lambda rows: 2 * walk(TREES, rows, 1) + walk(other, rows, 1), ROWS[0], BACKGROUND)
    np.testing.assert_allclose(found[0], expected, atol=1e-12)


def test_features_may_be_changed_each_by_itself_before_the_model() -> None:
    offset, scale = [0.5, 0.0, -0.5, 1.0], [2.0, 1.0, 0.5, -1.0]
    chain = graph(
        node("Imputer", "x", "a", ML, replaced_value_float=float("nan"), imputed_value_floats=[0.5] * 4),
        node("Scaler", "a", "b", ML, offset=offset, scale=scale),
        node("Cast", "b", "c", to=FLOAT),
        node("Mul", "c two", "d"),
        node("Sub", "one d", "e"),
        node("Identity", "e", "f"),
        trees(inputs="f"),
        two=np.float32(2),
        one=np.ones(4, dtype=np.float32),
    )
    rows = np.where(ROWS < -1, np.nan, ROWS)
    shares = read_exact_model(chain, "y").prepare(BACKGROUND).explain(rows)

    def run(many: Any) -> Any:
        filled = np.where(np.isnan(many), 0.5, many)
        return walk(TREES, 1 - 2 * (filled - np.array(offset)) * np.array(scale), 1)

    np.testing.assert_allclose(shares.prediction, run(rows))
    np.testing.assert_allclose(shares.attributions[0], shapley_values(run, rows[0], BACKGROUND), atol=1e-12)


def test_columns_are_joined_and_selected_feature_by_feature() -> None:
    """As exporters write pipelines over tables: an input for each column, some of them scaled."""
    nodes = (
        node("Cast", "b", "b2", to=FLOAT),
        node("Concat", "d b2", "left", axis=1),
        node("Scaler", "left", "scaled", ML, offset=[1.0, 0.5], scale=[2.0, -1.0]),
        node("FeatureVectorizer", "scaled a c", "joined", ML),
        trees(inputs="joined"),
    )
    single, whole = np.dtype(np.float32), np.dtype(np.int64)
    inputs: dict[str, np.dtype[Any]] = {"a": single, "b": whole, "c": single, "d": single}
    rows, background = ROWS.copy(), BACKGROUND.copy()
    rows[:, 1], background[:, 1] = np.round(rows[:, 1]), np.round(background[:, 1])
    explainer = read_exact_model(ModelGraph(nodes, {}, inputs, ("y",)), "y").prepare(background)

    def run(many: Any) -> Any:
        a, b, c, d = many.T
        return walk(TREES, np.stack([(d - 1) * 2, -(b - 0.5), a, c], axis=1), 1)

    found = explainer.explain(rows)
    np.testing.assert_allclose(found.prediction, run(rows))
    for row, attributions in zip(rows, found.attributions, strict=True):
        np.testing.assert_allclose(attributions, shapley_values(run, row, background), atol=1e-12)


@pytest.mark.parametrize(
    "select",
    [
        node("ArrayFeatureExtractor", "x places", "chosen", ML),
        node("Gather", "x places", "chosen", axis=1),
    ],
)
def test_weights_of_some_features_leave_the_others_without(select: GraphNode) -> None:
    chosen = graph(select, node("MatMul", "chosen w", "y"), places=np.array([3, 1]), w=WEIGHTS[:2])
    attributions, predictions = answers(read_exact_model(chosen, "y"))
    np.testing.assert_allclose(predictions, ROWS[:, [3, 1]] @ WEIGHTS[:2])
    assert not attributions[:, [0, 2]].any()
    np.testing.assert_allclose(attributions[:, [3, 1]], (ROWS - BACKGROUND.mean(axis=0))[:, [3, 1], None] * WEIGHTS[:2])


def test_a_feature_may_make_several_columns() -> None:
    doubled = graph(
        node("Concat", "x x", "a", axis=1),
        node("Gather", "a places", "b", axis=1),
        trees(inputs="b"),
        places=np.array([0, 4, 1, 5]),
    )
    explainer = read_exact_model(doubled, "y").prepare(BACKGROUND)
    found = explainer.explain(ROWS)
    expected = shapley_values(lambda many: walk(TREES, many[:, [0, 0, 1, 1]], 1), ROWS[0], BACKGROUND)
    np.testing.assert_allclose(found.attributions[0], expected, atol=1e-12)
    summed = graph(node("Concat", "x x", "a", axis=1), node("MatMul", "a w", "y"), w=np.vstack([WEIGHTS, 2 * WEIGHTS]))
    np.testing.assert_allclose(
        answers(read_exact_model(summed, "y"))[0], (ROWS - BACKGROUND.mean(axis=0))[:, :, None] * 3 * WEIGHTS
    )


def test_categories_become_columns_of_their_feature() -> None:
    """Texts and numbers, encoded as scikit-learn's exporter does."""
    nodes = (
        node("OneHotEncoder", "colour", "o1", ML, cats_strings=[b"blue", b"red"], zeros=1),
        node("OneHotEncoder", "size", "o2", ML, cats_int64s=[0, 1], zeros=1),
        node("Concat", "o1 o2", "o", axis=-1),
        node("Reshape", "o four", "o4"),
        node("LabelEncoder", "kind", "k", ML, keys_strings=["a", "b"], values_floats=[0.5, -0.5], default_float=1.0),
        node("Concat", "o4 k number", "all", axis=1),
        node("MatMul", "all w", "y"),
    )
    weights = np.array([[1.0], [2.0], [4.0], [8.0], [16.0], [32.0]])
    inputs: dict[str, np.dtype[Any]] = {
        "number": np.dtype(np.float32),
        "colour": np.dtype(object),
        "size": np.dtype(np.float32),
        "kind": np.dtype(object),
    }
    table = ModelGraph(nodes, {"w": weights, "four": np.array([-1, 4])}, inputs, ("y",))
    rows = np.array([[1.0, "red", 1.5, "a"], [2.0, "pink", 3.0, "c"]], dtype=object)
    background = np.array([[0.0, "blue", 0.0, "b"]], dtype=object)
    found = read_exact_model(table, "y").prepare(background).explain(rows)
    np.testing.assert_allclose(found.attributions[:, :, 0], [[32, 1, 4, 16], [64, -1, -4, 24]])
    np.testing.assert_allclose(found.base_value, [1 + 4 - 8])


def test_columns_that_do_not_fit_are_refused() -> None:
    wide = ModelGraph((trees(inputs="b"),), {}, dict.fromkeys(("a", "b"), np.dtype(np.float32)), ("y",))
    with pytest.raises(NotExact, match="several of the features"):
        read_exact_model(wide, "y").prepare(BACKGROUND)
    outside = graph(node("Gather", "x places", "a", axis=1), trees(inputs="a"), places=np.array([7]))
    with pytest.raises(NotExact, match="do not have"):
        read_exact_model(outside, "y").prepare(BACKGROUND)


def test_text_columns_are_not_explained_as_numbers() -> None:
    mixed = graph(node("Reshape", "x two", "a"), trees(inputs="a"), two=np.array([-1, 2]))
    with pytest.raises(NotExact, match="mixes the rows"):
        read_exact_model(mixed, "y").prepare(BACKGROUND)
    many = graph(node("OneHotEncoder", "x", "a", ML, cats_int64s=[0, 1]), trees(inputs="a"))
    with pytest.raises(NotExact, match="several features are encoded"):
        read_exact_model(many, "y").prepare(BACKGROUND)
    with pytest.raises(NotExact, match="not a number"):
        read_exact_model(graph(trees()), "y").prepare(np.array([["a"] * FEATURES], dtype=object))


WEIGHTS = np.array([[1.0, -2.0], [0.5, 0.0], [0.0, 3.0], [-1.0, 1.0]])


@pytest.mark.parametrize(
    "nodes",
    [
        (node("Gemm", "x w c", "y", alpha=1.0, beta=2.0),),
        (node("Gemm", "x v c", "y", transB=1, beta=2.0),),
        (node("MatMul", "x w", "a"), node("Add", "a d", "y")),
        (node("LinearRegressor", "x", "y", ML, coefficients=WEIGHTS.T.ravel(), intercepts=[0.5, 1.0], targets=2),),
        (
            node(
                "LinearClassifier",
                "x",
                "label y",
                ML,
                coefficients=WEIGHTS.T.ravel(),
                intercepts=[0.5, 1.0],
                classlabels_ints=[0, 1],
            ),
        ),
    ],
)
def test_weighted_sums_are_exact(nodes: tuple[GraphNode, ...]) -> None:
    found = read_exact_model(graph(*nodes, w=WEIGHTS, v=WEIGHTS.T, c=[0.25, 0.5], d=[[0.5, 1.0]]), "y")
    attributions, predictions = answers(found)
    assert isinstance(found, LinearModel)
    np.testing.assert_allclose(predictions, ROWS @ WEIGHTS + [0.5, 1.0], atol=1e-6)
    np.testing.assert_allclose(attributions, (ROWS - BACKGROUND.mean(axis=0))[:, :, None] * WEIGHTS, atol=1e-6)


def test_a_sum_of_weighted_sums_is_one() -> None:
    both = graph(node("MatMul", "x w", "a"), node("MatMul", "x v", "b"), node("Add", "a b", "y"), w=WEIGHTS, v=WEIGHTS)
    np.testing.assert_allclose(answers(read_exact_model(both, "y"))[1], 2 * ROWS @ WEIGHTS)


CLASSES = random_attributes(RandomTrees(FEATURES), 1, prefix="class")
POSITIVE = CLASSES | {"class_weights": [abs(weight) for weight in CLASSES["class_weights"]]}


@pytest.mark.parametrize(
    ("attributes", "transform", "is_negative"),
    [(CLASSES, "NONE", True), (CLASSES, "LOGISTIC", True), (POSITIVE, "LOGISTIC", True), (POSITIVE, "SOFTMAX", False)],
)
@pytest.mark.parametrize("class_id", [0, 1])
def test_weights_of_one_class_of_two_say_the_other_one(
    attributes: dict[str, Any], transform: str, is_negative: bool, class_id: int
) -> None:
    ids = [class_id] * len(attributes["class_ids"])
    full = attributes | {"class_ids": ids, "classlabels_int64s": [0, 1], "post_transform": transform}
    found = read_exact_model(single_node("TreeEnsembleClassifier", full), "y")
    shares = found.prepare(BACKGROUND).explain(ROWS)
    score = walk(attributes, ROWS, 1, "class")[:, 0]
    np.testing.assert_allclose(shares.prediction, np.stack([-score if is_negative else 1 - score, score], axis=1))
    assert found.links == (("logistic",) if transform == "LOGISTIC" else ())
    np.testing.assert_allclose(shares.attributions[:, :, 0], -shares.attributions[:, :, 1])


REFUSED = [
    (graph(node("Relu", "x", "y")), "not computed from the features"),
    (graph(trees(outputs="a"), node("Relu", "a", "y")), "Relu behind the model"),
    (graph(node("Relu", "x", "a"), trees(inputs="a")), "Relu before the model"),
    (graph(node("MatMul", "x w", "a"), trees(inputs="a"), w=WEIGHTS), "MatMul before the model"),
    (graph(node("Add", "x x", "a"), trees(inputs="a")), "Add before the model"),
    (graph(node("Concat", "x x", "a", axis=0), trees(inputs="a")), "does not join features"),
    (graph(node("Reshape", "x x", "a"), trees(inputs="a")), "does not keep rows apart"),
    (graph(node("LabelEncoder", "x", "a", ML, keys_floats=[1.0]), trees(inputs="a")), "other than texts"),
    (graph(node("Gather", "x x", "a", axis=1), trees(inputs="a")), "does not select features"),
    (graph(trees(outputs="a"), node("Mul", "a a", "y")), "values that are both computed"),
    (graph(trees(outputs="a"), node("Div", "one a", "y"), one=1.0), "divides by what it answers"),
    (graph(trees(outputs="a"), node("Div", "a no", "y"), no=0.0), "or by zero"),
    (graph(trees(outputs="a"), node("Add", "a many", "y"), many=[1.0, 2.0]), "other values to each row"),
    (graph(trees(outputs="a"), node("Cast", "a", "y", to=INT64)), "rounded"),
    (graph(trees(outputs="a"), node("Cast", "a", "y", to=8)), "no exact numbers"),
    (graph(trees(outputs="a"), node("Softmax", "a", "y", axis=0)), "not over the outputs"),
    (graph(trees(outputs="a"), node("Sigmoid", "a", "b"), node("Mul", "b two", "y"), two=2.0), "behind its link"),
    (graph(trees(outputs="a"), node("MatMul", "x w", "b"), node("Add", "a b", "y"), w=WEIGHTS[:, :1]), "trees and"),
    (graph(node("MatMul", "x x", "y")), "both computed"),
    (graph(node("Gemm", "x w", "y", transA=1), w=WEIGHTS), "transposed"),
    (graph(node("LinearRegressor", "x", "y", ML, coefficients=[1.0, 2.0, 3.0], targets=2)), "different lengths"),
    (graph(trees(inputs="z")), "not computed from the features"),
    (single_node("TreeEnsembleRegressor", TREES | {"aggregate_function": "MAX"}), "maximum"),
    (single_node("TreeEnsembleRegressor", TREES | {"post_transform": "PROBIT"}), "PROBIT"),
    (single_node("TreeEnsembleRegressor", TREES | {"nodes_modes": ["BRANCH_NEAR"]}), "kind of split"),
    (single_node("TreeEnsembleRegressor", TREES | {"nodes_values": [1.0]}), "different lengths"),
    (single_node("TreeEnsembleRegressor", TREES | {"target_ids": [0]}), "different lengths"),
    (single_node("TreeEnsembleRegressor", TREES | {"n_targets": 0}), "outputs that they do not have"),
    (single_node("TreeEnsembleRegressor", TREES | {"target_nodeids": [0] * len(TREES["target_ids"])}), "a weight of"),
    (single_node("TreeEnsembleRegressor", {}), "no trees"),
]


@pytest.mark.parametrize(("refused", "reason"), REFUSED)
def test_all_else_is_refused_with_the_reason(refused: ModelGraph, reason: str) -> None:
    with pytest.raises(NotExact, match=reason):
        read_exact_model(refused, "y")


def test_bases_that_the_runtime_leaves_out_are_refused() -> None:
    """It adds the base of a target only to rows of which a leaf adds to the target, if there are several targets."""
    attributes = random_attributes(RandomTrees(FEATURES, trees=1, outputs=2), 5) | {"n_targets": 2}
    read_exact_model(single_node("TreeEnsembleRegressor", attributes), "y")
    with pytest.raises(NotExact, match="not every row reaches"):
        read_exact_model(single_node("TreeEnsembleRegressor", attributes | {"base_values": [0.0, 1.0]}), "y")


def test_a_label_is_refused() -> None:
    labelled = CLASSES | {"classlabels_strings": ["a", "b"]}
    with pytest.raises(NotExact, match="explain the scores"):
        read_exact_model(single_node("TreeEnsembleClassifier", labelled), "label")


def test_endless_chains_are_refused() -> None:
    loop = graph(node("Identity", "y", "y"))
    with pytest.raises(NotExact, match="chain of more than 50"):
        read_exact_model(loop, "y")
    before = graph(node("Identity", "a", "a"), trees(inputs="a"))
    with pytest.raises(NotExact, match="chain of more than 50"):
        read_exact_model(before, "y")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nodes_truenodeids": 99}, "does not have"),
        ({"nodes_falsenodeids": 0}, "paths of more than 256 splits"),
        ({"nodes_treeids": 5}, "not listed together|does not have"),
        ({"nodes_nodeids": 0}, "two nodes of one id"),
        ({"nodes_nodeids": -1}, "too large"),
        ({"nodes_featureids": -1}, "does not exist"),
    ],
)
def test_trees_that_contradict_themselves_are_refused(changes: dict[str, int], reason: str) -> None:
    wrong = TREES | {name: [*TREES[name][:1], value, *TREES[name][2:]] for name, value in changes.items()}
    with pytest.raises(NotExact, match=reason):
        read_exact_model(single_node("TreeEnsembleRegressor", wrong), "y").prepare(BACKGROUND)
