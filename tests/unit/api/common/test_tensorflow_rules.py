"""Rules of TensorFlow Serving's API: features of examples, classes, values and states."""

from typing import Any

import numpy as np
import pytest

from penstock.api.common.tensorflow_rules import (
    MAX_EXAMPLES,
    ClassOutputs,
    Example,
    bind_examples,
    bind_features,
    class_labels,
    class_scores,
    find_class_outputs,
    find_value_output,
    merge_context,
    value_rows,
    version_number,
    version_states,
)
from penstock.api.common.work import RequestWork
from penstock.core.desired import ReadyState, VersionStatus
from penstock.core.errors import InvalidInput, NotFound, TooLarge
from penstock.core.frames.binding import row_layout
from penstock.core.frames.terms import RowTerms
from penstock.core.limits import RequestLimits
from penstock.core.signature import Signature, TensorSpec
from penstock.core.slices import no_pause
from penstock.core.tensors import Array, Tensor
from penstock.serving.routing_table import ModelEntry


def work() -> RequestWork:
    return RequestWork(RequestLimits(), no_pause)


def bound(spec: TensorSpec, *examples: Example) -> Array:
    return bind_examples(Signature([spec], []), examples, work())[0].data


@pytest.mark.parametrize(
    ("spec", "values", "row"),
    [
        (TensorSpec("x", "FP32", (-1,)), [1], 1.0),
        (TensorSpec("x", "FP64", (-1, 2)), [1, 2.5], [1.0, 2.5]),
        (TensorSpec("x", "FP32", (-1, -1)), [1, 2], [1.0, 2.0]),
        (TensorSpec("x", "FP32", (-1, 2, -1)), [1, 2, 3, 4], [[1.0, 2.0], [3.0, 4.0]]),
        (TensorSpec("x", "INT8", (-1, 1)), [-3], [-3]),
        (TensorSpec("x", "BOOL", (-1,)), [1], True),
        (TensorSpec("x", "BYTES", (-1,)), ["a"], "a"),
        (TensorSpec("x", "BYTES", (-1, 2)), [b"\xc3\xa4", "b"], ["ä", "b"]),
    ],
)
def test_features_become_rows(spec: TensorSpec, values: list[Any], row: Any) -> None:
    assert bound(spec, {"x": values}, {"x": values}).tolist() == [row, row]


@pytest.mark.parametrize(
    ("spec", "examples", "words"),
    [
        (TensorSpec("x", "FP32", (-1,)), [], "no examples"),
        (TensorSpec("x", "FP32", (-1,)), [{}], "example 0 has no feature 'x'"),
        (TensorSpec("x", "FP32", (-1,)), [{"x": [1, 2]}], "has 2 values in an example"),
        (TensorSpec("x", "FP32", (-1, -1, -1)), [{"x": [1, 2]}], "has 2 values in an example"),
        (TensorSpec("x", "FP32", (-1, -1)), [{"x": [1]}, {"x": [1, 2]}], "example 1 has 2 values"),
        (TensorSpec("x", "FP32", (-1,)), [{"x": ["a"]}], "not FP32"),
        (TensorSpec("x", "FP32", (-1,)), [{"x": [1e300]}], "outside the range"),
        (TensorSpec("x", "INT64", (-1,)), [{"x": [1.5]}], "not INT64"),
        (TensorSpec("x", "INT8", (-1,)), [{"x": [300]}], "outside the range"),
        (TensorSpec("x", "BOOL", (-1,)), [{"x": [2]}], "expected BOOL"),
        (TensorSpec("x", "BF16", (-1,)), [{"x": [2]}], "not BF16"),
        (TensorSpec("x", "BYTES", (-1,)), [{"x": [2]}], "expected text"),
        (TensorSpec("x", "BYTES", (-1,)), [{"x": [b"\xff"]}], "not UTF-8"),
    ],
)
def test_features_that_do_not_fit_are_refused(spec: TensorSpec, examples: list[Example], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        bound(spec, *examples)


def test_examples_are_bounded_and_optional_inputs_may_be_left_out() -> None:
    with pytest.raises(TooLarge, match="fewer at a time"):
        bind_examples(Signature([], []), [{}] * (MAX_EXAMPLES + 1), work())
    optional = Signature([TensorSpec("x", "FP32", (-1,)), TensorSpec("o", "FP32", (-1,), optional=True)], [])
    assert [tensor.name for tensor in bind_examples(optional, [{"x": [1]}], work())] == ["x"]


SCORES, CLASSES = TensorSpec("scores", "FP32", (-1, 2)), TensorSpec("classes", "BYTES", (-1, 2))


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        ([SCORES, CLASSES], ClassOutputs("scores", "classes")),
        ([CLASSES], ClassOutputs("", "classes")),
        ([TensorSpec("p", "FP32", (-1, 3), labels=("a",))], ClassOutputs("p", "", ("a",))),
    ],
)
def test_the_outputs_of_classes_are_found_by_name_or_by_form(outputs: list[TensorSpec], found: ClassOutputs) -> None:
    assert find_class_outputs(Signature([], outputs)) == found


