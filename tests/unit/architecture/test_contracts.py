"""The import contracts: the layers, one importer for each outside library, and none forgotten."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import grimp
import pytest

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src" / "penstock"
FILES = sorted(file for file in SOURCE.rglob("*.py") if "_pb2" not in file.name)
"""All but generated ones."""

ANYWHERE = {"numpy"}
"""The one outside library that every package may import: arrays are the vocabulary."""


@pytest.fixture(scope="module")
def contracts() -> list[dict[str, Any]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: list[dict[str, Any]] = settings["tool"]["importlinter"]["contracts"]
    return found


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Every import, those for type checking alone too."""
    return grimp.build_graph("penstock", include_external_packages=True, cache_dir=None)


def test_there_is_no_import_cycle(graph: grimp.ImportGraph) -> None:
    assert not modules_in_cycles(graph)
    assert not modules_in_cycles(grimp.build_graph("loadtests", cache_dir=None))


def modules_in_cycles(graph: grimp.ImportGraph) -> dict[str, set[str]]:
    """What each module of a cycle, or above one, imports of the others."""
    imports = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    while leaves := {module for module, targets in imports.items() if not targets & imports.keys()}:
        imports = {module: targets for module, targets in imports.items() if module not in leaves}
    return {module: targets & imports.keys() for module, targets in imports.items()}


@pytest.mark.processes
def test_imports_point_down_and_outside_libraries_have_one_importer() -> None:
    script = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", script, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_outside_library_has_an_importer(graph: grimp.ImportGraph, contracts: list[dict[str, Any]]) -> None:
    outside = {module for module in graph.modules if not module.startswith("penstock")} - sys.stdlib_module_names
    importers: set[str] = set()
    for contract in contracts:
        if str(contract["id"]).startswith("importer-"):
            importers |= set(contract["forbidden_modules"])
    assert outside - importers == ANYWHERE


def test_the_core_is_shielded_from_every_outside_library(contracts: list[dict[str, Any]]) -> None:
    by_id = {str(contract["id"]): contract for contract in contracts}
    importers = {
        name for key, contract in by_id.items() if key.startswith("importer-") for name in contract["forbidden_modules"]
    }
    assert importers <= set(by_id["pure-core"]["forbidden_modules"])


def test_every_file_opens_with_a_sentence() -> None:
    first = {str(file.relative_to(SOURCE)): file.read_text().split("\n", 1)[0] for file in FILES}
    assert {file: line for file, line in first.items() if not line.startswith('"""') or len(line) <= 20} == {}
