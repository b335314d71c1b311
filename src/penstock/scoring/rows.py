"""Scores batches of rows: binds them, runs the model, and finds the rows that cannot be scored."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.frames.layout import BoundRows
from penstock.core.frames.missing_values import put_missing
from penstock.core.pairs import compare, find_disagreeing_rows
from penstock.core.signature import Signature
from penstock.core.tensors import Tensor
from penstock.monitor.pyarrow_extra import Batch


class Bind(Protocol):
    """Turns rows into a model's inputs. Any thread may call it."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns that the version takes, in order."""

    def check(self, present: Sequence[str]) -> None:
        """Check the names of the columns of an input; raises ``InvalidInput``."""

    def __call__(self, batch: Batch) -> BoundRows:
        """Return the inputs of rows; raises ``InvalidInput`` for rows that do not fit."""


Explain = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Explains the answers to inputs, as further outputs."""


class ScoringRunner(Protocol):
    """Answers rows: a loaded model, or a gateway. Any thread may call it."""

    @property
    def signature(self) -> Signature:
        """The inputs and outputs."""

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs of these inputs.

        Raises:
            InvalidInput: the model cannot take these values.
        """


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """The result of some rows: the outputs of those that could be scored, in order, and by their places the reasons of
    the others.

    ``disagreeing`` are the places, among the rows that could be scored, of those with which the other version
    disagrees (None: none was asked), and ``max_abs_diff`` is the greatest difference of a number. ``inputs`` are the
    tensors of the rows that could be scored, if they were bound, as the monitor counts them: values are missing where
    defaults stood in for them. ``explained`` are their explanations as outputs.
    """

    rows: int
    outputs: Sequence[Tensor]
    faults: Mapping[int, str] = field(default_factory=dict)
    disagreeing: Sequence[int] | None = None
    max_abs_diff: float = 0.0
    inputs: Sequence[Tensor] = ()
    explained: Sequence[Tensor] = ()

    @property
    def good(self) -> list[int]:
        """Return the places of the rows that could be scored."""
        return [row for row in range(self.rows) if row not in self.faults]


@dataclass(frozen=True, slots=True)
class _Piece:
    bound: BoundRows
    outputs: list[Tensor]
    other: list[Tensor] | None


class BatchScorer:
    """Scores record batches by a version, and by another ``against`` it; ``explain`` turns inputs into explanations.
    Any thread may call it."""

    def __init__(
        self,
        bind: Bind,
        runner: ScoringRunner,
        against: ScoringRunner | None = None,
        explain: Explain | None = None,
    ) -> None:
        self._explain = explain
        self._bind = bind
        self._runner = runner
        self._against = against

    def score(self, batch: Batch, faults: Mapping[int, str]) -> ScoredRows:
        """Score rows; ``faults`` are rows that could not be read, by their places.

        Raises:
            Fault: the model, or the gateway, cannot answer.
        """
        found = dict(faults)
        pieces: list[_Piece] = []
        for start, end in _find_runs(batch.num_rows, faults):
            self._score(batch, start, end, pieces, found)
        if not pieces:
            return ScoredRows(batch.num_rows, (), found)
        outputs = _join([piece.outputs for piece in pieces])
        scored = ScoredRows(
            batch.num_rows, outputs, found, inputs=_join([_to_monitored(piece.bound) for piece in pieces])
        )
        if self._explain is not None:
            scored = replace(scored, explained=self._explain(_join([piece.bound.inputs for piece in pieces])))
        return scored if self._against is None else _add_comparison(scored, [piece.other or [] for piece in pieces])

    def _score(self, batch: Batch, start: int, end: int, pieces: list[_Piece], faults: dict[int, str]) -> None:
        """Score the rows from ``start`` to ``end``; if they cannot be, each half of them."""
        try:
            bound = self._bind(batch.slice(start, end - start))
            outputs = self._runner.run(bound.inputs)
            other = None if self._against is None else self._against.run(bound.inputs)
        except InvalidInput as fault:
            if end - start == 1:
                faults[start] = _describe_fault(fault)
                return
            middle = (start + end) // 2
            self._score(batch, start, middle, pieces, faults)
            self._score(batch, middle, end, pieces, faults)
        else:
            pieces.append(_Piece(bound, outputs, other))


def reuse_rows(bind: Bind, batch: Batch, scored: ScoredRows) -> ScoredRows:
    """Return an earlier result of these rows with their inputs."""
    pieces = [
        _to_monitored(bind(batch.slice(start, end - start))) for start, end in _find_runs(batch.num_rows, scored.faults)
    ]
    return replace(scored, inputs=_join(pieces) if pieces else [])


def _to_monitored(bound: BoundRows) -> list[Tensor]:
    """Return the inputs as the monitor counts them."""
    if not bound.defaulted:
        return bound.inputs
    return put_missing(bound.inputs, [(len(bound.inputs[0].data), bound.defaulted)])


def _find_runs(rows: int, faults: Mapping[int, str]) -> list[tuple[int, int]]:
    """Return the first row and the end of each run of rows without faults."""
    edges = [-1, *sorted(faults), rows]
    return [(before + 1, after) for before, after in pairwise(edges) if after > before + 1]


def _describe_fault(fault: InvalidInput) -> str:
    """Return the reason of a row that was bound alone, without its place in that piece."""
    text = str(fault)
    return text.removeprefix("row 0, ").removeprefix("row 0: ")


def _join(parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Join the rows of tensors.

    Raises:
        InvalidInput: they differ in another dimension.
    """
    if len(parts) == 1:
        return list(parts[0])
    try:
        return [
            Tensor(same[0].name, same[0].datatype, np.concatenate([tensor.data for tensor in same]))
            for same in zip(*parts, strict=True)
        ]
    except ValueError:
        raise InvalidInput("the rows of one batch give outputs of different shapes; they cannot be columns") from None


def _add_comparison(scored: ScoredRows, others: Sequence[Sequence[Tensor]]) -> ScoredRows:
    """Return a result with its comparison to the outputs of another version."""
    other = _join(others)
    rows = scored.rows - len(scored.faults)
    apart = np.flatnonzero(find_disagreeing_rows(scored.outputs, other, rows)).tolist()
    largest = compare(scored.outputs, other).max_abs
    return replace(scored, disagreeing=apart, max_abs_diff=largest)


class ModelRunner:
    """Runs a loaded model in this process, in runs that its configuration allows."""

    def __init__(self, model: "LoadedModel", max_rows: int = 0) -> None:
        self._model = model
        self._most = max_rows or model.signature.max_batch_size
        self._names = [spec.name for spec in model.signature.outputs]

    @property
    def signature(self) -> Signature:
        """See ``ScoringRunner``."""
        return self._model.signature

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """See ``ScoringRunner``."""
        rows = len(inputs[0].data)
        if not self._most or rows <= self._most:
            return self._run(inputs)
        starts = range(0, rows, self._most)
        return _join([self._run(_slice_rows(inputs, start, start + self._most)) for start in starts])

    def _run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        signature = self._model.signature
        arrays = self._model.run(signature.bind(inputs).feeds, self._names)
        return [Tensor(spec.name, spec.datatype, array) for spec, array in zip(signature.outputs, arrays, strict=True)]


def _slice_rows(tensors: Sequence[Tensor], start: int, end: int) -> list[Tensor]:
    return [Tensor(tensor.name, tensor.datatype, tensor.data[start:end]) for tensor in tensors]


class LoadedModel(Protocol):
    """A model in memory."""

    signature: Signature

    def run(self, feeds: dict[str, Any], outputs: Sequence[str]) -> list[Any]:
        """Return the outputs of these names."""
