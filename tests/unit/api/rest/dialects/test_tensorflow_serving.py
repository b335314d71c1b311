"""TensorFlow Serving's REST API: both forms of rows, examples, bytes, status and metadata."""

import json
from base64 import b64encode
from collections.abc import Iterator
from math import isnan
from typing import Any

import numpy as np
import pytest

from penstock.api.common.work import RequestWork
from penstock.api.rest.dialects.tensorflow_binary import decode_binary, encode_binary
from penstock.core.errors import InvalidInput
from penstock.core.limits import RequestLimits
from penstock.core.slices import no_pause
from penstock.core.tensors import Tensor
from tests.fuzz.targets import World
from tests.unit.api.rest.dialects.worlds import DialectClient

ROW, TEXTS = "/v1/models/row", "/v1/models/words"
INFINITY = float("inf")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(world: World) -> DialectClient:
    return DialectClient(world, "tfs")


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"instances": [[1, 2, 3]]}, {"predictions": [[3, 5, 7]]}),
        ({"instances": [{"x": [1, 2, 3]}], "signature_name": "serving_default"}, {"predictions": [[3, 5, 7]]}),
        ({"inputs": [[1, 2, 3], [4, 5, 6]]}, {"outputs": [[3, 5, 7], [9, 11, 13]]}),
        ({"inputs": {"x": [[1, 2, 3]]}}, {"outputs": [[3, 5, 7]]}),
        ({"instances": [[1, 2, 3]] * 5000}, {"predictions": [[3, 5, 7]] * 5000}),
        ({"instances": [[1, 2, INFINITY]]}, {"predictions": [[3, 5, INFINITY]]}),
        ({"inputs": [[1, 2, -INFINITY]] * 3000}, {"outputs": [[3, 5, -INFINITY]] * 3000}),
    ],
)
def test_predict_in_both_forms(client: DialectClient, body: Any, answer: Any) -> None:
    status, found, fields = client.ask(f"{ROW}:predict", body)
    assert (status, found) == (200, answer)
    assert (fields["penstock-model-version"], fields["penstock-route"]) == ("1", "stable")
    assert client.ask(f"{ROW}/versions/1:PREDICT", body)[1] == answer


def test_nan_travels_as_a_token(client: DialectClient) -> None:
    _, found, _ = client.ask(f"{ROW}:predict", b'{"instances": [[NaN, 2, 3]]}')
    assert isnan(found["predictions"][0][0])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"instances": [[NotANumber]]}', "not valid JSON"),
        ({}, "expected one of"),
        ({"instances": [[1, 2, 3]], "inputs": [[1, 2, 3]]}, "expected one of"),
        ({"instances": {"x": [[1, 2, 3]]}}, '"instances" is not a list'),
        ({"instances": []}, "no rows"),
        ({"instances": [[1, 2]]}, "row 0"),
        ({"instances": [[1, 2, 3]], "signature_name": 5}, '"signature_name" is not a text'),
        ({"instances": [[1, 2, 3]], "signature_name": "other"}, 'Serving signature name: "other" not found'),
    ],
)
def test_what_does_not_fit_is_refused(client: DialectClient, body: Any, message: str) -> None:
    status, found, _ = client.ask(f"{ROW}:predict", body, "POST")
    assert status == 400
    assert message in found["error"]


def test_unknown_models_versions_and_labels(client: DialectClient) -> None:
    body = {"instances": [[1, 2, 3]]}
    for path in ("/v1/models/no", f"{ROW}/versions/7", f"{ROW}/labels/stable"):
        status, found, _ = client.ask(f"{path}:predict", body)
        assert (status, list(found)) == (404, ["error"])
        assert client.ask(path)[0] == 404
    assert client.ask(f"{ROW}:explain", body)[0] == 405
    assert client.ask(f"{ROW}/versions/1/metadata:predict", body)[0] == 404


def test_texts_may_be_base64(client: DialectClient) -> None:
    encoded = {"b64": b64encode("äb".encode()).decode()}
    for body, member in (({"instances": [[encoded, "c"]]}, "predictions"), ({"inputs": [[encoded, "c"]]}, "outputs")):
        status, found, _ = client.ask(f"{TEXTS}:predict", body)
        assert (status, found) == (200, {member: [["äb", "c"]]})
    assert "is not base64" in client.ask(f"{TEXTS}:predict", {"instances": [[{"b64": "?"}]]})[1]["error"]


