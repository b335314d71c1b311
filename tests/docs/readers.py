"""A reader of a page does what is written, and sees what is promised."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import forks, postgres
from tests.budgets import THOROUGH
from tests.docs.pages import Command, File, agrees, steps_of
from tests.docs.terminals import Reader, failure_text, namespaces_missing, network

DOCS = Path(__file__).parents[2] / "docs"
TUTORIALS = [DOCS.parent / "README.md", *sorted(DOCS.glob("tutorials/*.md"))]
MIGRATIONS = sorted(DOCS.glob("how-to/migrate-*.md"))
COMPOSE = DOCS / "how-to/docker-compose.md"
"""Its reader is in tests/integration/deploy, where its services run."""

AS_INSTALLED = frozenset({"README"})
"""Pages whose commands start as those of a user. On others, processes of `penstock` are forks that have its imports
already, but for the nightly run."""

GUIDES = sorted({*DOCS.glob("how-to/*.md")} - {*MIGRATIONS, COMPOSE})


def follow(page: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Do all steps of a page, and compare."""
    with network() as enter:
        reader = Reader(enter, folder, environment, programs_for(page))
        try:
            for step in steps_of(page):
                if isinstance(step, File):
                    (folder / step.name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / step.name).write_text(step.text)
                else:
                    check(reader, step)
        finally:
            reader.close()


def programs_for(page: Path) -> list[Path]:
    """Folders of programs that the reader of a page finds before those of this environment."""
    return [] if THOROUGH or page.stem in AS_INSTALLED else [forks.caller_folder()]


def check(reader: Reader, command: Command) -> None:
    """A command ends well and prints what the page says; one without output may print what it likes."""
    printed, code = reader.run(command)
    assert code in (0, None), failure_text(command, printed, code)
    expected = command.printed if code == 0 else (*command.printed, "...")  # what stays goes on printing
    assert not command.printed or agrees(expected, printed), failure_text(command, printed, code)


def programs_missing(page: Path) -> str:
    """Which programs that a page needs (``<!-- needs: NAME... -->``) are not installed, or nothing."""
    needed = re.search(r"<!-- needs: (.*) -->", page.read_text())
    missing = [name for name in needed[1].split() if not shutil.which(name)] if needed else []
    return f"not installed: {', '.join(missing)}" if missing else ""


def try_page(page: Path, folder: Path) -> None:
    """Do what a page says, in a folder; with a database where it needs one."""
    if missing := namespaces_missing() or programs_missing(page):
        pytest.skip(missing)
    environment = {"CLONE": str(DOCS.parent), "DESTDIR": str(folder / "root")}
    if "DATABASE_URL" not in page.read_text():
        follow(page, folder, environment)
        return
    with postgres.running() as server:
        server.create("penstock")
        socket = f"host={server.folder}&port={server.port}"  # a file: it is there in any network namespace
        follow(page, folder, environment | {"DATABASE_URL": f"postgresql://penstock@/penstock?{socket}"})
