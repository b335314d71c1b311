"""Metrics of labels: those of the monitor on the same rows, however the rows are divided."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.core.tensors import Tensor
from penstock.monitor.answers import answers_of, label_token
from penstock.monitor.feedback import LabelledRow
from penstock.monitor.performance import metrics_of
from penstock.scoring import metrics
from penstock.scoring.metrics import LabelMetrics

RNG = np.random.default_rng(3)
ROWS = 400


def softmax(rows: int, width: int) -> Any:
    raw = np.exp(RNG.standard_normal((rows, width)))
    return (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)


def monitored(outputs: list[Tensor], labels: list[object]) -> dict[str, float]:
    """The monitor's metrics, one row after the other."""
    answers = answers_of(outputs)
    assert answers is not None
    rows = []
    for value, scores, label in zip(answers.values.tolist(), answers.scores.tolist(), labels, strict=True):
        token = label_token(label, answers.form)
        if token is not None:
            rows.append(LabelledRow("1", answers.form, value, tuple(scores), token, 0.0))
    return metrics_of(rows)


TWO, THREE, SIX = softmax(ROWS, 2), softmax(ROWS, 3), softmax(ROWS, 6)
TEXTS = np.array(["cat", "dog", "owl"], object)
CASES = {
    "two classes": ([Tensor("p", "FP32", TWO)], RNG.integers(0, 2, ROWS).tolist()),
    "three classes": ([Tensor("p", "FP32", THREE)], RNG.integers(0, 3, ROWS).tolist()),
    "six classes": ([Tensor("p", "FP32", SIX)], RNG.integers(0, 6, ROWS).tolist()),
    "a probability": ([Tensor("p", "FP32", TWO[:, :1])], RNG.integers(0, 2, ROWS).tolist()),
    "numbers": ([Tensor("y", "FP32", RNG.standard_normal((ROWS, 1)).astype("f4"))], RNG.standard_normal(ROWS).tolist()),
    "labels and scores": (
        [Tensor("c", "INT64", 1 - TWO.argmax(axis=1)), Tensor("p", "FP32", TWO)],
        RNG.integers(0, 2, ROWS).tolist(),
    ),
    "texts": (
        [Tensor("c", "BYTES", TEXTS[THREE.argmax(axis=1)]), Tensor("p", "FP32", THREE)],
        TEXTS[RNG.integers(0, 3, ROWS)].tolist(),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_they_are_those_of_the_monitor(case: str) -> None:
    outputs, labels = CASES[case]
    found = LabelMetrics()
    found.add(outputs, labels)
    expected = monitored(outputs, labels)
    values = found.values()
    for name in sorted(expected.keys() - {"kappa_temporal", "last_label_accuracy"}):
        # the monitor's curve has 50 points, and it learns the order of classes from one row after the other
        tolerance = {"roc_auc": 0.02, "log_loss": 0.01}.get(name, 1e-6)
        assert values[name] == pytest.approx(expected[name], abs=tolerance), name


@given(cut=st.integers(1, ROWS - 1))
@settings(max_examples=10)
def test_batches_add_up(cut: int) -> None:
    outputs, labels = CASES["numbers"]
    whole, parts = LabelMetrics(), LabelMetrics()
    whole.add(outputs, labels)
    for start, end in ((0, cut), (cut, ROWS)):
        parts.add([Tensor(item.name, item.datatype, item.data[start:end]) for item in outputs], labels[start:end])
    assert parts.values() == pytest.approx(whole.values())


def test_rows_without_a_label_do_not_count() -> None:
    found = LabelMetrics()
    found.add([Tensor("p", "FP32", TWO[:4])], [None, 1, "no class", 0])
    assert found.document()["labels"] == 2
    assert LabelMetrics().document() == {"labels": 0, "task": None, "metrics": {}}


def test_the_area_under_the_curve_is_exact() -> None:
    labels = RNG.integers(0, 2, ROWS)
    positive = TWO[:, 1].astype(np.float64)
    pairs = (positive[labels == 1][:, None] > positive[labels == 0][None, :]).mean()
    found = LabelMetrics()
    found.add([Tensor("p", "FP32", TWO)], labels.tolist())
    assert found.values()["roc_auc"] == pytest.approx(pairs, abs=1e-3)


def test_numbers_are_not_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_CLASSES", 10)
    found = LabelMetrics()
    with pytest.raises(InvalidInput, match="are they classes"):
        found.add([Tensor("c", "INT64", np.arange(50))], list(range(50)))
