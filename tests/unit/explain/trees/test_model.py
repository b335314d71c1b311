"""Shapley values of trees: as the definition has them for random trees, by tables and by pairs."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.explain.graphs import read_exact_model
from penstock.explain.nodes import NotExact
from penstock.explain.trees import leaf_groups, model
from tests.explained import (
    RandomTrees,
    random_attributes,
    random_rows,
    shapley_values,
    single_node,
    walk,
)

FEATURES = 5


def attributes_of(wanted: RandomTrees, seed: int, **more: Any) -> dict[str, Any]:
    return random_attributes(wanted, seed) | {"n_targets": wanted.outputs} | more


def check_against_the_definition(wanted: RandomTrees, seed: int, *, missing: bool) -> None:
    attributes = attributes_of(wanted, seed)
    rows = random_rows(3, wanted.features, seed + 1, missing=missing)
    background = random_rows(6, wanted.features, seed + 2, missing=missing)
    explainer = read_exact_model(single_node("TreeEnsembleRegressor", attributes), "y").prepare(background)
    found = explainer.explain(rows)
    for row, attributions in zip(rows, found.attributions, strict=True):
        expected = shapley_values(lambda many: walk(attributes, many, wanted.outputs), row, background)
        np.testing.assert_allclose(attributions, expected, atol=1e-12)
    np.testing.assert_allclose(found.prediction, walk(attributes, rows, wanted.outputs), atol=1e-12)
    np.testing.assert_allclose(found.base_value, walk(attributes, background, wanted.outputs).mean(axis=0), atol=1e-12)


@given(st.integers(0, 2**32), st.integers(1, 3), st.booleans())
@settings(max_examples=25, deadline=None)
def test_random_trees_get_the_values_of_the_definition(seed: int, outputs: int, missing: bool) -> None:
    check_against_the_definition(RandomTrees(FEATURES, outputs=outputs), seed, missing=missing)


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=10, deadline=None)
def test_pairs_answer_as_tables_do(seed: int, missing: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "LONGEST_IN_TABLES", 0)
        check_against_the_definition(RandomTrees(FEATURES, outputs=2), seed, missing=missing)


@pytest.mark.parametrize("alone", [0, 2])
def test_leaves_of_different_lengths_share_a_group(monkeypatch: pytest.MonkeyPatch, alone: int) -> None:
    monkeypatch.setattr(leaf_groups, "ALONE", alone)
    monkeypatch.setattr(model, "LONGEST_IN_TABLES", alone)
    check_against_the_definition(RandomTrees(FEATURES, trees=5), 7, missing=True)


@pytest.mark.parametrize("features", [12, 24, 40])
def test_long_paths_have_wider_sets(features: int) -> None:
    """A chain of splits on as many features: only rows that pass all of them reach its last leaf."""
    nodes = 2 * features + 1
    chain: dict[str, Any] = {
        "nodes_treeids": [0] * nodes,
        "nodes_nodeids": list(range(nodes)),
        "nodes_featureids": [*range(features), *[0] * (features + 1)],
        "nodes_modes": ["BRANCH_GT"] * features + ["LEAF"] * (features + 1),
        "nodes_values": [0.0] * nodes,
        "nodes_truenodeids": [*range(1, features), 2 * features, *[0] * (features + 1)],
        "nodes_falsenodeids": [*range(features, 2 * features), *[0] * (features + 1)],
        "target_treeids": [0],
        "target_nodeids": [2 * features],
        "target_ids": [0],
        "target_weights": [1.0],
        "n_targets": 1,
    }
    explainer = read_exact_model(single_node("TreeEnsembleRegressor", chain), "y").prepare(np.zeros((2, features)))
    found = explainer.explain(np.ones((1, features)))
    np.testing.assert_allclose(found.attributions[0, :, 0], np.full(features, 1 / features))
    half = np.where(np.arange(features) < 3, 0.0, 1.0)[None]
    missed = explainer.explain(half)
    np.testing.assert_allclose(missed.attributions, 0)


def test_efficiency_symmetry_and_null_players() -> None:
    """x0 + x1 > 0 as trees: both matter alike, and the third not at all."""
    attributes = {
        "nodes_treeids": [0] * 7,
        "nodes_nodeids": list(range(7)),
        "nodes_featureids": [0, 1, 1, 0, 0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ"] * 3 + ["LEAF"] * 4,
        "nodes_values": [0.0] * 7,
        "nodes_truenodeids": [1, 3, 5, 0, 0, 0, 0],
        "nodes_falsenodeids": [2, 4, 6, 0, 0, 0, 0],
        "target_treeids": [0] * 4,
        "target_nodeids": [3, 4, 5, 6],
        "target_ids": [0] * 4,
        "target_weights": [0.0, 1.0, 1.0, 2.0],
        "n_targets": 1,
        "base_values": [10.0],
    }
    explainer = read_exact_model(single_node("TreeEnsembleRegressor", attributes), "y").prepare(-np.ones((4, 3)))
    found = explainer.explain(np.ones((1, 3)))
    assert found.attributions[0, :, 0].tolist() == [1.0, 1.0, 0.0]
    assert (found.base_value.tolist(), found.prediction.tolist()) == ([10.0], [[12.0]])


def test_average_divides_by_the_trees_and_keeps_the_base() -> None:
    wanted = RandomTrees(FEATURES, trees=4)
    rows, background = random_rows(2, FEATURES, 1), random_rows(3, FEATURES, 2)
    graphs = [
        single_node("TreeEnsembleRegressor", attributes_of(wanted, 3, aggregate_function=name, base_values=[2.0]))
        for name in ("SUM", "AVERAGE")
    ]
    total, mean = (read_exact_model(graph, "y").prepare(background).explain(rows) for graph in graphs)
    np.testing.assert_allclose(mean.attributions, total.attributions / 4)
    np.testing.assert_allclose(mean.prediction - 2, (total.prediction - 2) / 4)


def test_a_tree_of_one_leaf_is_a_constant() -> None:
    wanted = RandomTrees(FEATURES, trees=2, depth=0)
    attributes = attributes_of(wanted, 5)
    explainer = read_exact_model(single_node("TreeEnsembleRegressor", attributes), "y").prepare(np.zeros((2, FEATURES)))
    found = explainer.explain(np.ones((1, FEATURES)))
    assert not found.attributions.any()
    np.testing.assert_allclose(found.prediction[0], sum(attributes["target_weights"]))


def test_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = single_node("TreeEnsembleRegressor", attributes_of(RandomTrees(FEATURES), 1))
    found = read_exact_model(graph, "y")
    monkeypatch.setattr(model, "MOST_SETS", 10)
    with pytest.raises(NotExact, match="too many leaves"):
        found.prepare(np.zeros((5, FEATURES)))
    monkeypatch.setattr(model, "MOST_SETS", 10**6)
    monkeypatch.setattr(model, "MOST_TABLE_BYTES", 0)
    monkeypatch.setattr(model, "MOST_PAIRS", 10)
    with pytest.raises(NotExact, match="too many leaves"):
        found.prepare(np.zeros((5, FEATURES)))


def test_rows_with_too_few_features_are_refused() -> None:
    found = read_exact_model(single_node("TreeEnsembleRegressor", attributes_of(RandomTrees(FEATURES), 1)), "y")
    with pytest.raises(NotExact, match="feature that rows do not have"):
        found.prepare(np.zeros((5, 1)))


def test_memory_is_stated() -> None:
    found = read_exact_model(single_node("TreeEnsembleRegressor", attributes_of(RandomTrees(FEATURES), 1)), "y")
    assert 1_000 < found.prepare(np.zeros((5, FEATURES))).memory_bytes < 100_000
