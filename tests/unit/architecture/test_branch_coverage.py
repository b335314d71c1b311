"""The floor of coverage holds for each package by itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.branch_coverage import Reached, main, reached

PACKAGES = ["penstock.api.grpc.http2", "penstock.control", "penstock.core", "penstock.serving"]


def report(**missed: tuple[int, int]) -> dict[str, Any]:
    """A report of two files in each package, with so many missed branches and lines of 100 each in one of them."""
    files = {}
    for package in PACKAGES:
        branches, lines = missed.get(package.rpartition(".")[2], (0, 0))
        folder = f"src/{package.replace('.', '/')}"
        files[f"{folder}/a.py"] = summary(100 - branches, 100 - lines)
        files[f"{folder}/inner/b.py"] = summary(100, 100)
    files["src/penstock/core_of_others.py"] = summary(0, 0)
    return {"files": files}


def summary(branches: int, lines: int) -> dict[str, Any]:
    counts = {"covered_branches": branches, "num_branches": 100, "covered_lines": lines, "num_statements": 100}
    return {"summary": counts}


def test_a_package_is_its_files_and_those_of_its_packages() -> None:
    found = report(core=(10, 2))
    assert reached(found, "penstock.core") == Reached(95.0, 99.0)
    assert reached(found, "penstock.control") == Reached(100.0, 100.0)
    assert reached(found, "penstock.nothing") == Reached(0.0, 0.0)


@pytest.mark.parametrize(
    ("missed", "status"),
    [({}, 0), ({"core": (10, 10)}, 0), ({"core": (10, 11)}, 1), ({"control": (11, 0)}, 1), ({"http2": (0, 99)}, 1)],
)
def test_one_package_below_the_floor_is_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], missed: dict[str, tuple[int, int]], status: int
) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report(**missed)))
    assert main(str(tmp_path / "report.json")) == status
    said = capsys.readouterr()
    assert all(package in said.out for package in PACKAGES)
    assert all(name in said.err for name in missed) or not status


def test_packages_that_are_named_are_held_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report(core=(50, 50))))
    assert main(str(tmp_path / "report.json"), "penstock.control") == 0
    assert "penstock.core" not in capsys.readouterr().out
