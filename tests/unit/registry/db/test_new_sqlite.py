"""A new SQLite database is what all migrations together make; ``PENSTOCK_WRITE_SCHEMA=1`` has its file written anew."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.registry.db import database, schema


def statements(path: Path, make: Callable[[sa.Connection], None]) -> list[str]:
    """Return what makes the tables, triggers and rows of a database that was empty, each statement on a line."""
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        make(connection)
    engine.dispose()
    found = sqlite3.connect(path)
    query = "SELECT sql FROM sqlite_master WHERE sql NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
    rows = [line for line in found.iterdump() if line.startswith("INSERT INTO") and "sqlite_sequence" not in line]
    made = [" ".join(sql.split()) for (sql,) in found.execute(query)]
    found.close()
    indexes = [sql for sql in made if sql.startswith("CREATE INDEX")]  # of a table that is made anew in any order
    return [*(sql for sql in made if sql not in indexes), *sorted(indexes), *rows]


def test_a_new_database_is_what_all_migrations_make(tmp_path: Path) -> None:
    migrated = statements(tmp_path / "migrated.db", database._upgrade)
    if os.environ.get("PENSTOCK_WRITE_SCHEMA"):
        database.NEW_SQLITE.write_text("\n".join(migrated) + "\n")
    new = statements(tmp_path / "new.db", database._migrate)
    assert new == migrated, "run this test with PENSTOCK_WRITE_SCHEMA=1"
    assert any(schema.REVISIONS[-1] in row for row in new)


@pytest.mark.processes
def test_what_makes_a_new_database_does_not_import_the_migrations(tmp_path: Path) -> None:
    program = (
        "import sys; from penstock.registry.db.database import open_database; "
        f"open_database('sqlite:///{tmp_path}/new.db', 5.0).close(); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "False\n"
