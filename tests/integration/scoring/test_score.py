"""`penstock score` and ``Scorer`` with versions of a real registry, in confined processes and in others."""

import json
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import helper
from pyarrow import csv, parquet

from penstock import cli
from penstock.scoring import Scorer
from tests import harness, zoo
from tests.harness import wait_until

ROWS = 30_000
NAMES = ("a", "b", "c", "d")


def classifier(bias: float) -> onnx.ModelProto:
    """A softmax over two classes of four named features."""
    weights = np.array([[1, -1], [0.5, -0.5], [-2, 2], [0.1, -0.1]], np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
    ]
    numbers = [zoo.constant("w", weights), zoo.constant("b", np.array([bias, 0], np.float32))]
    made = zoo.model(nodes, [zoo.value("x", "FP32", ("n", 4))], [zoo.value("p", "FP32", ("n", 2))], numbers)
    entry = made.metadata_props.add()
    entry.key, entry.value = "feature_names", json.dumps(NAMES)
    return made


def table(rows: int, shift: float = 0.0) -> Any:
    generator = np.random.default_rng(1)
    x = generator.standard_normal((rows, 4))
    y = (x @ np.array([-1, -0.5, 2, -0.1]) + generator.standard_normal(rows) > 0).astype(int)
    x[:, 1] += shift
    key = [f"k{row}" for row in range(rows)]
    return pa.table({"key": key, **{name: x[:, index] for index, name in enumerate(NAMES)}, "y": y})


