"""The unmodified clients of KServe's V1 protocol and of MLflow's scoring server."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock import __version__
from tests import harness, zoo

SCRIPT = Path(__file__).with_name("dialect_calls.py")
SETTINGS = {"PENSTOCK_DIALECTS": '["kserve_v1", "mlflow"]', "PENSTOCK_DEFAULT_MODEL": "tiny"}
OUTPUT = [[3.0, 5.0, 7.0], [9.0, 11.0, 13.0]]
RECORDS = [{"y": row} for row in OUTPUT]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the clients saw."""
    if importlib.util.find_spec("kserve") is None or importlib.util.find_spec("mlflow") is None:
        pytest.skip("kserve or mlflow is not installed")
    models = tmp_path_factory.mktemp("models")
    zoo.save(zoo.affine(2.0, 1.0, ("n", 3)), models / "tiny.onnx")
    zoo.save(zoo.affine(3.0, 1.0, ("n", 3)), models / "other.onnx")
    with harness.running(models, tmp_path_factory.mktemp("server"), env=SETTINGS) as server:
        ended = subprocess.run(
            [sys.executable, str(SCRIPT), server.http],
            capture_output=True,
            text=True,
            timeout=harness.PATIENCE_S,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, dict[str, Any]] = json.loads(ended.stdout.splitlines()[-1])
    return found


def test_kserve_v1_requests_are_answered(seen: dict[str, dict[str, Any]]) -> None:
    calls = seen["kserve"]
    assert (calls["live"], calls["ready"], calls["predictions"]) == (True, True, {"predictions": OUTPUT})
    assert calls["error"].startswith("HTTPStatusError")
    assert "404" in calls["error"]
    assert "unknown model 'nobody'" in calls["error"]


def test_mlflow_requests_are_answered(seen: dict[str, dict[str, Any]]) -> None:
    calls = seen["mlflow"]
    assert calls["version"] == __version__
    assert json.loads(calls["frame"]) == {"predictions": RECORDS}
    assert calls["predictions"] == {"y": OUTPUT}
    assert json.loads(calls["tensor"]) == json.loads(calls["list"]) == {"predictions": {"y": OUTPUT}}
    assert "error code 400" in calls["error"]
    assert '"error_code":"BAD_REQUEST"' in calls["error"]
    assert "row 0" in calls["error"]
