"""The ops plane's answers over a made-up control plane."""

import pytest

from tests.unit.api.admin.conftest import Client
from tests.unit.api.admin.standin import FakeControl, MemoryRegistrar


def test_a_running_gateway_is_live(client: Client) -> None:
    assert client.get("/livez").json() == {"live": True}


def test_a_gateway_is_not_live_while_a_task_is_overdue(client: Client, control: FakeControl) -> None:
    control.problems = {"labels": "it is overdue"}
    answer = client.get("/livez")
    assert (answer.status_code, answer.json()) == (503, {"live": False, "tasks": {"labels": "it is overdue"}})
    control.problems = {}
    assert client.get("/livez").status_code == 200


def test_readiness_states_how_many_versions_are_ready(client: Client, control: FakeControl) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["workers"] == {"ready": 2, "configured": 2}
    control.ready = False
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "ready": False,
        "workers": {"ready": 1, "configured": 2},
        "versions": {"READY": 1, "UNAVAILABLE": 1},
        "reason": "1 of 2 <workers> are ready",
    }


def test_metrics_in_both_forms(client: Client) -> None:
    plain = client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert 'penstock_requests_total{code="200",model="good"' in plain.text
    opened = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert opened.text.endswith("# EOF\n")


def test_the_runbook_is_a_page(client: Client) -> None:
    page = client.get("/runbook")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert '<h3 id="penstockdown">' in page.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/admin/v1/models/good", 405),
        ("POST", "/admin/v1/models/good/aliases/a", 405),
        ("GET", "/admin/v1/models/good/versions", 404),
    ],
)
def test_errors_are_json(client: Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert status != 405 or answer.headers["allow"]


def test_an_unexpected_error_is_a_500_without_details(client: Client, registry_admin: MemoryRegistrar) -> None:
    registry_admin.fault = RuntimeError("a secret")
    answer = client.get("/admin/v1/models")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert set(answer.json()) == {"error"}


def test_names_that_no_encoding_knows_are_answered_all_the_same(
    client: Client, registry_admin: MemoryRegistrar
) -> None:
    registry_admin.revisions["good"] = 1
    registry_admin.versions["good", "1"] = {"version": "1", "digest": "half \ud800"}
    assert client.get("/admin/v1/models").json()["models"][0]["versions"][0]["digest"] == "half \ud800"
    assert client.get("/console/models").status_code == 200
