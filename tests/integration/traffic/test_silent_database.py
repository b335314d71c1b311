"""A database whose processes are stopped: the admin API says so, nothing else notices, all goes on afterwards."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import harness, postgres
from tests.commands import DEADLINE_FACTOR
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.traffic.drive import (
    GOOD,
    SAME,
    ask_many,
    promote_champion,
    push_version,
    repeat_until_in_time,
    scorer,
)
from tests.postgres import Postgres

ROUTE = "/admin/v1/models/m/route"


def processes(database: Postgres) -> list[int]:
    """The server and what it has forked."""
    assert database.process is not None
    parent = database.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [parent, *map(int, children)]


@contextmanager
def silent(database: Postgres) -> Iterator[None]:
    """Stop the server and all its sessions for the time of a block: connections stay open, nobody answers."""
    stopped: list[int] = []
    try:
        while new := [pid for pid in processes(database) if pid not in stopped]:  # it may fork meanwhile
            for pid in new:
                os.kill(pid, signal.SIGSTOP)
            stopped += new
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[tuple[Server, Postgres]]:
    with postgres.running() as database:
        server = harness.launch(
            None,
            tmp_path / "a",
            "--registry",
            database.create("silent"),
            "--workers",
            "1",
            env={"PENSTOCK_BLOBS": str(tmp_path / "blobs"), DEADLINE_FACTOR: "1"},
        )
        try:
            for version in (GOOD, SAME):
                push_version(server, version, scorer())
            promote_champion(server, GOOD)
            repeat_until_in_time(lambda: server.admin("GET", ROUTE), 200)
            yield server, database
        finally:
            server.kill()


def answer(server: Server, path: str) -> tuple[int, str]:
    reply = server.admin("GET", path)
    return reply.status, reply.body.decode()


def series(server: Server, start: str) -> dict[str, float]:
    """The samples whose lines begin so."""
    lines = server.admin("GET", "/metrics").body.decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line.startswith(start))}


def abandoned(server: Server) -> float:
    """Calls that nobody waits for and that have not returned."""
    found = series(server, "penstock_blocking_calls{")
    return sum(value for name, value in found.items() if 'state="abandoned"' in name)


def test_a_silent_database_holds_up_what_needs_it_and_nothing_else(gateway: tuple[Server, Postgres]) -> None:
    server, database = gateway
    with silent(database):
        for _ in range(6):  # more than a pool has threads: abandoned calls keep theirs
            status, body = answer(server, "/admin/v1/events")
            assert (status, "did not answer" in body) == (503, True)
        assert answer(server, ROUTE)[0] == 503
        status, body = answer(server, "/admin/v1/models")
        assert (status, '"m"' in body) == (200, True)  # as it was last read
        assert "did not answer" in server.admin("GET", "/admin/v1/registry").json()["problem"]
        refused = server.admin("PUT", "/admin/v1/models/m/aliases/champion", {"version": SAME})
        assert refused.status == 503
        assert "the registry's database" in refused.json()["error"]  # by its connect timeout, or by the deadline
        assert {status for _, _, status in ask_many(server, 50)} == {200}
        assert abandoned(server)
        assert series(server, 'penstock_blocking_calls_refused_total{pool="traffic",reason="late"}').popitem()[1] >= 6
        assert server.admin("GET", "/readyz").status == 200
    wait_until(lambda: server.admin("GET", "/admin/v1/events").status == 200, PATIENCE_S, "the events")
    wait_until(lambda: server.admin("GET", "/admin/v1/registry").json()["problem"] == "", PATIENCE_S, "the registry")
    wait_until(lambda: server.admin("PUT", ROUTE, {"split": {SAME: 10_000}}).status == 200, PATIENCE_S, "a change")
    assert {version for version, _, _ in ask_many(server, 20)} == {SAME}
    wait_until(lambda: not abandoned(server), PATIENCE_S, "the threads")