def answers(rows: Any, bias: float = 0.0) -> Any:
    x = np.stack([rows[name].to_numpy() for name in NAMES], axis=1)
    z = x @ np.array([[1, -1], [0.5, -0.5], [-2, 2], [0.1, -0.1]]) + [bias, 0]
    exp = np.exp(z - z.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with two versions, of which the first has a reference."""
    folder = tmp_path_factory.mktemp("score")
    data = folder / "train.parquet"
    parquet.write_table(table(12_000).drop_columns(["key"]), data)
    for version, bias in (("1", 0.0), ("2", 0.3)):
        graph = folder / f"{version}.onnx"
        onnx.save(classifier(bias), graph)
        more = ["--reference", str(data)] if version == "1" else []
        words = ["models", "push", "toy", str(graph), "--version", version, "--registry", str(folder / "home"), *more]
        assert cli.run(words) == 0
    words = ["models", "alias", "toy", "champion", "1", "--registry", str(folder / "home")]
    assert cli.run(words) == 0
    return folder / "home"


def score(home: Path, *words: object) -> int:
    return cli.run(["score", *map(str, words), "--registry", str(home)])


def test_a_file_is_scored_compared_measured_and_monitored(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, result = tmp_path / "in.parquet", tmp_path / "out.parquet"
    rows = table(ROWS, shift=0.5)
    parquet.write_table(rows, source)
    words = ["--join", "y", "--id-column", "key", "--label-column", "y", "--against", "2", "--monitor", "--json"]
    capsys.readouterr()
    assert score(home, "toy:1", source, result, *words, "--max-differences", "0.01") == 4
    summary = json.loads(capsys.readouterr().out)
    found = parquet.read_table(result)
    assert found.column_names == ["key", "y", "p_0", "p_1"]
    assert found["key"].equals(rows["key"])
    expected, other = answers(rows), answers(rows, 0.3)
    assert np.allclose(np.stack([found["p_0"], found["p_1"]], axis=1), expected, atol=1e-5)
    right = (expected.argmax(axis=1) == rows["y"].to_numpy()).mean()
    assert summary["performance"]["metrics"]["accuracy"] == pytest.approx(right, abs=1e-3)
    apart = (expected.argmax(axis=1) != other.argmax(axis=1)).sum()
    assert summary["against"]["disagreements"] == pytest.approx(apart, abs=3)
    assert "b" in summary["drift"]["drifting"]
    report = json.loads((tmp_path / "out.parquet.monitor.json").read_text())
    assert report["rows"]["counted"] == ROWS


def test_what_is_wrong_ends_with_a_code_and_one_line(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.csv"
    source.write_text("a,b,c,d\n1,2,3,4\n1,x,3,4\n")
    for words, code, text in (
        (["toy:9", source, tmp_path / "out.csv"], 3, "no version '9'"),
        (["toy:1", source, tmp_path / "out.csv"], 2, "row 1: column 'b': expected a number, got 'x'"),
        (["toy:1", tmp_path / "none.csv", tmp_path / "out.csv"], 1, "no such file"),
        (["toy:2", source, tmp_path / "out.csv", "--monitor"], 3, "toy:2 has no reference"),
    ):
        assert score(home, *words) == code, words
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert text in lines[0]
    words = ["toy:1", source, tmp_path / "out.csv", "--errors", tmp_path / "errors.jsonl", "--explain", "1"]
    assert score(home, *words) == 0
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == '"p_0","p_1","feature_1","attribution_1"'
    assert '"c"' in lines[1]
    assert lines[2] == ",,,"
    assert "explanations: exact" in capsys.readouterr().err


def test_a_scorer_answers_in_another_process_and_notices_another_content(home: Path) -> None:
    scorer = Scorer("toy", "1", str(home))
    rows = table(50)
    program = (
        "import pickle, sys, pyarrow as pa; from pyarrow import ipc;"
        "scorer = pickle.load(sys.stdin.buffer);"
        "batch = ipc.open_stream(sys.stdin.buffer).read_next_batch();"
        "answer = pa.Table.from_batches([scorer(batch)]);"
        "import json; print(json.dumps(answer.to_pydict()))"
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    data = pickle.dumps(scorer) + sink.getvalue().to_pybytes()
    done = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, check=True, timeout=120)
    found = json.loads(done.stdout)
    assert np.allclose(found["p_0"], answers(rows)[:, 0], atol=1e-5)


def test_a_gateway_scores_the_same_apart_from_its_live_traffic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version, bias in (("1", 0.0), ("2", 0.3)):
        zoo.place(tmp_path / "models", "toy", {version: classifier(bias)}, "version_policy: { all {} }\n")
    source, result = tmp_path / "in.parquet", tmp_path / "out.csv"
    rows = table(5000)
    parquet.write_table(rows, source)
    with harness.running(tmp_path / "models", tmp_path) as server:
        words = ["toy:1", source, result, "--gateway", server.http, "--against", "2"]
        assert cli.run(["score", *map(str, words), "--label-column", "y", "--json"]) == 0
        summary = json.loads(capsys.readouterr().out)
        metrics = server.admin("GET", "/metrics").body.decode()
    found = csv.read_csv(result)
    assert np.allclose(found["p_0"], answers(rows)[:, 0], atol=1e-5)
    apart = (answers(rows).argmax(axis=1) != answers(rows, 0.3).argmax(axis=1)).sum()
    assert summary["against"]["disagreements"] == pytest.approx(apart, abs=2)
    marked = 'penstock_marked_rows_total{model="toy",source="batch",version="1"} 5000'
    assert marked in metrics.replace(".0\n", "\n")


def test_a_killed_run_goes_on_where_it_ended(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, result = tmp_path / "in.parquet", tmp_path / "out.parquet"
    checkpoint = tmp_path / "out.parquet.checkpoint"
    rows = table(ROWS)
    parquet.write_table(rows, source)
    words = ["score", "toy:1", source, result, "--batch-rows", "32", "--json", "--registry", home]
    with subprocess.Popen([sys.executable, "-m", "penstock", *map(str, words)], stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: checkpoint.exists() and checkpoint.stat().st_size > 8_000, 120, "some batches")
        process.kill()
    assert not result.exists()

    def resumed() -> bool:  # a run that is being killed still holds the checkpoint
        return cli.run([*map(str, words), "--resume"]) == 0

    wait_until(resumed, 120, "the end of the killed run")
    summary = json.loads(capsys.readouterr().out)
    assert 0 < summary["resumed"] < summary["rows"] == ROWS
    assert np.allclose(parquet.read_table(result)["p_0"], answers(rows)[:, 0], atol=1e-5)
    assert not checkpoint.exists()


EXAMPLES = Path(__file__).parents[3] / "deploy" / "scoring"


def test_a_local_cluster_of_dask_scores_a_folder(home: Path, tmp_path: Path) -> None:
    source, result = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    rows = table(3000)
    for number in range(3):
        parquet.write_table(rows.slice(1000 * number, 1000), source / f"{number}.parquet")
    words = [sys.executable, str(EXAMPLES / "dask_local.py"), "toy", str(source), str(result)]
    environment = {**os.environ, "PENSTOCK_REGISTRY": str(home)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.stdout == "3000 rows\n", done.stderr[-3000:]
    found = pa.concat_tables([parquet.read_table(result / f"{number}.parquet") for number in range(3)])
    assert np.allclose(found["p_0"], answers(rows)[:, 0], atol=1e-5)


LIMITED = textwrap.dedent("""
    import resource, sys
    from pathlib import Path
    from penstock.core.frames.terms import RowTerms
    from penstock.scoring.binding import BatchBinder
    from penstock.scoring.results import JoinedColumns
    from penstock.scoring.rows import BatchScorer
    from penstock.scoring.run import ScoreTask, score_file
    from penstock.scoring.summary import RunSummary
    from tests.unit.scoring.rows_of_numbers import SIGNATURE, Doubling

    def score(source):
        bind = BatchBinder(SIGNATURE, RowTerms(("a", "b")))
        task = ScoreTask(Path(source), Path(source + ".out.parquet"), JoinedColumns.parse("all"), threads=2)
        summary = RunSummary()
        score_file(task, bind, BatchScorer(bind, Doubling()), SIGNATURE, summary, lambda *_: None)
        return summary.rows

    small, large, megabytes = sys.argv[1:]
    score(small)  # libraries, threads and their stacks are there from now on
    now = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (now + (int(megabytes) << 20),) * 2)
    print(score(large))
""")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A row group of 96 MB, and a result of as many, are scored within 48 MB more than a small file needs."""
    numbers = np.random.default_rng(1).standard_normal(3_000_000)
    paths = []
    for rows in (100_000, len(numbers)):
        paths.append(str(tmp_path / f"{rows}.parquet"))
        part = numbers[:rows]
        columns = {"a": part, "b": part[::-1], "c": part + 1, "d": part + 2}
        parquet.write_table(pa.table(columns), paths[-1], row_group_size=rows, use_dictionary=False, compression="none")
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
    words = [sys.executable, "-c", LIMITED, *paths, "48"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.stdout.split() == [str(len(numbers))], done.stderr[-2000:]
