"""The unmodified kserve inference client, REST and gRPC, and KServe's dialect of load and unload."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness import PATIENCE_S, Server

SCRIPT = Path(__file__).with_name("kserve_calls.py")
PREDICTED = {
    "doubled": ["FP32", [[2.0, -4.0, 6.0]]],
    "next": ["INT64", [[6, 7]]],
    "positive": ["BOOL", [[True, False, True]]],
}


@pytest.fixture(scope="module")
def seen(server: Server) -> dict[str, dict[str, Any]]:
    """What the client saw."""
    if importlib.util.find_spec("kserve") is None:
        pytest.skip("kserve is not installed")
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), server.http, server.grpc],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, dict[str, Any]] = json.loads(ended.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("side", ["rest", "grpc"])
def test_the_kserve_client_reads_health(seen: dict[str, dict[str, Any]], side: str) -> None:
    names = ("live", "ready", "model ready", "model broken")
    assert [seen[side][name] for name in names] == [True, True, True, False]


@pytest.mark.parametrize(("side", "form"), [("rest", "json"), ("rest", "binary"), ("grpc", "typed"), ("grpc", "raw")])
def test_the_kserve_client_gets_predictions(seen: dict[str, dict[str, Any]], side: str, form: str) -> None:
    assert seen[side][form] == {"model": "mixed", "id": "k-1", "outputs": PREDICTED}


def test_the_kserve_client_chooses_outputs(seen: dict[str, dict[str, Any]]) -> None:
    assert list(seen["rest"]["chosen"]["outputs"].items()) == [(name, PREDICTED[name]) for name in ("next", "doubled")]


@pytest.mark.parametrize("side", ["rest", "grpc"])
def test_the_kserve_client_gets_errors(seen: dict[str, dict[str, Any]], side: str) -> None:
    assert "unknown model 'nobody'" in seen[side]["unknown"]


def test_its_dialect_of_the_repository(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["grpc"]["unloaded"] == ["policy_all", True, False]
    assert seen["grpc"]["loaded"] == ["policy_all", True, True]
