"""Scores a file: reads, scores on threads, and writes in order, with a checkpoint beside the result."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final

from penstock.core.errors import Conflict, InvalidInput
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Tensor
from penstock.engine.durable_files import replace_file
from penstock.engine.scratch import sweep
from penstock.monitor.pyarrow_extra import Batch
from penstock.monitor.record_batches import values_of
from penstock.monitor.table_files import TableBatch, TableChunk, format_of, read_chunks
from penstock.monitor.table_writers import open_writer
from penstock.scoring.checkpoint import ScoringCheckpoint
from penstock.scoring.pipeline import map_in_order
from penstock.scoring.results import JoinedColumns, check_column, compose_results
from penstock.scoring.rows import BatchScorer, Bind, ScoredRows, reuse_rows
from penstock.scoring.summary import RunSummary

MOST_ROWS: Final = 8192
"""Rows of a batch."""

MOST_CELLS: Final = 1 << 18
"""Numbers of the inputs of a batch: they and the outputs stay in the caches of a processor."""

OnProgress = Callable[[int, float], None]
"""Takes the rows that are done, and their part of the file (0 to 1)."""


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """What to score: the input, the result, and the file of the rows that could not be scored (None: such a row ends
    the run).

    ``label`` names the column of labels ("" = none). ``digests`` are those of the versions, and of a checkpoint.
    ``explain`` is the number of features that are named for each row (0 = none).
    """

    source: Path
    target: Path
    joined: JoinedColumns = field(default_factory=JoinedColumns)
    label: str = ""
    errors: Path | None = None
    resume: bool = False
    threads: int = 1
    batch_rows: int = 0
    digests: tuple[str, ...] = ()
    explain: int = 0


def rows_of_batch(signature: Signature, stated: int = 0) -> int:
    """Return how many rows are read and run together."""
    if stated:
        return stated
    width = max(1, sum(_count_values(spec) for spec in signature.inputs))
    return max(1, min(MOST_ROWS, MOST_CELLS // width))


def _count_values(spec: TensorSpec) -> int:
    width = 1
    for dim in spec.shape[1:]:
        width *= dim if dim > 0 else 64
    return width


def score_file(
    task: ScoreTask, bind: Bind, scorer: BatchScorer, signature: Signature, summary: RunSummary, report: OnProgress
) -> None:
    """Score a file; the result appears when it is complete.

    Raises:
        InvalidInput: the input does not fit, or a row of it, if there is no file for errors.
        Conflict: another run writes the result, or the input changed meanwhile.
        DataLoss: with ``resume``, the checkpoint is of another input or model.
        OSError: a file cannot be read or written.
    """
    if not signature.batching:
        raise InvalidInput("the model takes one row at a time; only models whose first axis is rows can be scored")
    rows = rows_of_batch(signature, task.batch_rows)
    before = _read_stat(task.source)
    with ExitStack() as stack:
        checkpoint = stack.enter_context(ScoringCheckpoint(task.target, _identify_task(task, rows, bind.columns)))
        known = checkpoint.open(task.resume)
        steps = _Steps(task, bind, scorer, signature, summary)
        with _output_files(task) as (result, errors):
            writer = open_writer(result, format_of(task.target))
            chunks = _number_chunks(read_chunks(task.source, rows), known)
            for step in map_in_order(steps.take, chunks, task.threads):
                if not step.is_known:
                    checkpoint.append(step.scored)
                writer.write(steps.finish(step, errors))
                report(step.first + step.scored.rows, step.done)
            writer.close()
            if not summary.rows:
                raise InvalidInput("the input has no rows")
            if _read_stat(task.source) != before:
                raise Conflict("the input changed while it was scored; score it again")
        checkpoint.remove()


def _read_stat(path: Path) -> tuple[int, int, int]:
    facts = path.stat()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _identify_task(task: ScoreTask, rows: int, columns: Sequence[str]) -> dict[str, Any]:
    names = hashlib.sha256(json.dumps(columns).encode()).hexdigest()
    return {
        "input": digest_of(task.source),
        "order of columns": f"sha256:{names}",
        "model": list(task.digests),
        "number of rows of a batch": rows,
        "number of explained features": task.explain,
    }


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file (``sha256:`` and hex)."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


@contextmanager
def _output_files(task: ScoreTask) -> Iterator[tuple[Path, IO[str] | None]]:
    """Yield files that take the places of the result and of the errors when the block ends.

    What killed runs left beside them is deleted: no janitor comes to a user's folder.
    """
    sweep(task.target.parent)
    with ExitStack() as stack:
        errors = None if task.errors is None else stack.enter_context(replace_file(task.errors))
        result = stack.enter_context(replace_file(task.target))
        if errors is None:
            yield result, None
            return
        with errors.open("w", encoding="utf-8") as file:
            yield result, file


@dataclass(frozen=True, slots=True)
class _Numbered:
    first: int
    chunk: TableChunk
    known: ScoredRows | None


def _number_chunks(chunks: Iterator[TableChunk], known: Iterator[ScoredRows]) -> Iterator[_Numbered]:
    first = 0
    for chunk in chunks:
        yield _Numbered(first, chunk, next(known, None))
        first += chunk.rows


@dataclass(frozen=True, slots=True)
class _Step:
    first: int
    done: float
    batch: Batch
    scored: ScoredRows
    results: Batch | None
    is_known: bool


class _Steps:
    """The steps for each chunk: ``take`` on any thread, ``finish`` in order."""

    def __init__(
        self, task: ScoreTask, bind: Bind, scorer: BatchScorer, signature: Signature, summary: RunSummary
    ) -> None:
        self._task, self._bind, self._scorer = task, bind, scorer
        self._signature, self._summary = signature, summary
        self._empty = ScoredRows(0, ())

    def take(self, item: _Numbered) -> _Step:
        loaded = item.chunk.load()
        self._check(item, loaded)
        scored = self._known(item, loaded) if item.known else self._scorer.score(loaded.data, loaded.faults)
        if scored.faults and (self._task.errors is None or not (item.first or scored.outputs)):
            row, reason = next(iter(sorted(scored.faults.items())))
            hint = "" if self._task.errors else "; pass --errors FILE to go on without such rows"
            raise InvalidInput(f"row {item.first + row}: {reason}{hint}")
        results = self._compose(loaded.data, scored) if scored.outputs else None
        return _Step(item.first, item.chunk.done, loaded.data, scored, results, item.known is not None)

    def _compose(self, batch: Batch, scored: ScoredRows) -> Batch:
        return compose_results(batch, scored, self._task.joined, self._signature)

    def _check(self, item: _Numbered, loaded: TableBatch) -> None:
        """Check the columns with the first rows: what is wrong with them is wrong with every row."""
        if item.first:
            return
        names = loaded.data.schema.names
        self._task.joined.choose(names)
        if self._task.label:
            check_column(self._task.label, names)
        self._bind.check(names)

    def _known(self, item: _Numbered, loaded: TableBatch) -> ScoredRows:
        if item.known is None or item.known.rows != item.chunk.rows:
            raise Conflict("the checkpoint does not fit the input; score without --resume to begin anew")
        return reuse_rows(self._bind, loaded.data, item.known) if self._summary.needs_inputs else item.known

    def finish(self, step: _Step, errors: IO[str] | None) -> Batch:
        """Report a step, and return its results."""
        self._report(step, errors)
        if not self._empty.outputs:
            self._empty = ScoredRows(
                0, _without_rows(step.scored.outputs), explained=_without_rows(step.scored.explained)
            )
        return (
            step.results
            if step.results is not None
            else self._compose(step.batch, replace(self._empty, rows=step.scored.rows, faults=step.scored.faults))
        )

    def _report(self, step: _Step, errors: IO[str] | None) -> None:
        label, key = self._task.label, self._task.joined.key
        labels = values_of(step.batch, label) if label else None
        if labels is not None and step.scored.faults:
            labels = [labels[row] for row in step.scored.good]
        self._summary.add(step.first, step.scored, labels, step.is_known)
        if errors is not None and step.scored.faults:
            keys = values_of(step.batch, key) if key else None
            for row, reason in sorted(step.scored.faults.items()):
                entry = {"row": step.first + row, **({} if keys is None else {"id": keys[row]}), "reason": reason}
                errors.write(json.dumps(entry, default=str, ensure_ascii=False) + "\n")


def _without_rows(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [Tensor(item.name, item.datatype, item.data[:0]) for item in tensors]
