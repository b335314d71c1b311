"""The package's source archive, packed and unpacked, the backend that builds it, and a compiled wheel, installed."""

import importlib
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.integration.packaging.builds import COMPILED, FEW, ROOT, SOURCES, fresh_environment, run, wheel_of


@pytest.fixture(scope="session")
def backend() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "deploy"))
    try:
        yield importlib.import_module("backend")
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, built from a copy of the sources."""
    copy, built = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("sdist")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            unwanted = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, copy / name, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, copy / name)
    code = "import sys; sys.path.insert(0, 'deploy'); import backend; backend.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", code, built, folder=copy)
    [archive] = built.iterdir()
    return archive


@pytest.fixture(scope="session")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source archive, with few modules to compile."""
    there = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(there, filter="data")
    [folder] = there.iterdir()
    settings = (folder / "pyproject.toml").read_text()
    for module in set(COMPILED).difference(FEW):
        settings = settings.replace(f'    "{module}",\n', "")
    (folder / "pyproject.toml").write_text(settings)
    return folder


@pytest.fixture(scope="session")
def compiled(unpacked: Path, backend: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with compiled modules."""
    if because := backend.obstacle():
        pytest.skip(because)
    return wheel_of(unpacked, tmp_path_factory.mktemp("compiled") / "wheel", {})


@pytest.fixture(scope="session")
def environment(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with that wheel."""
    folder = tmp_path_factory.mktemp("environment") / "opt"
    fresh_environment(compiled, folder)
    return folder
