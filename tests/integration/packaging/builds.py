"""Building the package as pip does, and installing it into fresh environments, without an index."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path

from packaging.metadata import Metadata
from packaging.requirements import Requirement

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
