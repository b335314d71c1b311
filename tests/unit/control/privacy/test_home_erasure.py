"""Erasure in the files of a home: captures, the answers to them, and exported tables."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import Table, parquet

from penstock.control.privacy.home_erasure import UNKNOWN, HomeErasure, feature_places
from penstock.core.erasure import ColumnPlace, ErasureReport, SubjectKey
from penstock.core.signature import TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor import erased_rows
from penstock.monitor.answer_segments import ALL_ROWS
from penstock.monitor.capture import CAPTURES, AnsweredRequest, CaptureWriter, read_segment
from penstock.monitor.columns import input_columns, output_columns

COLUMNS = input_columns([TensorSpec("x", "FP32", (-1, 2))], True), output_columns([], True)


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erased_rows, "GRACE_S", 0.0)


class Tally:
    def count_captured(self, size: int) -> None: ...

    def count_capture_dropped(self) -> None: ...


class Home:
    """A home with captures of two models and an export, and the answers that were erased."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Mapping[str, frozenset[int]]] = {}
        for model, version, numbers in (("m", "1", (1, 2)), ("m", "2", (1,)), ("other", "1", (1, 3))):
            writer = CaptureWriter(path / CAPTURES, (model, version), COLUMNS, ())
            writer.write([self.request(f"{model}{version}{number}", number) for number in numbers], Tally())
        self.export("e1", "m", [[1.0, 0.0], [2.0, 0.0]])
        self.export("e2", "other", [[1.0, 0.0]])
        self.export("e3", "", [[1.0, 0.0], [5.0, 0.0]])

    def request(self, request_id: str, number: float) -> AnsweredRequest:
        return AnsweredRequest(request_id, "stable", [Tensor("x", "FP32", np.array([[number, 0]], "<f4"))], [])

    def export(self, event: str, model: str, rows: list[list[float]]) -> None:
        folder = self.path / "retraining" / event
        folder.mkdir(parents=True)
        if model:
            (folder / "event.json").write_text(json.dumps({"data": {"model": model, "version": "1"}}))
        lines = [{"id": f"r{index}", "row": 0, "label": None, "x": row} for index, row in enumerate(rows)]
        parquet.write_table(Table.from_pylist(lines), folder / "rows.parquet")

    def erase(self, model: str | None, column: str, value: str, *known: str) -> ErasureReport:
        def answers(name: str, rows: Mapping[str, frozenset[int]]) -> int:
            self.answers[name] = dict(rows)
            return len(rows)

        def features(key: tuple[str, str]) -> dict[str, ColumnPlace]:
            return {"age": ColumnPlace("x", 0)} if key == ("m", "1") else {}

        erasure = HomeErasure(self.path, answers, lambda: known or ("m", "other"), features)
        return erasure.erase(model, SubjectKey(column, value))

    def captured(self) -> set[str]:
        paths = (self.path / CAPTURES).iterdir()
        return {record.id for path in paths for record, _ in read_segment(path)}

    def exported(self) -> list[Any]:
        tables = [parquet.read_table(path) for path in sorted(self.path.glob("retraining/*/rows.parquet"))]
        return [[line["x"][0] for line in table.to_pylist()] for table in tables]


def test_rows_of_one_model_are_erased(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.erase("m", "x[0]", "1") == ErasureReport(requests=2, rows=2, answers=2, exported=2, files=4)
    assert home.captured() == {"m12", "other11", "other13"}
    assert home.answers == {"m": {"m11": frozenset({0}), "m21": frozenset({0})}}
    assert home.exported() == [[2.0], [1.0], [5.0]]  # an export of an unknown model is searched too
    assert home.erase("m", "x[0]", "1") == ErasureReport()


def test_rows_of_all_models_are_erased(tmp_path: Path) -> None:
    home = Home(tmp_path)
    report = home.erase(None, "x[0]", "1")
    assert (report.requests, report.exported, report.problems) == (3, 3, ())
    assert home.captured() == {"m12", "other13"}
    assert home.exported() == [[2.0], [], [5.0]]
    assert set(home.answers) == {"m", "other"}


def test_features_of_a_version_that_is_served(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.erase("m", "age", "1").requests == 1
    assert home.captured() == {"m12", "m21", "other11", "other13"}
    assert home.exported() == [[2.0], [1.0], [1.0, 5.0]]


def test_the_id_of_a_request_erases_its_answer_also_where_it_was_not_captured(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.erase("m", "id", "m11").requests == 1
    assert home.answers == {"m": {"m11": ALL_ROWS}}
    home.erase("m", "id", "none")
    assert home.answers == {"m": {"none": ALL_ROWS}}


def test_a_model_that_is_not_known_any_longer(tmp_path: Path) -> None:
    home = Home(tmp_path)
    report = home.erase(None, "x[0]", "3", "m")
    assert (report.requests, report.problems) == (1, (UNKNOWN,))
    assert home.captured() == {"m11", "m12", "m21", "other11"}


def test_what_cannot_be_read_is_a_problem_and_stops_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (tmp_path / "retraining" / "e1" / "rows.parquet").write_bytes(b"no table")
    report = home.erase("m", "x[0]", "1")
    assert (report.requests, report.exported) == (2, 1)
    assert report.problems == ("the export e1 cannot be searched: ArrowInvalid",)


def test_an_empty_home(tmp_path: Path) -> None:
    erasure = HomeErasure(tmp_path, lambda *_: 0, lambda: (), lambda _: {})
    assert erasure.erase(None, SubjectKey("x", "1")) == ErasureReport()


@pytest.mark.parametrize(
    ("names", "signature", "places"),
    [
        (["a", "b"], {"inputs": [{"name": "x"}]}, {"a": ColumnPlace("x", 0), "b": ColumnPlace("x", 1)}),
        (["a"], {"inputs": [{"name": "x"}, {"name": "y"}]}, {}),
        (["a"], None, {}),
        ([], {"inputs": [{"name": "x"}]}, {}),
    ],
)
def test_places_of_features(names: list[str], signature: Any, places: dict[str, ColumnPlace]) -> None:
    assert feature_places(names, signature) == places
