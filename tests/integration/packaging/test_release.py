"""A release: its version, changelog and tag, and the wheels that it consists of."""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def release_check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release_check", ROOT / "deploy/release_check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOURCE = '__version__ = "1.2.0"\n'
RELEASED = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-11-30\n\n- a\n\n## [1.1.0] - 2026-10-01\n"


@pytest.mark.parametrize(
    ("source", "changelog", "tag", "part"),
    [
        (SOURCE, RELEASED, "v1.2.0", ""),
        (SOURCE, RELEASED, "", ""),
        (SOURCE, RELEASED.replace(" - 2026-11-30", ""), "", ""),
        (SOURCE, RELEASED.replace("## [Unreleased]\n\n", "## [Unreleased]\n\n- b\n\n"), "", ""),
        ("", RELEASED, "", "states 0 versions"),
        (SOURCE.replace("1.2.0", "1.2"), RELEASED, "", "1.2 is not a version"),
        (SOURCE, RELEASED.replace("## [Unreleased]\n\n", ""), "", "does not begin with"),
        (SOURCE, RELEASED.replace("[1.2.0]", "[1.3.0]"), "", "the version is 1.2.0"),
        (SOURCE, RELEASED.replace("[1.1.0]", "[1.2.0]"), "", "twice"),
        (SOURCE, RELEASED, "1.2.0", "expected v1.2.0"),
        (SOURCE, RELEASED, "v1.3.0", "expected v1.2.0"),
        (SOURCE, RELEASED.replace(" - 2026-11-30", ""), "v1.2.0", "does not date"),
        (SOURCE, RELEASED.replace("## [Unreleased]\n\n", "## [Unreleased]\n\n- b\n\n"), "v1.2.0", "unreleased changes"),
    ],
)
def test_version_changelog_and_tag_agree(
    release_check: ModuleType, source: str, changelog: str, tag: str, part: str
) -> None:
    problems = list(release_check.find_problems(source, changelog, tag))
    assert (part in "\n".join(problems)) if part else problems == []


def test_they_agree_now(release_check: ModuleType) -> None:
    assert release_check.main() == 0


def test_compiled_wheels_are_for_every_python_that_is_supported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    prefix = "Programming Language :: Python :: 3."
    minors = [line.removeprefix(prefix) for line in project["project"]["classifiers"] if line.startswith(prefix)]
    command = [sys.executable, "-m", "cibuildwheel", "--platform", "linux", "--print-build-identifiers"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {
        f"cp3{minor}-manylinux_{machine}" for minor in minors for machine in ("x86_64", "aarch64")
    }
