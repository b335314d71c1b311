"""`penstock migrate` on a database file."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.console import ExitCode
from penstock.registry.db.schema import REVISIONS

Run = Callable[..., Any]


def test_a_new_registry_gets_the_tables_of_this_release_and_keeps_them(tmp_path: Path, penstock: Run) -> None:
    folder = tmp_path / "registry"
    assert penstock("migrate", "--registry", str(folder)).code == ExitCode.OK
    again = penstock("migrate", "--registry", str(folder), "--json")
    assert (again.code, json.loads(again.out)) == (ExitCode.OK, {"tables": REVISIONS[-1]})


@pytest.mark.parametrize(
    ("revision", "code"), [("no such revision", ExitCode.USAGE), (None, ExitCode.INTEGRITY)], ids=["newer", "broken"]
)
def test_what_cannot_be_migrated_is_one_line(tmp_path: Path, penstock: Run, revision: str | None, code: int) -> None:
    path = tmp_path / "registry.db"
    penstock("migrate", "--registry", f"sqlite:///{path}")
    if revision is None:
        path.write_bytes(b"no database" * 100)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    result = penstock("migrate", "--registry", f"sqlite:///{path}")
    assert (result.code, result.out, result.err.count("\n")) == (code, "", 1)
