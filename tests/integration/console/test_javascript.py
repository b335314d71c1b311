"""The parts of the console's script that need no browser, by Node's own test runner."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from penstock.api.console.assets import FOLDER, static_files
from penstock.api.console.bundle import APP, SIGN_IN, VIEWS, join_modules, join_sources
from tests.harness import PATIENCE_S

TESTS = sorted((Path(__file__).parent / "js").glob("*.test.mjs"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests beside the modules, which Node takes for modules because of the package file."""
    folder = tmp_path_factory.mktemp("javascript")
    shutil.copytree(FOLDER, folder / "static")
    shutil.copytree(Path(__file__).parent / "js", folder / "js")
    (folder / "package.json").write_text(json.dumps({"type": "module"}))
    return folder


@pytest.mark.parametrize("name", [path.name for path in TESTS])
def test_the_unit_tests_of_the_modules_pass(folder: Path, name: str) -> None:
    command = ["node", "--test", f"js/{name}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout
    assert "\n# pass 0\n" not in done.stdout


@pytest.mark.parametrize("name", [APP, VIEWS, SIGN_IN])
def test_what_is_served_is_the_same_program_as_the_modules(folder: Path, name: str) -> None:
    sources = {path.relative_to(FOLDER).as_posix(): path.read_text() for path in FOLDER.rglob("*.js")}
    source, served = folder / "source.mjs", folder / "served.mjs"
    source.write_text(join_sources(sources, join_modules(sources), name))
    served.write_bytes(static_files().files[name].body)
    command = ["node", "--expose-internals", "js/same-program.cjs", str(source), str(served)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
