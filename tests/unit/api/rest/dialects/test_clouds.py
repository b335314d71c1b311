"""What the dialects of clouds decide without a gateway: forms of bodies and answers, places of models, redirects."""

from typing import Any

import pytest

from penstock.api.rest.dialects.azure_swagger import describe
from penstock.api.rest.dialects.base import NotAcceptable, UnsupportedMediaType
from penstock.api.rest.dialects.media_types import MediaType
from penstock.api.rest.dialects.sagemaker import attribute_lines, choose_answer
from penstock.api.rest.dialects.sagemaker_models import PAGE, check_location, list_models, location_of
from penstock.api.rest.dialects.sagemaker_rows import check_charset, plain_instances
from penstock.api.rest.dialects.v2_bodies import has_tensors, header_size
from penstock.core.errors import InvalidInput

ROOT = "/opt/ml/models"


@pytest.mark.parametrize(
    ("body", "is_v2"),
    [
        (b'{"inputs":[{"name":"x"}]}', True),
        (b'{"id":"1",\n "inputs" : [ {"name":"x"}]}', True),
        (b'{"instances":[{"inputs":[{"name":1}]}]}', False),
        (b'{"inputs":[[1]]}', False),
        (b'{"inputs":{"x":[1]}}', False),
        (b'{"parameters":{"p":"' + b"x" * (1 << 16) + b'"},"inputs":[{"name":"x"}]}', False),
    ],
)
def test_a_body_with_tensors_is_a_v2_request(body: bytes, is_v2: bool) -> None:
    assert has_tensors(body) is is_v2


@pytest.mark.parametrize("text", ["", "-1", "x", "1" * 19, "\u0663"])
def test_the_length_of_the_json_part_is_a_number(text: str) -> None:
    with pytest.raises(InvalidInput, match="json-header-size"):
        header_size(MediaType("a/b", {"json-header-size": text} if text else {}))
    assert header_size(MediaType("a/b", {"json-header-size": "17"})) == 17


@pytest.mark.parametrize(
    ("kind", "accept", "outputs", "chosen"),
    [
        ("text/csv", b"", 1, "text/csv"),
        ("application/json", b"*/*", 1, "application/json"),
        ("application/x-npy", b"", 1, "application/x-npy"),
        ("application/x-npy", b"", 2, "application/json"),
        ("application/x-jsonlines", b"", 1, "application/json"),
        ("text/csv", b"application/jsonlines", 2, "application/jsonlines"),
    ],
)
def test_an_answer_has_the_type_of_its_request_unless_another_is_preferred(
    kind: str, accept: bytes, outputs: int, chosen: str
) -> None:
    assert choose_answer(MediaType(kind), accept, outputs) == chosen


def test_types_that_nothing_writes_or_reads_are_refused() -> None:
    with pytest.raises(NotAcceptable, match="accept one of these"):
        choose_answer(MediaType("text/csv"), b"application/x-npy", 2)
    with pytest.raises(UnsupportedMediaType, match="utf-8"):
        check_charset(MediaType("text/csv", {"charset": "utf-16"}))
    check_charset(MediaType("text/csv", {"charset": "UTF-8"}))


@pytest.mark.parametrize(
    ("instances", "columns", "plain"),
    [
        ([[1, 2]], ("a", "b"), [[1, 2]]),
        ([{"features": [1, 2]}], ("a", "b"), [[1, 2]]),
        ([{"data": {"features": {"values": [1, 2]}}}], ("a", "b"), [[1, 2]]),
        ([{"features": [1, 2]}], ("features",), [{"features": [1, 2]}]),
        ([{"features": 1}], ("a",), [{"features": 1}]),
        ([{"a": 1, "features": [1]}], ("a",), [{"a": 1, "features": [1]}]),
        ([], ("a",), []),
    ],
)
def test_rows_may_be_wrapped_as_the_algorithms_of_sagemaker_take_them(
    instances: list[Any], columns: tuple[str, ...], plain: list[Any]
) -> None:
    assert plain_instances(instances, columns) == plain


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (b"trace=7; user c000b4f9", b"x-amzn-sagemaker-custom-attributes: trace=7; user c000b4f9\r\n"),
        (b"", b""),
        (b"a" * 1025, b""),
        (b"\xe9t\xe9", b""),
        (b"a\x00b", b""),
    ],
)
def test_custom_attributes_come_back_as_visible_ascii(value: bytes, lines: bytes) -> None:
    assert attribute_lines({b"x-amzn-sagemaker-custom-attributes": value}) == lines
    assert attribute_lines({}) == b""


@pytest.mark.parametrize(
    ("root", "name", "url"),
    [
        (ROOT, "a", "/opt/ml/models/b/model"),
        (ROOT, "a", "/opt/ml/models/a"),
        (ROOT, "a", "/opt/ml/models/a/model/../../b/model"),
        (ROOT, "a", "/opt/ml/models/b/../a/model"),
        (ROOT, "a", "opt/ml/models/a/model"),
        (ROOT, "a", "file:///opt/ml/models/a/model"),
        (ROOT, "a", "s3://bucket/a/model"),
        (ROOT, "..", "/opt/ml/models/../model"),
        (ROOT, "", "/opt/ml/models//model"),
        (ROOT, "a/../b", "/opt/ml/models/a/../b/model"),
        ("", "a", "/a/model"),
    ],
)
def test_a_model_is_loaded_from_its_own_place_only(root: str, name: str, url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_location(root, name, url)
    assert "/opt" not in str(refused.value)


def test_the_place_of_a_model_may_be_written_with_slashes_at_will() -> None:
    check_location(ROOT, "0f5c", f"{ROOT}/0f5c/model")
    check_location(f"{ROOT}/", "0f5c", "/opt//ml/./models/0f5c/model/")


def test_a_list_of_models_has_parts() -> None:
    names = [f"m{number:04}" for number in range(2 * PAGE + 1)]
    seen, token, part = [], "", list_models(names, "", ROOT)
    for size in (PAGE, PAGE, 1):
        part = list_models(names, token, ROOT)
        assert len(part["models"]) == size
        seen += [item["modelName"] for item in part["models"]]
        token = part.get("nextPageToken", "")
    assert (seen, token) == (names, "")
    assert part["models"][0]["modelUrl"] == location_of(ROOT, names[-1]) == f"{ROOT}/{names[-1]}/model"
    assert list_models([], "", ROOT) == list_models(names, "z", ROOT) == {"models": []}


def test_azure_is_given_both_forms_of_the_description() -> None:
    swagger, openapi = describe("2", "1.0"), describe("3", "1.0")
    assert swagger is not None and openapi is not None
    assert (swagger["swagger"], list(swagger["paths"])) == ("2.0", ["/score"])
    assert openapi["openapi"].startswith("3.")
    assert {"/score", "/v2/models/{model}/infer"} <= openapi["paths"].keys()
    assert describe("4", "1.0") is None
