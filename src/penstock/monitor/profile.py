"""Makes a reference of training data: runs the model over it, and keeps bins and counts."""

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
from penstock.monitor.columns import Rows, input_columns, joined, output_columns
from penstock.monitor.confidence import SCORE_BINS, ConfidenceHistogram, confidence_of, score_bins
from penstock.monitor.reference import TRAINING, Reference
from penstock.monitor.reference_builder import build
from penstock.monitor.tables import TIME_NAMES, Table, inputs_of, times_of

BATCH = 1024

Tell = Callable[[int, int], None]
"""Hears how many rows of how many are done."""


class Model(Protocol):
    """A loaded model."""

    signature: Signature

    def run(self, feeds: dict[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Its outputs."""


LABEL_NAMES = ("label", "target", "class", "y")
"""Columns of these names, where the model does not take them for features, are what it should have answered."""


def profile(
    table: Table,
    model: Model,
    names: Sequence[str],
    tell: Tell = lambda _done, _total: None,
    label: str = "",
    card: Sequence[str] = (),
    time: str = "",
) -> Reference:
    """The reference of a version's training data; with the column ``label``, also how often the model was right, and
    with the column ``time``, what is usual by the hour.

    ``names`` are what the graph calls its features, ``card`` what the model card does.

    Raises:
        InvalidInput: the data does not fit the model, or is too little.
    """
    signature = model.signature
    made = inputs_of(table, signature, names, card, {label, time, *LABEL_NAMES, *TIME_NAMES})
    tensors = made.tensors
    inputs = input_columns(signature.inputs, signature.batching, made.names)
    outputs = output_columns(signature.outputs, signature.batching)
    if not signature.batching:
        raise InvalidInput("only models whose first axis is rows can be profiled from a table")
    total = len(tensors[0].data)
    wanted = [spec.name for spec in signature.outputs]
    given: list[Rows] = []
    answered: list[Rows] = []
    sides: list[tuple[Answers | None, Floats | None, int]] = []
    for start in range(0, total, BATCH):
        part = [Tensor(one.name, one.datatype, one.data[start : start + BATCH]) for one in tensors]
        arrays = model.run(signature.bind(part).feeds, wanted)
        answers = [Tensor(spec.name, spec.datatype, one) for spec, one in zip(signature.outputs, arrays, strict=True)]
        rows, told = inputs(part), outputs(answers)
        if rows is None or told is None:
            raise InvalidInput("the data does not fit the model's inputs")
        given.append(rows)
        answered.append(told)
        sides.append((answers_of(answers), outputs.scores(answers), start))
        tell(min(start + BATCH, total), total)
    columns = [*inputs.numbers, *inputs.labels], [*outputs.numbers, *outputs.labels]
    when = times_of(table, time, columns[0], total)
    reference = build(columns, joined(given), joined(answered), TRAINING, when)
    truth = _truth(table, label, columns[0], total)
    sure = _Sure()
    for predicted, scores, start in sides:
        sure.take(predicted, scores, None if truth is None else truth[start : start + BATCH])
    return replace(reference, confidence=sure.confidence(), errors=sure.errors())


def _truth(table: Table, label: str, features: Sequence[str], rows: int) -> Array | None:
    """The column of labels, if there is one.

    Raises:
        InvalidInput: it was named, and is not there.
    """
    if label and (label not in table or table[label].shape != (rows,)):
        raise InvalidInput(f"the data has no column '{label[:64]}' of labels")
    found = [name for name in ((label,) if label else LABEL_NAMES) if name in table and name not in features]
    return table[found[0]] if found and table[found[0]].shape == (rows,) else None


class _Sure:
    """Adds up how sure the model was, and how often it was right."""

    def __init__(self) -> None:
        self._parts: list[Floats] = []
        self._came: list[NDArray[np.bool_]] = []
        self._right: list[NDArray[np.bool_]] = []
        self._classes = 0
        self._sound = True

    def take(self, answers: Answers | None, scores: Floats | None, truth: Array | None) -> None:
        """One batch: what was answered, the scores [rows, classes], and the labels."""
        right = None
        if answers is not None and truth is not None and answers.form != NUMBER:
            tokens = [label_token(one, answers.form) for one in truth.tolist()]
            right = np.array([one == float(answer) for one, answer in zip(tokens, answers.values, strict=True)])
            self._right.append(right)
        sure = None if scores is None or scores.shape[1] < 2 else confidence_of(scores)
        if sure is None or scores is None or answers is None:
            self._sound = False
            return
        self._classes = scores.shape[1]
        self._parts.append(sure)
        if right is not None:
            top = scores.argmax(axis=1)
            self._came.append(np.where(top == 1, right, ~right) if self._classes == 2 else right)

    def confidence(self) -> ConfidenceHistogram | None:
        """How sure it was, None where its scores are no probabilities."""
        if not self._sound or not self._parts:
            return None
        bins = score_bins(np.concatenate(self._parts))
        right: list[int] = []
        if len(self._came) == len(self._parts):
            right = np.bincount(bins, np.concatenate(self._came), SCORE_BINS).astype(int).tolist()
        return ConfidenceHistogram(self._classes, tuple(np.bincount(bins, minlength=SCORE_BINS).tolist()), tuple(right))

    def errors(self) -> tuple[int, int] | None:
        """Wrong and right answers, None without labels."""
        if not self._right:
            return None
        right = np.concatenate(self._right)
        return int((~right).sum()), int(right.sum())
