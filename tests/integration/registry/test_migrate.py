"""`penstock migrate` on PostgreSQL: several at once, as the jobs of several releases, and one that comes too early."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from penstock.cli.console import ExitCode
from penstock.registry.db.schema import REVISIONS
from tests import harness
from tests.ports import free_port
from tests.postgres import Postgres


def test_migrations_at_the_same_time_end_with_the_same_tables(server: Postgres, tmp_path: Path) -> None:
    url = server.create("migrated")
    with ThreadPoolExecutor(2) as threads:
        jobs = [
            threads.submit(harness.run_command, "migrate", "--registry", url, folder=tmp_path / str(number))
            for number in range(2)
        ]
    assert [job.result().returncode for job in jobs] == [ExitCode.OK] * 2, [job.result().stderr for job in jobs]
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISIONS[-1],)]


def test_a_database_that_is_away_is_to_be_tried_again(tmp_path: Path) -> None:
    url = f"postgresql://penstock@127.0.0.1:{free_port()}/none"
    ended = harness.run_command("migrate", "--registry", url, "--timeout", "1", folder=tmp_path)
    assert ended.returncode == ExitCode.UNAVAILABLE, ended.stderr
    assert "refused" in ended.stderr and "serving goes on" not in ended.stderr


@pytest.mark.parametrize("verb", ["migrate", "serve"])
def test_operators_learn_why_the_database_cannot_be_reached(verb: str, tmp_path: Path) -> None:
    url = f"postgresql://penstock@127.0.0.1:{free_port()}/none?sslmode=verify-full&sslrootcert=/no/such/root.crt"
    ended = harness.run_command(verb, "--registry", url, folder=tmp_path)
    assert ended.returncode == ExitCode.UNAVAILABLE, ended.stderr
    assert "cannot be reached" in ended.stderr
    assert (
        "/no/such/root.crt" in ended.stderr or "refused" in ended.stderr
    )  # as libpq reads it before or after connecting
