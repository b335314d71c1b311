"""Requests in the dialects of clouds, without sockets: bodies in, bodies out, probes and refusals."""

import io
import json
from collections.abc import Iterator

import numpy as np
import pytest

from penstock.api.http1.request_head import read_head
from penstock.api.rest.cors import CorsPolicy
from penstock.api.rest.dialects.base import DialectSetup
from penstock.api.rest.dialects.table import DialectTable
from penstock.serving.routing_table import RoutingTable
from tests.fuzz.targets import World
from tests.unit.api.rest.dialects.worlds import DialectClient

MANY = 5000


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.fixture(scope="module")
def sagemaker(world: World) -> DialectClient:
    return DialectClient(world, "sagemaker", default_model="row")


def post(
    client: DialectClient, body: bytes, kind: str, accept: str = "", path: str = "/invocations"
) -> tuple[int, object]:
    fields = {"content-type": kind, **({"accept": accept} if accept else {})}
    return client.ask(path, body, "POST", fields)[:2]


@pytest.mark.parametrize(
    ("dialect", "path", "body", "answer"),
    [
        ("sagemaker", "/invocations", b"[[1, NaN, 3]]", {"predictions": [[3, None, 7]]}),
        ("sagemaker", "/invocations", b'{"instances": [[1, NaN, 3]]}', {"predictions": [[3, None, 7]]}),
        ("azure", "/score", b'{"input_data": [[1, NaN, 3]]}', [[3, None, 7]]),
        ("azure", "/score", b'{"data": [[1, NaN, 3]]}', [[3, None, 7]]),
    ],
)
def test_json_of_python_may_have_nan(world: World, dialect: str, path: str, body: bytes, answer: object) -> None:
    client = DialectClient(world, dialect, default_model="row")
    assert post(client, body, "application/json", path=path) == (200, answer)


def test_long_bodies_are_read_and_written_on_a_thread(sagemaker: DialectClient) -> None:
    csv, lines = b"1,2,3\n" * MANY, b"[1,2,3]\n" * MANY
    assert post(sagemaker, csv, "text/csv") == (200, "3.0,5.0,7.0\r\n" * MANY)
    assert post(sagemaker, lines, "application/jsonlines") == (200, '{"y":[3.0,5.0,7.0]}\n' * MANY)
    assert post(sagemaker, csv, "text/csv", "application/json") == (200, {"predictions": [[3, 5, 7]] * MANY})


@pytest.mark.parametrize(
    ("body", "status", "answer"),
    [
        (b"1,2,3", 200, "3.0,5.0,7.0\r\n"),
        (b"1,2,3\r\n-1,0.5,0\r\n", 200, "3.0,5.0,7.0\r\n-1.0,2.0,1.0\r\n"),
        (b'"1",2,3\n', 200, "3.0,5.0,7.0\r\n"),
        (b"1,,3\n", 200, "3.0,nan,7.0\r\n"),
        (b"1,2\n", 400, "2 fields; expected 3"),
        (b"1,2,x\n", 400, "row 0"),
        (b"1_0,2,3\n", 400, "row 0"),
        (b"1,2,1e999\n", 400, ""),
    ],
)
def test_csv_bodies_become_rows(sagemaker: DialectClient, body: bytes, status: int, answer: str) -> None:
    found = post(sagemaker, body, "text/csv")
    assert found[0] == status, found
    assert found[1] == answer if status == 200 else answer in str(found[1])


def test_texts_have_every_form(sagemaker: DialectClient) -> None:
    body, path = json.dumps([["a", 'b,"c"'], ["d", "é"]]).encode(), "/models/words/invoke"
    texts = [["a", 'b,"c"'], ["d", "é"]]
    assert post(sagemaker, body, "application/json", path=path) == (200, {"predictions": texts})
    assert post(sagemaker, body, "application/json", "text/csv", path) == (200, 'a,"b,""c"""\r\nd,é\r\n')
    lines = "".join(json.dumps({"y": row}, ensure_ascii=False, separators=(",", ":")) + "\n" for row in texts)
    assert post(sagemaker, body, "application/json", "application/jsonlines", path) == (200, lines)


def test_one_output_may_be_an_array(sagemaker: DialectClient) -> None:
    file = io.BytesIO()
    np.save(file, np.array([[1, 2, 3]], np.float64))
    assert post(sagemaker, file.getvalue(), "application/x-npy", "application/json")[1] == {"predictions": [[3, 5, 7]]}
    assert post(sagemaker, b"\x93NUMPY", "application/x-npy")[0] == 400


@pytest.mark.parametrize(
    ("kind", "accept", "status"),
    [
        ("application/x-parquet", "", 415),
        ("text/csv;charset=latin-1", "", 415),
        ("csv", "", 400),
        ("text/csv", "text/html", 406),
    ],
)
def test_types_are_checked_before_anything_runs(sagemaker: DialectClient, kind: str, accept: str, status: int) -> None:
    assert post(sagemaker, b"1,2,3", kind, accept)[0] == status


def test_without_a_folder_of_requested_models_none_is_loaded(sagemaker: DialectClient) -> None:
    status, answer, _ = sagemaker.ask("/models", {"model_name": "row", "url": "/opt/ml/models/row/model"})
    assert (status, "serves no folder" in answer["error"]) == (400, True)
    assert sagemaker.ask("/models")[1]["models"][0] == {"modelName": "row", "modelUrl": "/row/model"}
    assert sagemaker.ask("/models/absent")[0] == sagemaker.ask("/models/absent", method="DELETE")[0] == 404
    status, answer, _ = sagemaker.ask("/models/row", method="DELETE")
    assert (status, "serves no folder" in answer["error"]) == (400, True), "nobody could load it again"
    assert sagemaker.ask("/models/absent/invoke", b"1", "POST")[0] == 404
    expected = {"MaxConcurrentTransforms": 1, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 8}
    assert sagemaker.ask("/execution-parameters")[1] == expected


