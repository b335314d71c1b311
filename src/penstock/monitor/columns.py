"""Turns tensors into the columns that the monitor watches: named numbers and labels, one value for each row.

Inputs of up to 256 numbers in a row have one column for each number; wider ones (images, sequences, embeddings) have
five summaries of each row. Outputs of several scores have two columns: the class with the greatest score, and that
score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import Any

import numpy as np

from penstock.core.bins import Floats, Places
from penstock.core.signature import TensorSpec
from penstock.core.tensors import Array, Tensor

WIDEST = 256
"""Greatest number of values in a row with a column for each."""

MOST_LABELS = 32
"""Greatest number of columns of labels of one tensor."""

MOST_SUMMED = 4096
"""Values of a wide row that go into its summaries, evenly spread over the row."""

SUMMARIES = ("mean", "std", "min", "max", "zeros")
WHOLE = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BOOL")
NOT_WATCHED = ("BF16",)


class TensorForm(StrEnum):
    """How a tensor becomes columns."""

    NUMBERS = "numbers"
    LABELS = "labels"
    SCORES = "scores"
    SUMMARY = "summary"


@dataclass(frozen=True, slots=True)
class Column:
    """The columns of one tensor: its name, its form, and the names of its numbers and labels."""

    tensor: str
    form: TensorForm
    numbers: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RowValues:
    """The columns of several rows: ``numbers`` [rows, columns], and ``labels`` [columns][rows]."""

    numbers: Floats
    labels: tuple[Array | Sequence[Any], ...]

    def __len__(self) -> int:
        return len(self.numbers)

    def at(self, places: Places) -> "RowValues":
        """Return the rows with these indexes, in that order."""
        return RowValues(self.numbers[places], tuple(np.asarray(column, object)[places] for column in self.labels))


def concatenate(parts: Sequence[RowValues]) -> RowValues:
    """Concatenate rows with the same columns."""
    labels = tuple([value for part in parts for value in part.labels[index]] for index in range(len(parts[0].labels)))
    return RowValues(np.concatenate([part.numbers for part in parts]), labels)


class Columns:
    """Takes the columns from a set of tensors; ``batching`` says that the first axis is rows."""

    def __init__(self, columns: Sequence[Column], batching: bool) -> None:
        self._columns = columns
        self.batching = batching
        self.numbers = [name for column in columns for name in column.numbers]
        self.labels = [name for column in columns for name in column.labels]

    def __call__(self, tensors: Sequence[Tensor]) -> RowValues | None:
        """Return the rows of a request or an answer, None if a tensor is missing or has another form."""
        arrays = {tensor.name: tensor.data for tensor in tensors}
        numbers: list[Floats] = []
        labels: list[Array | Sequence[Any]] = []
        for column in self._columns:
            data = arrays.get(column.tensor)
            if data is None:
                return None
            if data.ndim == 2 and self.batching:
                rows = data
            else:
                wide = self.batching and data.ndim
                rows = data.reshape(len(data), prod(data.shape[1:])) if wide else data.reshape(1, -1)
            if not _take(column, rows, numbers, labels):
                return None
        if not numbers:
            return RowValues(np.zeros((len(labels[0]) if labels else 0, 0)), tuple(labels))
        return RowValues(numbers[0] if len(numbers) == 1 else np.concatenate(numbers, axis=1), tuple(labels))

    def tensors(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the columns of each tensor that has one for each value."""
        one_by_one = (TensorForm.NUMBERS, TensorForm.LABELS)
        return {column.tensor: column.numbers or column.labels for column in self._columns if column.form in one_by_one}

    def scores(self, tensors: Sequence[Tensor]) -> Floats | None:
        """Return the scores [rows, classes] of the first tensor of scores, else the first numbers; None without
        either."""
        for form in (TensorForm.SCORES, TensorForm.NUMBERS):
            name = next((column.tensor for column in self._columns if column.form is form), None)
            data = next((tensor.data for tensor in tensors if tensor.name == name), None)
            if data is not None and self.batching and data.ndim and len(data):
                return data.reshape(len(data), -1).astype(np.float64)
        return None


