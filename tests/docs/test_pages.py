"""Readers of the pages do what is written, and see what is promised."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import postgres
from tests.docs.pages import Command, File, agrees, steps_of
from tests.docs.terminals import Reader, failure_text, namespaces_missing, network

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted([*DOCS.glob("tutorials/*.md"), *DOCS.glob("how-to/*.md")])


def follow(page: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Do all steps of a page, and compare."""
    with network() as enter:
        reader = Reader(enter, folder, environment)
        try:
            for step in steps_of(page):
                if isinstance(step, File):
                    (folder / step.name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / step.name).write_text(step.text)
                else:
                    check(reader, step)
        finally:
            reader.close()


def check(reader: Reader, command: Command) -> None:
    """A command ends well and prints what the page says; one without output may print what it likes."""
    printed, code = reader.run(command)
    assert code in (0, None), failure_text(command, printed, code)
    assert not command.printed or agrees(command.printed, printed), failure_text(command, printed, code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    if missing := namespaces_missing():
        pytest.skip(missing)
    if "DATABASE_URL" not in page.read_text():
        follow(page, tmp_path, {})
        return
    with postgres.running() as server:
        server.create("penstock")
        socket = f"host={server.folder}&port={server.port}"  # a file: it is there in any network namespace
        follow(page, tmp_path, {"DATABASE_URL": f"postgresql://penstock@/penstock?{socket}"})
