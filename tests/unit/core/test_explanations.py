"""What requests for explanations may ask for, and the rules of their runs."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput, TooLarge, Unsupported
from penstock.core.explanations import (
    MOST_CELLS,
    MOST_FEATURES,
    MOST_ROWS,
    MOST_RUN_ROWS,
    RUN_NS,
    ExplanationOptions,
    budget_deadline_ns,
    check_columns,
    check_size,
    choose_output,
    next_run_rows,
    options_in,
    scale_of,
)
from penstock.core.signature import TensorSpec
from tests.budgets import examples

OUTPUTS = [TensorSpec("label", "INT64", (-1,)), TensorSpec("p", "FP32", (-1, 2)), TensorSpec("q", "FP64", (-1, 1))]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, ExplanationOptions()),
        ({"method": None, "other": 1}, ExplanationOptions()),
        ({"method": "exact", "background": "live", "seed": 7}, ExplanationOptions("exact", background="live", seed=7)),
        ({"budget_ms": 20, "against": "2"}, ExplanationOptions(budget_ns=20_000_000, against="2")),
        ({"outputs": "p"}, ExplanationOptions(output="p")),
        ({"outputs": "a:b"}, ExplanationOptions(output="a:b")),
        ({"outputs": "p:1, p:0"}, ExplanationOptions(output="p", columns=(1, 0))),
        ({"outputs": ["p:1"]}, ExplanationOptions(output="p", columns=(1,))),
        ({"outputs": ""}, ExplanationOptions()),
    ],
)
def test_parameters_choose_the_explanation(parameters: dict[str, Any], expected: ExplanationOptions) -> None:
    assert options_in(parameters) == expected


@pytest.mark.parametrize(
    "parameters",
    [
        {"method": "magic"},
        {"method": 1},
        {"background": "none"},
        {"budget_ms": 0},
        {"budget_ms": 1.5},
        {"budget_ms": True},
        {"budget_ms": 60_001},
        {"seed": -1},
        {"against": 2},
        {"outputs": 7},
        {"outputs": [7]},
        {"outputs": "p,q"},
    ],
)
def test_impossible_values_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        options_in(parameters)


def test_the_first_output_of_numbers_is_explained_unless_another_is_wanted() -> None:
    assert choose_output(OUTPUTS, "").name == "p"
    assert choose_output(OUTPUTS, "q").name == "q"
    for wanted in ("label", "none"):
        with pytest.raises(InvalidInput, match="'p', 'q'"):
            choose_output(OUTPUTS, wanted)
    with pytest.raises(Unsupported):
        choose_output(OUTPUTS[:1], "")
    with pytest.raises(InvalidInput, match="none"):
        choose_output(OUTPUTS[:1], "label")


def test_sizes_are_bounded() -> None:
    check_size(1, 1)
    check_size(MOST_ROWS, MOST_FEATURES)
    for size in ((0, 1), (1, 0)):
        with pytest.raises(InvalidInput):
            check_size(*size)
    for large in ((MOST_ROWS + 1, 1), (1, MOST_FEATURES + 1), (MOST_ROWS, MOST_FEATURES, 2)):
        with pytest.raises(TooLarge):
            check_size(*large)
    assert MOST_ROWS * MOST_FEATURES <= MOST_CELLS
    check_columns((0, 1), 2)
    with pytest.raises(InvalidInput, match="2 columns"):
        check_columns((2,), 2)


def test_the_work_ends_after_its_budget_and_before_the_deadline() -> None:
    assert budget_deadline_ns(100, 50, 10_000) == 150
    assert budget_deadline_ns(0, 10_000, 1000) == 950
    assert budget_deadline_ns(2000, 10, 1000) == 2000


@given(st.integers(1, MOST_RUN_ROWS), st.integers(-5, 10**10))
@settings(max_examples=examples(100))
def test_runs_grow_slowly_and_stay_short(rows: int, took_ns: int) -> None:
    chosen = next_run_rows(rows, took_ns)
    assert 1 <= chosen <= min(2 * rows, MOST_RUN_ROWS)
    if took_ns > 0 and chosen > 1:
        assert chosen * took_ns <= rows * RUN_NS + took_ns


def test_distributions_are_probabilities() -> None:
    assert scale_of(np.array([[0.25, 0.75], [1.0, 0.0]])) == "probability"
    for values in ([[0.5]], [[2.0, -1.0]], [[0.5, 0.4]]):
        assert scale_of(np.array(values)) == "value"