def _take(column: Column, rows: Array, numbers: list[Floats], labels: list[Array | Sequence[Any]]) -> bool:
    width = rows.shape[1]
    match column.form:
        case TensorForm.NUMBERS:
            if width != len(column.numbers):
                return False
            numbers.append(rows.astype(np.float64))
        case TensorForm.LABELS:
            if width < len(column.labels):
                return False
            labels += [rows[:, index] for index in range(len(column.labels))]
        case TensorForm.SCORES:
            if not width:
                return False
            labels.append(rows.argmax(axis=1))
            numbers.append(rows.max(axis=1)[:, None].astype(np.float64))
        case TensorForm.SUMMARY:
            step = -(-width // MOST_SUMMED) if width else 1
            numbers.append(_summarise_rows(rows[:, ::step].astype(np.float64)))
    return True


def _summarise_rows(rows: Floats) -> Floats:
    if not rows.shape[1]:
        return np.full((len(rows), len(SUMMARIES)), np.nan)
    zeros = (rows == 0).mean(axis=1)
    return np.stack([rows.mean(axis=1), rows.std(axis=1), rows.min(axis=1), rows.max(axis=1), zeros], axis=1)


def input_columns(specs: Sequence[TensorSpec], batching: bool, names: Sequence[str] = ()) -> Columns:
    """Return the columns of a model's inputs; ``names`` are those of its features, if it states any."""
    return Columns(
        [_make_input(spec, batching, names if len(specs) == 1 else ()) for spec in _watched_tensors(specs)], batching
    )


def output_columns(specs: Sequence[TensorSpec], batching: bool) -> Columns:
    """Return the columns of a model's outputs."""
    return Columns([_make_output(spec, batching) for spec in _watched_tensors(specs)], batching)


def _watched_tensors(specs: Sequence[TensorSpec]) -> list[TensorSpec]:
    return [spec for spec in specs if spec.datatype not in NOT_WATCHED]


def _count_values(spec: TensorSpec, batching: bool) -> int | None:
    """Return the number of values in a row, None if it is not fixed."""
    dims = spec.shape[1:] if batching else spec.shape
    return None if any(dim < 0 for dim in dims) else int(np.prod(dims, dtype=np.int64))


def _make_input(spec: TensorSpec, batching: bool, names: Sequence[str]) -> Column:
    width = _count_values(spec, batching)
    if spec.datatype == "BYTES":
        many = min(width or 1, MOST_LABELS)
        return Column(spec.name, TensorForm.LABELS, labels=_make_names(spec.name, many, names))
    if width is None or not 0 < width <= WIDEST:
        return _make_summary(spec)
    return Column(spec.name, TensorForm.NUMBERS, _make_names(spec.name, width, names))


def _make_output(spec: TensorSpec, batching: bool) -> Column:
    width = _count_values(spec, batching)
    if spec.datatype == "BYTES" or spec.datatype in WHOLE:
        many = min(width or 1, MOST_LABELS)
        return Column(spec.name, TensorForm.LABELS, labels=_make_names(spec.name, many, ()))
    if width == 1:
        return Column(spec.name, TensorForm.NUMBERS, (spec.name,))
    if width is not None and 1 < width <= WIDEST:
        return Column(spec.name, TensorForm.SCORES, (f"{spec.name}.top",), (spec.name,))
    return _make_summary(spec)


def _make_summary(spec: TensorSpec) -> Column:
    return Column(spec.name, TensorForm.SUMMARY, tuple(f"{spec.name}.{item}" for item in SUMMARIES))


def _make_names(tensor: str, width: int, names: Sequence[str]) -> tuple[str, ...]:
    if len(names) == width:
        return tuple(names)
    return (tensor,) if width == 1 else tuple(f"{tensor}[{index}]" for index in range(width))


def header_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of columns that data had in its header; none if they were made from the name of a tensor."""
    tensor, dot, summary = (names[0] if names else "").rpartition(".")
    made = [f"{tensor}.{item}" for item in SUMMARIES] if dot and summary == SUMMARIES[0] else []
    if names and names[0].endswith("[0]"):
        made = [f"{names[0][:-3]}[{index}]" for index in range(len(names))]
    return () if list(names) == made else tuple(names)
