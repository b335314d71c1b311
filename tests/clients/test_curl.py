"""curl, the client everybody has: JSON, binary, compression, careful uploads and its exit codes."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.harness import PATIENCE_S, Server

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

BODY = json.dumps({"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]})


def curl(*arguments: str) -> bytes:
    """Run curl to its end."""
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "20", *arguments]
    ended = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 0, (ended.stdout, ended.stderr)
    return ended.stdout


def predicted(body: bytes) -> Any:
    """The data of the only output."""
    return json.loads(body)["outputs"][0]["data"]


def test_curl_reads_health_and_metadata(server: Server) -> None:
    assert json.loads(curl(f"http://{server.http}/v2"))["name"] == "penstock"
    assert curl("--head", f"http://{server.http}/v2").startswith(b"HTTP/1.1 200")
    assert b"penstock_model_state" in curl(f"http://{server.ops}/metrics")


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--http1.0"],
        ["--http2"],  # which offers to upgrade, and sends its body all the same
        ["--header", "Expect: 100-continue"],
        ["--header", "Transfer-Encoding: chunked"],
        ["--compressed"],
        ["--header", "Connection: close"],
        ["--header", "Content-Type: application/json; charset=utf-8"],
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_curl_gets_a_prediction(server: Server, options: list[str]) -> None:
    url = f"http://{server.http}/v2/models/vector/infer"
    assert predicted(curl(*options, "--data", BODY, url)) == [0.75, 1.25]


def test_many_on_one_connection(server: Server) -> None:
    url = f"http://{server.http}/v2/models/vector/infer"
    answers = curl("--data", BODY, *[url] * 5, "--write-out", "\n")
    assert [predicted(line) for line in answers.splitlines()] == [[0.75, 1.25]] * 5


def test_a_raw_tensor_from_a_file(server: Server, tmp_path: Path) -> None:
    large = np.arange(1 << 20, dtype=np.float32)  # large enough for curl to ask before it sends
    (tmp_path / "tensor").write_bytes(large.tobytes())
    options = ["--header", "Inference-Header-Content-Length: 0", "--data-binary", f"@{tmp_path}/tensor"]
    answer = curl(*options, f"http://{server.http}/v2/models/vector/infer")
    assert np.array_equal(
        np.frombuffer(answer[-large.nbytes :], np.float32), large * np.float32(0.5) + np.float32(0.25)
    )
