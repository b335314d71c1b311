"""The metrics of scored rows by their labels, under the monitor's names, in bounded memory and without a loop of rows.

They equal ``monitor.performance.metrics_of`` on the same rows, which takes each row on its own; except that the area
under the ROC curve is exact to the width of a bin of scores, and that the class of each score is learned from all rows
of a batch before their log loss is counted.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InvalidInput
from penstock.core.tensors import Tensor
from penstock.monitor.answers import NUMBER, Answers, answers_of, label_token
from penstock.monitor.performance import CLASSIFICATION, REGRESSION

MOST_CLASSES: Final = 10_000
"""Different labels and answers that are counted."""

SCORE_BINS: Final = 1 << 14
"""Bins of the probability of the positive class, for the area under the ROC curve."""

_SURE: Final = 1e-15

Floats = NDArray[np.float64]


class LabelMetrics:
    """Adds up the metrics of rows with labels. Of one thread at a time."""

    def __init__(self) -> None:
        self.labels = 0
        self._task = ""
        self._confusion: dict[tuple[float, float], int] = {}
        self._columns: dict[int, float] = {}
        self._log_loss, self._scored = 0.0, 0
        self._ranks = np.zeros((2, SCORE_BINS), np.int64)
        self._errors = np.zeros(2)  # absolute, squared
        self._truth = np.zeros(2)  # sum, sum of squares from the first label
        self._origin = 0.0

    def add(self, outputs: Sequence[Tensor], labels: Sequence[Any]) -> None:
        """Add rows: the outputs, and a label for each row (None: it has none).

        Raises:
            InvalidInput: there are too many classes.
        """
        answers = answers_of(outputs)
        if answers is None:
            return
        tokens = [None if label is None else label_token(label, answers.form) for label in labels]
        truth = np.array([np.nan if token is None else token for token in tokens], np.float64)
        known = np.isfinite(truth) & np.isfinite(answers.values)
        if known.any():
            self._add(Answers(answers.form, answers.values[known], answers.scores[known]), truth[known])

    def _add(self, answers: Answers, truth: Floats) -> None:
        self._task = self._task or _find_task(answers, truth)
        self.labels += len(truth)
        if self._task == REGRESSION:
            self._add_errors(answers.values, truth)
            return
        is_probability = answers.form == NUMBER
        values = (answers.values >= 0.5).astype(np.float64) if is_probability else answers.values
        self._count(truth, values)
        scores = np.stack([1 - answers.values, answers.values], axis=1) if is_probability else answers.scores
        self._add_scores(np.asarray(scores, np.float64), truth, values, is_probability)

    def _add_errors(self, values: Floats, truth: Floats) -> None:
        error = values - truth
        self._errors += np.abs(error).sum(), np.square(error).sum()
        if self.labels == len(truth):
            self._origin = float(truth[0])
        moved = truth - self._origin
        self._truth += moved.sum(), np.square(moved).sum()

    def _count(self, truth: Floats, values: Floats) -> None:
        pairs, counts = np.unique(np.stack([truth, values], axis=1), axis=0, return_counts=True)
        for (label, answer), count in zip(pairs.tolist(), counts.tolist(), strict=True):
            self._confusion[label, answer] = self._confusion.get((label, answer), 0) + count
        if len(self._confusion) > MOST_CLASSES:
            raise InvalidInput(f"the labels have more than {MOST_CLASSES} pairs of label and answer; are they classes?")

    def _add_scores(self, scores: Floats, truth: Floats, values: Floats, is_probability: bool) -> None:
        """Add probabilities [rows, classes] for the log loss and the ROC curve."""
        width = int(np.isfinite(scores).all(axis=0).sum())
        if width < 2 or not ((scores[:, :width] >= 0) & (scores[:, :width] <= 1)).all():
            return
        if np.abs(scores[:, :width].sum(axis=1) - 1).max() > 1e-3:
            return
        classes = self._classes_of(scores[:, :width], values, is_probability)
        column = np.full(len(truth), -1)
        for index, value in enumerate(classes):
            column[truth == value] = index
        rows = np.flatnonzero(column >= 0)
        chosen = scores[rows, column[rows]]
        self._log_loss -= float(np.log(np.clip(chosen, _SURE, 1.0)).sum())
        self._scored += len(rows)
        if width == 2 and 1.0 in classes:
            positive = scores[rows, classes.index(1.0)]
            places = np.minimum((positive * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
            for label in (0, 1):
                at = places[truth[rows] == label]
                self._ranks[label] += np.bincount(at, minlength=SCORE_BINS)

    def _classes_of(self, scores: Floats, values: Floats, is_probability: bool) -> list[float]:
        """Return the class of each column of scores: the answers say which one the greatest score belongs to."""
        if not is_probability:
            for index in range(scores.shape[1]):
                at = np.flatnonzero(scores.argmax(axis=1) == index)
                if len(at):
                    self._columns[index] = float(values[at[-1]])
        default = {index: float(index) for index in range(scores.shape[1])}
        return list({**default, **self._columns}.values())

    def values(self) -> dict[str, float]:
        """Return the metrics by name; empty without labels."""
        if not self.labels:
            return {}
        return self._regression() if self._task == REGRESSION else self._classification()

    def document(self) -> dict[str, Any]:
        """Return the metrics as JSON values."""
        return {"labels": self.labels, "task": self._task or None, "metrics": self.values()}

    def _regression(self) -> dict[str, float]:
        absolute, squared = self._errors.tolist()
        total, squares = self._truth.tolist()
        spread = squares - total * total / self.labels
        values = {"mae": absolute / self.labels, "rmse": float(np.sqrt(squared / self.labels))}
        return values if spread <= 0 else {**values, "r2": 1 - squared / spread}

    def _classification(self) -> dict[str, float]:
        right = sum(count for (label, answer), count in self._confusion.items() if label == answer)
        classes = {value for pair in self._confusion for value in pair}
        by_class = {value: self._f1(value) for value in classes}
        values = {"accuracy": right / self.labels, "error_rate": 1 - right / self.labels}
        values["macro_f1"] = sum(by_class.values()) / len(by_class)
        if classes <= {0.0, 1.0}:
            values["f1"] = by_class.get(1.0, 0.0)
        if self._scored:
            values["log_loss"] = self._log_loss / self._scored
            if classes <= {0.0, 1.0} and self._ranks.sum(axis=1).min() > 0:
                values["roc_auc"] = _find_area(self._ranks)
        return values

    def _f1(self, value: float) -> float:
        hits = self._confusion.get((value, value), 0)
        stated = sum(count for (_, answer), count in self._confusion.items() if answer == value)
        actual = sum(count for (label, _), count in self._confusion.items() if label == value)
        return 2 * hits / (stated + actual) if stated + actual else 0.0


def _find_task(answers: Answers, truth: Floats) -> str:
    """Return what is predicted: a number is a class if it may be the probability of labels that are 0 and 1."""
    if answers.form != NUMBER:
        return CLASSIFICATION
    is_probability = ((answers.values >= 0) & (answers.values <= 1)).all() and np.isin(truth, (0.0, 1.0)).all()
    return CLASSIFICATION if is_probability else REGRESSION


def _find_area(ranks: NDArray[np.int64]) -> float:
    """Return the area under the ROC curve of the counts of negative and positive rows [2, bins] by their scores."""
    negative, positive = ranks.astype(np.float64)
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / (negative.sum() * positive.sum()))
