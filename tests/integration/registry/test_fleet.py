"""Two gateways on one PostgreSQL and one bucket: what one gets, the other serves; an outage stops nothing."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import harness, s3
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.registry.test_gateway import answering, ask, graph
from tests.postgres import Postgres

NUMBERS = iter(range(1000))


@pytest.fixture
def fleet(server: Postgres, bucket: s3.Bucket, tmp_path: Path) -> Iterator[list[Server]]:
    number = next(NUMBERS)
    url = server.create(f"fleet{number}")
    env = {**bucket.environment, "PENSTOCK_BLOBS": f"s3://{bucket.name}/fleet{number}"}
    with ExitStack() as stack:
        yield [stack.enter_context(harness.running(None, tmp_path / name, "--registry", url, env=env)) for name in "ab"]


def champion(at: Server, version: str) -> int:
    return at.admin("PUT", "/admin/v1/models/m/aliases/champion", {"version": version}).status


def served(at: Server, version: str) -> bool:
    return at.rest("GET", f"/v2/models/m/versions/{version}/ready").status == 200


def test_what_one_gateway_gets_the_other_serves(fleet: list[Server]) -> None:
    first, second = fleet
    assert (
        first.admin("GET", "/admin/v1/registry").json()["id"] == second.admin("GET", "/admin/v1/registry").json()["id"]
    )
    assert first.push("m", "1", graph(1)).status == 201
    wait_until(lambda: served(second, "1"), PATIENCE_S, "the version at the other gateway")
    assert second.push("m", "2", graph(2)).status == 201
    wait_until(lambda: served(first, "2"), PATIENCE_S, "the version at the first gateway")
    assert champion(first, "1") == 200
    wait_until(lambda: answering(second) == "1", PATIENCE_S, "the alias at the other gateway")
    assert champion(second, "2") == 200
    wait_until(lambda: answering(first) == "2", PATIENCE_S, "the alias at the first gateway")
    assert second.admin("POST", "/admin/v1/models/m/rollback", {}).json()["version"] == "1"
    wait_until(lambda: answering(first) == "1", PATIENCE_S, "the roll back at the first gateway")
    conflict = first.push("m", "2", graph(3))
    assert conflict.status == 409
    actions = [entry["action"] for entry in first.admin("GET", "/admin/v1/audit").json()["entries"]]
    assert actions == ["version.add", "version.add", "alias.move", "alias.move", "alias.rollback"]


def test_an_outage_of_the_database_stops_no_prediction(fleet: list[Server], server: Postgres) -> None:
    first, second = fleet
    first.push("m", "1", graph(1))
    wait_until(lambda: served(second, "1"), PATIENCE_S, "the version at the other gateway")
    server.stop()
    try:
        for _ in range(50):
            for item in fleet:
                assert ask(item).status == 200
        refused = first.push("m", "2", graph(2))
        assert refused.status == 503
        assert "cannot be reached" in refused.error()
        moved = second.admin("PUT", "/admin/v1/models/m/aliases/champion", {"version": "1"})
        assert moved.status == 503
        assert first.is_ready()
        assert second.is_ready()
        assert first.admin("GET", "/admin/v1/registry").json()["writable"] is False
    finally:
        server.start()
    wait_until(lambda: first.push("m", "2", graph(2)).status in (200, 201), PATIENCE_S, "changes after the outage")
    wait_until(lambda: served(second, "2"), PATIENCE_S, "the version at the other gateway")
    assert champion(second, "1") == 200
    wait_until(lambda: answering(first) == "1", PATIENCE_S, "the alias at the first gateway")


def registry(server: Server) -> dict[str, Any]:
    """What the gateway says of its registry; for a moment, while connections end, that it is away."""
    described: dict[str, Any] = server.admin("GET", "/admin/v1/registry").json()
    return described


def test_a_database_that_can_only_be_read_says_so_and_recovers(fleet: list[Server], server: Postgres) -> None:
    first, _ = fleet
    database = server.url("postgres")
    assert first.push("m", "1", graph(1)).status == 201

    def set_read_only(state: str) -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            own_databases = "application_name LIKE 'penstock%' AND datname <> current_database()"
            for (name,) in connection.execute(
                f"SELECT DISTINCT datname FROM pg_stat_activity WHERE {own_databases}"
            ).fetchall():
                connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {state}')
                connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))

    set_read_only("on")
    try:
        # a connection that was ended first looks as if the database were away
        wait_until(lambda: "can only be read" in str(registry(first).get("problem")), PATIENCE_S, "the state")
        assert registry(first)["writable"] is False
        assert champion(first, "1") == 503
        assert ask(first).status == 200
    finally:
        set_read_only("off")
    wait_until(lambda: champion(first, "1") == 200, PATIENCE_S, "a change")
    wait_until(lambda: registry(first).get("writable") is True, PATIENCE_S, "the state after")


def test_an_outage_of_the_bucket_stops_no_prediction(
    fleet: list[Server], bucket: s3.Bucket, tmp_path: Path, server: Postgres
) -> None:
    first, second = fleet
    first.push("m", "1", graph(1))
    wait_until(lambda: served(second, "1"), PATIENCE_S, "the version at the other gateway")
    assert bucket.process is not None
    bucket.process.send_signal(19)  # frozen: it takes connections and answers none
    try:
        assert ask(first).status == 200
        assert ask(second).status == 200
    finally:
        bucket.process.send_signal(18)
    assert first.push("m", "2", graph(2)).status == 201


def test_a_gateway_starts_on_what_it_last_knew(server: Postgres, bucket: s3.Bucket, tmp_path: Path) -> None:
    url = server.create(f"alone{next(NUMBERS)}")
    env = {**bucket.environment, "PENSTOCK_BLOBS": f"s3://{bucket.name}/alone"}
    with harness.running(None, tmp_path, "--registry", url, env=env) as gateway:
        gateway.push("m", "1", graph(1))
        gateway.push("m", "2", graph(2))
        assert champion(gateway, "1") == 200
    server.stop()
    try:
        with harness.running(None, tmp_path, "--registry", url, env=env) as gateway:
            assert answering(gateway) == "1"
            assert gateway.push("m", "3", graph(3)).status == 503
            server.start()
            wait_until(
                lambda: gateway.push("m", "3", graph(3)).status in (200, 201), PATIENCE_S, "changes after the outage"
            )
    finally:
        if server.process is None:
            server.start()


def test_a_flipped_bit_in_the_bucket_is_refused_and_found(server: Postgres, bucket: s3.Bucket, tmp_path: Path) -> None:
    url = server.create(f"flip{next(NUMBERS)}")
    env = {**bucket.environment, "PENSTOCK_BLOBS": f"s3://{bucket.name}/flip"}
    with harness.running(None, tmp_path / "a", "--registry", url, env=env) as first:
        digest = first.push("m", "1", graph(1)).json()["digest"]
        damaged = bytearray(graph(1))
        damaged[len(damaged) // 2] ^= 1
        bucket.call("PUT", f"/{bucket.name}/flip/sha256/{digest.removeprefix('sha256:')}", bytes(damaged))
        with harness.running(None, tmp_path / "b", "--registry", url, env=env) as second:
            (version,) = second.admin("GET", "/admin/v1/models/m").json()["versions"]
            assert version["state"] == "UNAVAILABLE"
            assert "does not match its digest" in version["reason"]
            answer = second.admin("POST", "/admin/v1/registry/verify").body
            assert b"does not match its digest" in answer
        assert ask(first).status == 200


def test_no_password_is_ever_shown(tmp_path: Path) -> None:
    url = "postgresql://penstock:topsecret@127.0.0.1:1/none"
    environment = harness.environment(tmp_path)
    for command in (["serve", "--registry", url], ["models", "list", "--registry", url]):
        ended = harness.run_command(*command, folder=tmp_path)
        assert ended.returncode == 7, ended
        assert "cannot be reached" in ended.stderr
        assert "topsecret" not in ended.stderr + ended.stdout
    assert "topsecret" not in str(environment)
    shown = harness.run_command("config", "show", folder=tmp_path)
    assert shown.returncode == 0
