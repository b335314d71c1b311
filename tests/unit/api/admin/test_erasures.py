"""Erasure by the admin API: what it takes and refuses."""

from typing import Any

import pytest

from penstock.core.erasure import SubjectKey
from tests.unit.api.admin.conftest import Client


def test_an_erasure_of_one_model_is_reported(client: Client) -> None:
    body = {"model": "m", "column": "email", "value": "a@b", "reason": "request 118"}
    reply = client.admin("POST", "/erasures", body)
    assert (reply.status_code, reply.json()["removed"]) == (200, {"rows": 1})
    [(model, key, by)] = client.erasures.asked
    assert (model, key, by.reason) == ("m", SubjectKey("email", "a@b"), "request 118")


def test_an_erasure_of_all_models_is_reported(client: Client) -> None:
    assert client.admin("POST", "/erasures", {"column": "email", "value": "a@b"}).status_code == 200
    assert client.erasures.asked[0][0] is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"column": "x"},
        {"column": "", "value": "1"},
        {"column": "x", "value": ""},
        {"column": "x", "value": 1},
        {"column": "x", "value": "1", "rows": 2},
        {"column": "x", "value": "1", "model": 3},
        {"column": "x" * 1025, "value": "1"},
    ],
)
def test_invalid_erasures_are_refused(client: Client, body: dict[str, Any]) -> None:
    assert client.admin("POST", "/erasures", body).status_code == 400
    assert client.erasures.asked == []
