"""A worker with little memory for its callers: what is kept once is counted once, and what fits is served."""

import json
from pathlib import Path

import pytest

from tests import zoo
from tests.harness import call, running

MEMORY = 64 << 20
MAX_BODY = 64 << 20


@pytest.mark.parametrize("share", [0.2, 0.45, 0.7])
def test_a_request_that_fits_is_served_on_a_thread(tmp_path: Path, share: float) -> None:
    zoo.place(tmp_path / "models", "wide", {"1": zoo.identity("FP32")})
    columns = int(MEMORY * share) // 4
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, columns], "parameters": {"binary_data_size": columns * 4}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    fields = {"Inference-Header-Content-Length": str(len(head))}
    limits = {"PENSTOCK_LIMITS__MEMORY_BYTES": str(MEMORY), "PENSTOCK_LIMITS__MAX_BODY_BYTES": str(MAX_BODY)}
    with running(tmp_path / "models", tmp_path, env=limits) as server:
        for _ in range(2):
            answer = call(server.http, "POST", "/v2/models/wide/infer", head + bytes(columns * 4), fields)
            assert answer.status == 200, answer.body[:200]
            assert len(answer.body) > columns * 4
