"""The stream of a real gateway by a raw client: changes come, a cut loses and repeats nothing, and limits hold."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from penstock.api.admin.stream.hub import MOST_STREAMS
from penstock.api.admin.stream.topics import Topic, lasting_part
from tests import harness
from tests.event_stream import EventStream
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.traffic.drive import GOOD, SAME, ask_many, begin, models, promote_champion, set_route, traffic

STREAM = "/admin/v1/stream?topics="
FINISHED = "io.penstock.rollout.finished.v1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    workspace = tmp_path_factory.mktemp("stream")
    with harness.running(models(workspace / "models"), workspace) as running:
        promote_champion(running, GOOD)
        yield running


def finish_rollouts(server: Server, number: int) -> None:
    """Cause one event for each of some rollouts."""
    for _ in range(number):
        rollout = begin(server, to=SAME)
        path = f"/admin/v1/models/m/rollouts/{rollout['id']}/abort"
        assert server.admin("POST", path, {"reason": "enough"}).status == 200


def sequences(*streams: EventStream) -> list[int]:
    """The sequence numbers of finished rollouts, in the order in which they came."""
    documents = [document for stream in streams for document in stream.of("events")]
    return [event["sequence"] for document in documents for event in document["events"] if event["type"] == FINISHED]


def test_a_page_sees_changes_of_a_model_as_they_happen(server: Server) -> None:
    with EventStream(server.ops, f"{STREAM}models,model:m,route:m,readiness,fleet,monitor:m,retraining:m") as stream:
        assert stream.answer.headers["x-accel-buffering"] == "no"
        before = stream.wait_for("route:m")
        assert before == server.admin("GET", "/admin/v1/models/m/route").json()
        changed = set_route(server, split={GOOD: 9000, SAME: 1000})
        wait_until(lambda: stream.of("route:m")[-1]["revision"] == changed["revision"], PATIENCE_S, "the new route")
        assert stream.of("route:m")[-1]["split"] == {GOOD: 9000, SAME: 1000}
        for topic in ("models", "model:m", "readiness", "fleet", "monitor:m", "retraining:m"):
            stream.wait_for(topic)
        assert stream.of("models")[0]["models"][0]["name"] == "m"
        assert stream.of("readiness")[-1] == server.admin("GET", "/readyz").json()
        sent = [lasting_part(Topic("fleet"), document) for document in stream.of("fleet")]
        assert all(now != before for before, now in pairwise(sent))  # the age of a heartbeat is not a change
    assert server.admin("DELETE", "/admin/v1/models/m/route").status == 200


def test_events_of_a_cut_stream_come_once(server: Server) -> None:
    path = f"{STREAM}events,route:m"
    with EventStream(server.ops, path) as first:
        first.wait_for("events")
        finish_rollouts(server, 2)
        wait_until(lambda: len(sequences(first)) >= 2, PATIENCE_S, "two events")
    last = first.last_id
    finish_rollouts(server, 3)
    with EventStream(server.ops, path, {"last-event-id": last}) as second:
        wait_until(lambda: len(sequences(second)) >= 3, PATIENCE_S, "three events")
        finish_rollouts(server, 1)
        wait_until(lambda: len(sequences(second)) >= 4, PATIENCE_S, "the last event")
    stored = server.admin("GET", "/admin/v1/events?limit=1000").json()["events"]
    assert sequences(first, second) == [event["sequence"] for event in stored if event["type"] == FINISHED]


def test_a_new_stream_of_a_page_goes_on_with_its_events_and_begins_with_its_documents(server: Server) -> None:
    with EventStream(server.ops, f"{STREAM}events,route:m") as first:
        first.wait_for("events")
        first.wait_for("route:m")
    finish_rollouts(server, 1)
    with EventStream(server.ops, f"{STREAM}events,route:m&last-event-id={first.last_id}") as second:
        second.wait_for("route:m")
        wait_until(lambda: bool(sequences(second)), PATIENCE_S, "the event")
    assert len(sequences(second)) == 1


def test_a_resumed_stream_sends_only_documents_that_have_changed(server: Server) -> None:
    path = f"{STREAM}model:m,route:m,experiments:m"
    with EventStream(server.ops, path) as first:
        for topic in ("model:m", "route:m", "experiments:m"):
            first.wait_for(topic)
    set_route(server, split={GOOD: 8000, SAME: 2000})
    with EventStream(server.ops, path, {"last-event-id": first.last_id}) as second:
        assert second.wait_for("route:m")["split"] == {GOOD: 8000, SAME: 2000}
        second.wait_for("model:m")  # its revision
        assert second.of("experiments:m") == []
    assert server.admin("DELETE", "/admin/v1/models/m/route").status == 200


def test_recent_traffic_has_the_shares_that_versions_really_had(server: Server) -> None:
    set_route(server, split={GOOD: 5000, SAME: 5000}, shadow=[{"version": "3", "percent": 100}])
    before = server.admin("GET", "/admin/v1/models/m/traffic").json()["at"]
    with EventStream(server.ops, f"{STREAM}traffic,traffic:m") as stream, traffic(server):
        stream.wait_for("traffic:m")
        ask_many(server, 200)

        def is_shown() -> bool:
            document = stream.of("traffic:m")[-1]
            return document["requests_per_second"] > 0 and {GOOD, SAME, "3"} <= set(document["versions"])

        wait_until(is_shown, PATIENCE_S, lambda: str(stream.of("traffic:m")[-1]))
        document = stream.of("traffic:m")[-1]
    assert document["at"] > before
    shares = [document["versions"][version]["share_basis_points"] for version in (GOOD, SAME)]
    assert abs(sum(shares) - 10_000) <= 1
    assert min(shares) > 2_000
    assert document["versions"]["3"]["shadow"]
    assert document["p50_ms"] <= document["p99_ms"]
    assert set(server.admin("GET", "/admin/v1/traffic").json()["models"]["m"]["versions"]) == {GOOD, SAME, "3"}
    assert server.admin("DELETE", "/admin/v1/models/m/route").status == 200


def test_an_unknown_model_is_a_problem_until_it_exists(server: Server) -> None:
    with EventStream(server.ops, f"{STREAM}route:later,traffic:later") as stream:
        assert stream.wait_for("problem")["error"]
        assert stream.is_open


def test_topics_are_checked_before_a_stream_begins(server: Server) -> None:
    refused = server.admin("GET", "/admin/v1/stream?topics=weather")
    assert (refused.status, "weather" in refused.error()) == (400, True)
    assert server.admin("GET", "/admin/v1/stream").status == 400
    assert server.admin("HEAD", f"{STREAM}models").status == 200


def test_streams_are_bounded_and_the_next_one_gets_a_clear_error(server: Server) -> None:
    path, streams = f"{STREAM}readiness", list[EventStream]()
    try:
        while server.admin("HEAD", path).status == 200:
            streams.append(EventStream(server.ops, path))
            streams[-1].wait_for("readiness")
            assert len(streams) <= MOST_STREAMS
        refused = server.admin("GET", path)
        assert (refused.status, "streams" in refused.error()) == (429, True)
        assert int(refused.headers["retry-after"]) >= 1
    finally:
        for stream in streams:
            stream.cut()
    wait_until(lambda: server.admin("HEAD", path).status == 200, PATIENCE_S, "a place")


def test_a_stream_is_resumed_after_the_gateway_has_started_again(tmp_path: Path) -> None:
    folder, path = models(tmp_path / "models", GOOD, SAME), f"{STREAM}events,route:m"
    with harness.running(folder, tmp_path) as running:
        promote_champion(running, GOOD)
        finish_rollouts(running, 1)
        stream = EventStream(running.ops, path)
        stream.wait_for("route:m")
        wait_until(lambda: len(sequences(stream)) == 1, PATIENCE_S, "the event")
    wait_until(lambda: not stream.is_open, PATIENCE_S, "the end of the stream")
    stream.cut()
    with harness.running(folder, tmp_path) as running:
        finish_rollouts(running, 1)
        with EventStream(running.ops, path, {"last-event-id": stream.last_id}) as resumed:
            wait_until(lambda: len(sequences(resumed)) == 1, PATIENCE_S, "the new event")
            set_route(running, split={GOOD: 9000, SAME: 1000})
            wait_until(lambda: bool(resumed.of("route:m")), PATIENCE_S, "the new route")
            wait_until(lambda: resumed.of("route:m")[-1]["split"] == {GOOD: 9000, SAME: 1000}, PATIENCE_S, "its split")
        assert len({*sequences(stream, resumed)}) == 2
