"""What the documents say that the code can contradict."""

import re
from pathlib import Path

import pytest

from penstock import __version__
from penstock.core.errors import KINDS
from penstock.core.labels import GRPC_STATUS, HTTP_STATUS

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def section(document: Path, heading: str) -> str:
    """The text below a heading of the second level."""
    return document.read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def rows_of(text: str) -> dict[str, list[str]]:
    """The rows of a text's only table: first cell, without its backticks, to the others."""
    _, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]
    return {first.strip("`"): cells for first, *cells in rows}


def test_the_table_of_packages_is_the_source_tree() -> None:
    source = ROOT / "src" / "penstock"
    packages = {path.stem for path in source.iterdir() if path.is_dir() or path.suffix == ".py"}
    text = section(DOCS / "architecture.md", "Packages")
    assert rows_of(text).keys() == {package for package in packages if package[0] != "_"}


@pytest.mark.parametrize(
    ("file", "names"),
    re.findall(r"`([\w/]+\.py)`((?:,? `[A-Za-z_]\w*`)*)", section(DOCS / "architecture.md", "Find your way")),
)
def test_the_ways_into_the_code_lead_somewhere(file: str, names: str) -> None:
    text = (ROOT / "src" / "penstock" / file).read_text()
    for name in re.findall(r"\w+", names):
        assert re.search(rf"^ *(?:def|class|async def) {name}\b|^{name}\b[^=\n]*= ", text, re.MULTILINE), name


def test_the_readme_leads_to_the_ways_into_the_code() -> None:
    assert "(docs/architecture.md#find-your-way)" in (ROOT / "README.md").read_text()
    ways = section(DOCS / "architecture.md", "Find your way")
    for asked in (
        "where a gRPC header becomes a deadline",
        "where a canary's errors are counted",
        "where a drift alarm is decided",
        "where a webhook is signed",
        "where a new metric goes",
        "where the queue of a model is bounded",
        "where a label is joined to its prediction",
        "where the leader's lease is renewed",
        "where a `traceparent` is parsed",
        "where a model's signature is inferred",
    ):
        assert re.search(rf"^\| {asked} \|[^|]*`[\w/]+\.py` `\w+`", ways, re.MULTILINE), asked


def test_the_threat_model_names_code_and_tests_that_exist() -> None:
    text = section(DOCS / "explanation" / "threat-model.md", "Threats")
    paths = set(re.findall(r"`([a-z_0-9]+(?:/[a-z_0-9.]+)+)`", text))
    assert len(paths) > 50
    assert [
        name for name in paths if not any((ROOT / base / name).exists() for base in ("src/penstock", "tests"))
    ] == []


def test_the_glossary_is_short_and_sorted() -> None:
    terms = list(rows_of((DOCS / "glossary.md").read_text()))
    assert terms == sorted(terms)
    assert len(terms) <= 40


def test_the_readme_can_be_read_in_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_index_of_decisions_is_complete() -> None:
    records = sorted(path.name for path in (DOCS / "adr").glob("[0-9]*.md"))
    assert re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", (DOCS / "adr" / "README.md").read_text()) == records
    numbers = [name[:4] for name in records]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("record", sorted((DOCS / "adr").glob("[0-9]*.md")), ids=lambda record: record.stem)
def test_every_decision_has_the_same_parts(record: Path) -> None:
    text = record.read_text()
    assert text.startswith(f"# {record.name[:4]}: ")
    for part in ("\nStatus: ", "\n## Context\n", "\n## Decision\n", "\n## Consequences\n"):
        assert part in text, part
    title = text.split("\n", 1)[0].split(": ", 1)[1]
    assert title in (DOCS / "adr" / "README.md").read_text()


def test_the_changelog_names_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[(\d[^\]]*)\]", text, re.MULTILINE)[0] == __version__


def test_the_table_of_errors_is_the_codes() -> None:
    rows = rows_of((DOCS / "adr" / "0003-one-family-of-errors.md").read_text())
    assert list(rows) == [fault.kind for fault in KINDS]
    for kind, (http, grpc) in rows.items():
        assert (http[:3], grpc) == (str(HTTP_STATUS[kind]), GRPC_STATUS[kind])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)#?([^)\s]*)\)", prose_of(document)):
        path = document.parent / target if target else document
        assert path.exists(), target
        assert not anchor or anchor in anchors_of(path), f"{target}#{anchor}"


FILES = [
    f"/{path.relative_to(ROOT)}"
    for part in ("src", "tests", "loadtests", "deploy")
    for path in (ROOT / part).rglob("*.py")
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_files_of_the_code_that_a_document_names_exist(document: Path) -> None:
    for name in re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.py)`", document.read_text()):
        assert any(file.endswith(f"/{name}") for file in FILES), name


def prose_of(document: Path) -> str:
    """The text of a document without its code."""
    return re.sub(r"^ *```.*?^ *```|`[^`\n]*`", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors_of(document: Path) -> set[str]:
    """What a link into a document may name: its headings as GitHub and MkDocs write them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
