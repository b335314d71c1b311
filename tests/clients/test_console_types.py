"""The types of the console's modules, as their comments state them, checked by the TypeScript compiler.

The compiler is not among Debian's packages; ``.ci/run`` installs it with npm.
"""

import re
import subprocess
from pathlib import Path

import pytest

from penstock.api.console.assets import FOLDER
from tests.harness import PATIENCE_S
from tests.unit.api.console.test_bundle import TOP_LEVEL

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


def test_no_name_at_the_top_level_hides_a_global_one_of_browsers_from_other_modules() -> None:
    (types,) = PROJECT.glob("node_modules/@typescript/*/lib/lib.dom.d.ts")
    globals_ = set(re.findall(r"^declare (?:var|function) (\w+)", types.read_text(), re.MULTILINE))
    assert {"open", "location"} <= globals_
    names = {name for path in FOLDER.rglob("*.js") for name in TOP_LEVEL.findall(path.read_text())}
    assert names & globals_ == set()
