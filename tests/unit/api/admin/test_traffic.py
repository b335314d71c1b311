"""The admin API's calls on traffic, over stand-ins: paths, bodies, ETags, refusals, and the stream of events."""

import json

from tests.unit.api.admin.conftest import Client
from tests.unit.api.admin.standin import NO_PAIRS

ROUTE = "/admin/v1/models/m/route"
SPLIT = {"split": {"1": 10_000}, "reason": "why"}


def test_a_route_is_set_shown_and_dropped(client: Client) -> None:
    assert client.get(ROUTE).status_code == 404
    answer = client.request("PUT", ROUTE, {"penstock-actor": "ann"}, SPLIT)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    assert answer.json()["by"] == ["ann", "why"]
    assert client.get(ROUTE).json()["split"] == {"1": 10_000}
    assert client.request("PUT", ROUTE, {"if-match": '"1"'}, SPLIT).status_code == 409
    assert client.request("PUT", ROUTE, {"if-match": '"2"'}, SPLIT).status_code == 200
    assert client.request("PUT", ROUTE, body=b"no JSON").status_code == 400
    assert client.request("PUT", ROUTE, body=b"[]").status_code == 400
    assert client.request("DELETE", ROUTE, body={"reason": "enough"}).json()["by"] == ["anonymous", "enough"]
    assert client.request("DELETE", ROUTE, body={"split": {}}).status_code == 400
    assert client.request("PATCH", ROUTE).status_code == 405


def test_a_shadow_is_shown(client: Client) -> None:
    assert client.get("/admin/v1/models/m/shadow/3").json() == {"model": "m", "version": "3", **NO_PAIRS}


def test_rollouts_and_experiments_have_the_same_calls(client: Client) -> None:
    for kind in ("rollouts", "experiments"):
        path = f"/admin/v1/models/m/{kind}"
        assert client.get(path).json() == {kind: []}
        begun = client.request("POST", path, body={"to": "2", "reason": "go"})
        assert (begun.status_code, begun.headers["etag"]) == (201, '"1"')
        assert begun.json()["asked"] == {"to": "2", "reason": "go"}
        assert [item["id"] for item in client.get(path).json()[kind]] == ["t1"]
        assert client.get(f"{path}/t1").json()["by"] == ["anonymous", "go"]
        assert client.get(f"{path}/t2").status_code == 404
        acted = client.request("POST", f"{path}/t1/pause", {"penstock-actor": "bob"}, {"reason": "lunch"})
        assert (acted.json()["verb"], acted.json()["by"]) == ("pause", ["bob", "lunch"])
        assert client.request("POST", f"{path}/t1/pause", body={"speed": 1}).status_code == 400


def test_a_route_is_previewed(client: Client) -> None:
    body = {"split": {"1": 10_000}}
    assert client.request("POST", f"{ROUTE}/preview", body=body).json() == {"model": "m", "asked": body}
    assert client.request("POST", f"{ROUTE}/preview", body=b"[]").status_code == 400


def test_a_rollout_is_previewed_at_a_rate(client: Client) -> None:
    path = "/admin/v1/models/m/rollouts/preview"
    for rate in (None, 0, 12.5):
        body = {"to": "2"} | ({} if rate is None else {"requests_per_second": rate})
        assert client.request("POST", path, body=body).json() == {"model": "m", "asked": {"to": "2"}, "rate": rate}
    recent = client.request("POST", path.replace("/m/", "/digits/"), body={"to": "2"}).json()
    assert recent["rate"] == 2.0  # of the last minute
    for wrong in ("many", -1, True, 1e12):
        assert client.request("POST", path, body={"requests_per_second": wrong}).status_code == 400
    assert client.get("/admin/v1/models/m/rollouts/preview").status_code == 404  # no rollout has this name


def test_events_as_a_list(client: Client) -> None:
    events = client.get("/admin/v1/events?model=m&after=1&limit=1").json()["events"]
    assert [(event["sequence"], event["subject"]) for event in events] == [(2, "m")]
    assert client.get("/admin/v1/events?after=x").status_code == 400


def test_events_as_a_stream_from_the_last_event_id(client: Client) -> None:
    stream = client.get("/admin/v1/events", {"accept": "text/event-stream", "last-event-id": "1"})
    assert stream.headers["content-type"].startswith("text/event-stream")
    blocks = [block.split("\n") for block in stream.text.strip().split("\n\n")]
    assert [block[0] for block in blocks] == ["id: 2", "id: 3"]
    assert blocks[0][1] == "event: io.penstock.test.v1"
    assert json.loads(blocks[0][2].removeprefix("data: "))["sequence"] == 2


def test_the_monitor_is_read_and_changed(client: Client) -> None:
    assert client.get("/admin/v1/models/m/monitor").json() == {"model": "m", "version": None}
    assert client.get("/admin/v1/models/m/monitor?version=2").json()["version"] == "2"
    assert client.get("/admin/v1/models/m/policy").json()["monitor"] == {"sample": 1.0}
    path = "/admin/v1/models/m/monitor/relearn"
    for body, version in (({"reason": "a new season"}, None), ({"version": "2", "reason": "a new season"}, "2")):
        again = client.request("POST", path, {}, body)
        assert (again.status_code, again.json()["version"], again.json()["by"][1]) == (200, version, "a new season")
    assert client.request("POST", path, {}, {"version": 2}).status_code == 400
    assert client.request("POST", path, {}, {"rows": 2}).status_code == 400
    policy = {"monitor": {"sample": 0.5}, "reason": "less"}
    answer = client.request("PUT", "/admin/v1/models/m/policy", {"if-match": '"4"'}, policy)
    assert (answer.status_code, answer.headers["etag"], answer.json()["by"]) == (200, '"5"', ["anonymous", "less"])
    made = client.request("PUT", "/admin/v1/models/m/versions/1/reference", body=b"a,b")
    assert (made.status_code, made.headers["etag"]) == (201, '"3"')
    assert client.request("PUT", "/admin/v1/models/m/versions/1/reference", body=b"").status_code == 400
