"""Holds each package of ``source`` in ``[tool.coverage.run]`` to ``fail_under``, not only all of them together:
``python -m tests.branch_coverage REPORT`` reads coverage's JSON report."""

import json
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

CONFIGURATION = Path(__file__).parents[1] / "pyproject.toml"


class Reached(NamedTuple):
    """What tests reach of a package, in per cent: its branches alone, and lines and branches together. The latter is
    what coverage counts where it measures branches, and what has to reach the floor."""

    branches: float
    whole: float


def reached(report: Mapping[str, Any], package: str) -> Reached:
    """What a report says of one package and those in it."""
    inside = f"/{package.replace('.', '/')}/"
    found = [one["summary"] for name, one in report["files"].items() if inside in f"/{name}"]
    lines, branches = _sums(found, "covered_lines", "num_statements"), _sums(found, "covered_branches", "num_branches")
    return Reached(_share(*branches), _share(lines[0] + branches[0], lines[1] + branches[1]))


def _sums(found: list[dict[str, int]], *names: str) -> list[int]:
    return [sum(one[name] for one in found) for name in names]


def _share(covered: int, count: int) -> float:
    return 100 * covered / count if count else 0.0


def main(report: str) -> int:
    """Print what is reached of each package; 1 where it is too little."""
    settings = tomllib.loads(CONFIGURATION.read_text())["tool"]["coverage"]
    least, values = settings["report"]["fail_under"], json.loads(Path(report).read_text())
    found = {package: reached(values, package) for package in settings["run"]["source"]}
    for package, one in found.items():
        sys.stdout.write(f"{package}: {one.branches:.1f} % of branches, {one.whole:.1f} % of lines and branches\n")
    short = [package for package, one in found.items() if one.whole < least]
    if short:
        sys.stderr.write(f"tests reach less than {least} % of {', '.join(short)}\n")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
