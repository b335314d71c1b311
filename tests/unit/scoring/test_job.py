"""Jobs as JSON, what is refused before one begins, and scorers without their models."""

import errno
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from penstock.core.errors import InvalidInput, NotFound, NotReady, Refused
from penstock.core.frames.terms import RowTerms
from penstock.core.versions import CHAMPION
from penstock.monitor.columns import RowValues
from penstock.monitor.reference import encode_reference
from penstock.monitor.reference_builder import build
from penstock.registry.records import AliasRecord, Content, ModelRecord, VersionRecord, VersionState
from penstock.scoring import Scorer
from penstock.scoring.command import ScoreRequest, run_request
from penstock.scoring.confined import fault_of
from penstock.scoring.job import ScoreJob, decode_job, encode_job
from penstock.scoring.local import LocalVersion
from penstock.scoring.program import describe_os_error
from penstock.scoring.results import JoinedColumns
from penstock.scoring.rows import ModelRunner
from penstock.scoring.run import ScoreTask
from penstock.scoring.versions import VersionContent, choose_version, ordered_features
from tests.unit.scoring.rows_of_numbers import SIGNATURE

CONTENT = VersionContent(
    "m",
    "1",
    "sha256:1",
    "/r/model.onnx",
    "/r",
    "/r",
    "{}",
    (("model.onnx", "ab"),),
    "",
    ("a", "b"),
    {"a": {}},
    {"x": 1},
)


@pytest.mark.parametrize("errors", [None, Path("/w/errors.jsonl")])
def test_a_job_comes_back_as_it_was(errors: Path | None) -> None:
    joined = JoinedColumns(("x",), True, "key")
    task = ScoreTask(Path("/w/in.csv"), Path("/w/out.csv"), joined, "y", errors, True, 3, 7, ("sha256:1",), 4)
    job = ScoreJob(task, [CONTENT, CONTENT], True)
    assert decode_job(json.loads(json.dumps(encode_job(job)))) == job
    assert CONTENT.title == "m:1"


def test_a_failed_process_ends_with_its_fault() -> None:
    assert isinstance(fault_of({"kind": "refused", "fault": "no"}), Refused)
    assert str(fault_of({"kind": "not_ready", "fault": "later"})) == "later"
    assert isinstance(fault_of({"kind": "not_ready", "fault": "later"}), NotReady)
    assert fault_of({"kind": "os", "fault": "no space left"}).kind == "internal"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28]"), "cannot be written: no space left"),
        (OSError(errno.EFBIG, "File too large"), "free space in its folder, and go on with --resume"),
        (PermissionError(errno.EACCES, "Permission denied", "/home/x/in.csv"), "'in.csv': permission denied"),
        (OSError("Truncated data"), "truncated data"),
    ],
)
def test_a_failed_file_says_what_to_do_and_no_folder(error: OSError, text: str) -> None:
    assert text in describe_os_error(error) and "/home" not in describe_os_error(error)


