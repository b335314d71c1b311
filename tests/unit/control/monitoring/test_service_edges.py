"""What the monitor's service refuses, and what it does while the database or the disk is away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.control.monitoring.references.files import ReferenceFiles
from penstock.core.errors import InvalidInput, NotFound, NotReady
from penstock.registry.stores.monitor import MonitorStore
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point
from tests.unit.control.test_monitoring import Watcher, trained
from tests.unit.control.trials import ME, World


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    return Watcher(World(tmp_path), tmp_path)


def test_a_document_is_of_the_fleet_or_of_the_gateway(watcher: Watcher) -> None:
    with pytest.raises(InvalidInput, match="scope is fleet or gateway"):
        asyncio.run(watcher.monitoring.document("m", "1", scope="moon"))


def test_a_version_that_is_not_served_gets_no_reference(watcher: Watcher) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield pytest.fail("the upload is not read")

    with pytest.raises(NotFound, match="model 'm' serves no version '9'"):
        asyncio.run(watcher.monitoring.learn("m", "9", chunks(), ME))


def away(*_: object) -> None:
    raise NotReady("the database is away")


def test_references_hold_while_the_database_is_away(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = trained(rows=2000)
    watcher.give(reference)
    monkeypatch.setattr(MonitorStore, "policies", away)
    watcher.monitoring._stored.forget()  # what has not changed is not read
    with pytest.raises(NotReady):
        asyncio.run(watcher.monitoring._refresh())
    assert watcher.watch().digest == reference.digest


def test_a_control_process_that_starts_without_the_database_has_its_local_copies(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = trained(rows=2000)
    watcher.give(reference)
    watcher.monitoring.close()
    monkeypatch.setattr(MonitorStore, "policies", away)
    watcher.open()
    assert watcher.watch().digest == reference.digest
    monkeypatch.setattr(ReferenceFiles, "read_index", away)
    watcher.open()
    assert watcher.watch().digest == ""


def test_events_that_were_dropped_are_counted(watcher: Watcher) -> None:
    def dropped() -> list[Point]:
        readings = watcher.monitoring.readings()
        return [item for item in readings if isinstance(item, Point) and item.metric is metrics.EVENTS_DROPPED]

    assert dropped() == []
    watcher.monitoring._queue.given_up = 2
    assert dropped() == [Point(metrics.EVENTS_DROPPED, (), 2)]
