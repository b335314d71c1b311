"""The build back end: setuptools', with the request path compiled by mypyc if a C compiler is available.

``[tool.penstock] compiled`` in ``pyproject.toml`` names the modules. Without a compiler or Python's headers, if
compilation fails, or with ``PENSTOCK_PURE`` in the environment, they stay Python: the same source, slower.

The long description is the README without what leads into the repository: a package index has no such files.
"""

import os
import re
import shutil
import sys
import sysconfig
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from setuptools import build_meta, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import CCompilerError, ExecError, PlatformError

HERE = Path("deploy/backend.py")
LENIENT = ("--config-file=", "--ignore-missing-imports", "--follow-imports=silent", "--explicit-package-bases")
"""Options of mypy for a build: missing types of other libraries count as Any."""


def obstacle() -> str:
    """Return why the modules cannot be compiled, "" if they can."""
    if os.environ.get("PENSTOCK_PURE"):
        return "PENSTOCK_PURE is set"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler})"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's headers are not installed"
    return ""


def extensions() -> Sequence[Any]:
    """Return the modules to compile, none if that is not possible."""
    reason = obstacle()
    if reason:
        _plain(reason)
        return []
    os.environ["MYPYPATH"] = "src"
    modules = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["penstock"]["compiled"]
    paths = [f"src/{module.replace('.', '/')}.py" for module in modules]
    try:
        return _translated(paths)
    except SystemExit:  # mypyc has printed the error
        _plain("mypyc cannot compile the sources")
        return []


def _translated(paths: Sequence[str]) -> Sequence[Any]:
    from mypyc.build import mypycify  # noqa: PLC0415 - metadata and plain builds do without

    return mypycify([*LENIENT, "--cache-dir=build/mypy", *paths], opt_level="1", debug_level="0")


def long_description(readme: str) -> str:
    """Return ``readme`` without its map of the repository, its relative pictures and the targets of relative links."""
    without_map = re.sub(r"^## Where to go next$.*?(?=^Apache License)", "", readme, flags=re.DOTALL | re.MULTILINE)
    without_pictures = re.sub(r"!\[[^]]*\]\((?!https?:)[^)]*\)\n+(\*[^\n]*\*\n+)?", "", without_map)
    return re.sub(r"\[([^]]*)\]\((?!https?:|#)[^)]*\)", r"\1", without_pictures)


def _plain(reason: str) -> None:
    print(f"penstock is built as plain Python: {reason}", file=sys.stderr)  # noqa: T201 - what a builder reads


class _BuildExt(build_ext):
    """Compiles all modules or none."""

    def build_extensions(self) -> None:
        try:
            super().build_extensions()
        except (CCompilerError, ExecError, PlatformError, OSError) as error:
            _plain(str(error))
            self.extensions = []
            for made in Path(self.build_lib).rglob("*.so"):
                made.unlink()


class _Sdist(sdist):
    """Adds this file to the source distribution."""

    def make_distribution(self) -> None:
        self.filelist.append(str(HERE))
        super().make_distribution()


class _Backend(build_meta._BuildMetaBackend):  # noqa: SLF001 - what setuptools has for back ends that add to it
    def run_setup(self, setup_script: str = "setup.py") -> None:
        """See setuptools; only what makes a wheel needs the compiled modules."""
        wheel = not {"bdist_wheel", "editable_wheel"}.isdisjoint(sys.argv)
        commands: dict[str, Any] = {"build_ext": _BuildExt, "sdist": _Sdist}
        if "editable_wheel" in sys.argv:
            for stale in Path("src").rglob("*.so"):  # of another build: they would take the place of the sources
                stale.unlink()
        setup(
            ext_modules=extensions() if wheel else [],
            cmdclass=commands,
            long_description=long_description(Path("README.md").read_text()),
            long_description_content_type="text/markdown",
        )


_backend = _Backend()
build_wheel = _backend.build_wheel
build_sdist = _backend.build_sdist
build_editable = _backend.build_editable
get_requires_for_build_wheel = _backend.get_requires_for_build_wheel
get_requires_for_build_sdist = _backend.get_requires_for_build_sdist
get_requires_for_build_editable = _backend.get_requires_for_build_editable
prepare_metadata_for_build_wheel = _backend.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = _backend.prepare_metadata_for_build_editable
