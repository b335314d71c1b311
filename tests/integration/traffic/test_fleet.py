"""Two gateways on one PostgreSQL: a route of one holds at the other, and a rollout outlives the gateway that led it."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import harness, postgres
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.traffic.drive import (
    GOOD,
    SAME,
    SLOW,
    Asker,
    ask_many,
    begin,
    champion,
    look,
    promote_champion,
    scorer,
)
from tests.integration.traffic.drive import traffic as calling
from tests.postgres import Postgres

NUMBERS = iter(range(1000))


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres.running() as running:
        yield running


@pytest.fixture
def fleet(database: Postgres, tmp_path: Path) -> Iterator[list[Server]]:
    url = database.create(f"traffic{next(NUMBERS)}")
    settings = {"PENSTOCK_BLOBS": str(tmp_path / "blobs"), "PENSTOCK_RETENTION__SERIES_SECONDS": "1"}
    with ExitStack() as stack:
        servers = []
        for name in "ab":
            server = harness.launch(None, tmp_path / name, "--registry", url, "--workers", "1", env=settings)
            stack.callback(server.kill)
            servers.append(server)
        for version, graph in ((GOOD, scorer()), (SAME, scorer()), (SLOW, scorer(work=600))):
            assert servers[0].push("m", version, graph.SerializeToString()).status == 201
            if version == GOOD:
                promote_champion(servers[0], GOOD)
        for server in servers:
            wait_until(partial(answering, server, SLOW), PATIENCE_S, "the versions")
        yield servers


def answering(server: Server, version: str) -> bool:
    return server.rest("GET", f"/v2/models/m/versions/{version}/ready").status == 200


def test_a_route_of_one_holds_at_the_other(fleet: list[Server]) -> None:
    first, second = fleet
    reply = first.admin("PUT", "/admin/v1/models/m/route", {"split": {SAME: 10_000}})
    assert reply.status == 200, reply
    with closing(Asker(second)) as asker, closing(Asker(first)) as here:
        wait_until(lambda: asker.ask()[0] == SAME, PATIENCE_S, "the route at the other gateway")
        sticky = {"split": {GOOD: 5000, SAME: 5000}, "sticky": "header:x-user"}
        revision = second.admin("PUT", "/admin/v1/models/m/route", sticky).json()["revision"]
        users = [{"x-user": f"user {number}"} for number in range(30)]
        there = [asker.ask(user)[0] for user in users]
        wait_until(
            lambda: [here.ask(user)[0] for user in users] == there, PATIENCE_S, "the same users at the same versions"
        )
        stale = first.admin("PUT", "/admin/v1/models/m/route", sticky, {"if-match": f'"{revision - 1}"'})
        assert stale.status == 409


def test_a_rollout_counts_at_both_and_outlives_its_leader(fleet: list[Server]) -> None:
    first, second = fleet
    trial = begin(first, to=SAME, steps=[3000, 5000, 10_000], min_step_seconds=2)
    with calling(first, second, threads=2):
        wait_until(lambda: look(second, trial)["evidence"]["errors"]["n_canary"] > 100, PATIENCE_S, "evidence")
        states = [look(server, trial) for server in fleet]
        assert states[0]["weight"] == states[1]["weight"]
    ask_many(second, 50)
    first.kill()
    with calling(second, threads=2):
        wait_until(lambda: look(second, trial)["state"] == "promoted", PATIENCE_S, json.dumps(look(second, trial)))
    assert champion(second) == SAME
    with closing(Asker(second)) as asker:  # its workers take the route up a moment after it is written
        wait_until(lambda: {asker.ask()[0] for _ in range(20)} == {SAME}, PATIENCE_S, "the champion there")


def test_an_outage_of_the_database_holds_a_rollout_and_no_prediction(fleet: list[Server], database: Postgres) -> None:
    first, second = fleet
    trial = begin(first, to=SLOW, guards=["errors", {"metric": "latency", "max_ratio": 2.0}], min_step_seconds=1)
    database.stop()
    try:
        for server in fleet:
            assert {status for _, _, status in ask_many(server, 200)} == {200}
        refused = first.admin("POST", f"/admin/v1/models/m/rollouts/{trial['id']}/abort", {"reason": "no"})
        assert refused.status == 503
        route = second.admin("PUT", "/admin/v1/models/m/route", {"split": {GOOD: 10_000}})
        assert route.status == 503
    finally:
        database.start()
    wait_until(
        lambda: first.admin("GET", f"/admin/v1/models/m/rollouts/{trial['id']}").status == 200,
        PATIENCE_S,
        "the database",
    )
    with calling(first, second, threads=2):
        wait_until(lambda: look(second, trial)["state"] == "rolled_back", PATIENCE_S, json.dumps(look(first, trial)))
    assert champion(first) == GOOD


def counters(server: Server) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a counter or of a histogram that a real scrape gives."""
    families = text_string_to_metric_families(server.admin("GET", "/metrics").body.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


def versions(server: Server) -> set[str]:
    """Versions of the model that any series is about."""
    families = text_string_to_metric_families(server.admin("GET", "/metrics").body.decode())
    return {sample.labels["version"] for family in families for sample in family.samples if "version" in sample.labels}


def test_series_of_a_retired_version_end_at_every_gateway_and_no_counter_falls(
    fleet: list[Server], tmp_path: Path
) -> None:
    for server in fleet:
        asker = Asker(server)
        for version in (GOOD, SAME) * 5:
            assert asker.ask(version=version)[2] == 200
        asker.close()
        wait_until(lambda server=server: {GOOD, SAME} <= versions(server), PATIENCE_S, "the series")  # type: ignore[misc]
    before = [counters(server) for server in fleet]
    assert fleet[0].admin("PUT", "/admin/v1/models/m/aliases/champion", {"version": GOOD}).status == 200
    done = harness.run_command("models", "retire", f"m:{SAME}", "--url", fleet[0].ops, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for server, old in zip(fleet, before, strict=True):
        wait_until(lambda server=server: SAME not in versions(server), PATIENCE_S, "the end of the series")  # type: ignore[misc]
        assert GOOD in versions(server)
        now = counters(server)
        assert {key: value for key, value in now.items() if value < old.get(key, 0)} == {}
