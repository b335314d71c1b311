"""The admin API's calls on the monitor, policies, retraining and the timeline, over stand-ins."""

import pytest

from tests.unit.api.admin.conftest import Client

MODEL = "/admin/v1/models/m"


def test_a_monitor_document_of_a_few_columns(client: Client) -> None:
    assert "asked" not in client.get(f"{MODEL}/monitor").json()
    assert client.get(f"{MODEL}/monitor?columns=5&search=age").json()["asked"] == [5, "age"]
    for columns in ("0", "101", "x", "-1"):
        assert client.get(f"{MODEL}/monitor?columns={columns}").status_code == 400


def test_one_column_by_its_name_whatever_it_contains(client: Client) -> None:
    found = client.get(f"{MODEL}/monitor/column?name=a%2Fb%20%26c&version=2&scope=gateway").json()
    assert [found[key] for key in ("model", "version", "name", "scope")] == ["m", "2", "a/b &c", "gateway"]
    assert client.get(f"{MODEL}/monitor/column?name=a").json()["scope"] == "fleet"
    assert client.get(f"{MODEL}/monitor/column").status_code == 400


def test_the_importance_of_features_is_of_a_version_or_of_the_one_that_answers(client: Client) -> None:
    assert client.get(f"{MODEL}/importance?version=2").json() == {"model": "m", "version": "2", "features": []}
    assert client.get(f"{MODEL}/importance").json()["version"] is None


def test_a_policy_is_read_with_its_revision_and_checked_as_text(client: Client) -> None:
    assert client.get(f"{MODEL}/policy").headers["etag"] == '"4"'
    checked = client.request("POST", f"{MODEL}/policy/check", body={"yaml": "monitor: {}"})
    assert checked.json()["policy"] == {"text": "monitor: {}", "caller": "anonymous"}
    for body in ({}, {"yaml": 7}, {"yaml": "", "more": 1}):
        assert client.request("POST", f"{MODEL}/policy/check", body=body).status_code == 400


def test_retraining_is_shown_refused_and_replayed(client: Client) -> None:
    assert client.get(f"{MODEL}/retraining").json()["rules"][0]["state"] == "firing"
    refused = client.request("POST", f"{MODEL}/candidates/2/refuse", {"penstock-actor": "ann"}, {"reason": "slow"})
    assert refused.json() == {"model": "m", "refused": "2", "by": ["ann", "slow"]}
    one = client.request("POST", f"{MODEL}/outbox/replay", body={"event": "e", "sink": "s", "reason": "up"})
    assert one.json() == {"deliveries": 1, "by": ["anonymous", "up"], "event": "e", "sink": "s"}
    assert client.request("POST", f"{MODEL}/outbox/replay", body={"event": 7}).status_code == 400


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"model": "", "kind": "", "person": "", "before": "", "limit": 50}),
        (
            "?model=m&kind=drift&person=ann&before=1-2&limit=7",
            {"model": "m", "kind": "drift", "person": "ann", "before": "1-2", "limit": 7},
        ),
        (f"?person={'x' * 300}", {"model": "", "kind": "", "person": "x" * 128, "before": "", "limit": 50}),
    ],
)
def test_the_timeline_takes_filters(client: Client, query: str, expected: dict[str, object]) -> None:
    assert client.get(f"/admin/v1/timeline{query}").json()["asked"] == {**expected, "all": True}
