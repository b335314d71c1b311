"""Temporary files come from ``engine/scratch.py`` alone, so that what a killed process leaves is found and deleted."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import penstock

SOURCE = Path(penstock.__file__).parent
SCRATCH = "engine/scratch.py"
ONE_TIME = {"token_hex", "token_urlsafe", "uuid4", "getpid", "get_ident", "gettempdir"}
TEMPORARY = (".part", ".partial", ".tmp", ".temp", ".scratch", ".new", ".edited", ".unpacked", "~")
ALLOWED = {
    SCRATCH: "makes it",
    "control/instance/directory.py": "the directory of an instance, which its lock tells from one that was left",
    "monitor/answer_segments.py": "the name of a segment, which is kept",
    "monitor/capture.py": "the name of a segment, which is kept",
}


SUSPICIOUS = re.compile("|".join(map(re.escape, ("tempfile", *ONE_TIME, *TEMPORARY, 'f".', "f'."))))
"""What a text has that makes any."""


def ad_hoc(text: str) -> Iterator[str]:
    """What a source text makes temporary names of."""
    if not SUSPICIOUS.search(text):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom) and "tempfile" in ast.unparse(node):
            yield "tempfile"
        elif _is_path(node):
            yield from (node for node in map(_one_time, ast.walk(node)) if node)


def _is_path(node: ast.AST) -> bool:
    """``a / b``, ``a.with_name(b)`` and the like: where a path gets a name."""
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Div)
    names = ("with_name", "with_suffix", "with_stem", "joinpath", "Path")
    return isinstance(node, ast.Call) and _called(node.func) in names


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _one_time(node: ast.AST) -> str:
    if isinstance(node, ast.Call) and (name := _called(node.func)) in ONE_TIME:
        return name
    if isinstance(node, ast.JoinedStr) and isinstance(first := node.values[0], ast.Constant):
        return "a hidden name" if str(first.value).startswith(".") else ""
    text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
    return "a temporary name" if text.endswith(TEMPORARY) else ""


def test_nothing_else_makes_temporary_names() -> None:
    found = {str(file.relative_to(SOURCE)) for file in SOURCE.rglob("*.py") if any(ad_hoc(file.read_text()))}
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "text",
    [
        "import tempfile",
        "from tempfile import mkstemp",
        "path.with_name(f'{path.name}.part')",
        "path.with_name(f'.{path.name}')",
        "path.with_suffix('.tmp')",
        "folder / secrets.token_hex(8)",
        "folder / f'{name}.{os.getpid()}'",
        "Path(folder, f'{name}~')",
    ],
)
def test_what_makes_them_is_found(text: str) -> None:
    assert list(ad_hoc(text))


@pytest.mark.parametrize("text", ["path.with_suffix('.lock')", "home / f'{name}.json'", "home / 'blobs'", "9 / 2"])
def test_lasting_names_are_none(text: str) -> None:
    assert not list(ad_hoc(text))
