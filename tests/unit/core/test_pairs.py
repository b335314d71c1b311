"""How far two answers are apart."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.pairs import OutputDifference, compare, find_disagreeing_rows
from penstock.core.tensors import Tensor


def tensor(values: Any, datatype: str = "FP32", name: str = "y") -> Tensor:
    kinds = {"FP32": np.float32, "INT64": np.int64, "BOOL": np.bool_, "BYTES": object}
    return Tensor(name, datatype, np.array(values, kinds[datatype]))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (tensor([[1.0]]), tensor([[1.0]]), OutputDifference(False, 0, 1, 0.0, 0.0)),
        (tensor([[1.0]]), tensor([[1.0005]]), OutputDifference(False, 0, 1, 0.0005, 0.0005)),
        (tensor([[1.0]]), tensor([[1.5]]), OutputDifference(True, 0, 1, 0.5, 0.5)),
        (tensor([[1.0], [2.0]]), tensor([[1.0], [4.0]]), OutputDifference(True, 0, 2, 2.0, 2.0)),
        (tensor([[np.nan]]), tensor([[np.nan]]), OutputDifference(False, 0, 1, 0.0, 0.0)),
        (tensor([[np.inf]]), tensor([[np.inf]]), OutputDifference(False, 0, 1, 0.0, 0.0)),
        (tensor([[np.inf]]), tensor([[-np.inf]]), OutputDifference(True, 0, 1, 0.0, 0.0)),
        (tensor([[1.0]]), tensor([[np.nan]]), OutputDifference(True, 0, 1, 0.0, 0.0)),
        (tensor([[0.75, 0.25]]), tensor([[0.5, 0.25]]), OutputDifference(False, 0, 2, 0.25, 0.25)),
        (tensor([[0.75, 0.25]]), tensor([[0.25, 0.75]]), OutputDifference(True, 1, 2, 1.0, 0.5)),
        (
            tensor([[0.75, 0.25], [1.0, 0.0]]),
            tensor([[0.25, 0.75], [0.0, 1.0]]),
            OutputDifference(True, 2, 4, 3.0, 1.0),
        ),
        (tensor([[0.75, 0.25]]), tensor([[0.75, np.nan]]), OutputDifference(True, 1, 2, 0.0, 0.0)),
        (tensor([3, 4], "INT64"), tensor([3, 5], "INT64"), OutputDifference(True, 1, 0, 0.0, 0.0)),
        (tensor(3, "INT64"), tensor(3, "INT64"), OutputDifference()),
        (tensor([[True]], "BOOL"), tensor([[False]], "BOOL"), OutputDifference(True, 1, 0, 0.0, 0.0)),
        (tensor(["a", "b"], "BYTES"), tensor(["a", "c"], "BYTES"), OutputDifference(True, 1, 0, 0.0, 0.0)),
        (tensor(["a"], "BYTES"), tensor(["a"], "BYTES"), OutputDifference()),
        (tensor([[1.0]]), tensor([[1.0, 2.0]]), OutputDifference(disagrees=True)),
        (tensor([[1.0]]), tensor([[1]], "INT64"), OutputDifference(disagrees=True)),
        (tensor([[1.0]]), tensor([[1.0]], name="z"), OutputDifference(disagrees=True)),
        (tensor(np.zeros((0, 3))), tensor(np.zeros((0, 3))), OutputDifference()),
        (tensor(np.zeros((0, 3)), "INT64"), tensor(np.zeros((0, 3)), "INT64"), OutputDifference()),
        (tensor(np.zeros((2, 0))), tensor(np.zeros((2, 0))), OutputDifference()),
    ],
)
def test_one_output_agrees_or_disagrees(one: Tensor, other: Tensor, expected: OutputDifference) -> None:
    found = compare([one], [other])
    assert (found.disagrees, found.flips, found.elements) == (expected.disagrees, expected.flips, expected.elements)
    assert found.sum_abs == pytest.approx(expected.sum_abs, rel=1e-3)
    assert found.max_abs == pytest.approx(expected.max_abs, rel=1e-3)


FORMS: dict[str, list[Any]] = {
    "FP32": [0.0, 1.0, 1.0005, 1.5, np.nan, np.inf, -np.inf],
    "INT64": [0, 1],
    "BYTES": ["a", "b"],
}


@given(st.data())
@settings(max_examples=60)
def test_rows_disagree_as_they_would_alone(data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, 4))
    answers: list[list[Tensor]] = [[], []]
    for number in range(data.draw(st.integers(1, 2))):
        form, inner = data.draw(st.sampled_from(sorted(FORMS))), data.draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
        size = rows * int(np.prod(inner))
        for answer in answers:
            values = data.draw(st.lists(st.sampled_from(FORMS[form]), min_size=size, max_size=size))
            shaped = np.array(values, object).reshape((rows, *inner))
            answer.append(tensor(shaped.tolist() if size else np.zeros((rows, *inner)), form, f"y{number}"))
    alone = [
        compare(*([Tensor(item.name, item.datatype, item.data[row : row + 1]) for item in side] for side in answers))
        for row in range(rows)
    ]
    assert find_disagreeing_rows(answers[0], answers[1], rows).tolist() == [found.disagrees for found in alone]


def test_every_row_of_another_form_disagrees() -> None:
    one = [tensor([[1.0], [2.0]])]
    assert find_disagreeing_rows(one, [], 2).tolist() == [True, True]
    assert find_disagreeing_rows(one, [tensor([[1.0]])], 2).tolist() == [True, True]


def test_a_label_and_its_scores_are_one_flip() -> None:
    one = [tensor([0], "INT64", "label"), tensor([[0.75, 0.25]], name="scores")]
    other = [tensor([1], "INT64", "label"), tensor([[0.25, 0.75]], name="scores")]
    found = compare(one, other)
    assert (found.disagrees, found.flips, found.max_abs) == (True, 1, 0.5)


def test_another_number_of_outputs_disagrees() -> None:
    assert compare([tensor([1.0])], []).disagrees