@pytest.mark.parametrize("long", [b"", b" " * 70_000])
@pytest.mark.parametrize(
    ("dialect", "path", "body"),
    [
        ("tfs", "/v1/models/row:predict", b'{"instances": [[1, 2, 3], [1, 1e400, 3]]}'),
        ("tfs", "/v1/models/row:predict", b'{"inputs": [[1, 2, 3], [NaN, -1e400, 3]]}'),
        ("mlflow", "/invocations", b'{"dataframe_split": {"data": [[1, 2, 3], [1, 1e400, 3]]}}'),
        ("mlflow", "/invocations", b'{"inputs": {"x": [[1, 2, 3], [NaN, 1e400, 3]]}}'),
        ("azure", "/score", b'{"data": [[1, 2, 3], [1, 1e400, 3]]}'),
        ("sagemaker", "/invocations", b'{"instances": [[1, 2, 3], [1, 1e400, 3]]}'),
        ("kserve_v1", "/v1/models/row:predict", b'{"instances": [[1, 2, 3], [1, 1e400, 3]]}'),
    ],
)
def test_no_number_becomes_infinity(world: World, dialect: str, path: str, body: bytes, long: bytes) -> None:
    client = DialectClient(world, dialect, default_model="row")
    status, answer, _ = client.ask(path, body + long, "POST", {"content-type": "application/json"})
    assert status == 400
    text = str(answer.get("error") or answer.get("message"))
    has_place = "row 1" in text and "expected a number in the range of FP32" in text
    assert has_place or (dialect == "kserve_v1" and "Number out of range" in text)


@pytest.mark.parametrize(("dialect", "path"), [("sagemaker", "/ping"), ("vertex", "/health"), ("azure", "/")])
def test_health_is_that_of_the_default_model(world: World, dialect: str, path: str) -> None:
    assert DialectClient(world, dialect).ask(path)[0] == 200
    assert DialectClient(world, dialect, default_model="row").ask(path)[0] == 200
    assert DialectClient(world, dialect, default_model="absent").ask(path)[0] == 503
    table = world.plane.routing_table
    try:
        world.plane.routing_table = RoutingTable()
        assert DialectClient(world, dialect).ask(path)[0] == 503
    finally:
        world.plane.routing_table = table


def test_vertex_requests_become_rows(world: World) -> None:
    client = DialectClient(world, "vertex", default_model="row")
    rows = {"instances": [[1, 2, 3]]}
    assert client.ask("/predict", rows)[1] == {"predictions": [[3, 5, 7]]}
    assert client.ask("/predict", {**rows, "parameters": {"timeout": 60_000_000}})[1] == {"predictions": [[3, 5, 7]]}
    assert client.ask("/predict", {**rows, "parameters": {"timeout": "soon"}})[0] == 400
    assert client.ask("/predict", {**rows, "parameters": [1]})[0] == 400
    assert client.ask("/predict", {"rows": 1})[0] == 400
    assert client.ask("/predict", b"1", "POST", {"content-type": "text/csv"})[0] == 415


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("v2/models/row/infer", 200),
        ("v2/models/row/versions/1/infer", 200),
        ("v2/models/absent/infer", 404),
        ("v2/repository/models/row/unload", 403),
        ("v2/models/row", 403),
        ("/v2/models/row/infer", 403),
        ("", 403),
    ],
)
def test_a_redirect_leads_to_predictions_only(world: World, path: str, status: int) -> None:
    client = DialectClient(world, "vertex", default_model="words")
    body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    for _ in range(2):  # heads are cached
        answer = client.ask("/predict", body, fields={"x-vertex-ai-triton-redirect": path})
        assert answer[0] == status
        assert status != 200 or answer[1]["outputs"][0]["data"] == [3, 5, 7]


def test_permissions_are_those_for_the_model_that_a_request_is_led_to(world: World) -> None:
    table = DialectTable(DialectSetup(world.plane, ("vertex",), "words", "1"), CorsPolicy(()))
    head = read_head(
        b"POST /predict HTTP/1.1\r\nhost: x\r\nx-vertex-ai-triton-redirect: v2/models/row/versions/1/infer\r\n\r\n"
    )
    assert table.find_target(head) == ("row", "1")


def test_azure_requests_become_rows(world: World) -> None:
    client = DialectClient(world, "azure", default_model="row")
    columns = {"columns": ["x[1]", "x[0]", "x[2]"], "index": [7], "data": [[2, 1, 3]]}
    for body in (
        {"input_data": columns},
        {"input_data": [[1, 2, 3]]},
        {"data": [[1, 2, 3]]},
        {"input_data": {"x": [[1, 2, 3]]}},
    ):
        assert client.ask("/score", body)[:2] == (200, [[3, 5, 7]])
    for refused in ({"rows": 1}, {"data": {"x": 1}}, {"input_data": {"columns": 1, "data": 2}}):
        status, answer, _ = client.ask("/score", refused)
        assert (status, list(answer)) == (400, ["message"])
    assert client.ask("/score", b"1", "POST", {"content-type": "text/csv"})[0] == 415