def test_the_output_of_values_is_found_by_name_or_by_form() -> None:
    other = TensorSpec("y", "FP64", (-1, 1))
    assert find_value_output(Signature([], [other, TensorSpec("label", "INT64", (-1,))])) == "y"
    assert find_value_output(Signature([], [other, TensorSpec("outputs", "FP32", (-1,))])) == "outputs"


def rows_of(outputs: list[Tensor], found: ClassOutputs) -> list[list[tuple[str, float]]]:
    scores = class_scores(outputs, found, work())
    labels = class_labels(outputs, found)
    return [list(zip(row, scores[index].tolist(), strict=True)) for index, row in enumerate(labels)]


def test_rows_of_classes_and_values() -> None:
    scores = Tensor("scores", "FP32", np.array([[0.25, 0.75]], "<f4"))
    classes = Tensor("classes", "BYTES", np.array([["a", "b"]], object))
    assert rows_of([scores, classes], ClassOutputs("scores", "classes")) == [[("a", 0.25), ("b", 0.75)]]
    assert rows_of([scores], ClassOutputs("scores", "", ("a",))) == [[("a", 0.25), ("", 0.75)]]
    assert rows_of([classes], ClassOutputs("", "classes")) == [[("a", 0.0), ("b", 0.0)]]
    assert value_rows([Tensor("y", "FP64", np.array([[1.5]]))], "y", work()).tolist() == [1.5]


def test_outputs_of_another_form_are_refused() -> None:
    flat = Tensor("scores", "FP32", np.zeros(2, "<f4"))
    with pytest.raises(InvalidInput, match="rank 1"):
        class_scores([flat], ClassOutputs("scores", ""), work())
    pair = [Tensor("scores", "FP32", np.zeros((1, 2), "<f4")), Tensor("classes", "BYTES", np.array([["a"]], object))]
    with pytest.raises(InvalidInput, match="different shapes"):
        class_scores(pair, ClassOutputs("scores", "classes"), work())
    with pytest.raises(InvalidInput, match="not one number"):
        value_rows([Tensor("y", "FP32", np.zeros((1, 2), "<f4"))], "y", work())


def test_features_are_inputs_or_else_columns() -> None:
    signature = Signature([TensorSpec("x", "FP32", (-1, 2))], [])
    layout = row_layout(signature, RowTerms(names=("age", "income")))
    examples: list[Example] = [{"income": [2], "age": [1.5], "other": ["a"]}, {"age": [3], "income": [4]}]
    assert bind_features(signature, layout, examples, work()).inputs[0].data.tolist() == [[1.5, 2], [3, 4]]
    by_input: list[Example] = [{"x": [1, 2]}]
    assert bind_features(signature, layout, by_input, work()).inputs[0].data.tolist() == [[1, 2]]
    with pytest.raises(InvalidInput, match="'age' of example 0 has 2 values"):
        bind_features(signature, layout, [{"age": [1, 2]}], work())
    with pytest.raises(InvalidInput, match="no examples"):
        bind_features(signature, layout, [], work())


def test_a_feature_is_in_the_context_or_in_the_example() -> None:
    assert merge_context({"a": [1]}, {"b": [2]}, 0) == {"a": [1], "b": [2]}
    with pytest.raises(InvalidInput, match="'a' of example 3 is in the context too"):
        merge_context({"a": [1]}, {"a": [2]}, 3)


@pytest.mark.parametrize(
    ("version", "number"),
    [("1", 1), ("0", 0), ("01", None), ("1.2", None), ("1a", None), (str(1 << 63), None), ("²", None)],
)
def test_versions_as_numbers(version: str, number: int | None) -> None:
    assert version_number(version) == number


def test_states_of_versions() -> None:
    statuses = {
        name: VersionStatus("m", name, state, reason)
        for name, state, reason in [
            ("10", ReadyState.READY, ""),
            ("2", ReadyState.UNAVAILABLE, "the graph is broken"),
            ("3", ReadyState.UNAVAILABLE, ""),
            ("4", ReadyState.LOADING, ""),
            ("5", ReadyState.UNLOADING, ""),
        ]
    }
    entry = ModelEntry("m", ("10",), {}, statuses, {"champion": "10"})
    found = [(item.version, item.state, item.error_code, item.reason) for item in version_states(entry, "")]
    assert found == [
        ("2", "END", "UNKNOWN", "the graph is broken"),
        ("3", "END", "OK", ""),
        ("4", "LOADING", "OK", ""),
        ("5", "UNLOADING", "OK", ""),
        ("10", "AVAILABLE", "OK", ""),
    ]
    assert [item.version for item in version_states(entry, "champion")] == ["10"]
    with pytest.raises(NotFound, match="Could not find version '11' of model 'm'"):
        version_states(entry, "11")
    with pytest.raises(NotFound, match="Could not find any versions"):
        version_states(ModelEntry("m", (), {}, {}), "")
