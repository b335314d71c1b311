"""What labels say of a version: metrics against their definitions, and changes that are found and over again."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from loadtests.errors import CHAIN, Case, draw_errors
from penstock.monitor.answers import CLASS, NUMBER, TEXT, text_token
from penstock.monitor.confidence import ConfidenceHistogram
from penstock.monitor.feedback import LabelledRow
from penstock.monitor.performance import WINDOW, Performance, PerformanceChange
from penstock.monitor.reference import TRAINING, Reference

BUDGET = 100_000.0
NAN = math.nan


def binary(rows: int, seed: int, flipped: float = 0.0) -> list[LabelledRow]:
    """A calibrated model of two classes; a part of the labels is turned round."""
    generator = np.random.default_rng(seed)
    p = generator.beta(1.2, 1.2, rows)
    label = (generator.random(rows) < p) ^ (generator.random(rows) < flipped)
    return [
        LabelledRow("1", CLASS, float(item >= 0.5), (1 - item, item, NAN, NAN), float(true), 0.0)
        for item, true in zip(p.tolist(), label.tolist(), strict=True)
    ]


def taught(rows: list[LabelledRow], reference: Reference | None = None) -> tuple[Performance, list[PerformanceChange]]:
    performance = Performance(reference, BUDGET)
    return performance, performance.learn(rows)


@pytest.fixture
def oracle() -> Any:
    """The metrics of scikit-learn, which takes seconds to import."""
    from sklearn import metrics

    return metrics


def test_the_metrics_of_two_classes_are_those_of_their_definitions(oracle: Any) -> None:
    rows = binary(3000, 1)
    document = taught(rows)[0].document()
    for part, metrics_shown in ((rows, document["prequential"]), (rows[-WINDOW:], document["windowed"])):
        truth, answers = [item.label for item in part], [item.answer for item in part]
        probabilities = [item.scores[1] for item in part]
        assert metrics_shown["accuracy"] == pytest.approx(oracle.accuracy_score(truth, answers))
        assert metrics_shown["f1"] == pytest.approx(oracle.f1_score(truth, answers))
        assert metrics_shown["macro_f1"] == pytest.approx(oracle.f1_score(truth, answers, average="macro"))
        assert metrics_shown["log_loss"] == pytest.approx(oracle.log_loss(truth, probabilities), rel=1e-3)
        assert metrics_shown["roc_auc"] == pytest.approx(oracle.roc_auc_score(truth, probabilities), abs=0.005)
    same = np.mean([one.label == other.label for one, other in pairwise(rows)])
    assert document["prequential"]["last_label_accuracy"] == pytest.approx(same, abs=1e-6)
    assert document["windowed"]["calibration_error"] < 0.05
    assert (document["task"], document["labels"]) == ("classification", 3000)


def test_the_metrics_of_numbers_are_those_of_their_definitions(oracle: Any) -> None:
    generator = np.random.default_rng(2)
    truth = generator.normal(3, 2, 2500)
    answers = truth + generator.normal(0.1, 0.5, 2500)
    rows = [
        LabelledRow("1", NUMBER, answer, (NAN,) * 4, label, 0.0) for answer, label in zip(answers, truth, strict=True)
    ]
    document = taught(rows)[0].document()
    metrics_shown = document["windowed"]
    assert metrics_shown["mae"] == pytest.approx(
        oracle.mean_absolute_error(truth[-WINDOW:], answers[-WINDOW:]), abs=1e-5
    )
    assert metrics_shown["rmse"] == pytest.approx(
        oracle.root_mean_squared_error(truth[-WINDOW:], answers[-WINDOW:]), abs=1e-5
    )
    assert metrics_shown["r2"] == pytest.approx(oracle.r2_score(truth[-WINDOW:], answers[-WINDOW:]), abs=1e-4)
    assert (document["task"], document["accuracy"]) == ("regression", None)
    assert document["concept"]["baseline_error"] is None


def test_texts_and_their_scores_belong_together() -> None:
    cat, dog, owl = map(text_token, ("cat", "dog", "owl"))
    rows = []
    generator = np.random.default_rng(3)
    for _ in range(600):
        scores = generator.dirichlet([1, 1, 1])
        answer = (cat, dog, owl)[int(scores.argmax())]
        label = (cat, dog, owl)[generator.choice(3, p=scores)]
        rows.append(LabelledRow("1", TEXT, answer, (*scores.tolist(), NAN), label, 0.0))
    metrics_shown = taught(rows)[0].document()["windowed"]
    assert 0.6 < metrics_shown["accuracy"] < 0.75
    assert 0.5 < metrics_shown["log_loss"] < 0.9
    assert "roc_auc" not in metrics_shown
    assert metrics_shown["calibration_error"] < 0.08


def test_a_single_probability_is_a_class() -> None:
    rows = [LabelledRow("1", NUMBER, p, (NAN,) * 4, label, 0.0) for p, label in ((0.9, 1.0), (0.2, 0.0), (0.7, 0.0))]
    document = taught(rows)[0].document()
    assert document["task"] == "classification"
    assert document["windowed"]["accuracy"] == pytest.approx(2 / 3)


def events(changes: list[PerformanceChange]) -> list[tuple[str, bool]]:
    return [(change.what, change.begins) for change in changes]


@pytest.mark.simulation
def test_a_changed_world_is_found_and_over_again() -> None:
    performance, changes = taught(binary(3000, 4))
    assert changes == []
    changes = performance.learn(binary(500, 5, flipped=0.4))
    assert set(events(changes)) == {("errors", True), ("gap", True)}
    errors = next(change for change in changes if change.what == "errors")
    assert errors.evidence["worse"] is True
    assert 2900 <= errors.evidence["since_label"] < 3300
    document = performance.document()
    assert (document["concept"]["state"], document["gap"]["state"]) == ("drift", "drift")
    assert document["concept"]["others"]["adwin"]["alarms"] >= 1
    changes = performance.learn(binary(4000, 6))
    assert {("errors", False), ("gap", False)} <= set(events(changes))
    assert performance.document()["concept"]["state"] == "ok"


def test_the_references_errors_are_the_measure_where_it_has_some() -> None:
    performance = taught(binary(400, 7), Reference(TRAINING, 10_000, (), (), errors=(500, 9500)))[0]
    concept = performance.document()["concept"]
    assert (concept["state"], concept["baseline_rows"], concept["baseline_error"]) == ("drift", 10_000, 0.05)


def test_the_references_calibration_is_the_measure_where_it_has_some() -> None:
    rows = [LabelledRow("1", CLASS, 1.0, (0.05, 0.95, NAN, NAN), float(number % 2), 0.0) for number in range(400)]
    assert ("gap", True) in events(taught(rows)[1])  # sure, and wrong half of the time
    counts = [0] * 50
    counts[47] = 10_000
    came = [count // 2 for count in counts]
    known = Reference(
        TRAINING, 10_000, (), (), confidence=ConfidenceHistogram(2, tuple(counts), tuple(came)), errors=(5000, 5000)
    )
    performance, changes = taught(rows, known)
    assert changes == []  # which is what the training data had shown
    assert performance.document()["gap"]["estimated"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.simulation
@pytest.mark.parametrize("answer", [NAN, math.inf])
def test_one_bad_number_blinds_nothing(answer: float) -> None:
    rows: list[Any] = binary(1500, 8)
    bad = LabelledRow("1", NUMBER, answer, (NAN,) * 4, 1.0, 0.0)
    performance, _ = taught([*rows[:1000], bad, *rows[1000:]])
    assert performance.document()["labels"] == 1500
    assert math.isfinite(performance.values()["accuracy"])
    assert events(performance.learn(binary(400, 9, flipped=0.5)))


@pytest.mark.simulation
@pytest.mark.parametrize("reference", [None, Reference(TRAINING, 10_000, (), (), errors=(1000, 9000))])
def test_bursts_of_errors_are_not_a_change_and_more_errors_are(reference: Reference | None) -> None:
    def rows(rate: float, many: int, seed: int) -> list[LabelledRow]:
        wrong = draw_errors(Case(CHAIN, rate, 0.9, True), rate, many, np.random.default_rng(seed))
        return [LabelledRow("1", CLASS, 1.0, (NAN,) * 4, 1.0 - item, 0.0) for item in wrong.tolist()]

    performance, changes = taught(rows(0.1, 4000, 30), reference)
    assert changes == []
    assert events(performance.learn(rows(0.4, 2000, 31))) == [("errors", True)]
    assert performance.document()["concept"]["state"] == "drift"


@pytest.mark.simulation
def test_false_alarms_a_day_bound_where_changes_may_begin() -> None:
    """At 400 labels in 400 seconds one alarm a day asks for more evidence than one in 100,000 labels does."""
    rows, found = binary(2000, 3), []
    for daily in (0.0, 1e6, 0.01):
        performance = Performance(None, BUDGET, daily)
        for start in range(0, len(rows), 400):
            assert performance.learn(rows[start : start + 400], 400.0) == []
        found.append((performance._gap.log_e, math.log(performance._errors._watch.evidence())))
    assert found[1] == pytest.approx(found[0])
    share = 0.01 * 400 / 86_400 * BUDGET / 400
    assert found[2] == pytest.approx([item + math.log(share) for item in found[0]])
