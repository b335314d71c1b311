"""Methods: exact where a model is, all coalitions, sampled orders; budgets, and differences of two models."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from penstock.core.errors import DeadlineExceeded, InvalidInput, Unsupported
from penstock.explain.budgets import ExplainOptions, RowRunner
from penstock.explain.graphs import read_exact_model
from penstock.explain.methods import NOT_EQUAL, explain_difference_steps, explain_steps
from penstock.explain.sampling import RunningMean
from tests.explained import (
    Floats,
    RandomTrees,
    drive,
    mean_over_orders,
    random_attributes,
    random_rows,
    shapley_values,
    single_node,
    walk,
)

FEATURES = 4


def smooth(rows: Any) -> Floats:
    """Two outputs of four features that depend on each other."""
    a, b, c, d = rows.T
    return np.stack([a * b + np.sin(c), b - c * d + 2 * a], axis=1)


ROWS = np.random.default_rng(1).normal(size=(3, FEATURES))
BACKGROUND = np.random.default_rng(2).normal(size=(7, FEATURES))


def test_all_coalitions_give_the_values_of_the_definition() -> None:
    found = drive(explain_steps(None, ROWS, BACKGROUND, ExplainOptions()), smooth)
    assert (found.method, found.exact, found.scale, found.note) == ("enumeration", True, "value", "")
    assert found.background_rows == 7
    assert found.evaluated_rows == 3 + 7 + 3 * 7 * (2**4 - 2)
    for row, attributions in zip(ROWS, found.attributions, strict=True):
        np.testing.assert_allclose(attributions, shapley_values(smooth, row, BACKGROUND), atol=1e-12)
        np.testing.assert_allclose(attributions, mean_over_orders(smooth, row, BACKGROUND), atol=1e-12)
    assert not found.error.any()
    np.testing.assert_allclose(found.base_value + found.attributions.sum(axis=1), found.prediction)


def test_sampled_orders_come_near_and_state_how_near() -> None:
    options = ExplainOptions(method="permutation", max_rows=9_000, seed=3)
    found = drive(explain_steps(None, ROWS, BACKGROUND, options), smooth)
    assert (found.method, found.exact, found.background_rows) == ("permutation", False, 7)
    assert found.evaluated_rows <= 9_000
    expected = np.stack([shapley_values(smooth, row, BACKGROUND) for row in ROWS])
    assert (found.error > 0).any()
    distance = np.abs(found.attributions - expected)
    assert (distance <= 4 * found.error + 0.02).all()
    assert found.error.max() < 0.2
    np.testing.assert_allclose(found.base_value + found.attributions.sum(axis=1), found.prediction)


def test_the_same_seed_gives_the_same_answer_and_another_one_another() -> None:
    def attributions(seed: int) -> Floats:
        options = ExplainOptions(method="permutation", max_rows=500, seed=seed)
        return drive(explain_steps(None, ROWS, BACKGROUND, options), smooth).attributions

    np.testing.assert_array_equal(attributions(1), attributions(1))
    assert (attributions(1) != attributions(2)).any()


def test_steps_are_chunks() -> None:
    sizes: list[int] = []

    def run(rows: Any) -> Floats:
        sizes.append(len(rows))
        return smooth(rows)

    drive(explain_steps(None, ROWS, BACKGROUND, ExplainOptions(chunk_rows=16)), run)
    assert max(sizes) <= 16


@pytest.mark.parametrize("method", ["enumeration", "permutation"])
def test_one_feature_gets_the_whole_difference(method: Any) -> None:
    rows, background = np.array([[3.0]]), np.array([[0.0], [1.0]])
    options = ExplainOptions(method=method)
    found = drive(explain_steps(None, rows, background, options), lambda many: np.asarray(many) ** 2)
    np.testing.assert_allclose(found.attributions, [[[8.5]]])
    np.testing.assert_allclose(found.base_value, [0.5])


class Clock:
    """A clock that is moved by who runs rows."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def run(self, rows: Any) -> Floats:
        self.now += 1000 * len(rows)
        return smooth(rows)


