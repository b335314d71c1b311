"""A copy of the locust file runs headless elsewhere, against a real gateway over REST and gRPC; objectives decide the
exit code."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests import zoo
from tests.certificates import make_certificate
from tests.harness import PATIENCE_S, Server, running

ORIGINAL = Path(__file__).parents[2] / "loadtests" / "locustfile.py"


def locust(server: Server, folder: Path, *options: str, seconds: int) -> subprocess.CompletedProcess[str]:
    """Run locust for so many seconds, with users of both kinds, in a folder with a copy of the file alone."""
    shutil.copy(ORIGINAL, folder)
    load = ["-u", "4", "-r", "4", "-t", f"{seconds}s", "--json"]
    command = ["-m", "locust", "-f", "locustfile.py", "--headless", *load, "--grpc-host", server.grpc]
    return subprocess.run(
        [sys.executable, *command, *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def answered(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Answers without a failure, by kind of request."""
    found = json.loads(done.stdout[done.stdout.index("[\n") : done.stdout.rindex("]") + 1])
    return {entry["name"]: entry["num_requests"] - entry["num_failures"] for entry in found}


def test_locust_keeps_its_objectives_by_tls(tmp_path: Path) -> None:
    files = make_certificate(tmp_path)
    tls = {"PENSTOCK_TLS__CERTIFICATE_FILE": str(files.certificate), "PENSTOCK_TLS__KEY_FILE": str(files.key)}
    models = zoo.place(tmp_path / "models", "m", {"1": zoo.affine(2.0, 1.0, ("n", 3))}).parent
    with running(models, tmp_path / "gateway", env=tls) as server:
        by = ["--host", f"https://{server.http}", "--ca-file", str(files.certificate), "--model", "m"]
        slo = ["--slo", "p99<60s", "--slo", "errors<0.1%"]
        done = locust(server, tmp_path, *by, *slo, seconds=3)
        if set(answered(done)) != {"rest", "grpc"}:  # a busy machine: not every user has come to its first request
            done = locust(server, tmp_path, *by, *slo, seconds=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert min(answered(done).values()) > 0 and set(answered(done)) == {"rest", "grpc"}


def test_locust_ends_with_4_on_a_breach(server: Server, tmp_path: Path) -> None:
    by = ["--host", f"http://{server.http}", "--model", "mixed"]
    done = locust(server, tmp_path, *by, "--slo", "p50<0.001ms", seconds=2)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "breach: p50<0.001ms" in done.stdout
