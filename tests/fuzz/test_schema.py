"""schemathesis over the server's own description: whatever is sent, no answer is a fault of ours."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.conftest import assert_serves
from tests.harness import PATIENCE_S, Server

MODELS = ["logistic", "mixed", "identity_fp32", "identity_bytes", "pair"]
EXAMPLE = {"inputs": [{"name": "x", "shape": [1, 30], "datatype": "FP32", "data": [0.5] * 30}], "id": "e"}


def described(server: Server) -> dict[str, Any]:
    """The description, with real names among the models and versions, so that not every request ends at 404."""
    document: dict[str, Any] = server.rest("GET", "/openapi.json").json()
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                names = MODELS if parameter["name"] == "model" else ["1", "2"]
                parameter["schema"] = {"anyOf": [{"enum": names}, parameter["schema"]]}
    document["components"]["schemas"]["InferRequest"]["example"] = EXAMPLE
    return document


def run(server: Server, folder: Path, per_operation: int, seconds: int) -> int:
    """Fuzz every operation; the number of requests that were sent.

    Unloading comes last and by itself: what is unloaded answers 503, as it should.
    """
    schema = folder / "openapi.json"
    schema.write_text(json.dumps(described(server)))
    shared = ["--url", f"http://{server.http}", "--max-examples", str(per_operation)]
    sent = fuzz(schema, [*shared, "--exclude-path-regex", "/unload$"], seconds)
    sent += fuzz(schema, [*shared, "--include-path-regex", "/unload$"], seconds)
    for line in server.rest("POST", "/v2/repository/index", b"").json():
        assert server.rest("POST", f"/v2/repository/models/{line['name']}/load", b"").status == 200
    assert_serves(server)
    return sent


def fuzz(schema: Path, options: list[str], seconds: int) -> int:
    """Run schemathesis to its end, which must be a good one; the number of requests that were sent."""
    report = schema.with_name("report.ndjson")
    checks = "not_a_server_error,content_type_conformance,status_code_conformance"
    options = [*options, "--checks", checks, "--phases", "examples,coverage,fuzzing", "--seed", "2026"]
    options += [
        "--request-timeout",
        str(PATIENCE_S),
        "--suppress-health-check",
        "all",
        "--report-ndjson-path",
        str(report),
    ]
    ended = subprocess.run(
        [str(Path(sys.executable).with_name("st")), "run", str(schema), *options],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        cwd=schema.parent,
    )
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
    [generated] = re.findall(r"(\d+) generated", ended.stdout.replace(",", ""))
    return int(generated)


def test_a_few_hundred_requests(target: Server, tmp_path: Path) -> None:
    assert run(target, tmp_path, per_operation=10, seconds=500) >= 300


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thousands_of_requests(target: Server, tmp_path: Path) -> None:
    assert run(target, tmp_path, per_operation=400, seconds=850) >= 5000
