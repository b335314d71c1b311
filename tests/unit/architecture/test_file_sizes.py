"""Files and functions are as long as a reader takes in at once, files lie in the package of their subject, and there is
as much test code as source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import penstock

ROOT = Path(__file__).parents[3]
SOURCE = Path(penstock.__file__).parent
MOST_LINES = 400
MEDIAN_LINES = 6
"""Lines of a function at most, in the middle of all functions; without its head and its docstring."""

NINE_IN_TEN = 17
"""The same of nine functions in ten."""


def written(folder: Path) -> list[Path]:
    """The files of Python code in a folder, without generated ones."""
    return [file for file in folder.rglob("*.py") if not file.stem.endswith(("_pb2", "_pb2_grpc"))]


def function_lines(body: list[ast.stmt]) -> Iterator[int]:
    """The lines of each function and method in a body, with those of the functions in it."""
    for item in body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            yield lines_of(item)
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from function_lines(item.body)


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function without its head and its docstring; 0 of one that only has these."""
    statements = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return (function.end_lineno or 0) - statements[0].lineno + 1 if statements else 0


def test_no_file_has_more_than_400_lines() -> None:
    files = written(SOURCE) + written(ROOT / "loadtests")
    assert len(files) > 800  # the search finds something
    lines = {str(file.relative_to(ROOT)): file.read_text().count("\n") for file in files}
    assert not {file: count for file, count in lines.items() if count > MOST_LINES}, "split them by subject"


@pytest.mark.parametrize("folder", ["src", "loadtests"])
def test_functions_are_short(folder: str) -> None:
    lines = [count for file in written(ROOT / folder) for count in function_lines(ast.parse(file.read_text()).body)]
    assert len(lines) > 500  # the search finds something
    median, most = np.percentile(lines, [50, 90])
    assert (median <= MEDIAN_LINES, most <= NINE_IN_TEN) == (True, True), f"median {median}, nine in ten {most}"


def test_there_is_as_much_test_code_as_source() -> None:
    tests, source = (
        sum(file.read_text().count("\n") for file in written(folder)) for folder in (ROOT / "tests", SOURCE)
    )
    assert tests >= source


def test_head_and_docstring_of_a_function_do_not_count() -> None:
    code = 'class A:\n  def f(\n    self,\n  ) -> None:\n    """Do."""\n    x = 1\n    def g():\n      ...\n'
    assert list(function_lines(ast.parse(code).body)) == [3, 1]
    assert list(function_lines(ast.parse('def f():\n    """Do."""\n').body)) == [0]


def test_beside_its_packages_the_control_plane_has_three_files() -> None:
    files = {file.name for file in (SOURCE / "control").glob("*.py")}
    assert files == {"__init__.py", "leadership.py", "periodic.py", "retention.py"}
