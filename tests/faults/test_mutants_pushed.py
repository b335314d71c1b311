"""Broken graphs pushed through the API: each gets its verdict in time, and nobody else notices anything."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import harness, zoo
from tests.harness import Server
from tests.integration.registry.test_gateway import ask, graph
from tests.mutants import mutants


def pushed(server: Server, count: int, seed: int) -> Counter[int]:
    """Push so many, two at a time; how often each status came."""
    originals = [zoo.mlp(), zoo.logistic(), zoo.classifier(), zoo.mixed(), zoo.looping(3), zoo.gather()]
    server.push("bystander", "1", graph(1))

    def push(numbered: tuple[int, bytes]) -> int:
        answer = server.push(f"mutant{numbered[0]}", "1", numbered[1])
        assert ask(server, "bystander").status == 200
        if answer.status == 201:
            assert server.admin("DELETE", f"/admin/v1/models/mutant{numbered[0]}/versions/1").status == 200
        return answer.status

    with ThreadPoolExecutor(2) as pool:
        return Counter(pool.map(push, enumerate(mutants(originals, count, seed))))


def survives(tmp_path: Path, count: int, seed: int) -> None:
    env = {"PENSTOCK_ADMISSION__SECONDS": "4"}  # some of them never end
    with harness.running(None, tmp_path, "--workers", "2", env=env) as server:
        statuses = pushed(server, count, seed)
        assert set(statuses) == {201, 422}, statuses
        metrics = server.admin("GET", "/metrics").body.decode()
        for reason in ("died", "frozen", "stuck"):
            assert f'penstock_worker_restarts_total{{reason="{reason}"}} 0' in metrics
        assert server.is_ready()


def test_fifty_broken_graphs_disturb_no_other_model(tmp_path: Path) -> None:
    survives(tmp_path, 50, seed=3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_thousand_broken_graphs_disturb_no_other_model(tmp_path: Path) -> None:
    survives(tmp_path, 2000, seed=7)