@pytest.mark.parametrize("method", ["auto", "permutation"])
def test_the_deadline_is_kept_with_the_error_reached_so_far(method: Any) -> None:
    clock = Clock()
    options = ExplainOptions(method=method, deadline_ns=150_000, clock=clock)
    found = drive(explain_steps(None, ROWS, BACKGROUND, options), clock.run)
    assert not found.exact
    assert clock.now <= 150_000
    assert (found.error > 0).any()
    np.testing.assert_allclose(found.base_value + found.attributions.sum(axis=1), found.prediction)


@pytest.mark.parametrize("method", ["auto", "permutation"])
def test_a_deadline_before_any_error_is_known_is_an_error(method: Any) -> None:
    clock = Clock()
    options = ExplainOptions(method=method, deadline_ns=20_000, clock=clock)
    with pytest.raises(DeadlineExceeded, match="time was too short"):
        drive(explain_steps(None, ROWS, BACKGROUND, options), clock.run)


@pytest.mark.simulation
@pytest.mark.parametrize("method", ["permutation", "enumeration"])
def test_the_stated_error_is_the_error(method: Any) -> None:
    """Over many seeds, distances from the exact values are as large as the stated standard errors."""
    generator = np.random.default_rng(5)
    rows, background = generator.normal(size=(2, FEATURES)), generator.normal(size=(40, FEATURES))
    expected = np.stack([shapley_values(smooth, row, background) for row in rows])
    a_round = 2 * (2 * (FEATURES - 1) if method == "permutation" else 2**FEATURES - 2)
    squares = []
    for seed in range(200):
        clock = Clock()
        rounds = (2 + 40 + 12 * a_round + 1) * 1000
        options = ExplainOptions(method=method, seed=seed, deadline_ns=rounds, clock=clock)
        found = drive(explain_steps(None, rows, background, options), clock.run)
        assert not found.exact
        known = found.error > 0
        assert np.allclose(found.attributions[~known], expected[~known])
        squares.append(((found.attributions - expected)[known] / found.error[known]) ** 2)
    assert 0.8 < np.sqrt(np.mean(np.concatenate(squares))) < 1.3


def test_too_few_rows_are_refused_before_any_is_run() -> None:
    with pytest.raises(InvalidInput, match="needs 46 evaluations"):
        next(explain_steps(None, ROWS, BACKGROUND, ExplainOptions(max_rows=45)))


def test_inexact_explanations_are_not_reported_as_exact() -> None:
    wide = np.zeros((1, 11))
    with pytest.raises(Unsupported, match="no exact explanation"):
        next(explain_steps(None, wide, wide, ExplainOptions(method="exact")))
    with pytest.raises(Unsupported, match="all coalitions of 11 features"):
        next(explain_steps(None, wide, wide, ExplainOptions(method="enumeration")))


@pytest.mark.parametrize(
    ("rows", "background"),
    [(np.zeros((0, 2)), np.zeros((1, 2))), (np.zeros((1, 2)), np.zeros((1, 3))), (np.zeros(2), np.zeros((1, 2)))],
)
def test_rows_that_do_not_fit_are_refused(rows: Any, background: Any) -> None:
    with pytest.raises(InvalidInput):
        next(explain_steps(None, rows, background, ExplainOptions()))


def tree_attributes(seed: int, **more: Any) -> dict[str, Any]:
    return random_attributes(RandomTrees(FEATURES), seed) | {"n_targets": 1} | more


def test_an_exact_model_runs_only_the_rows_and_is_compared_with_the_runtime() -> None:
    attributes = tree_attributes(1)
    rows, background = random_rows(3, FEATURES, 1), random_rows(5, FEATURES, 2)
    explainer = read_exact_model(single_node("TreeEnsembleRegressor", attributes), "y").prepare(background)
    found = drive(explain_steps(explainer, rows, background, ExplainOptions()), lambda many: walk(attributes, many, 1))
    assert (found.method, found.exact, found.scale, found.evaluated_rows) == ("tree", True, "value", 3 + 5)
    other = drive(
        explain_steps(explainer, rows, background, ExplainOptions()), lambda many: walk(attributes, many, 1) + 0.1
    )
    assert (other.method, other.note) == ("enumeration", NOT_EQUAL)


