"""Servers that the registry's tests share."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres, s3
from tests.postgres import Postgres, driver_url

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A PostgreSQL server of this run."""
    with postgres.running() as running:
        yield running


@pytest.fixture(scope="session")
def bucket() -> Iterator[s3.Bucket]:
    """A bucket on an S3 API server of this run."""
    with s3.running() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A registry's database with nothing in it; on SQLite a file that is made when it is opened."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry.db'}"
    server: Postgres = request.getfixturevalue("server")
    return server.create_registry(f"registry{next(NUMBERS)}")


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry.db'}"
    server: Postgres = request.getfixturevalue("server")
    return driver_url(server.create(f"registry{next(NUMBERS)}"))
