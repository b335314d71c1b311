"""The locust file runs headless against a real gateway, over REST and gRPC, and its objectives decide the exit code."""

import json
import subprocess
import sys
from pathlib import Path

from tests.harness import PATIENCE_S, Server

ROOT = Path(__file__).parents[2]


def locust(server: Server, *options: str, seconds: int) -> subprocess.CompletedProcess[str]:
    """Run locust for so many seconds, with users of both kinds."""
    load = ["-u", "4", "-r", "4", "-t", f"{seconds}s", "--json", "--host", f"http://{server.http}"]
    command = ["-m", "locust", "-f", "loadtests/locustfile.py", "--headless", *load, "--grpc-host", server.grpc]
    return subprocess.run(
        [sys.executable, *command, "--model", "mixed", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def answered(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Answers without a failure, by kind of request."""
    found = json.loads(done.stdout[done.stdout.index("[\n") : done.stdout.rindex("]") + 1])
    return {entry["name"]: entry["num_requests"] - entry["num_failures"] for entry in found}


def test_locust_keeps_its_objectives(server: Server) -> None:
    slo = ["--slo", "p99<60s", "--slo", "errors<0.1%"]
    done = locust(server, *slo, seconds=3)
    if set(answered(done)) != {"rest", "grpc"}:  # a busy machine: not every user has come to its first request
        done = locust(server, *slo, seconds=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert min(answered(done).values()) > 0 and set(answered(done)) == {"rest", "grpc"}


def test_locust_ends_with_4_on_a_breach(server: Server) -> None:
    done = locust(server, "--slo", "p50<0.001ms", seconds=2)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "breach: p50<0.001ms" in done.stdout
