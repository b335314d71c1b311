"""The page that the ops port serves is the runbook of the documents; ``PENSTOCK_WRITE_DOCS=1`` writes it anew."""

import importlib
import os
import re
from pathlib import Path
from typing import Any

from penstock.api.admin.runbook import PATH
from penstock.telemetry.rules.rule import Alert, Links
from tests.unit.telemetry.expressions import groups

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "docs" / "runbooks" / "alerts.md"
PAGE = ROOT / "src" / "penstock" / "api" / "admin" / "runbook.html"
MAIN = re.compile(r"(?<=<main>\n).*(?=\n</main>)", re.DOTALL)
"""What the document gives the page; the frame around it stands in the page alone."""


def written() -> str:
    """The page; other documents are not on the ops port, so that links to them are texts."""
    markdown: Any = importlib.import_module("markdown")
    html: str = markdown.markdown(SOURCE.read_text(), extensions=["toc"])
    body = re.sub(r'<a href="\.\./[^"]*">(.*?)</a>', r"\1", html, flags=re.DOTALL)
    page, replaced = MAIN.subn(lambda _: body, PAGE.read_text())
    assert replaced == 1
    return page


def test_the_page_is_the_document() -> None:
    if os.environ.get("PENSTOCK_WRITE_DOCS"):
        PAGE.write_text(written())
    assert PAGE.read_text() == written(), "run this test with PENSTOCK_WRITE_DOCS=1"


def test_every_link_of_an_alert_leads_to_a_section() -> None:
    sections = set(re.findall(r' id="([^"]+)"', PAGE.read_text()))
    alerts = {rule.name for group in groups() for rule in group.rules if isinstance(rule, Alert)}
    for name in alerts:
        address, _, section = Links("https://ops.example/").runbook(name).partition("#")
        assert address == f"https://ops.example{PATH}"
        assert section in sections, name


def test_the_page_leads_nowhere_else_and_asks_for_nothing() -> None:
    links = re.findall(r'(?:href|src)="([^"]+)"', PAGE.read_text())
    assert links and all(link.startswith("#") for link in links)
    assert not re.search(r"<(?:script|style|img)\b", PAGE.read_text())
