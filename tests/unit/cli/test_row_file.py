"""`penstock predict --rows`: files of every form become requests of bounded size, and answers become rows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.cli.client import Document, InferReply, RestClient
from penstock.cli.predict_rows import predict_rows
from penstock.cli.requests import BadData
from penstock.cli.row_file import frame_of_answer, layout_of, read_rows, split_requests
from penstock.core.frames.numpy_file import write_array
from penstock.core.frames.records import to_columns
from penstock.core.frames.terms import NO_TERMS, RowTerms, decode_terms, encode_terms
from tests.frames import frame_to_arrow, frame_to_parquet, from_columns

TERMS = RowTerms(("age", "income"), {"income": 5})
METADATA: Document = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "properties": {"rows": encode_terms(TERMS)},
}
COLUMNS = {"income": [2.0, 4.0], "age": [1.0, 3.0]}
FRAME = from_columns(COLUMNS)
VALUES = [[1, 2], [3, 4]]


def records() -> list[dict[str, float]]:
    """The rows as objects."""
    return [{"age": 1, "income": 2}, {"income": 4, "age": 3}]


FILES: dict[str, bytes] = {
    "rows.csv": b"income,age\n2,1\n4,3\n",
    "rows.jsonl": b"".join(json.dumps(record).encode() + b"\n" for record in records()),
    "lists.ndjson": b"[1, 2]\n[3, 4]\n",
    "records.json": json.dumps(records()).encode(),
    "lists.json": json.dumps(VALUES).encode(),
    "columns.json": json.dumps(COLUMNS).encode(),
    "split.json": json.dumps({"columns": ["income", "age"], "data": [[2, 1], [4, 3]], "index": [0, 1]}).encode(),
    "tensor.json": json.dumps({"x": VALUES}).encode(),
    "rows.npy": write_array(np.array(VALUES)),
    "rows.parquet": frame_to_parquet(FRAME),
    "rows.arrow": frame_to_arrow(FRAME),
}


def written(folder: Path, name: str, content: bytes) -> Path:
    """A file."""
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("name", FILES)
def test_every_form_gives_the_same_input(tmp_path: Path, name: str) -> None:
    bound = read_rows(written(tmp_path, name, FILES[name]), METADATA)
    assert [(tensor.name, tensor.datatype, tensor.data.tolist()) for tensor in bound.inputs] == [("x", "FP32", VALUES)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", b"income,age\n2,1\nx,3\n", "rows.csv: row 1, column 'income': expected a number, got 'x'"),
        ("rows.csv", b"age\n1\n,2\n", "rows.csv: row 1 of the CSV data has 2 fields"),
        ("rows.json", b"{", "rows.json is not JSON"),
        ("rows.txt", b"", "unknown ending; expected one of .csv"),
        ("rows.parquet", b"PAR1", "neither a Parquet"),
        ("rows.npy", b"", "not a .npy file"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(BadData, match=message):
        read_rows(written(tmp_path, name, content), METADATA)
    with pytest.raises(BadData, match="cannot be read: no such file"):
        read_rows(tmp_path / f"no-{name}".replace(".txt", ".csv"), METADATA)


def test_a_model_that_says_nothing_has_columns_by_place() -> None:
    layout = layout_of({"inputs": METADATA["inputs"]})
    assert layout.columns == ("x[0]", "x[1]")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"other": 1}', "5"])
def test_other_servers_say_nothing_about_rows(text: str) -> None:
    assert decode_terms(text) == NO_TERMS


def test_terms_survive_metadata() -> None:
    assert decode_terms(encode_terms(TERMS)) == TERMS
    assert encode_terms(NO_TERMS) == ""


class FakeClient:
    """Answers every value doubled, and keeps the requests."""

    def __init__(self, metadata: Document) -> None:
        self.document = metadata
        self.requests: list[Document] = []

    def metadata(self, model: str, version: str) -> Document:
        """See ``Client``."""
        return self.document

    def infer(self, model: str, version: str, request: Document) -> InferReply:
        """See ``Client``."""
        self.requests.append(request)
        [tensor] = request["inputs"]
        doubled = [None if value is None else 2 * value for value in tensor["data"]]
        document = {"outputs": [{**tensor, "name": "y", "data": doubled}]}
        return InferReply(document, "1" if len(self.requests) < 3 else "2", "stable")

    def statistics(self, model: str, version: str) -> list[Document]:
        """See ``Client``."""
        return []

    def close(self) -> None:
        """See ``Client``."""


def test_rows_are_sent_in_requests_of_bounded_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "rows.csv", b"age,income\n1,2\n3,\n5,6\n")
    client = FakeClient(METADATA)
    predict_rows(client, ("m", ""), file, 1, as_json=False)
    assert [request["inputs"][0]["shape"] for request in client.requests] == [[1, 2]] * 3
    shown = capsys.readouterr()
    assert shown.out == "y_0,y_1\n2.0,4.0\n6.0,10.0\n10.0,12.0\n"
    assert shown.err.splitlines() == [
        "'income' is missing in 1 rows; the default of the model card stands in for it",
        "m: 2 rows by version 1 (stable), 1 rows by version 2 (stable)",
    ]
    predict_rows(client, ("m", ""), file, 10, as_json=True)
    assert json.loads(capsys.readouterr().out.splitlines()[0]) == {"y_0": 2.0, "y_1": 4.0}


def test_a_model_of_a_fixed_number_of_rows_gets_them(tmp_path: Path) -> None:
    client = FakeClient({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2]}]})
    predict_rows(client, ("m", ""), written(tmp_path, "rows.npy", write_array(np.zeros((4, 2)))), 100, as_json=True)
    assert [request["inputs"][0]["shape"] for request in client.requests] == [[2, 2]] * 2


def test_json_has_no_half_precision(tmp_path: Path) -> None:
    class Rest(RestClient):
        def metadata(self, model: str, version: str) -> Document:
            return {"inputs": [{"name": "x", "datatype": "FP16", "shape": [-1, 2]}]}

    with Rest("127.0.0.1:1", 1.0) as client, pytest.raises(BadData, match="use --grpc"):
        predict_rows(client, ("m", ""), written(tmp_path, "lists.json", FILES["lists.json"]), 1, as_json=False)


def test_answers_over_rest_may_have_nan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Rest(RestClient):
        def metadata(self, model: str, version: str) -> Document:
            return METADATA

        def infer(self, model: str, version: str, request: Document) -> InferReply:
            assert request["parameters"] == {"non_finite": "null"}
            output = {"name": "y", "datatype": "FP32", "shape": [2], "data": [1.5, None]}
            return InferReply({"outputs": [output]}, "1", "stable")

    with Rest("127.0.0.1:1", 1.0) as client:
        predict_rows(client, ("m", ""), written(tmp_path, "rows.csv", b"age,income\n1,2\n,2\n"), 5, as_json=False)
    assert capsys.readouterr().out == "y\n1.5\nnan\n"


def test_nan_is_null_in_requests(tmp_path: Path) -> None:
    bound = read_rows(written(tmp_path, "rows.json", b"[[1, null]]"), METADATA)
    [request] = split_requests(bound.inputs, 5)
    assert request["inputs"][0]["data"] == [1.0, 5.0], "the default stands in"
    bound = read_rows(written(tmp_path, "rows.json", b"[[null, 1]]"), METADATA)
    [request] = split_requests(bound.inputs, 5)
    assert request["inputs"][0]["data"] == [None, 1.0]


@pytest.mark.parametrize(
    ("output", "columns"),
    [
        ({"name": "y", "datatype": "BF16", "shape": [2], "data": [0.5, 1]}, {"y": [0.5, 1.0]}),
        ({"name": "y", "datatype": "BYTES", "shape": [2, 1], "data": ["a", "b"]}, {"y": ["a", "b"]}),
        ({"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.5, None]}, {"y_0": [0.5], "y_1": [np.nan]}),
    ],
)
def test_answers_become_columns(output: Document, columns: dict[str, Any]) -> None:
    found = to_columns(frame_of_answer({"outputs": [output]}))
    assert repr(found) == repr(columns)


def test_answers_without_rows_are_refused() -> None:
    scalar = {"name": "y", "datatype": "FP32", "shape": [], "data": [1]}
    with pytest.raises(BadData, match="no rows"):
        frame_of_answer({"outputs": [scalar]})


def test_rows_and_data_are_alternatives(penstock: Callable[..., Any], tmp_path: Path) -> None:
    file = written(tmp_path, "lists.json", FILES["lists.json"])
    result = penstock("predict", "m", "--data", "[]", "--rows", str(file), "--url", "127.0.0.1:1")
    assert result.code == 2
    assert "either --data or --rows" in result.err
