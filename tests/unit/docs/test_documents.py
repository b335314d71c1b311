"""What the documents say that the code can contradict."""

import re
from pathlib import Path

import pytest

from penstock import __version__
from penstock.core.errors import KINDS
from penstock.core.labels import GRPC_STATUS, HTTP_STATUS
from penstock.telemetry.metrics import METRICS, PREFIX

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
ROW = re.compile(r"^\| `?([^|`]+?)`? \|(.*)\|$", re.MULTILINE)


def section(document: Path, heading: str) -> str:
    """The text below a heading of the second level."""
    return document.read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def first_column(text: str) -> list[str]:
    return [row[1] for row in ROW.finditer(text) if not set(row[1]) <= {"-", " "}][1:]


def test_the_table_of_rooms_is_the_source_tree() -> None:
    source = ROOT / "src" / "penstock"
    rooms = {path.stem for path in source.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert set(first_column(section(ROOT / "README.md", "Rooms"))) == {room for room in rooms if room[0] != "_"}


def test_the_index_of_decisions_is_complete() -> None:
    records = sorted(path.name for path in (DOCS / "adr").glob("[0-9]*.md"))
    assert re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", (DOCS / "adr" / "README.md").read_text()) == records
    assert [name[:4] for name in records] == [f"{number:04}" for number in range(1, len(records) + 1)]


@pytest.mark.parametrize("record", sorted((DOCS / "adr").glob("[0-9]*.md")), ids=lambda record: record.stem)
def test_every_decision_has_the_same_parts(record: Path) -> None:
    text = record.read_text()
    assert text.startswith(f"# {record.name[:4]}: ")
    for part in ("\nStatus: ", "\n## Context\n", "\n## Decision\n", "\n## Consequences\n"):
        assert part in text, part
    title = text.split("\n", 1)[0].split(": ", 1)[1]
    assert title in (DOCS / "adr" / "README.md").read_text()


def test_the_changelog_tells_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[(\d[^\]]*)\]", text, re.MULTILINE)[1] == __version__  # type: ignore[index]


def test_the_table_of_faults_is_the_codes() -> None:
    rows = dict(ROW.findall((DOCS / "adr" / "0003-one-family-of-faults.md").read_text()))
    for kind in (fault.kind for fault in KINDS):
        http, grpc = (cell.strip() for cell in rows[kind].split("|"))
        assert re.findall(r"^\d+", http) == [str(HTTP_STATUS[kind])]
        assert grpc == GRPC_STATUS[kind]


def test_the_table_of_metrics_is_the_codes() -> None:
    rows = dict(ROW.findall(section(DOCS / "operations.md", "Metrics")))
    del rows["metric"]
    rows = {name: cells for name, cells in rows.items() if not set(name) <= {"-", " "}}
    assert rows.keys() == {PREFIX + metric.name for metric in METRICS}
    for metric in METRICS:
        kind, labels = (cell.strip() for cell in rows[PREFIX + metric.name].split("|")[:2])
        assert (kind, labels) == (metric.kind.value, ", ".join(metric.labels))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target
