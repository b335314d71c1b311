"""Scoring of whole files: formats, order, interrupted runs, rows that fail, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import csv, feather, parquet

from penstock.core.errors import Conflict, DataLoss, Internal, InvalidInput
from penstock.core.frames.terms import RowTerms
from penstock.core.signature import Signature
from penstock.engine.scratch import scratch_file
from penstock.monitor.table_files import has_texts
from penstock.scoring.binding import BatchBinder
from penstock.scoring.results import JoinedColumns
from penstock.scoring.rows import BatchScorer
from penstock.scoring.run import ScoreTask, rows_of_batch, score_file
from penstock.scoring.summary import RunSummary
from tests.unit.scoring.rows_of_numbers import SIGNATURE, Doubling, batch

ROWS = 25
SUFFIXES = (".parquet", ".csv", ".jsonl", ".arrow")


def write(path: Path, rows: Any) -> Path:
    table = pa.Table.from_batches([rows])
    match path.suffix:
        case ".parquet":
            parquet.write_table(table, path, row_group_size=10)
        case ".csv":
            csv.write_csv(table, path)
        case ".arrow":
            feather.write_feather(table, path, compression="uncompressed", chunksize=9)
        case _:
            path.write_text("".join(json.dumps(record) + "\n" for record in table.to_pylist()))
    return path


def read(path: Path) -> Any:
    match path.suffix:
        case ".parquet":
            return parquet.read_table(path).to_pylist()
        case ".csv":
            return csv.read_csv(path).to_pylist()
        case ".arrow":
            return feather.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text().splitlines()]


class Interrupted(Exception):
    """A run was ended from outside."""


def run(
    task: ScoreTask,
    runner: Doubling,
    against: Doubling | None = None,
    most: int = 1 << 30,
    names: tuple[str, ...] = ("a", "b"),
) -> RunSummary:
    """Score, and end the run once so many rows are done."""

    def report(rows: int, _: float) -> None:
        if rows >= most:
            raise Interrupted

    bind = BatchBinder(SIGNATURE, RowTerms(names), has_texts(task.source))
    summary = RunSummary(against="2" if against else "")
    score_file(task, bind, BatchScorer(bind, runner, against), SIGNATURE, summary, report)
    return summary


@pytest.mark.parametrize("source", SUFFIXES)
@pytest.mark.parametrize("target", SUFFIXES)
def test_every_format_is_read_and_written(tmp_path: Path, source: str, target: str) -> None:
    file = write(tmp_path / f"in{source}", batch(0, ROWS))
    result = tmp_path / f"out{target}"
    summary = run(ScoreTask(file, result, JoinedColumns(key="key"), threads=2, batch_rows=4), Doubling())
    assert read(result) == [{"key": f"k{row}", "y": 11.0 * row} for row in range(ROWS)]
    assert (summary.rows, summary.failed, summary.resumed) == (ROWS, 0, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file.name, result.name])


@pytest.mark.parametrize("most", [4, 12, 24])
def test_an_interrupted_run_goes_on_where_it_ended(tmp_path: Path, most: int) -> None:
    file = write(tmp_path / "in.parquet", batch(0, ROWS))
    task = ScoreTask(file, tmp_path / "out.csv", JoinedColumns.parse("all"), batch_rows=4, digests=("sha256:1",))
    errors = tmp_path / "errors.jsonl"
    bad = [2.0, 20.0]
    whole = ScoreTask(**{**_fields(task), "errors": errors})
    with pytest.raises(Interrupted):
        run(whole, Doubling(bad=bad), Doubling(1.5, bad), most)
    assert not task.target.exists()
    assert not errors.exists()
    runner = Doubling(bad=bad)
    summary = run(ScoreTask(**{**_fields(whole), "resume": True}), runner, Doubling(1.5, bad))
    assert summary.resumed == most  # every row of a batch that was written
    assert runner.rows == ROWS - len(bad) - (most - sum(row < most for row in bad))
    assert [row["y"] for row in read(task.target)] == [None if row in bad else 11.0 * row for row in range(ROWS)]
    assert [json.loads(line)["row"] for line in errors.read_text().splitlines()] == [2, 20]
    assert summary.document()["against"]["disagreements"] == ROWS - len(bad) - 1
    assert not list(tmp_path.glob("*.checkpoint"))


def test_what_a_killed_run_left_beside_the_result_is_deleted(tmp_path: Path) -> None:
    file = write(tmp_path / "in.csv", batch(0, ROWS))
    left = tmp_path / ".out.csv.0123456789abcdef.penstock"
    left.write_text("half of a result")
    with scratch_file(tmp_path, "out.csv") as of_a_running_one:
        run(ScoreTask(file, tmp_path / "out.csv"), Doubling())
        assert of_a_running_one.exists() and not left.exists()


def _fields(task: ScoreTask) -> dict[str, Any]:
    return {name: getattr(task, name) for name in ScoreTask.__slots__}


def test_a_checkpoint_of_another_model_or_input_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "in.parquet", batch(0, ROWS))
    task = ScoreTask(file, tmp_path / "out.csv", batch_rows=4, digests=("sha256:1",))
    with pytest.raises(Interrupted):
        run(task, Doubling(), most=8)
    with pytest.raises(DataLoss, match="another order of columns"):
        run(ScoreTask(**{**_fields(task), "resume": True}), Doubling(), names=("b", "a"))
    with pytest.raises(DataLoss, match="another model"):
        run(ScoreTask(**{**_fields(task), "resume": True, "digests": ("sha256:2",)}), Doubling())
    write(file, batch(1, ROWS))
    with pytest.raises(DataLoss, match="another input"):
        run(ScoreTask(**{**_fields(task), "resume": True}), Doubling())
    assert run(task, Doubling()).rows == ROWS


def test_without_a_file_for_errors_such_a_row_ends_the_run(tmp_path: Path) -> None:
    file = write(tmp_path / "in.csv", batch(0, ROWS))
    task = ScoreTask(file, tmp_path / "out.csv", batch_rows=4)
    with pytest.raises(InvalidInput, match=r"row 17: .*pass --errors"):
        run(task, Doubling(bad=[17.0]))
    assert not task.target.exists()


def test_failed_rows_are_written_with_their_key(tmp_path: Path) -> None:
    lines = ['{"key": "p", "a": 1, "b": 2}', "{", '{"key": "q", "a": "x", "b": 1}', "", '{"key": "r", "a": 2, "b": 2}']
    file = tmp_path / "in.jsonl"
    file.write_text("\n".join(lines))
    task = ScoreTask(file, tmp_path / "out.jsonl", JoinedColumns(key="key"), errors=tmp_path / "errors.jsonl")
    assert run(task, Doubling()).failed == 2
    assert [row["y"] for row in read(task.target)] == [3.0, None, None, 4.0]
    failed = [json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
    assert [(entry["row"], entry["id"]) for entry in failed] == [(1, None), (2, "q")]
    assert failed[0]["reason"] == "expected a JSON object on one line"


def test_a_batch_may_fail_as_a_whole_but_not_the_first(tmp_path: Path) -> None:
    file = write(tmp_path / "in.parquet", batch(0, 12))
    task = ScoreTask(file, tmp_path / "out.parquet", errors=tmp_path / "errors.jsonl", batch_rows=4, threads=2)
    assert run(task, Doubling(bad=range(4, 8))).failed == 4
    assert [row["y"] for row in read(task.target)] == [*(11.0 * row for row in range(4)), *[None] * 4, 88, 99, 110, 121]
    with pytest.raises(InvalidInput, match="row 0"):
        run(task, Doubling(bad=range(4)))


def test_what_no_row_can_have_is_an_error_of_the_file(tmp_path: Path) -> None:
    without = write(tmp_path / "in.parquet", batch(0, 5).select(["key", "a"]))
    task = ScoreTask(without, tmp_path / "out.csv", errors=tmp_path / "errors.jsonl")
    with pytest.raises(InvalidInput, match="no column 'b'"):
        run(task, Doubling())
    file = write(tmp_path / "whole.parquet", batch(0, 5))
    with pytest.raises(InvalidInput, match="no column 'z'"):
        run(ScoreTask(file, task.target, label="z"), Doubling())
    with pytest.raises(InvalidInput, match="row 0"):  # all of the first rows fail
        run(ScoreTask(file, task.target, errors=task.errors), Doubling(bad=range(5)))
    with pytest.raises(InvalidInput, match="no rows"):
        run(ScoreTask(write(tmp_path / "none.parquet", batch(0, 0)), task.target), Doubling())
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".checkpoint", *[".parquet"] * 3]


def test_a_changed_input_is_noticed(tmp_path: Path) -> None:
    file = write(tmp_path / "in.csv", batch(0, ROWS))

    class Changing(Doubling):
        def run(self, inputs: Any) -> Any:
            with file.open("a") as opened:
                opened.write('"k99",99,990\n')
            return super().run(inputs)

    with pytest.raises(Conflict):
        run(ScoreTask(file, tmp_path / "out.csv"), Changing())


def test_a_failing_model_ends_the_run(tmp_path: Path) -> None:
    class Failing(Doubling):
        def run(self, inputs: Any) -> Any:
            raise Internal("the graph failed")

    task = ScoreTask(write(tmp_path / "in.csv", batch(0, ROWS)), tmp_path / "out.csv", errors=tmp_path / "errors")
    with pytest.raises(Internal):
        run(task, Failing())


def test_batches_are_smaller_for_wide_rows() -> None:
    assert rows_of_batch(SIGNATURE) == 8192
    assert rows_of_batch(SIGNATURE, 5) == 5
    wide = SIGNATURE.inputs[0].__class__("x", "FP32", (-1, 3, 224, 224))
    assert rows_of_batch(Signature([wide], SIGNATURE.outputs, batching=True)) == 1


def test_models_without_rows_are_refused(tmp_path: Path) -> None:
    bind = BatchBinder(SIGNATURE, RowTerms(("a", "b")))
    task = ScoreTask(tmp_path / "in.csv", tmp_path / "out.csv")
    single = Signature(SIGNATURE.inputs, SIGNATURE.outputs)
    with pytest.raises(InvalidInput, match="one row at a time"):
        score_file(task, bind, BatchScorer(bind, Doubling()), single, RunSummary(), lambda *_: None)
