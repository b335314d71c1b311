"""MLflow's scoring protocol: frames and tensors in, records and tensors out, and its errors."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fuzz.targets import World
from tests.unit.api.rest.dialects.worlds import DialectClient

CSV = {"content-type": "text/csv"}
ROWS = [[1, 2, 3], [4, 5, 6]]
RECORDS = [{"y": [3, 5, 7]}, {"y": [9, 11, 13]}]
NAMES = ["x[0]", "x[1]", "x[2]"]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(world: World) -> DialectClient:
    return DialectClient(world, "mlflow", default_model="row")


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": NAMES, "data": ROWS, "index": [0, 1]}},
        {"dataframe_split": {"columns": NAMES[::-1], "data": [row[::-1] for row in ROWS]}},
        {"dataframe_split": {"columns": ["a", "b", "c"], "data": ROWS}, "params": {"a": 1}},
        {"dataframe_split": {"columns": [0, 1, 2], "data": ROWS}},
        {"dataframe_split": {"data": ROWS}},
        {"dataframe_records": [dict(zip(NAMES, row, strict=True)) for row in ROWS]},
        {"dataframe_records": [{"a": row[0], "b": row[1], "c": row[2]} for row in ROWS]},
    ],
)
def test_frames_are_answered_by_records(client: DialectClient, body: Any) -> None:
    assert client.ask("/invocations", body)[:2] == (200, {"predictions": RECORDS})


@pytest.mark.parametrize("body", [{"inputs": ROWS}, {"instances": ROWS, "params": {}}, {"inputs": {"x": ROWS}}])
def test_tensors_are_answered_by_tensors(client: DialectClient, body: Any) -> None:
    assert client.ask("/invocations", body)[:2] == (200, {"predictions": {"y": [[3, 5, 7], [9, 11, 13]]}})


def test_missing_values_may_be_nan_as_mlflows_client_sends_them(client: DialectClient) -> None:
    body = b'{"dataframe_split": {"index": [0], "columns": ["x[0]", "x[1]", "x[2]"], "data": [[1.0, NaN, 3.0]]}}'
    assert client.ask("/invocations", body)[:2] == (200, {"predictions": [{"y": [3, None, 7]}]})
    assert client.ask("/invocations", b'{"inputs": [[1.0, NaN, 3.0]]}')[1] == {"predictions": {"y": [[3, None, 7]]}}


@pytest.mark.parametrize("kind", ["text/csv", "application/csv; charset=UTF-8"])
def test_csv_bodies_are_answered(client: DialectClient, kind: str) -> None:
    body = b"a,b,c\r\n1,2,3\r\n4,5,6\r\n"
    assert client.ask("/invocations", body, fields={"content-type": kind})[1] == {"predictions": RECORDS}
    many = b"a,b,c\n" + b"1,2,3\n" * 4000
    assert client.ask("/invocations", many, fields=CSV)[1] == {"predictions": RECORDS[:1] * 4000}


def test_long_bodies_in_every_form(client: DialectClient) -> None:
    rows = [[1.5, 2, None]] * 4000
    expected = {"predictions": [{"y": [4, 5, None]}] * 4000}
    for names in (NAMES, ["a", "b", "c"]):
        assert client.ask("/invocations", {"dataframe_split": {"columns": names, "data": rows}})[1] == expected
        records = [dict(zip(names, row, strict=True)) for row in rows]
        assert client.ask("/invocations", {"dataframe_records": records})[1] == expected
    swapped = {"columns": NAMES[::-1], "data": [[None, 2, 1.5]] * 4000}
    assert client.ask("/invocations", {"dataframe_split": swapped})[1] == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[[1,2,3]]", "not a JSON object"),
        ({"rows": ROWS}, "exactly one of the input fields"),
        ({"inputs": ROWS, "instances": ROWS}, "exactly one of the input fields"),
        ({"dataframe_split": ROWS}, "must have 'data' field"),
        ({"dataframe_split": {"data": ROWS, "more": 1}}, "must have 'data' field"),
        ({"dataframe_split": {"data": 5}}, "expected lists"),
        ({"dataframe_split": {"columns": NAMES[::-1], "data": [[1, 2]]}}, "row 0: expected a list of 3 values"),
        ({"dataframe_split": {"columns": ["a", "a", "b"], "data": ROWS}}, "two columns 'a'"),
        (
            {"dataframe_split": {"columns": ["x[0]", "b", "c"], "data": ROWS}},
            "column 'x[1]': expected a number, got no value",
        ),
        ({"dataframe_records": {"a": 1}}, "must be a list of records"),
        ({"dataframe_records": [5]}, "must be a list of records"),
        ({"dataframe_records": [{"a": 1, "b": 2, "c": 3}, {"a": 1}]}, "row 1: expected the columns of row 0"),
        ({"dataframe_records": [{"c": 2, "x[1]": 1, "x[0]": 0}]}, "column 'x[2]': expected a number, got no value"),
        ({"dataframe_records": []}, "no rows"),
        ({"instances": {"x": ROWS}}, "expected a list"),
        ({"inputs": [[1, 2]]}, "row 0 has 2 values"),
    ],
)
def test_errors_have_mlflows_form(client: DialectClient, body: Any, message: str) -> None:
    status, answer, fields = client.ask("/invocations", body)
    assert (status, answer["error_code"]) == (400, "BAD_REQUEST")
    assert message in answer["message"]
    assert fields["penstock-model-version"] == "1"


def test_other_errors_have_their_status(client: DialectClient, world: World) -> None:
    assert client.ask("/invocations", {"messages": []})[:2] == (
        501,
        {
            "error_code": "NOT_IMPLEMENTED",
            "message": "bodies for language models (messages, prompt, input) are not offered; send rows",
        },
    )
    expired = client.ask("/invocations", {"inputs": ROWS}, fields={"penstock-timeout-ms": "0"})
    assert (expired[0], expired[1]["error_code"]) == (504, "DEADLINE_EXCEEDED")
    unset = DialectClient(world, "mlflow").ask("/invocations", {"inputs": ROWS})
    assert (unset[0], unset[1]["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "set default_model" in unset[1]["message"]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("application/json; charset=latin-1", "The scoring server only supports UTF-8"),
        ("application/json; header=present", "Unrecognized content type parameters: header; expected charset at most"),
        (
            "a/b",
            "This predictor only supports the following content types: text/csv, application/json. Got 'a/b'.",
        ),
    ],
)
def test_types_that_are_not_read(client: DialectClient, kind: str, text: str) -> None:
    status, body, fields = client.ask("/invocations", {"inputs": ROWS}, fields={"content-type": kind})
    assert (status, body, fields["content-type"]) == (415, text, "text/plain; charset=utf-8")


def test_probes_and_version(client: DialectClient, world: World) -> None:
    world.plane.mark_ready()
    for path in ("/ping", "/health", "/ping/"):
        assert client.ask(path)[:2] == (200, "\n")
    assert client.ask("/version")[:2] == (200, "1.2.3")
    assert DialectClient(world, "mlflow", default_model="nobody").ask("/ping")[:2] == (503, "\n")
    assert DialectClient(world, "mlflow").ask("/ping")[0] == 200  # several models: the worker counts
