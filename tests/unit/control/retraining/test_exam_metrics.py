"""Exams by metrics that are not a share of right answers, and on columns of texts."""

import numpy as np
import pytest

from penstock.control.retraining.holdout import _make_tensor, _with_noise, compare
from penstock.core.gates import HoldoutGate
from penstock.core.tensors import Tensor
from penstock.monitor.answers import Answers, answers_of
from penstock.monitor.captured_rows import LabelledRows

ROWS = 200


def numbers(noise: float) -> Answers:
    """Answers of a regression that are off by so much."""
    draw = np.random.default_rng(3)
    found = answers_of([Tensor("y", "FP32", (LABELS + noise * draw.standard_normal(ROWS)).astype("<f4")[:, None])])
    assert found is not None
    return found


LABELS = np.linspace(0, 10, ROWS)
SITES = np.array(["a", "b"] * (ROWS // 2), object)
X = Tensor("x", "FP32", np.linspace(0, 1, ROWS).astype("<f4")[:, None])
INPUTS = [X, Tensor("site", "BYTES", SITES[:, None])]


def test_errors_of_a_regression_are_better_where_they_are_less() -> None:
    asked = HoldoutGate("mae", columns=("site",))
    found = compare(asked, LabelledRows(INPUTS, LABELS), (numbers(0.1), numbers(2.0)))
    assert found.whole.candidate is not None
    assert found.whole.champion is not None
    assert found.whole.candidate < 0.2 < 1.0 < found.whole.champion
    assert found.advantage is not None
    assert 0 < found.advantage.lower < found.advantage.estimate
    assert found.advantage.rows is None
    assert {name: marks.rows for name, marks in found.slices.items()} == {"site is a": 100, "site is b": 100}


def test_a_metric_that_cannot_be_computed_gives_no_advantage() -> None:
    found = compare(HoldoutGate("roc_auc"), LabelledRows([X], LABELS), (numbers(0.1), numbers(2.0)))
    assert (found.whole.candidate, found.advantage, found.same) == (None, None, False)


def test_noise_is_on_numbers_alone() -> None:
    noisy = _with_noise(INPUTS, 0.5)
    assert not np.array_equal(noisy[0].data, X.data)
    assert np.array_equal(noisy[0].data, _with_noise(INPUTS, 0.5)[0].data)  # the same each time
    assert noisy[1].data.tolist() == INPUTS[1].data.tolist()


@pytest.mark.parametrize(
    ("data", "datatype"),
    [
        (np.array(["a", "b"]), "BYTES"),
        (np.zeros(2, "<f4"), "FP32"),
        (np.zeros(2, "<i8"), "INT64"),
    ],
)
def test_what_a_process_wrote_is_read_as_tensors(data: np.ndarray, datatype: str) -> None:
    found = _make_tensor("y", data)
    assert (found.name, found.datatype, found.data.tolist()) == ("y", datatype, data.tolist())
