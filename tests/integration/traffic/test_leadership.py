"""The leader of a fleet freezes: another gateway guards the canary in its place, and the old one does no harm later."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import harness, postgres
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.control.watch import metric
from tests.integration.traffic.drive import BREAKING, GOOD, Asker, ask_many, begin, scorer, serve, traffic, until


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[list[Server]]:
    settings = {"PENSTOCK_BLOBS": str(tmp_path / "blobs")}
    with postgres.running() as database, ExitStack() as stack:
        url = database.create("fleet")
        servers = []
        for name in "ab":
            server = harness.launch(None, tmp_path / name, "--registry", url, "--workers", "1", env=settings)
            stack.callback(server.kill)
            servers.append(server)
        serve(servers, BREAKING, scorer(breaks=True))
        yield servers


def reported(server: Server, workspace: Path) -> dict[str, Any]:
    """The fleet, as the command line shows it."""
    done = harness.run_command("fleet", "--url", server.ops, "--json", folder=workspace)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def leader(server: Server) -> tuple[str, int]:
    found = server.admin("GET", "/admin/v1/fleet").json()
    return found["leader"] or "", found["term"]


def answers_alone(asker: Asker, version: str) -> bool:
    """Whether a version answers each of 20 requests."""
    return {asker.ask()[0] for _ in range(20)} == {version}


def test_a_frozen_leader_is_replaced_and_does_no_harm_when_it_wakes(fleet: list[Server], tmp_path: Path) -> None:
    served = [[GOOD, BREAKING]] * 2
    wait_until(
        lambda: (
            [sorted(gateway["serves"].get("m", ())) for gateway in reported(fleet[0], tmp_path)["gateways"]] == served
        ),
        PATIENCE_S,
        "both gateways with both versions",
    )
    before = reported(fleet[0], tmp_path)
    assert before["leader"] in {gateway["id"] for gateway in before["gateways"]}
    leads = [metric(server, "penstock_leader") for server in fleet]
    assert sorted(leads) == [0, 1]
    frozen, other = (fleet[0], fleet[1]) if leads[0] else (fleet[1], fleet[0])
    trial = begin(other, to=BREAKING, guards=["errors"], steps=[5000, 10000], min_step_seconds=300)
    os.kill(frozen.process.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: leader(other)[0] not in {"", before["leader"]}, PATIENCE_S, "another leader")
        assert leader(other)[1] > before["term"]
        with traffic(other, threads=2):
            ended = until(other, trial, "rolled_back")
        assert ended["reason"]
    finally:
        os.kill(frozen.process.pid, signal.SIGCONT)
    wait_until(frozen.is_ready, PATIENCE_S, "the gateway that was frozen")
    wait_until(lambda: leader(frozen)[0] == leader(other)[0] != before["leader"], PATIENCE_S, "one leader")
    ask_many(frozen, 100)
    assert until(frozen, trial, "rolled_back")["state"] == "rolled_back"
    for server in fleet:
        with closing(Asker(server)) as asker:
            wait_until(partial(answers_alone, asker, GOOD), PATIENCE_S, "the version before alone")