def test_the_difference_of_two_trees_is_exact() -> None:
    rows, background = random_rows(2, FEATURES, 1), random_rows(5, FEATURES, 2)
    both = [tree_attributes(seed) for seed in (1, 2)]
    first, second = (
        read_exact_model(single_node("TreeEnsembleRegressor", one), "y").prepare(background) for one in both
    )

    def run(many: Any) -> Floats:
        return np.hstack([walk(both[1], many, 1), walk(both[0], many, 1)])

    found = drive(explain_difference_steps(second, first, rows, background, ExplainOptions()), run)
    assert (found.method, found.exact, found.evaluated_rows) == ("tree", True, 2 + 5)
    sampled = drive(explain_difference_steps(None, first, rows, background, ExplainOptions()), run)
    assert (sampled.method, sampled.exact) == ("enumeration", True)
    np.testing.assert_allclose(found.attributions, sampled.attributions, atol=1e-12)
    np.testing.assert_allclose(found.prediction, sampled.prediction, atol=1e-12)


def test_a_difference_of_other_scales_is_sampled_and_says_why() -> None:
    rows, background = random_rows(2, FEATURES, 1), random_rows(5, FEATURES, 2)
    plain = read_exact_model(single_node("TreeEnsembleRegressor", tree_attributes(1)), "y")
    linked = replace(plain, links=("logistic",))
    found = drive(
        explain_difference_steps(
            linked.prepare(background), plain.prepare(background), rows, background, ExplainOptions()
        ),
        lambda many: np.zeros((len(many), 2)),
    )
    assert "different scales" in found.note
    assert found.method == "enumeration"


def test_rows_may_hold_texts() -> None:
    rows = np.array([["red", 2.0, None]], dtype=object)
    background = np.array([["blue", 1.0, None], ["red", 3.0, None]], dtype=object)
    found = drive(
        explain_steps(None, rows, background, ExplainOptions()),
        lambda many: np.array([[10.0 * (color == "red") + number] for color, number, _ in many]),
    )
    np.testing.assert_allclose(found.attributions[0, :, 0], [5.0, 0.0, 0.0], atol=1e-12)


def test_rows_that_only_the_runtime_reads_are_sampled() -> None:
    background = random_rows(5, FEATURES, 2)
    explainer = read_exact_model(single_node("TreeEnsembleRegressor", tree_attributes(1)), "y").prepare(background)
    rows = np.array([["1", 0.0, 0.0, "many"]], dtype=object)
    options = ExplainOptions(max_rows=10_000)
    found = drive(explain_steps(explainer, rows, background, options), lambda many: np.ones((len(many), 1)))
    assert (found.method, found.note) == ("enumeration", "a feature is not a number")


def test_exact_values_of_many_rows_keep_the_deadline() -> None:
    rows, background = random_rows(30, FEATURES, 1), random_rows(5, FEATURES, 2)
    explainer = read_exact_model(single_node("TreeEnsembleRegressor", tree_attributes(1)), "y").prepare(background)
    now = [0]

    def pause() -> None:
        now[0] += 1

    options = ExplainOptions(deadline_ns=10, clock=lambda: now[0], pause=pause)
    with pytest.raises(DeadlineExceeded, match="fewer rows"):
        drive(explain_steps(explainer, rows, background, options), lambda many: walk(tree_attributes(1), many, 1))
    free = ExplainOptions(pause=pause)
    found = drive(explain_steps(explainer, rows, background, free), lambda many: walk(tree_attributes(1), many, 1))
    assert found.attributions.shape == (30, FEATURES, 1)


def test_the_error_of_all_is_none() -> None:
    mean = RunningMean()
    for value in (1.0, 2.0, 3.0):
        mean.add(np.array([value]))
    assert mean.mean.tolist() == [2.0]
    assert mean.standard_error(of_total=3).tolist() == [0.0]
    np.testing.assert_allclose(mean.standard_error(), 1 / np.sqrt(3))


def test_a_runner_without_a_deadline_is_never_late() -> None:
    runner = RowRunner(ExplainOptions(max_rows=5))
    assert runner.allows(5)
    assert not runner.allows(6)
