"""Makes a reference from training data: runs the model on it and counts its inputs and outputs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from penstock.core.bins import Floats
from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature
from penstock.core.tensors import Array, Tensor
from penstock.monitor.answers import NUMBER, Answers, answers_of, label_token
from penstock.monitor.columns import RowValues, concatenate, input_columns, output_columns
from penstock.monitor.confidence import SCORE_BINS, ConfidenceHistogram, confidence_of, score_bins
from penstock.monitor.reference import TRAINING, Reference
from penstock.monitor.reference_builder import build
from penstock.monitor.tables import TIME_NAMES, Table, inputs_of, times_of

BATCH = 1024

ReportProgress = Callable[[int, int], None]
"""Takes the number of rows that are done and the total number of rows."""


class ProfiledModel(Protocol):
    """A loaded model."""

    signature: Signature

    def run(self, feeds: dict[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Return the outputs of these names."""


LABEL_NAMES = ("label", "target", "class", "y")
"""A column with one of these names that is not a feature of the model holds the labels."""


def make_reference(
    table: Table,
    model: ProfiledModel,
    names: Sequence[str],
    report: ReportProgress = lambda _done, _total: None,
    label: str = "",
    card: Sequence[str] = (),
    time: str = "",
) -> Reference:
    """Return the reference of a version's training data.

    With labels (the column ``label``) it has the model's accuracy, and with times (the column ``time``) the counts by
    hour. ``names`` are the features' names in the graph and ``card`` those in the model card. ``report`` is called
    after each batch.

    Raises:
        InvalidInput: the data does not fit the model, or is too little.
    """
    signature = model.signature
    model_inputs = inputs_of(table, signature, names, card, {label, time, *LABEL_NAMES, *TIME_NAMES})
    tensors = model_inputs.tensors
    inputs = input_columns(signature.inputs, signature.batching, model_inputs.names)
    outputs = output_columns(signature.outputs, signature.batching)
    if not signature.batching:
        raise InvalidInput("only models whose first axis is rows can be profiled from a table")
    total = len(tensors[0].data)
    wanted = [spec.name for spec in signature.outputs]
    input_rows: list[RowValues] = []
    output_rows: list[RowValues] = []
    predictions: list[tuple[Answers | None, Floats | None, int]] = []
    for start in range(0, total, BATCH):
        part = [Tensor(tensor.name, tensor.datatype, tensor.data[start : start + BATCH]) for tensor in tensors]
        arrays = model.run(signature.bind(part).feeds, wanted)
        answers = [
            Tensor(spec.name, spec.datatype, array) for spec, array in zip(signature.outputs, arrays, strict=True)
        ]
        rows, answered = inputs(part), outputs(answers)
        if rows is None or answered is None:
            raise InvalidInput("the data does not fit the model's inputs")
        input_rows.append(rows)
        output_rows.append(answered)
        predictions.append((answers_of(answers), outputs.scores(answers), start))
        report(min(start + BATCH, total), total)
    columns = [*inputs.numbers, *inputs.labels], [*outputs.numbers, *outputs.labels]
    when = times_of(table, time, columns[0], total)
    reference = build(columns, concatenate(input_rows), concatenate(output_rows), TRAINING, when)
    truth = _find_labels(table, label, columns[0], total)
    quality = _PredictionQuality()
    for predicted, scores, start in predictions:
        quality.add(predicted, scores, None if truth is None else truth[start : start + BATCH])
    return replace(reference, confidence=quality.confidence(), errors=quality.errors())


def _find_labels(table: Table, label: str, features: Sequence[str], rows: int) -> Array | None:
    """Return the column of labels [rows], None without one.

    Raises:
        InvalidInput: the column was named, and is missing.
    """
    if label and (label not in table or table[label].shape != (rows,)):
        raise InvalidInput(f"the data has no column '{label[:64]}' of labels")
    columns = [name for name in ((label,) if label else LABEL_NAMES) if name in table and name not in features]
    return table[columns[0]] if columns and table[columns[0]].shape == (rows,) else None


class _PredictionQuality:
    """Adds up the confidence of a model and how often it was right."""

    def __init__(self) -> None:
        self._probabilities: list[Floats] = []
        self._came_true: list[NDArray[np.bool_]] = []
        self._right: list[NDArray[np.bool_]] = []
        self._classes = 0
        self._has_probabilities = True

    def add(self, answers: Answers | None, scores: Floats | None, truth: Array | None) -> None:
        """Add one batch: the answers, the scores [rows, classes] and the labels [rows]."""
        right = None
        if answers is not None and truth is not None and answers.form != NUMBER:
            tokens = [label_token(item, answers.form) for item in truth.tolist()]
            right = np.array([token == float(answer) for token, answer in zip(tokens, answers.values, strict=True)])
            self._right.append(right)
        probabilities = None if scores is None or scores.shape[1] < 2 else confidence_of(scores)
        if probabilities is None or scores is None or answers is None:
            self._has_probabilities = False
            return
        self._classes = scores.shape[1]
        self._probabilities.append(probabilities)
        if right is not None:
            top = scores.argmax(axis=1)
            self._came_true.append(np.where(top == 1, right, ~right) if self._classes == 2 else right)

    def confidence(self) -> ConfidenceHistogram | None:
        """Return the histogram of the confidence, None if the scores are not probabilities."""
        if not self._has_probabilities or not self._probabilities:
            return None
        bins = score_bins(np.concatenate(self._probabilities))
        right: list[int] = []
        if len(self._came_true) == len(self._probabilities):
            right = np.bincount(bins, np.concatenate(self._came_true), SCORE_BINS).astype(int).tolist()
        return ConfidenceHistogram(self._classes, tuple(np.bincount(bins, minlength=SCORE_BINS).tolist()), tuple(right))

    def errors(self) -> tuple[int, int] | None:
        """Return the numbers of wrong and right answers, None without labels."""
        if not self._right:
            return None
        right = np.concatenate(self._right)
        return int((~right).sum()), int(right.sum())
