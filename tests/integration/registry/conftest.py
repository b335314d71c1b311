"""Servers that the registry's tests share."""

from collections.abc import Iterator

import pytest

from tests import postgres, s3
from tests.postgres import Postgres


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
