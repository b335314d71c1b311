"""The types of the console's modules, as their comments state them, checked by the TypeScript compiler.

The compiler is not among Debian's packages; ``.ci/run`` installs it with npm.
"""

import subprocess
from pathlib import Path

import pytest

from penstock.api.console.assets import FOLDER
from tests.harness import PATIENCE_S

PROJECT = Path(__file__).with_name("console_types")
COMPILER = PROJECT / "node_modules" / ".bin" / "tsc"
HOW = "TypeScript is not installed: npm ci --ignore-scripts --prefix tests/clients/console_types"

pytestmark = pytest.mark.skipif(not COMPILER.exists(), reason=HOW)


def test_every_module_of_the_console_has_the_types_that_it_states() -> None:
    command = [str(COMPILER), "--project", str(PROJECT), "--listFiles"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout
    checked = {Path(line) for line in done.stdout.splitlines() if line.endswith(".js")}
    assert checked == set(FOLDER.rglob("*.js"))
