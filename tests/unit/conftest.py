"""Databases of unit tests: each new one is a copy of one that was migrated, and is not forced to the disk; all share
their compiled statements."""

import os
import resource
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.registry.db import database
from penstock.registry.db.database import open_database

PROCESSES_S = 2.0
"""Processor time of the processes that a unit test may start without the marker `processes`: several times what a start
of Python that imports this package takes, since a busy machine makes all of it dearer."""


def seconds_of_processes() -> float:
    """Processor time of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Keep costly processes out of the tests that everybody runs again and again."""
    before = seconds_of_processes()
    yield
    used = seconds_of_processes() - before
    if used > PROCESSES_S and item.get_closest_marker("processes") is None:
        pytest.fail(f"its processes took {used:.1f} s of processor time: mark it `processes`")


@pytest.fixture(scope="session", autouse=True)
def ready_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Migrate one database with what opens each, the first time one is needed, and copy it from then on."""
    template = Template(tmp_path_factory.mktemp("template") / "registry.db", database._migrate_if_old)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_migrate_if_old", template.fill)
        yield


@pytest.fixture(scope="session", autouse=True)
def trust_the_system() -> Iterator[None]:
    """Leave files to the operating system, as ``_trust_the_system`` does databases."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


class Template:
    """The content of a migrated database, which ``migrate`` makes at ``path``."""

    def __init__(self, path: Path, migrate: Callable[[sa.Engine], None]) -> None:
        self._path = path
        self._migrate = migrate
        self._content = b""
        self._identity = b""
        self._dialect: sa.Dialect | None = None
        self._statements: dict[Any, Any] = {}

    def fill(self, engine: sa.Engine) -> None:
        """Bring the tables of a database to the present version: copy them where it is a new file."""
        if engine.dialect.name == "sqlite":
            self._share_statements(engine)
            sa.event.listen(engine, "connect", _trust_the_system)
            if str(engine.url.database) != str(self._path):
                self._copy(Path(str(engine.url.database)))
        self._migrate(engine)

    def _share_statements(self, engine: sa.Engine) -> None:
        """Let all engines use one dialect, and what was compiled for it: each compiles every statement for itself."""
        self._dialect = self._dialect or engine.dialect
        engine.dialect = self._dialect
        engine.update_execution_options(compiled_cache=self._statements)

    def _copy(self, path: Path) -> None:
        if path.stat().st_size == 0:
            self._build()
            other = path.with_name(f"{path.name}.{uuid.uuid4()}")
            try:
                other.touch(mode=0o600)
                other.write_bytes(self._content.replace(self._identity, str(uuid.uuid4()).encode()))
                other.replace(path)
            except OSError:  # the disk is full, or not to be written: the migration says so
                other.unlink(missing_ok=True)

    def _build(self) -> None:
        if self._content:
            return
        open_database(f"sqlite:///{self._path}", 60.0).close()
        connection = sqlite3.connect(self._path)
        self._identity = str(connection.execute("SELECT id FROM registry").fetchone()[0]).encode()
        connection.close()
        self._content = self._path.read_bytes()


def _trust_the_system(connection: sqlite3.Connection, _record: object) -> None:
    """Leave writes to the operating system: no unit test takes its power away."""
    connection.execute("PRAGMA synchronous = OFF")
