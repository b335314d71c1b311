"""Words that only this project knew, or that had several meanings, do not come back."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_ANYWHERE = """
beginnings buried bury crown crowned desk desks door doors forgiven forgives honour honours insane lane lanes
ledger pulse road roads room rooms shelf shelves sureness surroundings tell tells tick ticks told untold wander
wanders whom wish wishes
"""
ANYWHERE = set(_ANYWHERE.split())
"""Retired from code, comments, messages and documents."""

_IN_NAMES = """
blamed calm caution chances company crowd doubt feel felt hand heard late mine named news ours picture standing
theirs words
"""
IN_NAMES = ANYWHERE | set(_IN_NAMES.split())
"""Common words of English, which as names of files, classes, functions or variables said nothing to a reader."""

_IN_NAMES_OF_TESTS = """
bait borne calm deaths hears heard honoured mine news ours patience picture strangers
"""
IN_NAMES_OF_TESTS = ANYWHERE | set(_IN_NAMES_OF_TESTS.split())
"""Words that made the name of a test, which is a sentence, a riddle."""

STORED = {"forgiven", "sureness", "told", "wander", "words"}
"""Words that go on where older releases wrote them: keys of documents, as strings, and columns of the database."""

OF_OTHERS = {"ENHANCE_YOUR_CALM", "NamedTuple", "stop_words", "tell"}
"""Names that are not ours: of HTTP/2 (RFC 9113 §7), of Python, of scikit-learn, and a method of files."""

_STORED = re.compile(rf'"({"|".join(sorted(STORED))})"|\.tell\(\)|\bfeedback\.told\b|\.c\.told\b|``told``')
_WORD = re.compile(r"[A-Za-z]+")
_NAME = re.compile(r"[A-Za-z_]\w*")
_NO_CODE = re.compile(r'''"""[\s\S]*?"""|\'{3}[\s\S]*?\'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|#[^\n]*''')
"""Strings and comments of Python code."""

_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
CODE = ("src", "loadtests", "deploy", "tests")
DOCUMENTS = ("src", "loadtests", "deploy", "docs", "README.md")
SUFFIXES = {".md", ".py", ".toml", ".yaml", ".yml", ".json", ".html", ".js", ".css", ".proto", ""}


def retired_in_text(text: str) -> Iterator[tuple[int, str]]:
    """Retired words of a text, with their lines."""
    for number, line in enumerate(text.splitlines(), 1):
        yield from ((number, word) for word in _WORD.findall(_STORED.sub("", line)) if word.lower() in ANYWHERE)


def retired_names(code: str) -> Iterator[tuple[int, str]]:
    """Names of Python code with a retired word in them, with their lines."""
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.NAME and is_retired(token.string):
            yield token.start[0], token.string


def is_retired(name: str) -> bool:
    """Whether a name of Python code has a retired word in it."""
    if name in STORED | OF_OTHERS:
        return False
    if name.startswith("test_"):  # the names of tests are sentences
        return not IN_NAMES_OF_TESTS.isdisjoint(name.split("_"))
    return any(part.lower() in IN_NAMES for part in _PART.findall(name))


def may_have_retired_names(code: str) -> bool:
    """Whether the words outside strings and comments contain retired ones; far faster than to take code apart."""
    return any(map(is_retired, set(_NAME.findall(_NO_CODE.sub("", code)))))


def files_of(places: tuple[str, ...], suffixes: set[str]) -> list[Path]:
    """Files below some places, without generated ones."""
    files = (
        file for place in places for file in ([ROOT / place] if (ROOT / place).is_file() else (ROOT / place).rglob("*"))
    )
    skipped = {"__pycache__", "node_modules", "vendor"}
    return [
        file
        for file in files
        if file.is_file() and file.suffix in suffixes and "_pb2" not in file.name and not skipped & set(file.parts)
    ]


def test_no_text_has_a_retired_word() -> None:
    files = [file for file in files_of(DOCUMENTS, SUFFIXES) if "data" not in file.relative_to(ROOT).parts]
    assert len(files) > 400  # the search finds something
    found = {str(file.relative_to(ROOT)): list(retired_in_text(file.read_text())) for file in files}
    assert not {file: hits for file, hits in found.items() if hits}, "use the field's term; see docs/glossary.md"


def test_no_name_has_a_retired_word() -> None:
    files = files_of(CODE, {".py"})
    assert len(files) > 500
    codes = {str(file.relative_to(ROOT)): file.read_text() for file in files}
    found = {file: list(retired_names(code)) for file, code in codes.items() if may_have_retired_names(code)}
    assert not {file: hits for file, hits in found.items() if hits}, "use the field's term; see docs/glossary.md"
    stems = {file.stem for file in files} - {"test_retired_words"}
    assert not [stem for stem in stems if any(part in IN_NAMES for part in _PART.findall(stem))]


@pytest.mark.parametrize("line", ["Whoever asks is told.", "# the ledger", 'print("no room left")'])
def test_a_text_with_a_retired_word_is_found(line: str) -> None:
    assert [number for number, _ in retired_in_text(f"fine\n{line}")] == [2]


@pytest.mark.parametrize(
    "line",
    [
        "def _tell(): ...",
        "self.is_late = 1",
        "class NamedFolder: ...",
        "from x import ledger",
        "def test_a_fault_is_told(): ...",
    ],
)
def test_a_name_with_a_retired_word_is_found(line: str) -> None:
    code = f'"""A "text"."""  # "a\nx = 1\n{line}'
    assert [number for number, _ in retired_names(code)] == [3]
    assert may_have_retired_names(code)


@pytest.mark.parametrize(
    "line",
    ["class Plate: ...", "bedroom = relate(latest)", "# a late call", "hands = 2", "def test_a_late_call(): ..."],
)
def test_a_name_that_only_contains_the_letters_is_none(line: str) -> None:
    assert not list(retired_names(line))
