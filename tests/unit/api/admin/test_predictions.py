"""Predictions by the ops port: the request is passed on as it is, by the caller's permission, and the answer back."""

import json
from pathlib import Path

import httpx
import pytest

from penstock.control.plane.predictions import MOST_BYTES
from tests.unit.api.admin.conftest import Client
from tests.unit.api.admin.test_permissions import Guarded, bearer

BODY = b'{"inputs": []}'


def test_a_request_and_its_answer_are_passed_on(client: Client) -> None:
    headers = {"penstock-forward": json.dumps({"X-User-Id": "7"})}
    answer = client.admin("POST", "/models/digits/predict?version=champion", BODY, headers)
    assert (answer.status_code, answer.content) == (200, BODY)
    assert answer.headers["penstock-model-version"] == "1"
    request, caller = client.predictions.asked[0]
    assert (request.model, request.version, request.fields) == ("digits", "champion", {"x-user-id": "7"})
    assert caller.name == "anonymous"
    assert client.admin("POST", "/models/digits/predict", b"").status_code == 400


def test_the_trace_of_the_caller_goes_on_with_all_its_fields(client: Client) -> None:
    headers = httpx.Headers([("traceparent", "00-1"), ("tracestate", "a=1"), ("tracestate", "b=2")])
    assert client.admin("POST", "/models/digits/predict", BODY, headers).status_code == 200
    request, _ = client.predictions.asked[0]
    assert request.fields == {"traceparent": "00-1", "tracestate": "a=1, b=2"}


def test_an_explanation_is_asked_by_the_same_way(client: Client) -> None:
    assert client.admin("POST", "/models/digits/explain?version=2", BODY).status_code == 200
    request, _ = client.predictions.asked[0]
    assert (request.path, request.body) == ("/v2/models/digits/versions/2/explain", BODY)


def test_a_captured_request_is_explained_by_its_id(client: Client) -> None:
    body = json.dumps({"id": "a/b", "parameters": {"budget_ms": 5}}).encode()
    answer = client.admin("POST", "/models/digits/captured/explain", body)
    assert answer.json() == {"model": "digits", "version": "", "id": "a/b", "parameters": {"budget_ms": 5}}
    for wrong in (b"{}", b'{"id": "a", "parameters": 7}', b'{"id": "a", "other": 1}'):
        assert client.admin("POST", "/models/digits/captured/explain", wrong).status_code == 400


@pytest.mark.parametrize("forwarded", ["[]", "no JSON", '{"authorization": "Bearer x"}', '{"x": 7}'])
def test_fields_that_cannot_be_stated_are_refused(client: Client, forwarded: str) -> None:
    answer = client.admin("POST", "/models/digits/predict", BODY, {"penstock-forward": forwarded})
    assert answer.status_code == 400 and "penstock-forward" in answer.json()["error"]
    assert not client.predictions.asked


def test_requests_are_bounded(client: Client) -> None:
    assert client.admin("POST", "/models/digits/predict", b"x" * (MOST_BYTES + 1)).status_code == 413
    assert client.admin("POST", f"/models/digits/predict?version={'1' * 201}", BODY).status_code == 400
    assert not client.predictions.asked


def test_a_caller_needs_the_permission_for_this_model(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    path = "/admin/v1/models/fraud-1/predict"
    for role, pattern, status in (("caller", "fraud-*", 200), ("viewer", "*", 403), ("operator", "*", 200)):
        assert guarded.request("POST", path, bearer(role, pattern), BODY).status_code == status
    assert guarded.request("POST", "/admin/v1/models/digits/predict", bearer("caller", "fraud-*")).status_code == 404
    assert [caller.name for _, caller in guarded.predictions.asked] == ["caller", "operator"]


def test_the_addresses_of_the_data_ports_are_shown(client: Client) -> None:
    assert client.admin("GET", "/gateway").json()["http"] == "127.0.0.1:1"
