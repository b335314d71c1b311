"""The monitors of three gateways on a real PostgreSQL: one body of evidence, and a gateway that is killed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import postgres
from tests.postgres import Postgres
from tests.unit.control.members import Member, lead
from tests.unit.control.monitoring.test_fleet_evidence import REFERENCE, events, fleet, serve
from tests.unit.control.test_monitoring import exchange
from tests.unit.control.trials import Clock

pytestmark = pytest.mark.timeout(180)

NUMBERS = iter(range(1000))


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres.running() as running:
        yield running


@pytest.fixture
def url(database: Postgres) -> str:
    return database.create(f"evidence{next(NUMBERS)}").replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def three(tmp_path: Path, url: str) -> Iterator[list[Member]]:
    members = fleet(tmp_path / "three", Clock(), "abc", url)
    yield members
    for one in members:
        one.kill()


def test_three_gateways_decide_what_one_with_all_rows_decides(tmp_path: Path, three: list[Member]) -> None:
    alone = fleet(tmp_path / "one", Clock(), "a")
    sources = [np.random.default_rng(11), np.random.default_rng(11)]
    for shift in (0.0,) * 8 + (0.6,) * 3 + (0.0,) * 12:
        shown = []
        for members, generator in zip((alone, three), sources, strict=True):
            serve(members, generator, 300, shift)
            shown.append(lead(members).show())
        assert shown[0]["rows"]["counted"] == shown[1]["rows"]["counted"]
        for one, other in zip(shown[0]["features"], shown[1]["features"], strict=True):
            assert (one["state"], one["counts"], one["since"]) == (other["state"], other["counts"], other["since"])
    assert events(alone[0]) == events(three[0])
    assert len(events(three[0])) == 2


def test_a_killed_leader_costs_what_it_had_not_published_and_no_event_twice(three: list[Member]) -> None:
    generator = np.random.default_rng(12)
    for shift in (0.0,) * 4 + (0.6,) * 2:
        serve(three, generator, 300, shift)
    first = lead(three)
    told = events(first)
    assert len(told) == 1
    first.count(REFERENCE, exchange(generator, 70, 0.6))  # published by nobody
    first.kill()
    left = [one for one in three if one is not first]
    for _ in range(3):
        serve(left, generator, 300, 0.6)
    second = lead(left)
    assert second.show()["rows"]["counted"] == 9 * 300
    assert second.show()["features"][0]["state"] == "drift"
    assert events(second) == told
