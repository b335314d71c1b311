"""The locust file runs headless against a real gateway, over REST and gRPC, without one failure."""

import json
import os
import subprocess
import sys
from pathlib import Path

from loadtests.graphs import repository
from loadtests.models import MODELS
from loadtests.processes import penstock, running
from tests.harness import PATIENCE_S

ROOT = Path(__file__).parents[2]
LOAD = ["-u", "8", "-r", "8", "-t", "4s", "--json"]
NAMES = {"rest json", "rest binary", "grpc"}


def test_locust_without_failures() -> None:
    command = penstock(repository(MODELS["tiny"]), "--workers", "1")
    with running(command, sorted(os.sched_getaffinity(0))) as server:
        hosts = ["--host", f"http://{server.addresses['http']}", "--grpc-host", server.addresses["grpc"]]
        done = subprocess.run(
            [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", *LOAD, *hosts],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    stats = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert set(stats) == NAMES
    for entry in stats.values():
        assert entry["num_requests"] > 0
        assert entry["num_failures"] == 0
