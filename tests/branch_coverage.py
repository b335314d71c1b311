"""Holds the branches and the lines of each package of ``source`` in ``[tool.coverage.run]`` to ``fail_under``, each by
itself: ``python -m tests.branch_coverage REPORT`` reads coverage's JSON report. Packages after it are held alone."""

import json
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

CONFIGURATION = Path(__file__).parents[1] / "pyproject.toml"


class Reached(NamedTuple):
    """What tests reach of a package, in per cent: its branches and its lines. Coverage's own total counts both
    together, where lines, which are more and easier to reach, hide missed branches."""

    branches: float
    lines: float


def reached(report: Mapping[str, Any], package: str) -> Reached:
    """What a report says of one package and those in it."""
    inside = f"/{package.replace('.', '/')}/"
    files = [file["summary"] for name, file in report["files"].items() if inside in f"/{name}"]
    return Reached(_share(files, "covered_branches", "num_branches"), _share(files, "covered_lines", "num_statements"))


def _share(files: list[dict[str, int]], covered: str, number: str) -> float:
    whole = sum(file[number] for file in files)
    return 100 * sum(file[covered] for file in files) / whole if whole else 0.0


def main(report: str, *packages: str) -> int:
    """Print what is reached of each package; 1 where it is too little."""
    settings = tomllib.loads(CONFIGURATION.read_text())["tool"]["coverage"]
    least, values = settings["report"]["fail_under"], json.loads(Path(report).read_text())
    measured = {package: reached(values, package) for package in packages or settings["run"]["source"]}
    for package, shares in measured.items():
        sys.stdout.write(f"{package}: {shares.branches:.1f} % of branches, {shares.lines:.1f} % of lines\n")
    short = [package for package, shares in measured.items() if min(shares) < least]
    if short:
        sys.stderr.write(f"tests reach less than {least} % of the branches or lines of {', '.join(short)}\n")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
