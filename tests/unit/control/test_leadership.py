"""Keeping the lease: it is looked at, shown, given back, and a database that is away changes nothing."""

import asyncio
import threading
from functools import partial
from pathlib import Path

import pytest

from penstock.control.leadership import Leadership
from penstock.core.errors import NotReady
from penstock.registry.db.database import Database, open_database
from penstock.telemetry.readings import Point
from tests.harness import PATIENCE_S
from tests.leases import looking


@pytest.fixture(autouse=True)
def long_lease() -> None:
    """Leave the lease as long as it is; these tests move its clock."""


def member(folder: Path, name: str) -> Database:
    return looking(open_database(f"sqlite:///{folder / 'registry.db'}", 5.0), name)


def of(database: Database) -> Leadership:
    return Leadership(database.lease, database.acquire_leadership, partial(database.lease.release, database))


def shown(leadership: Leadership) -> list[float]:
    return [reading.value for reading in leadership.readings() if isinstance(reading, Point)]


def test_one_leads_and_lets_the_other_lead_when_it_stops(tmp_path: Path) -> None:
    first, second = member(tmp_path, "a"), member(tmp_path, "b")
    first.lease._steady = second.lease._steady = lambda: 0.0
    first.lease._looked = second.lease._looked = float("-inf")
    leaderships = [of(first), of(second)]
    for leadership in leaderships:
        asyncio.run(leadership.step())
    assert [shown(leadership) for leadership in leaderships] == [[1, 1], [0, 0]]
    asyncio.run(leaderships[0].stop())
    second.lease._looked = float("-inf")
    for leadership in leaderships:
        asyncio.run(leadership.step())
    assert [shown(leadership) for leadership in leaderships] == [[0, 0], [1, 2]]
    for database in (first, second):
        database.close()


def test_a_lease_that_is_not_due_takes_no_thread(tmp_path: Path) -> None:
    now = [0.0]
    database = member(tmp_path, "a")
    database.lease._steady = lambda: now[0]
    database.lease._looked = float("-inf")
    leadership, asked = of(database), list[float]()

    def acquire() -> bool:
        asked.append(now[0])
        return database.acquire_leadership()

    leadership._acquire = acquire
    for now[0] in (0.0, 1.0, 2.0, 3.9, 4.0):
        asyncio.run(leadership.step())
    assert asked == [0.0, 2.0, 4.0]
    assert shown(leadership) == [1, 1]
    database.close()


def test_a_database_that_is_away_is_reported_and_the_term_ends_by_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    database = member(tmp_path, "a")
    database.lease._steady = lambda: now[0]
    database.lease._looked = float("-inf")

    def away() -> bool:
        raise NotReady("the database is away")

    leadership = of(database)
    asyncio.run(leadership.step())
    assert shown(leadership) == [1, 1]
    leadership._acquire = away
    now[0] = 7.0
    with pytest.raises(NotReady):
        asyncio.run(leadership.step())
    assert shown(leadership) == [0, 0]
    assert "is not the leader any more" in caplog.text
    database.close()


def test_a_database_that_hangs_does_not_hold_the_task(tmp_path: Path) -> None:
    database, go = member(tmp_path, "a"), threading.Event()
    leadership = of(database)
    leadership._acquire = lambda: go.wait(PATIENCE_S)
    leadership.pools[0]._deadline_s = 0.01
    for _ in range(2):
        with pytest.raises(NotReady, match="did not answer"):
            asyncio.run(leadership.step())
    go.set()
    leadership.close()
    database.close()
