"""The package as it is published: the source archive, the wheels that pip builds from it, and that they serve."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement

from tests import harness, zoo

ROOT = Path(__file__).parents[3]
COMPILED: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["penstock"]["compiled"]
FEW = ("penstock.core.bounded_cache", "penstock.core.slices", "penstock.serving.loop_batcher")
"""Compiled for a wheel here: all of them take minutes, and the environment of these tests was built from all."""
SOURCES = ("deploy", "src", "pyproject.toml", "README.md", "LICENSE")
PLAIN = {"PENSTOCK_PURE": "1"}
OFFLINE = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")


def run(*command: str | Path, folder: Path, env: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, which must be a good one."""
    done = subprocess.run(command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def pip(*arguments: str | Path, folder: Path, env: Mapping[str, str] = {}) -> str:
    """Run pip without an index; what it says on stderr."""
    return run(sys.executable, "-m", "pip", *arguments, *OFFLINE, folder=folder, env=env).stderr


def wheel_of(source: Path, to: Path, env: Mapping[str, str]) -> Path:
    """The wheel that pip builds from a source archive, or from its unpacked form."""
    pip("wheel", "--no-build-isolation", "--wheel-dir", to, source, folder=to.parent, env=env)
    [wheel] = to.glob("*.whl")
    return wheel


def names_in(archive: Path) -> set[str]:
    with zipfile.ZipFile(archive) as file:
        return set(file.namelist())


def package_files() -> set[str]:
    """Every file of the package, as the repository holds it."""
    files = (path for path in (ROOT / "src/penstock").rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT / "src")) for path in files if path.suffix not in {".pyc", ".so"}}


@pytest.fixture(scope="module")
def backend() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "deploy"))
    try:
        yield importlib.import_module("backend")
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
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


@pytest.fixture
def unpacked(sdist: Path, tmp_path: Path) -> Path:
    """The unpacked source archive, with few modules to compile."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [folder] = tmp_path.iterdir()
    settings = (folder / "pyproject.toml").read_text()
    for module in set(COMPILED).difference(FEW):
        settings = settings.replace(f'    "{module}",\n', "")
    (folder / "pyproject.toml").write_text(settings)
    return folder


@pytest.fixture(scope="module")
def plain(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_of(sdist, tmp_path_factory.mktemp("plain"), PLAIN)


def requirements(name: str, found: set[str]) -> set[str]:
    """Add to ``found`` the installed distribution ``name`` and all that it requires."""
    if name not in found:
        found.add(name)
        for line in distribution(name).requires or ():
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                requirements(wanted.name.lower(), found)
    return found


def link(file: Path, there: Path) -> None:
    """Give ``file`` a second name, a hard one: the sandbox of admission reads nothing outside the environment."""
    try:
        there.hardlink_to(file)
    except OSError:  # another file system
        shutil.copy(file, there)


def fresh_environment(wheel: Path, folder: Path) -> Path:
    """A new environment with the wheel, and of all other packages only those that it requires, without an index."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder.parent)
    there = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    here = Path(sysconfig.get_path("purelib"))
    with zipfile.ZipFile(wheel) as archive:
        [document] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        wanted = Metadata.from_email(archive.read(document)).requires_dist or []
    found: set[str] = set()
    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            requirements(requirement.name.lower(), found)
            assert distribution(requirement.name).version in requirement.specifier
    for name in found:
        for file in distribution(name).files or ():
            if file.parts[0] != ".." and not (there / file).exists() and (here / file).exists():
                (there / file).parent.mkdir(parents=True, exist_ok=True)
                link(here / file, there / file)
    python = folder / "bin/python"
    run(sys.executable, "-m", "pip", "--python", python, "install", *OFFLINE, wheel, folder=folder)
    return folder / "bin"


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


def test_a_compiled_wheel_serves_from_a_fresh_environment(unpacked: Path, backend: ModuleType, tmp_path: Path) -> None:
    if because := backend.obstacle():
        pytest.skip(because)
    wheel = wheel_of(unpacked, tmp_path / "compiled", {})
    assert wheel.name.endswith(f"-{sysconfig.get_platform().replace('-', '_')}.whl")
    modules = {name.partition(".")[0].replace("/", ".") for name in names_in(wheel) if name.endswith(".so")}
    assert set(FEW) <= modules
    assert_serves(fresh_environment(wheel, tmp_path / "fresh"), "compiled", tmp_path)


@pytest.mark.slow
def test_a_compiler_that_fails_leaves_nothing_compiled(sdist: Path, tmp_path: Path) -> None:
    names = names_in(wheel_of(sdist, tmp_path / "wheel", {"CC": "/bin/false"}))
    assert "penstock/serving/loop_batcher.py" in names
    assert not [name for name in names if name.endswith(".so")]