def test_files_must_differ(tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    with pytest.raises(FileNotFoundError):
        run_request(ScoreRequest("m", "", file, tmp_path / "out.csv"), lambda *_: None)
    file.touch()
    with pytest.raises(InvalidInput, match="different files"):
        run_request(ScoreRequest("m", "", file, tmp_path / "x" / ".." / "in.csv"), lambda *_: None)
    with pytest.raises(InvalidInput, match="ends with"):
        run_request(ScoreRequest("m", "", file, tmp_path / "out.txt"), lambda *_: None)


def test_folders_are_not_files_and_are_not_created(tmp_path: Path) -> None:
    file, folder = tmp_path / "in.csv", tmp_path / "folder.csv"
    file.touch()
    folder.mkdir()
    for request in (
        ScoreRequest("m", "", file, folder),
        ScoreRequest("m", "", folder, tmp_path / "out.csv"),
        ScoreRequest("m", "", file, tmp_path / "out.csv", errors=folder),
    ):
        with pytest.raises(InvalidInput, match=r"'folder\.csv' is a folder; name a file"):
            run_request(request, lambda *_: None)
    with pytest.raises(InvalidInput, match=r"the folder of 'out\.csv' does not exist; create it first"):
        run_request(ScoreRequest("m", "", file, tmp_path / "x" / "out.csv"), lambda *_: None)


def record(version: str, state: VersionState = VersionState.ADMITTED) -> VersionRecord:
    return VersionRecord("m", version, Content("sha256:1", 1, "onnx", ()), "", "", state)


VERSIONS = {"1": record("1"), "9": record("9", VersionState.RETIRED), "2": record("2")}
ALIASES = {"old": AliasRecord("old", "1")}


@pytest.mark.parametrize(("selector", "version"), [("", "2"), ("1", "1"), ("old", "1"), ("@old", "1"), ("9", "9")])
def test_a_version_is_chosen_by_name_alias_or_order(selector: str, version: str) -> None:
    assert choose_version(ModelRecord("m", 1, VERSIONS, ALIASES), selector) == version


def test_the_champion_is_chosen_first() -> None:
    aliases = {CHAMPION: AliasRecord(CHAMPION, "1")}
    assert choose_version(ModelRecord("m", 1, VERSIONS, aliases), "") == "1"
    assert choose_version(ModelRecord("m", 1), "") == ""


def test_a_scorer_is_pickled_without_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.scoring.local.find_version", lambda *_: record("2"))
    scorer = Scorer("m", registry="/home")
    data = pickle.dumps(scorer)
    assert len(data) < 500
    again = pickle.loads(data)
    assert (again.version, again.digest, repr(again)) == ("2", "sha256:1", "Scorer(m:2, sha256:1)")


def test_no_registry_is_created_for_a_path_that_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    for place in (tmp_path / "typo", f"sqlite:///{tmp_path}/typo.db", ""):
        with pytest.raises(NotFound, match=rf"there is no registry '{tmp_path}/.*db'; state the folder"):
            Scorer("m", registry=str(place))
    assert not list(tmp_path.iterdir())


class _Model:
    """A model in memory that adds up rows."""

    signature = SIGNATURE

    def run(self, feeds: dict[str, Any], outputs: Sequence[str]) -> list[Any]:
        return [feeds["x"].sum(axis=1, keepdims=True) for _ in outputs]


def test_a_scorer_says_what_it_takes_and_what_to_do_about_other_columns() -> None:
    version = LocalVersion(CONTENT, ModelRunner(_Model()), RowTerms(("a", "b")))
    assert version.score(pa.RecordBatch.from_pydict({"a": [1.0], "b": [2.0]})).num_rows == 1
    for value in (pa.table({"a": [1.0], "b": [2.0]}), {"a": 1.0}, None):
        with pytest.raises(TypeError, match=r"expected a pyarrow\.RecordBatch, got \w"):
            version.score(value)
    with pytest.raises(InvalidInput, match="rename the columns, or push the version") as found:
        version.score(pa.RecordBatch.from_pydict({"c": [1.0]}))
    assert "--features" not in str(found.value)


@pytest.mark.parametrize(
    ("stated", "header", "names"),
    [
        (("c", "a", "b"), ("a", "b", "c"), ("a", "b", "c")),
        (("c", "a", "b"), ("x[0]", "x[1]", "x[2]"), ("c", "a", "b")),
        ((), ("a", "b", "c"), ("a", "b", "c")),
        ((), ("x[0]", "x[1]", "x[2]"), ()),
        (("c", "a", "b"), None, ("c", "a", "b")),
    ],
)
def test_features_are_in_the_order_of_the_training_data(
    stated: tuple[str, ...], header: tuple[str, ...] | None, names: tuple[str, ...]
) -> None:
    rows = RowValues(np.random.default_rng(1).normal(size=(50, 3)), ())
    reference = None if header is None else encode_reference(build((header, ()), rows, None, "training"))
    assert ordered_features(stated, reference) == names
