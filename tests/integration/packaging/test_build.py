"""The package as it is built: the modules of the request path compiled where they can be, and the same without."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests import harness, zoo

ROOT = Path(__file__).parents[3]
COMPILED: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["penstock"]["compiled"]
SOURCES = ("deploy", "src", "pyproject.toml", "README.md", "LICENSE")

BUILD = """
import sys
sys.path.insert(0, "deploy")
import backend
print(getattr(backend, sys.argv[1])(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Calls a hook of the back end on a copy of the sources, without a compiler; the file it makes."""
    copy, made = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("built")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, copy / name, ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
            )
        else:
            shutil.copy(ROOT / name, copy / name)

    def call(hook: str, env: Mapping[str, str] = {"PENSTOCK_PURE": "1"}) -> Path:
        done = subprocess.run(
            [sys.executable, "-c", BUILD, hook, str(made)],
            cwd=copy,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "is built as plain Python" in done.stderr or hook == "build_sdist"
        return made / done.stdout.splitlines()[-1]

    return call


def test_what_runs_here_is_compiled_from_these_sources() -> None:
    sys.path.insert(0, str(ROOT / "deploy"))
    try:
        from backend import obstacle
    finally:
        sys.path.pop(0)
    because = obstacle()
    for module in COMPILED:
        found = importlib.util.find_spec(module)
        assert found is not None
        assert found.origin is not None
        assert found.origin.endswith(".py" if because else ".so"), because


def test_every_compiled_module_is_listed_once_in_order() -> None:
    assert sorted(set(COMPILED)) == COMPILED
    assert all((ROOT / "src" / f"{module.replace('.', '/')}.py").is_file() for module in COMPILED)


def test_it_builds_and_answers_without_a_compiler(build: Callable[[str], Path], tmp_path: Path) -> None:
    wheel = build("build_wheel")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".so")]
        archive.extractall(tmp_path / "installed")
    zoo.build_tiny(tmp_path / "models")
    env = {"PYTHONPATH": str(tmp_path / "installed")}
    printed = subprocess.run(
        [*harness.COMMAND, "version"],
        cwd=tmp_path,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.rstrip().endswith("request path interpreted")
    with harness.running(tmp_path / "models", tmp_path, env=env) as server:
        x = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
        reply = server.rest("POST", "/v2/models/identity_fp32/infer", {"inputs": [x]})
        assert reply.json()["outputs"][0]["data"] == [1, 2, 3]


@pytest.mark.slow
def test_a_compiler_that_fails_leaves_nothing_compiled(build: Callable[[str, Mapping[str, str]], Path]) -> None:
    with zipfile.ZipFile(build("build_wheel", {"CC": "/bin/false"})) as archive:
        names = archive.namelist()
    assert "penstock/serving/loop_batcher.py" in names
    assert not [name for name in names if name.endswith(".so")]


def test_the_source_archive_holds_its_back_end(build: Callable[[str], Path]) -> None:
    with tarfile.open(build("build_sdist")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"deploy/backend.py", "pyproject.toml", "src/penstock/serving/loop_batcher.py"} <= names
