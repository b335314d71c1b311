"""The runtime reports to nobody: importing the engine leaves nothing in the user's folders."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.processes
def test_importing_the_engine_leaves_no_trace_in_the_users_home(tmp_path: Path) -> None:
    kept = {name: text for name, text in os.environ.items() if name != "ORT_DISABLE_TELEMETRY" and "XDG" not in name}
    script = "import os, penstock.engine.model; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    result = subprocess.run(
        [sys.executable, "-c", script], env={**kept, "HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "1"
    assert list(tmp_path.rglob("*")) == []
