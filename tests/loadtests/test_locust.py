"""The locust file runs headless against a real gateway, over REST and gRPC, without one failure."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from loadtests.graphs import repository
from loadtests.models import MODELS
from loadtests.processes import penstock, running
from tests.harness import PATIENCE_S

ROOT = Path(__file__).parents[2]
LOAD = ["-u", "8", "-r", "8", "--json"]
NAMES = {"rest json", "rest binary", "grpc"}


def statistics(hosts: list[str], seconds: int) -> dict[str, dict[str, Any]]:
    """What a run of so many seconds measured, by kind of request."""
    load = [*LOAD, "-t", f"{seconds}s"]
    done = subprocess.run(
        [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", *load, *hosts],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {entry["name"]: entry for entry in json.loads(done.stdout)}


def test_locust_without_failures() -> None:
    command = penstock(repository(MODELS["tiny"]), "--workers", "1")
    with running(command, sorted(os.sched_getaffinity(0))) as server:
        hosts = ["--host", f"http://{server.addresses['http']}", "--grpc-host", server.addresses["grpc"]]
        stats = statistics(hosts, 4)
        if set(stats) != NAMES:  # a busy machine: not every user has come to its first request
            stats = statistics(hosts, 60)
    assert set(stats) == NAMES
    for entry in stats.values():
        assert entry["num_requests"] > 0
        assert entry["num_failures"] == 0
