"""The audit as log lines: once each, in order, from the gateway that leads, and on from the stored position."""

import asyncio
import logging
from pathlib import Path

import pytest

from penstock.control.audit.stream import AuditStream
from penstock.registry.blobs.folder import FolderBlobs
from penstock.registry.db.database import open_database
from penstock.registry.records import Author
from penstock.registry.stores.audit_log import AuditLog
from penstock.registry.stores.versions import VersionStore
from tests.leases import leading


class Bench:
    """Two gateways' streams over one database; the first one leads."""

    def __init__(self, home: Path) -> None:
        self.database = leading(open_database(f"sqlite:///{home / 'registry.db'}", 5.0))
        self.store = VersionStore(self.database)
        self.log = AuditLog(self.database, lambda: FolderBlobs(home / "blobs"))
        self.home, self.leader = home, 0
        self.streams = [self.new(0), self.new(1)]

    def new(self, index: int) -> AuditStream:
        file = self.home / f"position-{index}.json"
        return AuditStream(self.log, file, lambda: self.leader == index)

    def add(self, action: str) -> None:
        self.store.record_event(action, "access", Author("ann"), "", {"count": 1})

    def step(self) -> None:
        for stream in self.streams:
            asyncio.run(stream.step())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def written(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "penstock.audit"]


def test_the_leader_writes_each_new_entry_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench.add("before.start")
    bench.step()
    assert written(caplog) == []
    bench.add("access.refuse")
    bench.add("route.set")
    bench.step()
    bench.step()
    assert written(caplog) == ["ann access.refuse access", "ann route.set access"]
    fields = caplog.records[-1].__dict__["fields"]
    assert (fields["event.sequence"], fields["event.action"]) == (3, "route.set")


def test_a_new_leader_goes_on_at_the_same_place(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench.step()
    bench.add("one.set")
    bench.step()
    bench.leader = 1
    bench.add("two.set")
    bench.step()
    assert written(caplog) == ["ann one.set access", "ann two.set access"]


def test_a_restart_writes_what_came_meanwhile(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench.add("zero.set")
    bench.step()
    bench.add("one.set")
    bench.step()
    bench.add("two.set")
    bench.streams = [bench.new(0)]
    bench.step()
    assert written(caplog) == ["ann one.set access", "ann two.set access"]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"registry": "another", "seq": 0}', '{"registry": 1}'])
def test_a_position_of_something_else_counts_as_none(
    bench: Bench, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bench.add("zero.set")
    (bench.home / "position-0.json").write_text(content)
    bench.step()
    assert written(caplog) == []
