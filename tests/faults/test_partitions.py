"""A gateway cut off from the database or the bucket: nothing arrives, connections stay open, then all is over."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests import harness, postgres, s3
from tests.commands import DEADLINE_FACTOR
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.control.watch import metric
from tests.integration.traffic.drive import (
    BREAKING,
    GOOD,
    SAME,
    ask_many,
    begin,
    look,
    promote_champion,
    push_version,
    scorer,
    serve,
    traffic,
    until,
)
from tests.relay import Relay, relaying


@dataclass
class Fleet:
    """Two gateways on one database; the first reaches it through a relay, and leads."""

    first: Server
    second: Server
    relay: Relay


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with postgres.running() as database, relaying(database.port) as relay, ExitStack() as stack:
        url = database.create("fleet")
        far = url.replace(f":{database.port}/", f":{relay.port}/")
        servers = []
        for name, address in (("a", far), ("b", url)):
            env = {"PENSTOCK_REGISTRY": address, "PENSTOCK_BLOBS": str(tmp_path / "blobs"), DEADLINE_FACTOR: "1"}
            server = harness.launch(None, tmp_path / name, "--workers", "1", env=env)
            stack.callback(server.kill)
            servers.append(server)
        serve(servers, BREAKING, scorer(breaks=True))
        yield Fleet(servers[0], servers[1], relay)


def leads(server: Server) -> bool:
    return metric(server, "penstock_leader") == 1


def answers_well(server: Server) -> bool:
    """Whether the good version answers everybody."""
    return {(version, status) for version, _, status in ask_many(server, 20)} == {(GOOD, 200)}


def test_a_leader_that_is_cut_off_is_replaced_and_does_no_harm_when_it_is_back(fleet: Fleet) -> None:
    first, second = fleet.first, fleet.second
    wait_until(lambda: leads(first), PATIENCE_S, "the first gateway leads")
    term = second.admin("GET", "/admin/v1/fleet").json()["term"]
    trial = begin(second, to=BREAKING, guards=["errors"], steps=[5000, 10_000], min_step_seconds=300)
    wait_until(lambda: look(first, trial)["state"] == "running", PATIENCE_S, "the rollout at the first gateway")
    with fleet.relay.silent():
        wait_until(lambda: leads(second), PATIENCE_S, "another leader")
        assert second.admin("GET", "/admin/v1/fleet").json()["term"] > term
        with traffic(second, threads=2):
            until(second, trial, "rolled_back")
        wait_until(lambda: answers_well(second), PATIENCE_S, "the version before")  # workers hear of it a moment later
        wait_until(lambda: not leads(first), PATIENCE_S, "the first gateway knows that it does not lead")
        assert first.admin("GET", "/admin/v1/events").status == 503
        route = {"split": {BREAKING: 10_000}, "reason": "by whoever cannot know"}
        assert first.admin("PUT", "/admin/v1/models/m/route", route).status == 503
        answered = [status for version, _, status in ask_many(first, 40) if version == GOOD]
        assert answered
        assert set(answered) == {200}
    wait_until(lambda: first.admin("GET", "/admin/v1/events").status == 200, PATIENCE_S, "the database again")
    time.sleep(2)  # what the first gateway still had in hand arrives now
    assert (leads(first), leads(second)) == (False, True)
    for server in (first, second):
        wait_until(partial(answers_well, server), PATIENCE_S, "the version before")
        assert look(server, trial)["state"] == "rolled_back"
    reported = [event["type"] for event in second.admin("GET", "/admin/v1/events?model=m").json()["events"]]
    assert reported.count("io.penstock.rollout.finished.v1") == 1


def push(server: Server, version: str) -> tuple[int, str]:
    """Push a version, and wait longer than the gateway waits for its bucket; the status and the body."""
    connection = HTTPConnection(server.ops, timeout=PATIENCE_S)
    try:
        connection.request("PUT", f"/admin/v1/models/m/versions/{version}", scorer().SerializeToString())
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def is_waiting(server: Server) -> bool:
    """Whether a call into the store of contents is under way."""
    return metric(server, "penstock_blocking_calls", pool="contents", state="running") > 0


def test_a_bucket_that_swallows_everything_holds_up_only_what_needs_it(tmp_path: Path) -> None:
    with postgres.running() as database, s3.running() as bucket, relaying(bucket.port) as relay:
        env = {
            **bucket.environment,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{relay.port}",
            "PENSTOCK_REGISTRY": database.create("silent"),
            "PENSTOCK_BLOBS": f"s3://{bucket.name}/blobs",
            DEADLINE_FACTOR: "1",
        }
        server = harness.launch(None, tmp_path / "a", "--workers", "1", env=env)
        try:
            push_version(server, GOOD, scorer())
            promote_champion(server, GOOD)
            answers: list[tuple[int, str]] = []
            pushing = threading.Thread(target=lambda: answers.append(push(server, "9")), daemon=True)
            with relay.silent():
                pushing.start()
                wait_until(lambda: is_waiting(server), PATIENCE_S, "the push waits for the bucket")
                assert {status for _, _, status in ask_many(server, 50)} == {200}
                for path in (
                    "/livez",
                    "/readyz",
                    "/metrics",
                    "/admin/v1/models",
                    "/admin/v1/events",
                    "/admin/v1/fleet",
                ):
                    assert server.admin("GET", path).status == 200, path
                route = {"split": {GOOD: 10_000}, "reason": "it needs no bucket"}
                assert server.admin("PUT", "/admin/v1/models/m/route", route).status == 200
                pushing.join(PATIENCE_S)
                [(status, said)] = answers
                assert status == 503
                assert "did not answer within" in said
            assert push(server, "9")[0] in {200, 201}  # the first push may have gone on
            assert push(server, SAME)[0] == 201
        finally:
            server.kill()
