"""The package as it is published: the source archive, the wheels that pip builds from it, and that they serve."""

import importlib.util
import os
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.metadata import Metadata

from tests import harness, zoo
from tests.integration.packaging.builds import COMPILED, FEW, PLAIN, ROOT, fresh_environment, run, wheel_of


def names_in(archive: Path) -> set[str]:
    with zipfile.ZipFile(archive) as file:
        return set(file.namelist())


def package_files() -> set[str]:
    """Every file of the package, as the repository holds it."""
    files = (path for path in (ROOT / "src/penstock").rglob("*") if path.is_file() and path.suffix != ".so")
    return {str(path.relative_to(ROOT / "src")) for path in files if path.parent.name != "__pycache__"}


@pytest.fixture(scope="module")
def plain(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_of(sdist, tmp_path_factory.mktemp("plain"), PLAIN)


def assert_serves(installed: Path, request_path: str, folder: Path) -> None:
    """The installed command tells its version, serves a model and answers a prediction."""
    printed = run(installed / "penstock", "version", folder=folder).stdout
    assert printed.rstrip().endswith(f"request path {request_path}")
    zoo.build_tiny(folder / "models")
    with harness.running(folder / "models", folder, program=[str(installed / "penstock")]) as server:
        x = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
        reply = server.rest("POST", "/v2/models/identity_fp32/infer", {"inputs": [x]})
        assert reply.status == 200, reply.json()
        assert reply.json()["outputs"][0]["data"] == [1, 2, 3]


def test_what_runs_here_is_compiled_from_these_sources(backend: ModuleType) -> None:
    because = backend.obstacle()
    for module in COMPILED:
        found = importlib.util.find_spec(module)
        assert found is not None
        assert found.origin is not None
        assert found.origin.endswith(".py" if because else ".so"), because


def test_every_compiled_module_is_listed_once_in_order() -> None:
    assert sorted(set(COMPILED)) == COMPILED
    assert all((ROOT / "src" / f"{module.replace('.', '/')}.py").is_file() for module in COMPILED)


def test_the_source_archive_holds_what_builds_the_package_and_nothing_else(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    made = {name for name in names if name.startswith("src/penstock.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    kept = {"deploy/backend.py", "pyproject.toml", "README.md", "LICENSE"}
    assert names - made == kept | {f"src/{name}" for name in package_files()}


def test_a_wheel_holds_the_package_and_nothing_else(plain: Path) -> None:
    assert plain.name.endswith("-py3-none-any.whl")
    names = {name for name in names_in(plain) if ".dist-info/" not in name}
    assert names == package_files()
    assert "penstock/py.typed" in names


def test_the_metadata_is_what_an_index_accepts(plain: Path) -> None:
    with zipfile.ZipFile(plain) as archive:
        [document] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Metadata.from_email(archive.read(document), validate=True)
    assert metadata.summary
    assert metadata.license_expression == "Apache-2.0 AND MIT"
    assert metadata.requires_python is not None
    assert "3.11" in metadata.requires_python
    assert "3.10" not in metadata.requires_python
    assert metadata.description_content_type == "text/markdown"
    assert metadata.description is not None
    assert metadata.description.startswith("# Penstock\n")
    assert "](docs/" not in metadata.description
    assert "](CHANGELOG" not in metadata.description
    assert "Typing :: Typed" in (metadata.classifiers or ())


def test_a_plain_wheel_serves_from_a_fresh_environment(plain: Path, tmp_path: Path) -> None:
    assert_serves(fresh_environment(plain, tmp_path / "fresh"), "interpreted", tmp_path)


def test_a_compiled_wheel_serves_from_a_fresh_environment(compiled: Path, environment: Path, tmp_path: Path) -> None:
    assert compiled.name.endswith(f"-{sysconfig.get_platform().replace('-', '_')}.whl")
    modules = {name.partition(".")[0].replace("/", ".") for name in names_in(compiled) if name.endswith(".so")}
    assert set(FEW) <= modules
    installed = environment / "bin"
    assert_serves(installed, "compiled", tmp_path)
    check = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]["test-command"]
    run("sh", "-c", check, folder=tmp_path, env={"PATH": f"{installed}:{os.environ['PATH']}"})


@pytest.mark.slow
def test_a_compiler_that_fails_leaves_nothing_compiled(sdist: Path, tmp_path: Path) -> None:
    names = names_in(wheel_of(sdist, tmp_path / "wheel", {"CC": "/bin/false"}))
    assert "penstock/serving/loop_batcher.py" in names
    assert not [name for name in names if name.endswith(".so")]