def test_regress_as_documented(client: DialectClient) -> None:
    status, found, _ = client.ask(f"{ROW}:regress", {"examples": [{"x": [1, 2, 3]}]})
    assert status == 400
    assert "0 outputs to regress by" in found["error"]
    assert client.ask(f"{TEXTS}:classify", {"examples": [{"x": "a"}]})[0] == 400


def test_classify_by_names_of_inputs_and_columns(client: DialectClient) -> None:
    scores = {"results": [[["", 3.0], ["", 5.0], ["", 7.0]]]}
    for examples in ([{"x": [1, 2, 3]}], [{"x[0]": 1, "x[1]": [2], "x[2]": 3.0}]):
        assert client.ask(f"{ROW}:classify", {"examples": examples})[:2] == (200, scores)
    with_context = {"context": {"x[2]": 3}, "examples": [{"x[0]": 1, "x[1]": 2}]}
    assert client.ask(f"{ROW}:classify", with_context)[1] == scores


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, 'expected "examples"'),
        ({"examples": [5]}, "example 0 is not an object"),
        ({"examples": [{"x": [1, 2, 3]}], "context": 5}, "the context is not an object"),
        ({"examples": [{"x": [1, 2, 3]}], "context": {"x": 1}}, "in the context too"),
        ({"examples": []}, "no examples"),
        ({"examples": [{"x": [1, "a", 3]}]}, "not FP32"),
        ({"examples": [{"x": [1, 2, 3]}], "signature_name": "other"}, "not found"),
    ],
)
def test_examples_that_do_not_fit_are_refused(client: DialectClient, body: Any, message: str) -> None:
    status, found, _ = client.ask(f"{ROW}:classify", body)
    assert status == 400
    assert message in found["error"]


def test_status_as_documented(client: DialectClient) -> None:
    one = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in (ROW, f"{ROW}/versions/1"):
        assert client.ask(path)[:2] == (200, {"model_version_status": [one]})


def test_metadata_as_documented(client: DialectClient) -> None:
    status, found, _ = client.ask(f"{ROW}/metadata")
    assert status == 200
    assert found["model_spec"] == {"name": "row", "signature_name": "", "version": "1"}
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"] == {
        "name": "x:0",
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}], "unknown_rank": False},
    }
    assert client.ask(f"{ROW}/versions/1/metadata")[1] == found


def test_both_protocols_of_a_path_share_its_answer(world: World) -> None:
    both = DialectClient(world, "kserve_v1", "tfs")
    status, found, _ = both.ask(ROW)
    assert (status, list(found)) == (200, ["name", "ready", "model_version_status"])
    assert both.ask(f"{ROW}:predict", {"instances": [[1, 2, 3]]})[1] == {"predictions": [[3, 5, 7]]}


def test_a_dialect_that_is_off_is_unknown(world: World) -> None:
    off = DialectClient(world)
    assert off.ask(f"{ROW}:predict", {"instances": [[1, 2, 3]]})[0] == 404
    assert off.ask(ROW)[0] == 404


# Bytes.


def work() -> RequestWork:
    return RequestWork(RequestLimits(), no_pause)


def test_bytes_are_found_wherever_they_are() -> None:
    encoded = {"b64": b64encode(b"hi").decode()}
    value = [{"image": encoded, "n": [1, 2]}, [[encoded]], {"b64": "aGk"}, {"b64": 5}, {"b64": "aGk=", "x": 1}]
    assert decode_binary(value, work()) == [
        {"image": "hi", "n": [1, 2]},
        [["hi"]],
        "hi",
        {"b64": 5},
        {"b64": "aGk=", "x": 1},
    ]
    with pytest.raises(InvalidInput, match="not UTF-8"):
        decode_binary({"b64": b64encode(b"\xff").decode()}, work())


def test_outputs_with_the_suffix_are_base64() -> None:
    texts = np.array([["a", "bc"]], object)
    outputs = encode_binary([Tensor("image_bytes", "BYTES", texts), Tensor("label", "BYTES", texts)], work())
    assert outputs[0].data.tolist() == [[{"b64": "YQ=="}, {"b64": "YmM="}]]
    assert outputs[1].data is texts
    assert json.dumps(outputs[0].data.tolist())
